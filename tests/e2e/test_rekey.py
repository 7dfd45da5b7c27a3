"""Key exchanges in mid-session: by the client's wish and the gateway's, under load."""

import asyncio
import hashlib
import os
import re
import threading
import time

import paramiko
import pytest

from aclient import connect, finish
from raw import global_request, transport
from regions import pipe_sha, sha_of_file
from terminal import Terminal
from waiting import resident_bytes, wait_until

FAST = "KexAlgorithms=curve25519-sha256"


def exchanges(err):
    """Key exchanges in ssh -v's account, the first one not counted."""
    return len(re.findall(r"SSH2_MSG_NEWKEYS received", err)) - 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_gigabyte_with_a_rekey_every_mebibyte(region, random1024, roomy):
    """RekeyLimit=1M during scp of 1 GiB, both directions."""
    target = os.path.join(roomy, "target")
    opts = ["RekeyLimit=1M", FAST]
    up = region.scp("-v", random1024.path, region.remote(target), opts=opts, timeout=180)
    assert up.status == 0, up.err[-2000:]
    assert exchanges(up.err) >= 200
    assert sha_of_file(target) == random1024.sha
    os.unlink(random1024.path)
    back = os.path.join(roomy, "back")
    down = region.scp("-v", region.remote(target), back, opts=opts, timeout=180)
    assert down.status == 0, down.err[-2000:]
    assert exchanges(down.err) >= 200
    assert sha_of_file(back) == random1024.sha


@pytest.mark.parametrize("opts", [[], ["Ciphers=chacha20-poly1305@openssh.com"],
                                  ["Ciphers=aes256-ctr"],
                                  ["KexAlgorithms=diffie-hellman-group14-sha256"]])
def test_both_directions_at_once(region, random16, opts):
    argv = region.ssh_argv("cat", opts=["RekeyLimit=1M", *opts], flags=("-v",))
    result = pipe_sha(argv, random16.path)
    assert result.status == 0 and exchanges(result.err) >= 5, result
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


def test_by_time(region):
    """RekeyLimit by time, on a session that is nearly idle."""
    result = region.ssh("for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done",
                        opts=["RekeyLimit=default 1"], flags=("-v",)).ok()
    assert result.out.split() == [str(i) for i in range(1, 9)]
    assert exchanges(result.err) >= 1, result


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
        settings = ["--set", "session.rekey_bytes=1048576"]
        with Region(bin_dir, settings) as started:
            yield started

    @pytest.mark.parametrize("opts", [[], ["Ciphers=chacha20-poly1305@openssh.com"]])
    def test_under_load(self, rekeying, random16, opts):
        argv = rekeying.ssh_argv("cat", flags=("-v",), opts=opts)
        result = pipe_sha(argv, random16.path)
        assert result.status == 0 and exchanges(result.err) >= 5, result
        assert (result.sha, result.count) == (random16.sha, random16.bytes)

    def test_download_only(self, rekeying):
        result = rekeying.ssh("head -c 30000000 /dev/zero", flags=("-v",))
        assert result.status == 0 and result.stdout == bytes(30000000)
        assert exchanges(result.err) >= 5, result.err[-3000:]

    def test_upload_only(self, rekeying, random16):
        with open(random16.path, "rb") as f:
            result = rekeying.ssh("sha256sum", stdin=f, flags=("-v",)).ok()
        assert result.out.split()[0] == random16.sha and exchanges(result.err) >= 5

    def test_both_sides_ask(self, rekeying, random16):
        argv = rekeying.ssh_argv("cat", flags=("-v",), opts=["RekeyLimit=700K"])
        result = pipe_sha(argv, random16.path)
        assert result.status == 0, result
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
        while not asked.is_set():
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
    region = new_region("--set", "session.rekey_s=1")
    result = region.ssh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.6; done",
                        flags=("-v",)).ok()
    assert result.out.split() == [str(i) for i in range(1, 7)]
    assert exchanges(result.err) >= 1, result
