"""ssh -J rs-one@gateway rs-two@gateway: a connection to the gateway itself, through it, that no sandbox sees."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess

import asyncssh
import pytest

from aclient import connect as aconnect, finish
from fake_region import FakeRegion
from regions import Region, run, sha_of_file
from waiting import is_alive, wait_until

pytestmark = pytest.mark.gateway

NAME = "gw.test"
OTHER = "other.test"
DEPTH = 3


@pytest.fixture(scope="module")
def region(bin_dir):
    config = f"jump:\n  names: [{NAME}, '{OTHER}:2200', '[fd00::7]:22']\n"
    with Region(bin_dir, sandboxes=2, config=config) as started:
        yield started


def write_config(region, path, identity=None):
    """-J hands nothing but a configuration file to the ssh that it starts."""
    path.write_text(f"""
Host *
    BatchMode yes
    IdentitiesOnly yes
    IdentityAgent none
    IdentityFile {identity or region.identity}
    UserKnownHostsFile {region.known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    HostKeyAlias [{region.host}]:{region.port}
    LogLevel INFO
    ConnectTimeout 20
    Port {region.port}
""")
    return str(path)


@pytest.fixture
def jump(region, tmp_path):
    """jump(command): in the second sandbox, through the first."""
    config = write_config(region, tmp_path / "config")

    def start(command, *flags, to=None, through=None, **how):
        return run(["ssh", "-F", config, "-J", f"{through or region.box}@{region.host}", *flags,
                    f"{to or region.sandboxes[1]}@{NAME}", command], **how)

    start.config = config
    return start


def inner(region, outer, box=None, name=NAME, port=None, key=None, **how):
    """A connection of asyncssh's inside another one."""
    return asyncssh.connect(
        name, port or region.port, tunnel=outer, username=box or region.sandboxes[1],
        client_keys=[key or region.identity], known_hosts=None, config=None, agent_path=None,
        login_timeout=60, **how)


def records(text, event):
    return [line for line in text.splitlines() if line.startswith("ringgate |") and f"event={event} " in line]


def field(record, name):
    return re.search(rf"\b{name}=(\S+)", record).group(1)


def test_command(region, jump):
    """Its output, its status; the log and the sandbox have the user's true address, and the first sandbox has nothing."""
    offset = region.log_size()
    result = jump("pwd; echo $SSH_CLIENT; echo words >&2; exit 7")
    assert result.status == 7, result
    here, client = result.out.splitlines()
    assert here == os.path.realpath(region.homes[region.sandboxes[1]]) and "words" in result.err, result
    wait_until(lambda: len(records(region.log_since(offset), "end")) == 2, "the ends")
    log = region.log_since(offset)
    outer, within = records(log, "connect")
    assert field(within, "via") == field(outer, "session") and "via" not in outer
    assert field(within, "client") == field(outer, "client")
    assert client.split()[:2] == field(outer, "client").split(":"), client
    assert f"{region.box}   | " not in log, log


def test_through_one_that_sleeps(bin_dir):
    """Nothing of it waits for the first sandbox, which does not wake up."""
    region = FakeRegion(bin_dir, [f"jump.names={NAME}"], boxes=("rs-one", "rs-two")).start()
    region.control.boxes["rs-one"].wake_s = None
    region.control.pause("rs-one")

    async def go():
        async with aconnect(region, box="rs-one") as outer, inner(region, outer, box="rs-two") as within:
            assert (await within.run("echo there", check=True)).stdout == "there\n"

    try:
        finish(go(), 60)
    finally:
        region.stop()


def test_names(region):
    """Exactly those; the rest goes the way of all forwards."""
    port = region.port

    async def go():
        async with aconnect(region) as outer:
            async def banner(host, number):
                reader, writer = await outer.open_connection(host, number)
                line = await reader.readline()
                writer.close()
                return line

            for host, number in ((NAME, port), ("GW.Test", port), (OTHER, 2200), ("fd00::7", 22)):
                assert (await banner(host, number)).startswith(b"SSH-2.0-ringgate"), host
            for host, number in ((NAME, port + 1), (NAME, 22), (OTHER, port), ("x" + NAME, port), (NAME + ".", port),
                                 ("fd00::7", port), ("fd00::8", 22), ("192.0.2.77", port),
                                 (NAME + "\0", port), (NAME[:-1], port)):
                with pytest.raises(asyncssh.ChannelOpenError) as error:
                    await banner(host, number)
                assert "forward_tcp" in error.value.reason, (host, error.value.reason)
            # Loopback is the sandbox's own: here it leads to the gateway, too, but by way of procd.
            offset = region.log_size()
            assert (await banner("127.0.0.1", port)).startswith(b"SSH-2.0-ringgate")
            wait_until(lambda: "stream_end" in region.log_since(offset) or records(region.log_since(offset), "connect"),
                       "the connection")
            assert " via=" not in region.log_since(offset)

    finish(go(), 60)


def test_copies(region, jump, random64, tmp_path):
    """64 MiB each way by scp and by a command, equal at both ends."""
    remote = f"{region.sandboxes[1]}@{NAME}:"
    flags = ["-F", jump.config, "-J", f"{region.box}@{region.host}"]
    run(["scp", *flags, random64.path, remote + "copy"], timeout=200).ok()
    assert sha_of_file(os.path.join(region.homes[region.sandboxes[1]], "copy")) == random64.sha
    run(["scp", *flags, remote + "copy", str(tmp_path / "back")], timeout=200).ok()
    assert sha_of_file(tmp_path / "back") == random64.sha
    with open(random64.path, "rb") as f:
        assert jump("sha256sum", stdin=f, timeout=200).ok().out.split()[0] == random64.sha
    out = jump("cat copy; rm copy; exit 9", timeout=200)
    assert out.status == 9 and len(out.stdout) == random64.bytes
    with open(random64.path, "rb") as f:
        assert f.read() == out.stdout


def test_who_may_not_enter_the_second(region, jump, tmp_path):
    """The usual words, whoever was let into the first."""
    result = jump("echo in", to="rs-nowhere")
    assert result.status == 255 and "rs-nowhere@gw.test: Permission denied (publickey)." in result.err, result
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")]).ok()

    async def go():
        async with aconnect(region) as outer:
            with pytest.raises(asyncssh.PermissionDenied):
                await inner(region, outer, key=str(tmp_path / "stranger"))
            async with inner(region, outer) as within:
                assert (await within.run("echo in", check=True)).stdout == "in\n"

    finish(go(), 60)
    result = jump("echo in", through="rs-nowhere")
    assert result.status == 255 and f"rs-nowhere@{region.host}: Permission denied" in result.err, result


def test_twenty_at_once(region):
    """Through one connection, and each does its own."""
    async def one(outer, i):
        async with inner(region, outer, box=region.sandboxes[i % 2]) as within:
            result = await within.run(f"cat; exit {i}", input="x" * 100000)
            assert result.exit_status == i and result.stdout == "x" * 100000

    async def go():
        async with aconnect(region) as outer:
            await asyncio.gather(*(one(outer, i) for i in range(20)))
            assert (await outer.run("echo on", check=True)).stdout == "on\n"

    finish(go(), 120)


def test_outer_ends_inner(region):
    """The outer connection is lost, or closed: so is what was inside, and the program there is hung up."""
    async def go(is_lost):
        offset = region.log_size()
        outer = await aconnect(region)
        within = await inner(region, outer)
        process = await within.create_process("echo $$; exec sleep 60")
        pid = int(await process.stdout.readline())
        assert is_alive(pid)
        if is_lost:
            outer.abort()
        else:
            outer.close()
        await asyncio.wait_for(within.wait_closed(), 20)
        await asyncio.to_thread(wait_until, lambda: not is_alive(pid), "the program's end")
        await asyncio.to_thread(wait_until, lambda: len(records(region.log_since(offset), "end")) == 2, "both ends")

    finish(go(True), 60)
    finish(go(False), 60)


def test_inner_ends_first(region):
    """Its channel closes, and the outer connection goes on."""
    async def go():
        async with aconnect(region) as outer:
            reader, writer = await outer.open_connection(NAME, region.port)
            assert (await reader.readline()).startswith(b"SSH-2.0-ringgate")
            writer.write(b"not an SSH client\r\n")
            assert b"\r\n" not in await reader.read(-1)  # what it still said, and its end
            for _ in range(3):
                async with inner(region, outer) as within:
                    result = await within.run("head -c 1000000 /dev/zero; exit 5")
                    assert result.exit_status == 5 and len(result.stdout) == 1000000
            assert (await outer.run("echo on", check=True)).stdout == "on\n"

    finish(go(), 60)


def test_one_that_nobody_reads(region):
    """Inside, a flood that is not read; beside it, and in the outer connection, all goes on."""
    async def go():
        async with aconnect(region) as outer, inner(region, outer) as stalled, inner(region, outer) as other:
            process = await stalled.create_process("cat /dev/zero", encoding=None)
            await process.stdout.readexactly(1000)
            process.channel.pause_reading()
            result = await other.run("head -c 8000000 /dev/zero", encoding=None)
            assert len(result.stdout) == 8000000
            assert (await outer.run("echo on", check=True)).stdout == "on\n"

    finish(go(), 60)


def test_one_inside_the_other(region):
    """As many as jump.depth says."""
    async def go():
        async with contextlib.AsyncExitStack() as stack:
            deepest = await stack.enter_async_context(aconnect(region))
            for i in range(DEPTH):
                deepest = await stack.enter_async_context(inner(region, deepest, box=region.sandboxes[i % 2]))
            assert (await deepest.run("echo deep", check=True)).stdout == "deep\n"
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await deepest.open_connection(NAME, region.port)
            assert "jump.depth" in error.value.reason

    finish(go(), 60)


def test_rekeying_meanwhile(region, jump, random16):
    """New keys in the outer connection and in the inner one, and no byte is lost."""
    async def go():
        async with aconnect(region, rekey_bytes=1 << 20) as outer:
            async with inner(region, outer, rekey_bytes=1 << 20) as within:
                with open(random16.path, "rb") as f:
                    data = f.read()
                result = await within.run("cat", input=data, encoding=None)
                assert result.stdout == data

    finish(go(), 120)


def test_idle_policy(new_region):
    """A session through which another one's output goes is not idle, though its user sends nothing."""
    region = new_region(sandboxes=2, config=f"jump:\n  names: [{NAME}]\npolicy:\n  idle_timeout_s: 3\n")

    async def go():
        async with aconnect(region) as outer, inner(region, outer) as within:
            result = await within.run("for i in $(seq 10); do sleep 0.5; echo $i; done")
            assert result.exit_status == 0 and result.stdout.split() == [str(i) for i in range(1, 11)], result

    finish(go(), 60)


def test_limits_by_address(new_region):
    """Connections that have not logged in are counted at the user's address, from whichever way they come."""
    region = new_region(sandboxes=2, config=f"jump:\n  names: [{NAME}]\n"
                        "login:\n  unauthenticated:\n    per_address: 3\n")

    def direct():
        s = socket.create_connection((region.host, region.port), 20)
        return s, s.makefile("rb").readline()

    async def go():
        async with aconnect(region) as outer:
            opened = []
            for _ in range(3):
                reader, writer = await outer.open_connection(NAME, region.port)
                assert (await reader.readline()).startswith(b"SSH-2.0-")
                opened.append(writer)
            reader, writer = await outer.open_connection(NAME, region.port)
            assert await reader.read(-1) == b""
            refused, line = await asyncio.to_thread(direct)
            refused.close()
            assert line == b""
            opened.pop().close()
            for _ in range(400):
                accepted, line = await asyncio.to_thread(direct)
                if line:
                    break
                accepted.close()
                await asyncio.sleep(0.05)
            assert line.startswith(b"SSH-2.0-")
            reader, writer = await outer.open_connection(NAME, region.port)
            assert await reader.read(-1) == b""
            accepted.close()

    finish(go(), 60)
    wait_until(lambda: run(["ssh", *region.options(), "-p", str(region.port),
                            f"{region.box}@{region.host}", "true"]).status == 0, "the place that is given back")


@pytest.mark.parametrize("config, words", [
    ("jump:\n  names: [gw.test]\n  depth: 0\n", "forward_tcp"),
    ("jump:\n  names: [gw.test]\npolicy:\n  jump: no\n  forward_tcp: all\n", "jump: no")])
def test_switched_off(new_region, config, words):
    """Where there are none it is a forward as any other; where they are forbidden none of its names is reached."""
    region = new_region(sandboxes=2, config=config)

    async def go():
        async with aconnect(region) as outer:
            with pytest.raises(asyncssh.ChannelOpenError) as error:
                await outer.open_connection(NAME, region.port)
            assert words in error.value.reason, error.value.reason

    finish(go(), 60)


def test_address_that_it_was_reached_at(bin_dir, tmp_path):
    """Without jump.names: the address that the client used, where that is not loopback. And the end of the gateway
    in the middle of it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("198.51.100.1", 9))
            address = s.getsockname()[0]
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    region = Region(bin_dir, ["--bind", "0.0.0.0"], sandboxes=2).start()
    try:
        config = write_config(region, tmp_path / "config")
        result = run(["ssh", "-F", config, "-J", f"{region.box}@{address}", f"{region.sandboxes[1]}@{address}", "pwd"]).ok()
        assert result.out.strip() == os.path.realpath(region.homes[region.sandboxes[1]])
        assert " via=" in region.log_since(0)
        client = subprocess.Popen(
            ["ssh", "-F", config, "-J", f"{region.box}@{address}", f"{region.sandboxes[1]}@{address}",
             "echo ready; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert client.stdout.readline() == b"ready\n"
    finally:
        region.stop()
    out, err = client.communicate(timeout=30)
    assert client.returncode == 255 and out == b"", (out, err)
