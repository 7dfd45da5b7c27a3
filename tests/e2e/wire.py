"""The procd protocol, spoken by hand: a gateway and a procd that do what a test wants.

Written from docs/procd-protocol.md, by other libraries than the project's own.
"""

import base64
import hashlib
import os
import socket
import threading
import time

import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from waiting import close_listener

(CHALLENGE, HELLO, WELCOME, ERROR, PING, PONG, GOAWAY) = range(7)
(OPEN, OPENED, REFUSED, DATA, CREDIT, EOF, RESIZE, SIGNAL, EXIT, EXIT_SIGNAL, CLOSE, EOW,
 LISTEN, LISTENING, LISTEN_REFUSED, UNLISTEN, UNLISTENED) = range(8, 25)
VERSION = 1


def encode(*frame):
    return msgpack.packb(list(frame), use_bin_type=True)


def public_text(key):
    return "ed25519:" + base64.b64encode(bytes(key.verify_key)).decode()


def load_secret(path):
    with open(path, encoding="ascii") as f:
        kind, _, text = f.read().strip().partition(":")
    assert kind == "ed25519-private", kind
    return SigningKey(base64.b64decode(text)[:32])


def load_public(path):
    with open(path, encoding="ascii") as f:
        kind, _, text = f.read().strip().partition(":")
    assert kind == "ed25519", kind
    return VerifyKey(base64.b64decode(text))


class Stream:
    """Frames over a socket; every received byte is kept in `seen`."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(10)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False,
                                         max_buffer_size=64 << 20,
                                         unicode_errors="surrogateescape")
        self.seen = b""
        self.frames = []

    def send(self, *frame):
        self.sock.sendall(encode(*frame))

    def send_bytes(self, data):
        self.sock.sendall(data)

    def receive(self, seconds=10):
        """The next frame, or None at the end of the stream."""
        deadline = time.monotonic() + seconds
        while True:
            for frame in self.unpacker:
                self.frames.append(frame)
                return frame
            left = deadline - time.monotonic()
            assert left > 0, f"no frame within {seconds} s; had {self.frames[-5:]}"
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                continue
            except OSError:
                return None
            if not data:
                return None
            self.seen += data if len(self.seen) < 1 << 20 else b""
            self.unpacker.feed(data)

    def expect(self, kind, seconds=10):
        """The next frame of this type; pings are answered, credit and EOW (a command that ends takes no more) are skipped."""
        while True:
            frame = self.receive(seconds)
            assert frame is not None, f"the end instead of {kind}; had {self.frames[-5:]}"
            if frame[0] == kind:
                return frame
            if frame[0] == PING:
                self.send(PONG, 0, frame[2])
            else:
                assert frame[0] in (CREDIT, EOW, PONG), f"{frame} instead of {kind}"

    def ends(self, seconds=10):
        """Whether the other side closes; frames on the way there are kept."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if self.receive(max(0.1, deadline - time.monotonic())) is None:
                    return True
            except AssertionError:
                return False
        return False

    def close(self):
        self.sock.close()


# ---- the gateway's side ------------------------------------------------------------


class Gateway(Stream):
    """A connection to a real procd."""

    def __init__(self, address, key):
        host, _, port = address.rpartition(":")
        super().__init__(socket.create_connection((host, int(port)), 10))
        self.key = key
        frame = self.receive()
        assert frame[:3] == [CHALLENGE, 0, VERSION] and len(frame[3]) == 32, frame
        self.challenge = frame[3]

    def ticket(self, sandbox, **changes):
        fields = {"sandbox": sandbox, "user": "u-test", "team": "t-test",
                  "session": os.urandom(8).hex(), "gateway": "test", "client": "127.0.0.1:9",
                  "issued": int(time.time())}
        fields.update(changes)
        return msgpack.packb(fields, use_bin_type=True)

    def hello(self, sandbox, challenge=None, key=None, ticket=None, signature=None,
              version=VERSION):
        self.sent_ticket = self.ticket(sandbox) if ticket is None else ticket
        text = (b"procd-hello-1\0" + (challenge or self.challenge) + self.sent_ticket)
        if signature is None:
            signature = (key or self.key).sign(text).signature
        self.send(HELLO, 0, version, self.sent_ticket, signature, {})

    def welcome(self, public):
        """Takes WELCOME and checks procd's own proof."""
        frame = self.expect(WELCOME)
        assert frame[1] == 0 and frame[2] == VERSION, frame
        text = (b"procd-welcome-1\0" + self.challenge
                + hashlib.sha256(self.sent_ticket).digest())
        public.verify(text, frame[3])
        return self

    def open_exec(self, number, command, credit=1 << 20, **options):
        self.send(OPEN, number, "exec", {"command": command, **options}, credit)

    def run(self, number, command):
        """One command to its end: (stdout, stderr, last words)."""
        self.open_exec(number, command)
        out, err, ended = b"", b"", None
        self.expect(OPENED)
        self.send(EOF, number)
        while True:
            frame = self.receive()
            assert frame is not None
            if frame[0] == PING:
                self.send(PONG, 0, frame[2])
            if frame[1] != number:
                continue
            if frame[0] == DATA:
                if frame[2] == 0:
                    out += frame[3]
                else:
                    err += frame[3]
                self.send(CREDIT, number, len(frame[3]))
            elif frame[0] in (EXIT, EXIT_SIGNAL):
                ended = frame
            elif frame[0] == CLOSE:
                self.send(CLOSE, number)
                return out, err, ended


# ---- procd's side ------------------------------------------------------------------


class FakeProcd:
    """Listens as a sandbox; behave(stream, self) runs for each connection.

    `streams` keeps them, so that a test can look at what had reached it."""

    def __init__(self, behave, key=None, welcome=True):
        self.behave = behave
        self.key = key or SigningKey.generate()
        self.public = public_text(self.key)
        self.does_welcome = welcome
        self.streams = []
        self.errors = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        stream = Stream(sock)
        self.streams.append(stream)
        try:
            if self.does_welcome:
                self.greet(stream)
            self.behave(stream, self)
        except (OSError, AssertionError, ValueError) as error:
            self.errors.append(error)
        finally:
            sock.close()

    def greet(self, stream, key=None, challenge=None, signature=None):
        stream.challenge = os.urandom(32)
        stream.send(CHALLENGE, 0, VERSION, stream.challenge, {})
        hello = stream.expect(HELLO)
        stream.ticket = hello[3]
        stream.hello_signature = hello[4]
        text = (b"procd-welcome-1\0" + (challenge or stream.challenge)
                + hashlib.sha256(stream.ticket).digest())
        if signature is None:
            signature = (key or self.key).sign(text).signature
        stream.send(WELCOME, 0, VERSION, signature, {})

    def close(self):
        close_listener(self.listener, self.thread)
        for stream in self.streams:
            stream.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def hello_is_good(stream, gateway_public):
    try:
        gateway_public.verify(b"procd-hello-1\0" + stream.challenge + stream.ticket,
                              stream.hello_signature)
    except BadSignatureError:
        return False
    return True


def serve_one(output=b"", status=0, error=b""):
    """A behaviour: one channel that says `output` and ends well."""

    def behave(stream, _procd):
        frame = stream.expect(OPEN)
        number = frame[1]
        stream.send(OPENED, number, 1 << 16, {})
        for stream_number, data in ((0, output), (1, error)):
            for at in range(0, len(data), 32768):
                stream.send(DATA, number, stream_number, data[at:at + 32768])
        stream.send(EXIT, number, status)
        stream.send(EOF, number)
        stream.send(CLOSE, number)
        while True:
            frame = stream.receive()
            if frame is None or (frame[0] == CLOSE and frame[1] == number):
                return

    return behave
