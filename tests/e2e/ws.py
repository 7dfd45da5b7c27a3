"""WebSocket (RFC 6455), both sides, over blocking sockets: what editors carry over a forward.

Also part of the archive that tests install in a sandbox: the standard library alone.
"""

import base64
import hashlib
import os
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FRAME_BYTES_MAX = 64 << 20


def accept_key(key):
    return base64.b64encode(hashlib.sha1(key.encode() + KEY_SUFFIX).digest()).decode()


def masked(data, mask):
    size = len(data)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


class WebSocket:
    """Messages over an upgraded connection; `stream` reads exactly, `send` takes all bytes."""

    def __init__(self, stream, send, is_client):
        self.stream = stream
        self.send_all = send
        self.is_client = is_client

    def send(self, data, kind=None):
        if isinstance(data, str):
            data, kind = data.encode(), kind or TEXT
        size = len(data)
        head = bytes([0x80 | (kind or BINARY)])
        bit = 0x80 if self.is_client else 0
        if size < 126:
            head += bytes([bit | size])
        elif size < 1 << 16:
            head += struct.pack(">BH", bit | 126, size)
        else:
            head += struct.pack(">BQ", bit | 127, size)
        if self.is_client:
            mask = os.urandom(4)
            data = mask + masked(data, mask)
        self.send_all(head + data)

    def exactly(self, count):
        data = self.stream.read(count)
        if len(data) != count:
            raise ConnectionError("the web socket ended")
        return data

    def frame(self):
        first, second = self.exactly(2)
        size = second & 0x7F
        if size == 126:
            size, = struct.unpack(">H", self.exactly(2))
        elif size == 127:
            size, = struct.unpack(">Q", self.exactly(8))
        if size > FRAME_BYTES_MAX:
            raise ConnectionError("a frame too large")
        mask = self.exactly(4) if second & 0x80 else None
        data = self.exactly(size)
        return first & 0x80, first & 0x0F, masked(data, mask) if mask else data

    def receive(self):
        """(kind, data) of the next message; pings are answered. CLOSE is a message, too."""
        kind, parts = None, []
        while True:
            is_last, code, data = self.frame()
            if code == PING:
                self.send(data, PONG)
                continue
            if code in (CLOSE, PONG):
                return code, data
            kind = kind or code
            parts.append(data)
            if is_last:
                return kind, b"".join(parts)

    def ask(self, message):
        self.send(message)
        return self.receive()[1]


def upgraded(sock, path, host="localhost"):
    """The client's side of the opening handshake on a connected socket."""
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
                 f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                 "Sec-WebSocket-Version: 13\r\n\r\n".encode())
    stream = sock.makefile("rb")
    status = stream.readline().decode()
    headers = {}
    while (line := stream.readline().strip()):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if " 101 " not in status:
        raise ConnectionError(f"no upgrade: {status.strip()}")
    assert headers["sec-websocket-accept"] == accept_key(key), headers
    return WebSocket(stream, sock.sendall, is_client=True)
