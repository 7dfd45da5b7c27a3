"""-R: ports and Unix sockets inside the sandbox that lead to the user's machine."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import threading

import asyncssh
import pytest

from aclient import connect as aconnect, finish
from forwards import CHUNK, connect, echo, exchange, forwarding
from waiting import free_port, wait_until

LISTENERS_MAX = 32


def is_open(to):
    try:
        connect(to).close()
        return True
    except (ConnectionRefusedError, ConnectionResetError, FileNotFoundError):
        return False


def test_port(region, server):
    """From inside the sandbox to a server on the user's machine."""
    target, port = server(echo), free_port()
    with forwarding(region, "-R", f"{port}:127.0.0.1:{target.port}", port=port):
        for size in (0, 1, 1000, 3000000):
            data = os.urandom(size)
            assert exchange(port, data) == data


def test_port_of_its_own_choice(region, server):
    target = server(echo)
    result = []

    def look(line):
        found = re.search(r"Allocated port (\d+) for remote forward", line)
        if found:
            result.append(int(found.group(1)))
        return bool(found)

    client = subprocess.Popen(
        region.ssh_argv(flags=("-N", "-R", f"0:127.0.0.1:{target.port}")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert any(look(line) for line in client.stderr)
        assert exchange(result[0], b"by chance") == b"by chance"
    finally:
        client.kill()
        client.communicate()
    wait_until(lambda: not is_open(result[0]), "the port's end")


def test_half_close_both_ways(region, server):
    got = []

    def answers(connection):
        count = 0
        while data := connection.recv(CHUNK):
            count += len(data)
        connection.sendall(b"%d bytes came\n" % count * 20000)

    def ends_first(connection):
        connection.sendall(b"no more from me")
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while data := connection.recv(CHUNK):
            parts.append(data)
        got.append(b"".join(parts))

    one, two, port, other = server(answers), server(ends_first), free_port(), free_port()
    with forwarding(region, "-R", f"{other}:127.0.0.1:{two.port}", "-R",
                    f"{port}:127.0.0.1:{one.port}", port=port):
        assert exchange(port, bytes(2000000)) == b"2000000 bytes came\n" * 20000
        data = os.urandom(1000000)
        with connect(other) as s:
            assert s.makefile("rb").read() == b"no more from me"
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            wait_until(lambda: data in got, "the bytes after the server's end")


def test_two_hundred_at_once(region, server):
    """More at once than may wait for the client's answer."""
    count = 200
    target, port = server(echo), free_port()

    async def one(i, barrier):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = b"%d " % i * 10000
        writer.write(data[:100])
        assert await reader.readexactly(100) == data[:100]
        barrier["waiting"] += 1
        if barrier["waiting"] == count:
            barrier["all"].set()
        await barrier["all"].wait()
        writer.write(data[100:])
        writer.write_eof()
        assert await reader.read(-1) == data[100:]
        writer.close()

    async def go():
        barrier = {"waiting": 0, "all": asyncio.Event()}
        await asyncio.gather(*(one(i, barrier) for i in range(count)))

    with forwarding(region, "-R", f"{port}:127.0.0.1:{target.port}", port=port):
        finish(go(), 120)
    assert target.peak >= count


def test_stalled_one_beside_a_fast_one(region, server):
    """A connection that nobody reads holds up no other of the same session."""
    stall = threading.Event()

    def flood(connection):
        with contextlib.suppress(OSError):
            while not stall.is_set():
                connection.sendall(bytes(1 << 16))

    target, flooding, port, other = server(echo), server(flood), free_port(), free_port()
    with forwarding(region, "-R", f"{other}:127.0.0.1:{flooding.port}", "-R",
                    f"{port}:127.0.0.1:{target.port}", port=port):
        with connect(other) as stalled:
            stalled.recv(1)
            for _ in range(3):
                data = os.urandom(4000000)
                assert exchange(port, data) == data
    stall.set()


def test_nobody_behind_it(region):
    """The user's own machine refuses: that connection ends, the forward stays."""
    nobody, port = free_port(), free_port()
    with forwarding(region, "-R", f"{port}:127.0.0.1:{nobody}", port=port) as client:
        for _ in range(3):
            with connect(port) as s, contextlib.suppress(ConnectionResetError):
                assert s.recv(1) == b""
        assert client.poll() is None


@contextlib.contextmanager
def master(region, folder):
    """A control master, and ssh -O for it."""
    control = f"{folder}/control"
    client = subprocess.Popen(region.ssh_argv(flags=("-N", "-M", "-S", control)),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)

    def order(what, *flags):
        return region.ssh(flags=("-S", control, "-O", what, *flags))

    try:
        wait_until(lambda: os.path.exists(control), "the control master")
        yield order
    finally:
        client.kill()
        client.wait()


def test_cancel_and_again(region, server, folder):
    target, port = server(echo), free_port()
    forward = f"{port}:127.0.0.1:{target.port}"
    with master(region, folder) as order:
        for _ in range(3):
            order("forward", "-R", forward).ok()
            assert exchange(port, b"here") == b"here"
            order("cancel", "-R", forward).ok()
            wait_until(lambda: not is_open(port), "the port's end")


def test_cancel_keeps_what_is_connected(region, server, folder):
    target, port = server(echo), free_port()
    forward = f"{port}:127.0.0.1:{target.port}"
    with master(region, folder) as order:
        order("forward", "-R", forward).ok()
        with connect(port) as s:
            s.sendall(b"before")
            assert s.recv(100) == b"before"
            order("cancel", "-R", forward).ok()
            wait_until(lambda: not is_open(port), "the port's end")
            s.sendall(b"after")
            assert s.recv(100) == b"after"


def test_gone_with_the_session(region, server, folder):
    target, port, path = server(echo), free_port(), f"{folder}/socket"
    with forwarding(region, "-R", f"{port}:127.0.0.1:{target.port}", "-R",
                    f"{path}:127.0.0.1:{target.port}", port=port):
        assert is_open(port) and is_open(path)
    wait_until(lambda: not is_open(port) and not os.path.exists(path), "the end of both")


def refused(region, *flags, opts=()):
    """The words of ssh -v beside a forward that is refused; the command itself still runs."""
    result = region.ssh("echo ran", flags=("-v", *flags), opts=opts).ok()
    assert result.stdout == b"ran\n", result
    return result.err


def test_port_in_use(region, server):
    target, taken = server(echo), server(echo)
    err = refused(region, "-R", f"{taken.port}:127.0.0.1:{target.port}")
    assert f"remote port forwarding failed for listen port {taken.port}" in err, err
    assert "Remote: ringgate: remote port forwarding: Address already in use" in err, err
    result = region.ssh("echo ran", flags=("-R", f"{taken.port}:127.0.0.1:{target.port}"),
                        opts=["ExitOnForwardFailure=yes"])
    assert result.status == 255 and result.stdout == b"", result


def listens(port, host):
    try:
        socket.create_connection((host, port), 5).close()
        return True
    except ConnectionRefusedError:
        return False


def test_loopback_only_by_default(region, server):
    """As sshd's GatewayPorts no: whatever the client asks for."""
    target = server(echo)
    for bind in ("", "*:", "0.0.0.0:", "localhost:"):
        port = free_port()
        with forwarding(region, "-R", f"{bind}{port}:127.0.0.1:{target.port}", port=port):
            assert not listens(port, "127.0.0.2")
            assert exchange(port, b"here") == b"here"


def test_where_the_client_asks(new_region, server):
    region = new_region(sandboxes=1, config="session:\n  forward_listen: all\n")
    target = server(echo)
    for bind, others in (("", False), ("*:", True), ("localhost:", False), ("127.0.0.1:", False),
                         ("0.0.0.0:", True)):
        port = free_port()
        with forwarding(region, "-R", f"{bind}{port}:127.0.0.1:{target.port}", port=port):
            assert listens(port, "127.0.0.2") == others, bind
    err = refused(region, "-R", f"not-here.invalid:{free_port()}:127.0.0.1:{target.port}")
    assert "remote port forwarding failed" in err, err


def test_switched_off(new_region, server, folder):
    region = new_region(sandboxes=1,
                        config="session:\n  forward_listen: none\n  forward_unix: no\n")
    target = server(echo)
    err = refused(region, "-R", f"{free_port()}:127.0.0.1:{target.port}")
    assert "remote port forwarding failed" in err and "policy.forward_listen" in err, err
    err = refused(region, "-R", f"{folder}/s:127.0.0.1:{target.port}")
    assert "remote port forwarding failed" in err and "policy.forward_unix" in err, err
    assert not os.path.exists(f"{folder}/s")


def test_socket(region, server, folder):
    """-R /there.sock:/here.sock, for the user's own programs only, and not left behind."""
    here, there = f"{folder}/here", f"{folder}/there"
    server(echo, here)
    with forwarding(region, "-R", f"{there}:{here}", port=there):
        assert stat.S_IMODE(os.stat(there).st_mode) == 0o600
        data = os.urandom(2000000)
        assert exchange(there, data) == data
    wait_until(lambda: not os.path.exists(there), "the socket's end")


def test_socket_that_was_left_behind(region, server, folder):
    """Nobody listens there any more: it is replaced. What is alive, or no socket, is not."""
    target, path = server(echo), f"{folder}/left"
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    with forwarding(region, "-R", f"{path}:127.0.0.1:{target.port}", port=path):
        assert exchange(path, b"new") == b"new"
        err = refused(region, "-R", f"{path}:127.0.0.1:{target.port}")
        assert "Address already in use" in err, err
        assert exchange(path, b"still") == b"still"
    with open(f"{folder}/file", "w", encoding="ascii") as f:
        f.write("mine")
    err = refused(region, "-R", f"{folder}/file:127.0.0.1:{target.port}")
    assert "Address already in use" in err, err
    with open(f"{folder}/file", encoding="ascii") as f:
        assert f.read() == "mine"
    err = refused(region, "-R", f"{folder}/no/such:127.0.0.1:{target.port}")
    assert "No such file or directory" in err, err


def test_socket_cancelled(region, server, folder):
    target, path = server(echo), f"{folder}/socket"
    with master(region, folder) as order:
        for _ in range(2):
            order("forward", "-R", f"{path}:127.0.0.1:{target.port}").ok()
            assert exchange(path, b"here") == b"here"
            order("cancel", "-R", f"{path}:127.0.0.1:{target.port}").ok()
            wait_until(lambda: not os.path.exists(path), "the socket's end")


def test_stream_lost_and_made_again(region, server):
    """The connection to procd is lost under a session: its next command brings the port back."""
    target, port = server(echo), free_port()

    async def go():
        async with aconnect(region) as connection:
            await connection.forward_remote_port("", port, "127.0.0.1", target.port)
            assert await asyncio.to_thread(exchange, port, b"first") == b"first"
            mine = (await connection.run("echo $PPID", check=True)).stdout
            os.kill(int(mine), signal.SIGKILL)
            await until(lambda: not is_open(port))
            assert (await connection.run("echo again", check=True)).stdout == "again\n"
            await until(lambda: is_open(port))
            assert await asyncio.to_thread(exchange, port, b"back") == b"back"

    async def until(condition):
        for _ in range(400):
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("not within 20 s")

    finish(go(), 90)


def test_asyncssh(region, server):
    """Several asked for at once; a listener in the client's own program; the port that was chosen."""

    async def serve(reader, writer):
        writer.write(b"got " + await reader.read(-1))
        writer.write_eof()

    async def go():
        async with aconnect(region) as connection:
            listeners = await asyncio.gather(*(
                connection.start_server(lambda host, port: serve, "", 0, encoding=None)
                for _ in range(5)))
            ports = [listener.get_port() for listener in listeners]
            assert len(set(ports)) == 5 and all(ports)
            for port in ports:
                assert await asyncio.to_thread(exchange, port, b"this") == b"got this"
            listeners[0].close()
            await listeners[0].wait_closed()
            assert await asyncio.to_thread(exchange, ports[1], b"that") == b"got that"

    finish(go(), 60)


def test_too_many(region):
    """The limit is told, and what is below it works on."""

    async def serve(reader, writer):
        writer.write(await reader.read(-1))
        writer.write_eof()

    async def go():
        async with aconnect(region) as connection:
            listeners = [await connection.start_server(lambda host, port: serve, "", 0,
                                                       encoding=None)
                         for _ in range(LISTENERS_MAX)]
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.start_server(lambda host, port: serve, "", 0)
            last = listeners[-1].get_port()
            assert await asyncio.to_thread(exchange, last, b"x") == b"x"
            listeners[0].close()
            await listeners[0].wait_closed()
            again = await connection.start_server(lambda host, port: serve, "", 0,
                                                  encoding=None)
            assert await asyncio.to_thread(exchange, again.get_port(), b"y") == b"y"

    finish(go(), 90)
