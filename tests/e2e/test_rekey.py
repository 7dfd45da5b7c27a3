"""Key exchanges in mid-session: by the client's wish and the gateway's, under load.

How many there must be follows from how far apart two of them can be, see exchanges_for.
"""

import asyncio
import hashlib
import os
import re
import subprocess
import threading
import time

import asyncssh
import asyncssh.encryption
import paramiko
import pytest

from aclient import connect, finish
from raw import global_request, transport
from regions import pipe_sha, sha_of_file
from terminal import Terminal
from waiting import resident_bytes, wait_until

FAST = "KexAlgorithms=curve25519-sha256"

MACS = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"]


MIB = 1 << 20
PACKET = 32 << 10

# The gateway's, where it is the one that asks: small, so that little is on its way.
REKEY_BYTES = MIB
WINDOW_BYTES = 256 << 10
# ssh's, of a session without a terminal (CHAN_SES_WINDOW_DEFAULT).
SSH_WINDOW_BYTES = 2 * MIB


def exchanges(err):
    """Key exchanges in ssh -v's account, the first one not counted."""
    return len(re.findall(r"SSH2_MSG_NEWKEYS received", err)) - 1


def exchanges_for(count, limit, on_the_way=0):
    """The fewest that `count` bytes in one direction need.

    Who sends asks before the packet that passes its limit, and sends nothing more until keys
    are new: `limit` bytes and a packet at most. Who receives asks at the packet that passes
    it, and gets what the other side may still send before it hears of that: the channel's
    window, which is not opened while keys are exchanged.
    """
    return -(-count // (limit + PACKET + on_the_way)) - 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_gigabyte_with_a_rekey_every_mebibyte(region, random1024, roomy):
    """RekeyLimit=1M during scp of 1 GiB, both directions."""
    target = os.path.join(roomy, "target")
    opts = ["RekeyLimit=1M", FAST]
    up = region.scp("-v", random1024.path, region.remote(target), opts=opts, timeout=180)
    assert up.status == 0, up.err[-2000:]
    assert exchanges(up.err) >= exchanges_for(random1024.bytes, MIB)
    assert sha_of_file(target) == random1024.sha
    os.unlink(random1024.path)
    back = os.path.join(roomy, "back")
    down = region.scp("-v", region.remote(target), back, opts=opts, timeout=180)
    assert down.status == 0, down.err[-2000:]
    assert exchanges(down.err) >= exchanges_for(random1024.bytes, MIB, SSH_WINDOW_BYTES)
    assert sha_of_file(back) == random1024.sha


@pytest.mark.parametrize("opts", [[], ["Ciphers=chacha20-poly1305@openssh.com"],
                                  ["Ciphers=aes256-ctr"],
                                  ["KexAlgorithms=diffie-hellman-group14-sha256"]])
def test_both_directions_at_once(region, random16, opts):
    argv = region.ssh_argv("cat", opts=["RekeyLimit=1M", *opts], flags=("-v",))
    result = pipe_sha(argv, random16.path)
    assert result.status == 0, result
    assert exchanges(result.err) >= exchanges_for(random16.bytes, MIB), result
    assert (result.sha, result.count) == (random16.sha, random16.bytes)


@pytest.mark.parametrize("mac", MACS)
@pytest.mark.parametrize("cipher", ["aes128-ctr", "aes192-ctr", "aes256-ctr"])
def test_with_each_mac(region, random16, cipher, mac):
    """The counter and the MAC go on from packets that libssh sealed, and begin anew with each key."""
    argv = region.ssh_argv("cat", opts=["RekeyLimit=1M", FAST, f"Ciphers={cipher}", f"MACs={mac}"], flags=("-v",))
    result = pipe_sha(argv, random16.path)
    assert result.status == 0, result
    assert f"cipher: {cipher} MAC: {mac}" in result.err, result
    assert exchanges(result.err) >= exchanges_for(random16.bytes, MIB), result
    assert (result.sha, result.count) == (random16.sha, random16.bytes)


def test_with_several_channels(region):
    """Rekeys while eight commands of one connection move bytes both ways."""
    data = os.urandom(6000000)

    async def one(conn):
        process = await conn.create_process("cat", encoding=None)

        async def feed():
            for at in range(0, len(data), 50000):
                process.stdin.write(data[at:at + 50000])
                await process.stdin.drain()
            process.stdin.write_eof()

        feeder = asyncio.create_task(feed())
        out = await process.stdout.read()
        await feeder
        await process.wait()
        return process.exit_status, hashlib.sha256(out).digest()

    async def go():
        async with connect(region, rekey_bytes=1 << 20) as conn:
            return await asyncio.gather(*(one(conn) for _ in range(8)))

    wanted = hashlib.sha256(data).digest()
    assert finish(go(), 120) == [(0, wanted)] * 8


def check_by_time(region, opts=()):
    """Exchanges go on as long as a nearly idle session does, and are a second apart."""
    client = subprocess.Popen(
        region.ssh_argv("i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done", opts=opts,
                        flags=("-v",)),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    times, lines = [], []

    def look():
        for line in client.stderr:
            if b"SSH2_MSG_NEWKEYS received" in line:
                times.append(time.monotonic())

    def count():
        lines.extend(int(line) for line in client.stdout if line.endswith(b"\n"))

    threads = [threading.Thread(target=look), threading.Thread(target=count)]
    try:
        for thread in threads:
            thread.start()
        wait_until(lambda: len(times) >= 5, "the fourth exchange after the first", 30)
    finally:
        client.kill()
        client.wait()
        for thread in threads:
            thread.join(10)
        client.stdout.close()
        client.stderr.close()
    # ssh counts whole seconds: from its first to its fifth by the clock at least three.
    assert times[4] - times[0] > 3, times
    assert lines == list(range(1, len(lines) + 1)) and len(lines) > 20, lines


def test_by_time(region):
    """RekeyLimit by time, on a session that is nearly idle."""
    check_by_time(region, ["RekeyLimit=default 1"])


def test_by_hand_on_a_terminal(region):
    """~R on a terminal, with output on its way."""
    with Terminal(region.ssh_argv(flags=("-v",))) as terminal:
        terminal.send("PS1='READ''Y> '; echo o''k\r")
        terminal.expect("ok\r\n")
        terminal.expect("READY> ")
        terminal.send("for i in $(seq 1 3000); do echo line-$i; sleep 0.0005; done; echo the-''end\r")
        terminal.expect("line-100\r\n")
        for _ in range(3):
            terminal.send("\r~R")
            terminal.expect("SSH2_MSG_NEWKEYS received")
        terminal.send("exit\r")
        terminal.wait()
        text = terminal.text.decode("utf-8", "replace")
        assert "the-end\r\n" in text
    for i in range(1, 3001):
        assert f"line-{i}" in text


@pytest.mark.gateway
class TestByTheGateway:
    """The gateway asks for the exchange."""

    @pytest.fixture(scope="class")
    def rekeying(self, bin_dir):
        from regions import Region
        settings = ["--set", f"session.rekey_bytes={REKEY_BYTES}",
                    "--set", f"session.window_bytes={WINDOW_BYTES}",
                    "--set", f"session.window_max_bytes={WINDOW_BYTES}"]
        with Region(bin_dir, settings) as started:
            yield started

    @pytest.mark.parametrize("opts", [[], ["Ciphers=chacha20-poly1305@openssh.com"],
                                      *(["Ciphers=aes128-ctr", f"MACs={mac}"] for mac in MACS)])
    def test_under_load(self, rekeying, random16, opts):
        argv = rekeying.ssh_argv("cat", flags=("-v",), opts=opts)
        result = pipe_sha(argv, random16.path)
        assert result.status == 0, result
        assert exchanges(result.err) >= exchanges_for(random16.bytes, REKEY_BYTES, WINDOW_BYTES)
        assert (result.sha, result.count) == (random16.sha, random16.bytes)

    def test_download_only(self, rekeying):
        result = rekeying.ssh("head -c 30000000 /dev/zero", flags=("-v",))
        assert result.status == 0 and result.stdout == bytes(30000000)
        assert exchanges(result.err) >= exchanges_for(30000000, REKEY_BYTES), result.err[-3000:]

    def test_upload_only(self, rekeying, random16):
        with open(random16.path, "rb") as f:
            result = rekeying.ssh("sha256sum", stdin=f, flags=("-v",)).ok()
        assert result.out.split()[0] == random16.sha
        assert exchanges(result.err) >= exchanges_for(random16.bytes, REKEY_BYTES, WINDOW_BYTES)

    def test_both_sides_ask(self, rekeying, random16):
        argv = rekeying.ssh_argv("cat", flags=("-v",), opts=["RekeyLimit=700K"])
        result = pipe_sha(argv, random16.path)
        assert result.status == 0, result
        assert exchanges(result.err) >= exchanges_for(random16.bytes, 700 << 10)
        assert (result.sha, result.count) == (random16.sha, random16.bytes)

    def test_paramiko(self, rekeying, random16):
        client = paramiko.SSHClient()
        client.load_host_keys(rekeying.known_hosts)
        client.connect(rekeying.host, rekeying.port, rekeying.box,
                       key_filename=rekeying.identity, allow_agent=False,
                       look_for_keys=False, timeout=20)
        try:
            stdin, out, _ = client.exec_command("head -c 10000000 | sha256sum")
            with open(random16.path, "rb") as f:
                data = f.read(10000000)
            thread = threading.Thread(target=lambda: (stdin.write(data),
                                                      stdin.channel.shutdown_write()))
            thread.start()
            assert out.read().split()[0].decode() == hashlib.sha256(data).hexdigest()
            thread.join(20)
        finally:
            client.close()


@pytest.mark.gateway
def test_key_exchange_that_is_not_answered(new_region):
    """The gateway asks for one, and the client goes on with requests instead: the answers
    wait for the end of the exchange, 16 MiB of them at most, and then it is over."""
    region = new_region("--set", "session.rekey_s=1", sandboxes=1)
    one, sock = transport(region)
    try:
        asked = threading.Event()
        # Instead of its own answer to KEXINIT.
        one._handler_table = {**one._handler_table, 20: lambda *_: asked.set()}

        deadline = time.monotonic() + 20
        # One by one: paramiko hears of it behind the answers to all that was asked before.
        while not asked.wait(0.02):
            global_request(one, "x")
            assert time.monotonic() < deadline
        before = peak = resident_bytes(region.gateway_pid)
        # Each answer counts for its byte and 256 more.
        for count in range((16 << 20) // 257 + 1000):
            try:
                global_request(one, "x")
            except (OSError, EOFError, paramiko.SSHException):
                break
            if count % 1000 == 0:
                peak = max(peak, resident_bytes(region.gateway_pid))
        wait_until(lambda: "does not answer the key exchange" in region.gateway_log(),
                   "the connection's end")
        assert region.is_sanitized or peak - before < 24 << 20, peak - before
    finally:
        one.close()
        sock.close()
    region.serves()


@pytest.mark.gateway
def test_by_the_gateways_clock(new_region):
    check_by_time(new_region("--set", "session.rekey_s=1", sandboxes=1))


def test_padding_is_random(region, monkeypatch):
    """RFC 4253 section 6. Each packet's own, over many refills of what is kept in store."""
    paddings = []
    decrypt = asyncssh.encryption.GCMEncryption.decrypt_packet

    def decrypt_and_look(*arguments):
        packet = decrypt(*arguments)
        paddings.append(packet[-packet[0]:])
        return packet

    monkeypatch.setattr(asyncssh.encryption.GCMEncryption, "decrypt_packet", decrypt_and_look)

    async def read_much():
        async with connect(region, encryption_algs=["aes128-gcm@openssh.com"]) as connection:
            done = await connection.run("head -c 8388608 /dev/zero", encoding=None, check=True)
            assert len(done.stdout) == 8388608

    finish(read_much(), 60)
    assert len(paddings) > 256
    assert min(map(len, paddings)) >= 4
    # Four random bytes are the same twice now and then; what repeats itself is the same often.
    assert len(set(paddings)) > len(paddings) - 4
