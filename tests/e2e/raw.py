"""paramiko transports that misbehave on purpose.

GatedSocket stops reading when told, as a client whose process is stopped; everything
that it sends still goes out.
"""

import queue
import socket
import struct
import threading
import time

import paramiko
from paramiko.message import Message


class GatedSocket:
    """A socket whose recv waits while the gate is shut."""

    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port), 20)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.gate = threading.Event()
        self.gate.set()
        self.sent = 0
        self.timeout_s = None

    def settimeout(self, seconds):
        self.timeout_s = seconds
        self.sock.settimeout(seconds)

    def recv(self, count):
        if not self.gate.is_set():
            time.sleep(0.05)
            raise socket.timeout()
        return self.sock.recv(count)

    def send(self, data):
        count = self.sock.send(data)
        self.sent += count
        return count

    def close(self):
        self.sock.close()

    def shut(self):
        self.gate.clear()

    def open(self):
        self.gate.set()

    def __getattr__(self, name):
        return getattr(self.sock, name)


def transport(region, box=None, key=None, login=True):
    """(transport, socket): logged in as a user of the region."""
    sock = GatedSocket(region.host, region.port)
    one = paramiko.Transport(sock)
    one.start_client(timeout=20)
    if login:
        one.auth_publickey(box or region.box,
                           key or paramiko.Ed25519Key.from_private_key_file(region.identity))
        assert one.is_authenticated()
    return one, sock


def global_request(one, name, want_reply=True):
    message = Message()
    message.add_byte(bytes([80]))
    message.add_string(name)
    message.add_boolean(want_reply)
    one._send_message(message)


def channel_request(one, remote_id, name, *fields, want_reply=True):
    message = Message()
    message.add_byte(bytes([98]))
    message.add_int(remote_id)
    message.add_string(name)
    message.add_boolean(want_reply)
    for field in fields:
        if isinstance(field, int):
            message.add_int(field)
        else:
            message.add_string(field)
    one._send_message(message)


def flood(send, seconds=3, most=300000):
    """Calls send() until it blocks for a second or time is up; the count sent.

    A thread does it, since a send that blocks is what a good server causes."""
    state = {"count": 0, "error": None}
    stop = threading.Event()

    def work():
        try:
            while not stop.is_set() and state["count"] < most:
                send()
                state["count"] += 1
        except Exception as error:  # The server may end the connection: also fine.
            state["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    last, since = 0, time.monotonic()
    while time.monotonic() < deadline and thread.is_alive():
        time.sleep(0.05)
        if state["count"] != last:
            last, since = state["count"], time.monotonic()
        elif time.monotonic() - since > 1:
            break
    stop.set()
    return state


class RawLogin:
    """USERAUTH messages made by hand, on a transport that only exchanged keys.

    Answers come as ("success",), ("failure", methods, partial), ("ok", algorithm),
    ("closed", error).
    """

    def __init__(self, region):
        self.sock = GatedSocket(region.host, region.port)
        self.transport = paramiko.Transport(self.sock)
        self.answers = queue.Queue()
        self.transport.start_client(timeout=20)
        self.transport.auth_handler = self
        # paramiko up to 3 passes the handler object before the message, later ones do not.
        handlers = {6: self.on_service, 51: self.on_failure, 52: self.on_success,
                    53: self.on_banner, 60: self.on_ok}
        self._handler_table = {kind: lambda *got, to=to: to(got[-1])
                               for kind, to in handlers.items()}
        message = Message()
        message.add_byte(bytes([5]))
        message.add_string("ssh-userauth")
        self.transport._send_message(message)
        answer = self.answer()
        assert answer == ("service",), answer

    # What paramiko asks of an auth handler.
    def is_authenticated(self):
        return False

    def abort(self):
        pass

    def on_service(self, message):
        self.answers.put(("service",))

    def on_failure(self, message):
        self.answers.put(("failure", message.get_list(), message.get_boolean()))

    def on_success(self, message):
        self.answers.put(("success",))

    def on_banner(self, message):
        pass

    def on_ok(self, message):
        self.answers.put(("ok", message.get_text()))

    def answer(self, seconds=8):
        """The next answer; a server that says nothing fails the test."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                return self.answers.get(timeout=0.05)
            except queue.Empty:
                if not self.transport.is_active() and self.answers.empty():
                    return ("closed", self.transport.get_exception())
        raise AssertionError(f"no answer within {seconds} s")

    def send(self, message):
        try:
            self.transport._send_message(message)
        except (OSError, EOFError, paramiko.SSHException):
            pass  # Closed: answer() says so.

    def start(self, user, service="ssh-connection", method="publickey"):
        message = Message()
        message.add_byte(bytes([50]))
        message.add_string(user)
        message.add_string(service)
        message.add_string(method)
        return message

    def probe(self, user, algorithm, blob):
        message = self.start(user)
        message.add_boolean(False)
        message.add_string(algorithm)
        message.add_string(blob)
        self.send(message)

    def to_sign(self, user, algorithm, blob, session_id=None):
        message = Message()
        message.add_string(session_id or self.transport.session_id)
        message.add_byte(bytes([50]))
        message.add_string(user)
        message.add_string("ssh-connection")
        message.add_string("publickey")
        message.add_boolean(True)
        message.add_string(algorithm)
        message.add_string(blob)
        return message.asbytes()

    def signed(self, user, algorithm, blob, signature):
        """signature: bytes, or a function of the bytes that are to be signed."""
        if callable(signature):
            signature = signature(self.to_sign(user, algorithm, blob))
        message = self.start(user)
        message.add_boolean(True)
        message.add_string(algorithm)
        message.add_string(blob)
        message.add_string(signature)
        self.send(message)

    def types_from_now(self):
        """A list that grows by the type of each packet that comes after the next one."""
        types = []
        read = self.transport.packetizer.read_message

        def noted():
            kind, message = read()
            types.append(kind)
            return kind, message

        self.transport.packetizer.read_message = noted
        return types

    def close(self):
        self.transport.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def ssh_string(*parts):
    """SSH strings, one behind the other."""
    out = b""
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        out += struct.pack(">I", len(part)) + part
    return out


def ssh_mpint(number):
    data = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return ssh_string(data)


def clear_packet(payload):
    """A packet of before the key exchange: length, padding, nothing encrypted."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (struct.pack(">IB", 1 + len(payload) + padding, padding) + payload
            + bytes(padding))


def kexinit():
    """What a peer that knows one algorithm of each kind begins with."""
    names = [b"curve25519-sha256", b"ssh-ed25519", b"aes128-gcm@openssh.com", b"aes128-gcm@openssh.com", b"hmac-sha2-256",
             b"hmac-sha2-256", b"none", b"none", b"", b""]
    return clear_packet(bytes([20]) + bytes(16) + b"".join(struct.pack(">I", len(n)) + n for n in names) + bytes(5))
