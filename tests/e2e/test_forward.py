"""-L, -D and -W: ports inside the sandbox, seen from the user's machine."""

import asyncio
import hashlib
import os
import socket
import struct
import subprocess
import threading

import pytest

from aclient import finish
from forwards import CHUNK, echo, exchange, forwarding, socks
from regions import run, sha_of_stream
from waiting import free_port, wait_until


def test_local_forward(region, server):
    target, port = server(echo), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}", port=port):
        for size in (0, 1, 1000, 3000000):
            data = os.urandom(size)
            assert exchange(port, data) == data


def test_local_forward_to_a_name(region, server):
    target, port = server(echo), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:localhost:{target.port}", port=port):
        assert exchange(port, b"by name") == b"by name"


def test_two_hundred_at_once(region, server):
    """All 200 are open at the same time, each with its own bytes."""
    count = 200
    target, port = server(echo), free_port()

    async def one(i, barrier):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        data = hashlib.sha256(str(i).encode()).digest() * 2000
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

    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}", port=port):
        finish(go(), 120)
    assert target.peak >= count


class Gigabyte:
    """1 GiB that costs little to make: one random block, varied by its number."""

    blocks = 1024

    def __init__(self):
        self.block = bytearray(os.urandom(1 << 20))
        digest = hashlib.sha256()
        for block in self:
            digest.update(block)
        self.sha = digest.hexdigest()

    def __iter__(self):
        for i in range(self.blocks):
            self.block[:8] = i.to_bytes(8, "big")
            yield self.block


@pytest.mark.slow
@pytest.mark.parametrize("way", ["local", "dynamic"])
def test_a_gigabyte(region, server, way):
    """Up through -L, down through -D: equal by SHA-256."""
    gigabyte = Gigabyte()
    seen = {}

    def take(connection):
        with connection.makefile("rb", buffering=0) as stream:
            sha, count = sha_of_stream(stream)
            if count:
                seen["up"] = sha, count
        connection.sendall(b"taken")

    def give(connection):
        for block in gigabyte:
            connection.sendall(block)

    port = free_port()
    if way == "local":
        target = server(take)
        with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}",
                        port=port):
            with socket.create_connection(("127.0.0.1", port), 20) as s:
                s.settimeout(120)
                for block in gigabyte:
                    s.sendall(block)
                s.shutdown(socket.SHUT_WR)
                assert s.recv(100) == b"taken"
        assert seen["up"] == (gigabyte.sha, 1 << 30)
    else:
        target = server(give)
        with forwarding(region, "-D", f"127.0.0.1:{port}", port=port):
            with socks(port, "127.0.0.1", target.port) as s, \
                    s.makefile("rb", buffering=0) as stream:
                s.settimeout(120)
                assert sha_of_stream(stream) == (gigabyte.sha, 1 << 30)


def test_dynamic_forward(region, server):
    target, port = server(echo), free_port()
    with forwarding(region, "-D", f"127.0.0.1:{port}", port=port):
        for host in ("127.0.0.1", "localhost"):
            with socks(port, host, target.port) as s:
                s.sendall(b"through socks")
                s.shutdown(socket.SHUT_WR)
                assert s.makefile("rb").read() == b"through socks"


def test_half_close_by_the_user(region, server):
    """The user closes first; the answer, begun only then, still comes whole."""

    def handle(connection):
        count = 0
        while data := connection.recv(CHUNK):
            count += len(data)
        connection.sendall(b"%d bytes came\n" % count * 50000)

    target, port = server(handle), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}", port=port):
        assert exchange(port, bytes(2000000)) == b"2000000 bytes came\n" * 50000


def test_half_close_by_the_server(region, server):
    """The server closes first, and goes on reading."""
    seen = []

    def handle(connection):
        connection.sendall(b"hello, and no more from me")
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while data := connection.recv(CHUNK):
            parts.append(data)
        seen.append(b"".join(parts))

    target, port = server(handle), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}", port=port):
        with socket.create_connection(("127.0.0.1", port), 20) as s:
            s.settimeout(20)
            assert s.makefile("rb").read() == b"hello, and no more from me"
            data = os.urandom(2000000)
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            wait_until(lambda: any(seen), "the bytes after the server's end")
    assert data in seen


def test_server_that_resets(region, server):
    def handle(connection):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    target, port = server(handle), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}",
                    port=port) as client:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", port), 20) as s:
                s.settimeout(20)
                s.sendall(b"x")
                try:
                    assert s.recv(10) == b""
                except ConnectionResetError:
                    pass
        assert client.poll() is None


def test_refused_port_says_so(region):
    """Nobody listens over there: the channel fails with words, the session lives."""
    nobody, port = free_port(), free_port()
    client = subprocess.Popen(
        region.ssh_argv(flags=("-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{nobody}")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        def closes_at_once():
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as s:
                    s.settimeout(10)
                    return s.recv(1) == b""
            except ConnectionRefusedError:
                return False
            except ConnectionResetError:
                return True

        wait_until(closes_at_once, "the refusal")
        assert client.poll() is None
    finally:
        client.kill()
        _, err = client.communicate()
    text = err.decode()
    assert "open failed: connect failed" in text and "refused" in text, text


def test_unknown_name_says_so(region):
    result = run(region.ssh_argv(flags=("-W", "no-such-name.invalid:80")), timeout=40)
    assert result.status != 0 and "open failed" in result.err, result


def test_refused_over_stdio(region):
    result = run(region.ssh_argv(flags=("-W", f"127.0.0.1:{free_port()}")), timeout=30)
    assert result.status != 0 and "refused" in result.err, result


def test_stdio_forward(region, server):
    target = server(echo)
    data = os.urandom(5000000)
    result = run(region.ssh_argv(flags=("-W", f"127.0.0.1:{target.port}")), input=data)
    assert result.ok().stdout == data


def test_jump_through_the_sandbox(region):
    """ssh -J's half: an SSH session inside a forwarded connection, to the gateway
    itself, which the sandbox of this test can reach."""
    proxy = " ".join(region.ssh_argv(flags=("-W", f"{region.host}:{region.port}")))
    result = region.ssh("echo twice", opts=[f"ProxyCommand={proxy}"], timeout=40)
    assert result.ok().stdout == b"twice\n"


def test_commands_beside_forwards(region, server, tmp_path):
    """One connection: a shell command runs while its forward is busy."""
    target, port = server(echo), free_port()
    control = f"/tmp/ringgate-{os.getpid()}-{port}"
    with forwarding(region, "-M", "-S", control, "-L",
                    f"127.0.0.1:{port}:127.0.0.1:{target.port}", port=port):
        data = os.urandom(20000000)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(exchange(port, data)))
        thread.start()
        for i in range(10):
            result = region.ssh(f"echo {i}", flags=("-S", control))
            assert result.ok().stdout == b"%d\n" % i
        thread.join(60)
        assert answers == [data]


def test_stalled_forward_beside_a_fast_one(region, server):
    """A connection that nobody reads holds up no other of the same session."""
    stall = threading.Event()

    def flood(connection):
        try:
            while not stall.is_set():
                connection.sendall(bytes(1 << 16))
        except OSError:
            pass

    target, flooding, port = server(echo), server(flood), free_port()
    with forwarding(region, "-D", f"127.0.0.1:{port}", port=port):
        with socks(port, "127.0.0.1", flooding.port) as stalled:
            stalled.recv(1)
            for _ in range(3):
                with socks(port, "127.0.0.1", target.port) as s:
                    data = os.urandom(4000000)
                    thread = threading.Thread(target=lambda: (s.sendall(data),
                                                              s.shutdown(socket.SHUT_WR)))
                    thread.start()
                    assert s.makefile("rb").read() == data
                    thread.join(20)
    stall.set()


def test_killed_client_closes_the_servers_side(region, server):
    began, ended = threading.Event(), threading.Event()

    def handle(connection):
        try:
            if connection.recv(1):
                began.set()
                while connection.recv(CHUNK):
                    pass
                ended.set()
        except OSError:
            ended.set()

    target, port = server(handle), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}",
                    port=port) as client:
        with socket.create_connection(("127.0.0.1", port), 20) as s:
            s.sendall(b"x")
            assert began.wait(20)
            client.kill()
            assert ended.wait(20), "the server's side stays open"
