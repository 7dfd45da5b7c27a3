"""-L to Unix sockets inside the sandbox: direct-streamlocal@openssh.com."""

import os
import socket
import subprocess
import threading

import asyncssh
import pytest

from aclient import connect as aconnect, finish
from forwards import CHUNK, Server, connect, echo, exchange, forwarding
from waiting import free_port, wait_until


@pytest.fixture
def server(folder):
    opened = []

    def start(handle):
        path = f"{folder}/server{len(opened)}"
        opened.append((Server(handle, path), path))
        return path

    yield start
    for one, _ in opened:
        one.close()


def test_port_to_socket(region, server):
    target, port = server(echo), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:{target}", port=port):
        for size in (0, 1, 1000, 3000000):
            data = os.urandom(size)
            assert exchange(port, data) == data


def test_socket_to_socket(region, server, folder):
    target, local = server(echo), f"{folder}/local"
    with forwarding(region, "-L", f"{local}:{target}", port=local):
        data = os.urandom(2000000)
        assert exchange(local, data) == data


def test_half_close_both_ways(region, server):
    """The user's end comes first and is answered; the server's end comes first, and it reads on."""
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

    first, second, port, other = server(answers), server(ends_first), free_port(), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{other}:{second}", "-L",
                    f"127.0.0.1:{port}:{first}", port=port):
        assert exchange(port, bytes(2000000)) == b"2000000 bytes came\n" * 20000
        data = os.urandom(1000000)
        with connect(other) as s:
            assert s.makefile("rb").read() == b"no more from me"
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            wait_until(lambda: data in got, "the bytes after the server's end")


def test_what_was_sent_before_the_end_arrives(region, server):
    """The server has ended, so that the user's end closes the channel: what he had sent, and the
    server has not read yet, is still written."""
    reads = threading.Event()
    reads.set()  # For the probe.
    got = []

    def slow(connection):
        connection.shutdown(socket.SHUT_WR)
        reads.wait(20)
        parts = []
        while data := connection.recv(CHUNK):
            parts.append(data)
        got.append(b"".join(parts))

    target, port = server(slow), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:{target}", port=port):
        for size in (150000, 250000, 300000, 400000):
            data = os.urandom(size)
            reads.clear()
            with connect(port) as s:
                assert s.recv(1) == b""
                s.sendall(data)
            reads.set()
            wait_until(lambda: data in got, f"{size} bytes: {[len(one) for one in got]}")


def test_many_at_once(region, server):
    target, port = server(echo), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:{target}", port=port):
        answers = {}
        threads = [threading.Thread(target=lambda i=i: answers.update(
            {i: exchange(port, b"%d " % i * 50000)})) for i in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == {i: b"%d " % i * 50000 for i in range(50)}


async def open_error(region, path):
    async with aconnect(region) as connection:
        try:
            await connection.open_unix_connection(path)
        except asyncssh.ChannelOpenError as error:
            return error.code, error.reason
    return None


def forward_error(region, path):
    """What ssh says of a connection through -L that cannot be made; the session lives on."""
    port = free_port()
    client = subprocess.Popen(
        region.ssh_argv(flags=("-N", "-L", f"127.0.0.1:{port}:{path}")),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def closes_at_once():
        try:
            with connect(port) as s:
                return s.recv(1) == b""
        except ConnectionRefusedError:
            return False
        except ConnectionResetError:
            return True

    try:
        wait_until(closes_at_once, "the refusal")
        assert client.poll() is None
    finally:
        client.kill()
        _, err = client.communicate()
    return err.decode()


def test_errors_are_told(region, folder):
    """Each with SSH's own reason code and words that a person understands."""
    nobody, secret = f"{folder}/nobody", f"{folder}/file"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(nobody)
    listener.close()
    open(secret, "w", encoding="ascii").close()
    expected = {
        f"{folder}/nothing": (asyncssh.OPEN_CONNECT_FAILED, "No such file or directory"),
        nobody: (asyncssh.OPEN_CONNECT_FAILED, "Connection refused"),
        "/" + "x" * 107: (asyncssh.OPEN_CONNECT_FAILED, "1 to 107 bytes"),
    }
    for path, (code, words) in expected.items():
        got_code, got_words = finish(open_error(region, path), 60)
        assert got_code == code and words in got_words, (path, got_code, got_words)
    err = forward_error(region, f"{folder}/nothing")
    assert "open failed: connect failed: No such file or directory" in err, err


def test_switched_off(new_region, folder, server):
    """policy.forward_unix refuses sockets by its name, and nothing else."""
    region = new_region(sandboxes=1, config="session:\n  forward_unix: no\n")
    target = server(echo)
    code, words = finish(open_error(region, target), 60)
    assert code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, (code, words)
    assert "policy.forward_unix" in words, words
    err = forward_error(region, target)
    assert "administratively prohibited" in err and "policy.forward_unix" in err, err
    tcp = Server(echo)
    port = free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{tcp.port}", port=port):
        assert exchange(port, b"still") == b"still"
    tcp.close()
