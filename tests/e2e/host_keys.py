"""A gateway whose host keys are the test's to change, and a client that shows what it is told of them."""

import os
import queue
import struct

import paramiko

from fake_region import FakeRegion
from raw import GatedSocket, ssh_string
from regions import run

GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
TYPES = ("ed25519", "ecdsa", "rsa")


def keygen(path, kind="ed25519", *arguments):
    run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "next", "-f", path, *arguments]).ok()


def public_line(path):
    """'ssh-ed25519 AAAA…' of a private key's .pub."""
    with open(path + ".pub", encoding="ascii") as f:
        return " ".join(f.read().split()[:2])


class OwnKeys(FakeRegion):
    """A gateway whose host keys the test changes: they are nobody else's."""

    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        self.host_keys = dict(FakeRegion.host_keys)

    def key(self, kind, suffix=""):
        return self.path("host_keys", f"ssh_host_{kind}_key{suffix}")

    def move(self, before, after):
        """A key's file and its .pub."""
        os.rename(before, after)
        os.rename(before + ".pub", after + ".pub")

    def public(self, kind, suffix=""):
        return public_line(self.key(kind, suffix))


class Listener:
    """Logged in; everything of the connection protocol that is not a channel's is kept in order."""

    def __init__(self, region, version=None, host_key=None):
        self.sock = GatedSocket(region.host, region.port)
        self.transport = paramiko.Transport(self.sock)
        self.got = queue.Queue()
        if version:
            self.transport.local_version = version
        if host_key:
            self.transport.get_security_options().key_types = [host_key]
        table = dict(self.transport._handler_table)
        for kind in (GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE):
            # Until paramiko 3.5 the transport comes first.
            table[kind] = lambda *given, kind=kind: self.got.put((kind, given[-1].get_remainder()))
        self.transport._handler_table = table
        self.transport.start_client(timeout=20)
        self.transport.auth_publickey(region.box, paramiko.Ed25519Key.from_private_key_file(region.identity))

    def next(self):
        return self.got.get(timeout=20)

    def told(self):
        """The keys' blobs of hostkeys-00@openssh.com."""
        kind, rest = self.next()
        message = paramiko.Message(rest)
        assert kind == GLOBAL_REQUEST and message.get_text() == "hostkeys-00@openssh.com"
        assert message.get_boolean() is False
        return strings(message.get_remainder())

    def prove(self, *blobs, want_reply=True, tail=b""):
        message = paramiko.Message()
        message.add_byte(bytes([GLOBAL_REQUEST]))
        message.add_string("hostkeys-prove-00@openssh.com")
        message.add_boolean(want_reply)
        message.add_bytes(ssh_string(*blobs) + tail)
        self.transport._send_message(message)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.transport.close()
        self.sock.close()


def strings(data):
    out = []
    while data:
        size, = struct.unpack(">I", data[:4])
        assert len(data) >= 4 + size
        out.append(data[4:4 + size])
        data = data[4 + size:]
    return out
