"""Forwards by other clients than OpenSSH: each kind that a client has, and how it tells of a refusal."""

import asyncio
import contextlib
import os
import subprocess
import tempfile

import asyncssh
import pytest

from aclient import connect as aconnect, finish
from forwards import Server, connect, echo, exchange, socks
from regions import run
from test_clients import dropbear, go_client, putty  # noqa: F401: fixtures
from waiting import free_port, wait_until

# Where nobody may go; the setting stands in the words of the refusal.
OUTSIDE = "192.0.2.1"
SETTING = "forward_tcp"


@pytest.fixture
def target():
    """The port of an echo server."""
    one = Server(echo)
    yield one.port
    one.close()


@pytest.fixture
def target_path(folder):
    path = f"{folder}/target"
    one = Server(echo, path)
    yield path
    one.close()


def check(to):
    """Several at once, each in both directions with a half-close in between, and small ones."""
    data = os.urandom(1000000)
    assert exchange(to, data) == data
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(to)) for _ in range(10)]
        for i, s in enumerate(opened):
            s.sendall(b"%d" % i)
        for i, s in enumerate(opened):
            assert s.recv(10) == b"%d" % i


@contextlib.contextmanager
def running(argv, env=None, ready=None):
    """A client with forwards in the background: its standard error, line by line, when it has ended."""
    with tempfile.TemporaryFile() as err:
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
                                  env=env)
        client.words = lambda: (err.seek(0), err.read().decode("utf-8", "replace"))[1]
        try:
            if ready is not None:
                def is_ready():
                    assert client.poll() is None, client.words()
                    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                        connect(ready).close()
                        return True
                wait_until(is_ready, "the forward")
            yield client
        finally:
            client.kill()
            client.communicate()


# ---- asyncssh ----------------------------------------------------------------


def test_asyncssh(region, target, target_path, folder):
    """Local, remote, SOCKS; ports and Unix sockets."""
    here, there = f"{folder}/here", f"{folder}/there"

    async def go():
        async with aconnect(region) as one:
            loop = "127.0.0.1"
            made = [
                (await one.forward_local_port(loop, 0, loop, target)).get_port(),
                (await one.forward_remote_port(loop, 0, loop, target)).get_port(), here, there]
            await one.forward_local_path(here, target_path)
            await one.forward_remote_path(there, target_path)
            for to in made:
                await asyncio.to_thread(check, to)
            proxy = (await one.forward_socks(loop, 0)).get_port()

            def through_socks():
                with socks(proxy, "localhost", target) as s:
                    s.sendall(b"x" * 1000)
                    assert s.recv(2000)[:1] == b"x"

            await asyncio.to_thread(through_socks)
            for reader, writer in (await one.open_connection(loop, target, encoding=None),
                                   await one.open_unix_connection(target_path, encoding=None)):
                writer.write(b"by hand")
                writer.write_eof()
                assert await reader.read(-1) == b"by hand"

    finish(go(), 90)


def test_asyncssh_refusals(region, folder, target):
    async def go():
        async with aconnect(region) as one:
            async def refused(opening, code, words):
                with pytest.raises(asyncssh.ChannelOpenError) as caught:
                    await opening
                assert caught.value.code == code and words in caught.value.reason, caught.value

            failed = asyncssh.OPEN_CONNECT_FAILED
            await refused(one.open_connection("127.0.0.1", free_port()), failed, "Connection refused")
            await refused(one.open_connection(OUTSIDE, 80),
                          asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, SETTING)
            await refused(one.open_unix_connection(f"{folder}/nobody"), failed,
                          "No such file or directory")
            with pytest.raises(asyncssh.ChannelListenError, match="Failed to create remote TCP"):
                await one.forward_remote_port("127.0.0.1", target, "127.0.0.1", target)
            assert (await one.run("echo on")).stdout == "on\n"

    finish(go(), 60)


# ---- Go ----------------------------------------------------------------------


@pytest.fixture
def go(region, go_client):
    return [go_client, "-addr", f"{region.host}:{region.port}", "-user", region.box, "-key",
            region.identity, "-known-hosts", region.known_hosts]


@contextlib.contextmanager
def going(argv):
    """Where a go_client listens, once it does."""
    with running(argv) as client:
        words = client.stdout.readline().decode().split()
        assert words[:1] == ["listening"], client.words()
        port = words[1].rpartition(":")[2]
        yield int(port) if port.isdigit() else words[1]


def test_go(go, target, target_path, folder):
    """Dial and Listen of x/crypto: TCP and Unix sockets."""
    loop, there = f"127.0.0.1:{target}", f"{folder}/there"
    for arguments in (["local", loop], ["local", target_path], ["listen", "127.0.0.1:0", loop],
                      ["listen", there, loop]):
        with going([*go, *arguments]) as to:
            check(there if arguments[1] == there else to)
    data = os.urandom(3000000)
    for address in (loop, target_path):
        assert run([*go, "dial", address], input=data).ok().stdout == data


def test_go_refusals(go, target):
    for arguments, words in (
            (["dial", f"127.0.0.1:{free_port()}"], ["connect failed (Connection refused)"]),
            (["dial", f"{OUTSIDE}:80"], ["administratively prohibited (", SETTING]),
            (["dial", "/no/such/socket"], ["connect failed (No such file or directory)"]),
            (["listen", f"127.0.0.1:{target}", "127.0.0.1:1"], ["denied by peer"])):
        result = run([*go, *arguments])
        assert result.status == 250 and all(word in result.err for word in words), result


# ---- PuTTY -------------------------------------------------------------------


@pytest.fixture
def plink(region, putty):
    home, options = putty
    env = dict(os.environ, HOME=str(home))

    def argv(*flags):
        return ["plink", "-ssh", *options, *flags, "-l", region.box, region.host]

    return argv, env


def test_plink(plink, target):
    """-L, -R, -D and -nc."""
    argv, env = plink
    local, remote, dynamic = free_port(), free_port(), free_port()
    with running(argv("-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{target}", "-R",
                      f"{remote}:127.0.0.1:{target}", "-D", f"127.0.0.1:{dynamic}"), env, local):
        check(local)
        wait_until(lambda: is_open(remote), "the remote forward")
        check(remote)
        for host in ("127.0.0.1", "localhost"):
            with socks(dynamic, host, target) as s:
                s.sendall(b"through plink")
                assert s.recv(100) == b"through plink"
    data = os.urandom(3000000)
    assert run(argv("-nc", f"127.0.0.1:{target}"), input=data, env=env).ok().stdout == data


def is_open(port):
    with contextlib.suppress(ConnectionRefusedError):
        connect(port).close()
        return True
    return False


def test_plink_refusals(plink, target):
    argv, env = plink
    nobody = free_port()
    for to, words in ((f"127.0.0.1:{nobody}", ["Connect failed [Connection refused]"]),
                      (f"{OUTSIDE}:80", ["Administratively prohibited [", SETTING])):
        result = run(argv("-nc", to), env=env)
        assert result.status == 1 and all(
            word in result.err for word in ["Server refused to open main channel: ", *words]), result
    closed, outside = free_port(), free_port()
    with running(argv("-v", "-N", "-L", f"{closed}:127.0.0.1:{nobody}", "-L",
                      f"{outside}:{OUTSIDE}:80", "-R", f"{target}:127.0.0.1:1"), env, closed) as client:
        wait_until(lambda: is_open(outside), "the forward")
        for words in ("Forwarded connection refused by remote: Connect failed [Connection refused]",
                      "Forwarded connection refused by remote: Administratively prohibited [",
                      f"Remote port forwarding from {target} refused",
                      "ringgate: remote port forwarding: Address already in use"):
            wait_until(lambda: words in client.words(), words)


# ---- dropbear ----------------------------------------------------------------


@pytest.fixture
def dbclient(region, dropbear):
    env = dict(os.environ, HOME=str(dropbear))

    def argv(*flags):
        return ["dbclient", "-y", "-T", *flags, "-i", str(dropbear / "key"), "-p", str(region.port),
                f"{region.box}@{region.host}"]

    return argv, env


def test_dbclient(dbclient, target):
    """-L, -R and -B."""
    argv, env = dbclient
    local, remote = free_port(), free_port()
    with running(argv("-N", "-L", f"{local}:127.0.0.1:{target}", "-R",
                      f"{remote}:127.0.0.1:{target}"), env, local):
        check(local)
        wait_until(lambda: is_open(remote), "the remote forward")
        check(remote)
    # No more than a pipe holds: a dbclient whose output is full when the channel ends notices that only
    # at its next packet.
    data = os.urandom(30000)
    assert run(argv("-B", f"127.0.0.1:{target}"), input=data, env=env).ok().stdout == data


def test_dbclient_refusals(dbclient, target):
    """It has no words of its own for a channel that was refused; what it forwards ends at once."""
    argv, env = dbclient
    for to in (f"127.0.0.1:{free_port()}", f"{OUTSIDE}:80"):
        assert run(argv("-B", to), env=env, timeout=20).stdout == b""
    closed = free_port()
    with running(argv("-N", "-L", f"{closed}:127.0.0.1:{free_port()}",
                      "-R", f"{target}:127.0.0.1:1"), env, closed) as client:
        wait_until(lambda: f"Remote TCP forward request failed (port {target} -> 127.0.0.1:1)"
                   in client.words(), "the refusal's words")
        with connect(closed) as s, contextlib.suppress(ConnectionResetError):
            assert s.recv(1) == b""
