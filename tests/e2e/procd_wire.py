"""A gateway in Python that drives one procd: handshake, channels, credit. For tests of procd alone.

Written from docs/procd-protocol.md with other libraries than the project's own.
"""

import base64
import hashlib
import os
import select
import socket
import subprocess
import time

import msgpack
from nacl.signing import SigningKey, VerifyKey

(CHALLENGE, HELLO, WELCOME, ERROR, PING, PONG, GOAWAY) = range(7)
(OPEN, OPENED, REFUSED, DATA, CREDIT, EOF, RESIZE, SIGNAL, EXIT, EXIT_SIGNAL, CLOSE, EOW,
 LISTEN, LISTENING, LISTEN_REFUSED, UNLISTEN, UNLISTENED) = range(8, 25)

DATA_MAX = 32 * 1024
WINDOW = 1024 * 1024


def pack(*frame):
    return msgpack.packb(list(frame), use_bin_type=True)


class Closed(Exception):
    """procd closed the stream."""


class Server:
    """A procd process with keys and a home in `folder`."""

    def __init__(self, program, folder, sandbox="box", arguments=(), listen="127.0.0.1:0", env=None, pass_fds=()):
        self.folder = str(folder)
        self.sandbox = sandbox
        self.home = os.path.join(self.folder, "home")
        os.makedirs(self.home, exist_ok=True)
        self.key = os.path.join(self.folder, "key")
        self.gateway_key = os.path.join(self.folder, "gateway_key")
        for path in (self.key, self.gateway_key):
            if not os.path.exists(path):
                subprocess.run([program, "keygen", "--out", path], check=True, stdout=subprocess.DEVNULL)
        address_file = os.path.join(self.folder, "address")
        if os.path.exists(address_file):
            os.unlink(address_file)
        self.log_path = os.path.join(self.folder, "log")
        argv = [program, "serve", "--listen", listen, "--sandbox", sandbox, "--key", self.key,
                "--gateway-key", self.gateway_key + ".pub", "--home", self.home,
                "--address-file", address_file, *arguments]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env, start_new_session=True, pass_fds=pass_fds)
        wait_for(lambda: os.path.exists(address_file) or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(self.log())
        with open(address_file, encoding="utf-8") as f:
            self.address = f.read().strip()

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def connect(self):
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.address[5:])
        else:
            host, _, port = self.address.rpartition(":")
            sock = socket.create_connection((host.strip("[]"), int(port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def gateway(self, **options):
        """A stream that is ready."""
        return Gateway(self, **options)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError("nothing came of the wait")
        time.sleep(0.01)


def read_key(path):
    with open(path, encoding="ascii") as f:
        return base64.b64decode(f.read().split(":")[1])


def make_ticket(sandbox, **changes):
    ticket = {"sandbox": sandbox, "user": "u-1", "team": "t-1", "session": "00" * 16, "gateway": "test",
              "client": "192.0.2.7:4711", "issued": int(time.time())}
    ticket.update(changes)
    return msgpack.packb({k: v for k, v in ticket.items() if v is not None})


class Channel:
    """What came on a channel. Credit is given back as bytes come, unless is_reading is False."""

    def __init__(self, gateway, number, credit):
        self.gateway = gateway
        self.number = number
        self.out, self.err = bytearray(), bytearray()
        self.out_hash, self.out_bytes = hashlib.sha256(), 0
        self.keeps = True
        self.is_reading = True
        self.granted = credit
        self.owed = 0
        self.send_credit = None
        self.refused = self.exit = self.exit_signal = None
        self.is_eof = self.is_closed = self.is_eow = False
        self.order = []

    @property
    def is_over(self):
        return self.is_closed or self.refused is not None

    def on_frame(self, frame):
        kind, rest = frame[0], frame[2:]
        if not self.order or self.order[-1] != kind:
            self.order.append(kind)
        if kind == OPENED:
            self.send_credit = rest[0]
        elif kind == REFUSED:
            self.refused = rest[0]
        elif kind == DATA:
            self.on_data(rest[0], rest[1])
        elif kind == CREDIT:
            self.send_credit += rest[0]
        elif kind == EOF:
            assert not self.is_eof
            self.is_eof = True
        elif kind == EXIT:
            self.exit = rest[0]
        elif kind == EXIT_SIGNAL:
            self.exit_signal = rest[0]
        elif kind == EOW:
            self.is_eow = True
        elif kind == CLOSE:
            assert not self.is_closed
            self.is_closed = True
        else:
            raise AssertionError(frame)

    def on_data(self, stream, data):
        assert not self.is_eof and 0 < len(data) <= DATA_MAX
        assert len(data) <= self.granted, "procd sent without credit"
        self.granted -= len(data)
        if stream == 1:
            self.err += data
        else:
            self.out_bytes += len(data)
            self.out_hash.update(data)
            if self.keeps:
                self.out += data
        self.owed += len(data)
        if self.is_reading and self.owed >= WINDOW // 4:
            self.pay()

    def pay(self):
        if self.owed:
            self.gateway.send(CREDIT, self.number, self.owed)
            self.granted += self.owed
            self.owed = 0

    def send(self, data):
        """All of data, as credit allows; reads meanwhile."""
        view = memoryview(data)
        while view:
            self.gateway.pump_until(lambda: self.send_credit or self.is_over or self.is_eow)
            if self.is_over or self.is_eow:
                return False
            n = min(len(view), self.send_credit, DATA_MAX)
            self.send_credit -= n
            self.gateway.queue(pack(DATA, self.number, 0, bytes(view[:n])))
            view = view[n:]
        return True

    def frame(self, kind, *fields):
        self.gateway.send(kind, self.number, *fields)

    def eof(self):
        self.frame(EOF)

    def close(self):
        self.frame(CLOSE)

    def wait(self, condition=None, seconds=20):
        self.gateway.pump_until(condition or (lambda: self.is_over), seconds)
        return self


class Gateway:
    """The gateway's end of a stream."""

    def __init__(self, server, ticket=None, key=None, handshake=True, receive_bytes=None):
        self.server = server
        self.sock = server.connect()
        if receive_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.setblocking(False)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=64 << 20,
                                         unicode_errors="surrogateescape")
        self.out = bytearray()
        self.channels = {}
        self.next_number = 2
        self.control = []
        self.is_ended = False
        self.is_strict = True  # every frame must be of a channel that was opened here
        if handshake:
            assert self.hello(ticket, key)[0] == WELCOME

    # ---- bytes ----

    def send(self, *frame):
        self.queue(pack(*frame))

    def queue(self, data):
        self.out += data
        self.flush()

    def flush(self):
        while self.out:
            try:
                n = self.sock.send(self.out)
            except BlockingIOError:
                return
            except OSError:
                self.is_ended = True
                return
            del self.out[:n]

    def read_some(self, seconds):
        writers = [self.sock] if self.out and not self.is_ended else []
        readable, _, _ = select.select([self.sock], writers, [], seconds)
        self.flush()
        if not readable:
            return
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            self.is_ended = True
        self.unpacker.feed(data)
        for frame in self.unpacker:
            self.on_frame(frame)

    def on_frame(self, frame):
        if frame[1] == 0:
            if frame[0] == PING:
                self.send(PONG, 0, frame[2])
            self.control.append(frame)
        elif frame[1] in self.channels:
            self.channels[frame[1]].on_frame(frame)
        else:
            assert not self.is_strict, frame

    def pump_until(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            if self.is_ended:
                raise Closed(self.control)
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError([(c.number, c.order, c.out_bytes) for c in self.channels.values()])
            self.read_some(left)

    def pump(self, seconds):
        """Reads for that long, whatever comes."""
        end = time.monotonic() + seconds
        while not self.is_ended and (left := end - time.monotonic()) > 0:
            self.read_some(left)

    def wait_control(self, kind, seconds=10):
        self.pump_until(lambda: any(f[0] == kind for f in self.control), seconds)
        return [f for f in self.control if f[0] == kind][0]

    def wait_end(self, seconds=10):
        """The ERROR's code (None without one) once procd has closed the stream."""
        end = time.monotonic() + seconds
        while not self.is_ended:
            assert time.monotonic() < end, "the stream lives on"
            self.read_some(0.1)
        errors = [f for f in self.control if f[0] == ERROR]
        return errors[0][2] if errors else None

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- frames ----

    def hello(self, ticket=None, key=None, challenge=None, signature=None, version=1):
        """Sends HELLO; returns WELCOME or ERROR, WELCOME's signature checked."""
        nonce = self.wait_control(CHALLENGE)[3]
        assert len(nonce) == 32
        ticket = make_ticket(self.server.sandbox) if ticket is None else ticket
        key = key or SigningKey(read_key(self.server.gateway_key))
        signed = b"procd-hello-1\0" + (challenge or nonce) + ticket
        self.send(HELLO, 0, version, ticket, key.sign(signed).signature if signature is None else signature, {})
        self.pump_until(lambda: any(f[0] in (WELCOME, ERROR) for f in self.control), 10)
        answer = [f for f in self.control if f[0] in (WELCOME, ERROR)][0]
        if answer[0] == WELCOME:
            text = b"procd-welcome-1\0" + nonce + hashlib.sha256(ticket).digest()
            VerifyKey(read_key(self.server.key + ".pub")).verify(text, answer[3])
        return answer

    def open(self, kind, credit=WINDOW, wait=True, number=None, **options):
        number = number or self.next_number
        self.next_number = number + 2
        channel = self.channels[number] = Channel(self, number, credit)
        self.send(OPEN, number, kind, options, credit)
        if wait:
            channel.wait(lambda: channel.send_credit is not None or channel.refused)
        return channel

    def exec(self, command, **options):
        return self.open("exec", command=os.fsencode(command), **options)

    def run(self, command, stdin=b"", seconds=20, **options):
        """The finished channel of a command."""
        channel = self.exec(command, **options)
        if channel.send(stdin):
            channel.eof()
        return channel.wait(seconds=seconds)

    def pty(self, kind="shell", term="xterm", columns=80, rows=24, modes=b"", **options):
        terminal = {"term": term.encode(), "columns": columns, "rows": rows, "xpixels": 0, "ypixels": 0,
                    "modes": modes}
        return self.open(kind, pty=terminal, **options)
