"""Servers behind forwards, and ssh clients that forward."""

import contextlib
import socket
import struct
import subprocess
import threading

from waiting import close_listener, wait_until

CHUNK = 1 << 18


class Server:
    """A server of the test's own, on TCP or at a path, with a thread for each connection."""

    def __init__(self, handle, path=None):
        self.handle = handle
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(512)
        else:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            self.port = self.listener.getsockname()[1]
        self.errors = []
        self.peak = 0
        self.open = 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with self.lock:
            self.open += 1
            self.peak = max(self.peak, self.open)
        try:
            self.handle(connection)
        except OSError as error:
            self.errors.append(error)
        finally:
            connection.close()
            with self.lock:
                self.open -= 1

    def close(self):
        close_listener(self.listener, self.thread)


def echo(connection):
    while data := connection.recv(CHUNK):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def idle_agent(connection):
    """An SSH agent without keys; unlike those, it says hello to whom ssh forwards, behind its answer to session-bind."""
    stream = connection.makefile("rb")
    while len(head := stream.read(4)) == 4:
        kind = stream.read(int.from_bytes(head, "big"))[:1]
        connection.sendall(bytes([0, 0, 0, 1, 5]))
        if kind == b"\x1b":
            connection.sendall(b"hello")


def connect(to, timeout=20):
    """To a port of this machine's, or a path."""
    if isinstance(to, int):
        return socket.create_connection(("127.0.0.1", to), timeout)
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    try:
        s.connect(to)
    except OSError:
        s.close()
        raise
    return s


@contextlib.contextmanager
def forwarding(region, *flags, port, opts=()):
    """An ssh -N with forwards; ready when its port (or path) is."""
    client = subprocess.Popen(
        region.ssh_argv(flags=("-N", *flags), opts=["ExitOnForwardFailure=yes", *opts]),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def is_ready():
        assert client.poll() is None, client.stderr.read()
        try:
            connect(port, 5).close()
            return True
        except (ConnectionRefusedError, FileNotFoundError):
            return False

    try:
        # The probe itself is forwarded and closed at once: that is a test, too.
        wait_until(is_ready, "the forwarded port")
        yield client
    finally:
        client.kill()
        client.wait()
        client.stderr.close()


def exchange(to, data, half_close=True):
    """Sends all, closes the sending side, reads to the end."""
    with connect(to) as s:
        s.settimeout(60)
        sender = threading.Thread(target=lambda: (s.sendall(data), half_close
                                                  and s.shutdown(socket.SHUT_WR)))
        sender.start()
        parts = []
        while part := s.recv(CHUNK):
            parts.append(part)
        sender.join()
        return b"".join(parts)


def socks(port, host, target_port):
    """A connection through ssh -D, SOCKS 5 with the name resolved over there."""
    s = socket.create_connection(("127.0.0.1", port), 20)
    s.settimeout(30)
    s.sendall(b"\x05\x01\x00")
    assert s.recv(2) == b"\x05\x00"
    name = host.encode()
    s.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name
              + struct.pack(">H", target_port))
    reply = b""
    while len(reply) < 10:
        part = s.recv(10 - len(reply))
        if not part:
            s.close()
            raise ConnectionError(f"closed by the proxy after {reply!r}")
        reply += part
    if reply[1] != 0:
        s.close()
        raise ConnectionError(f"refused by the proxy: {reply[1]}")
    return s
