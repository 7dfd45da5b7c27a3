"""Keys of users: real ones, weak ones, and security keys without a device."""

import base64
import hashlib
import struct

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from raw import ssh_mpint, ssh_string

TOUCHED = 0x01   # Somebody touched the device.
VERIFIED = 0x04  # A PIN or a finger was checked; without TOUCHED not enough.


class Key:
    """name: the key's type; blob: the public key as SSH sends it."""

    @property
    def line(self):
        return f"{self.name} {base64.b64encode(self.blob).decode()} test"

    @property
    def fingerprint(self):
        digest = hashlib.sha256(self.blob).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


class Ed25519(Key):
    name = "ssh-ed25519"

    def __init__(self):
        self.private = ed25519.Ed25519PrivateKey.generate()
        self.raw = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.blob = ssh_string(self.name, self.raw)

    def sign(self, data, algorithm=None):
        return ssh_string(algorithm or self.name, self.private.sign(data))

    def write(self, path):
        path.write_bytes(self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption()))
        path.chmod(0o600)
        return str(path)


class Rsa(Key):
    name = "ssh-rsa"
    hashes = {"ssh-rsa": hashes.SHA1, "rsa-sha2-256": hashes.SHA256,
              "rsa-sha2-512": hashes.SHA512}

    def __init__(self, bits):
        self.private = rsa.generate_private_key(65537, bits)
        numbers = self.private.public_key().public_numbers()
        self.blob = ssh_string(self.name) + ssh_mpint(numbers.e) + ssh_mpint(numbers.n)

    def sign(self, data, algorithm="rsa-sha2-256", named=None):
        """named: the algorithm that the signature says it has."""
        raw = self.private.sign(data, padding.PKCS1v15(), self.hashes[algorithm]())
        return ssh_string(named or algorithm, raw)


class SecurityEd25519(Key):
    """What a FIDO device would do, in software."""

    name = "sk-ssh-ed25519@openssh.com"
    application = b"ssh:"

    def __init__(self):
        self.inner = Ed25519()
        self.blob = ssh_string(self.name, self.inner.raw, self.application)

    def device_bytes(self, data, flags, counter):
        return (hashlib.sha256(self.application).digest() + struct.pack(">BI", flags, counter)
                + hashlib.sha256(data).digest())

    def sign(self, data, flags=TOUCHED, counter=7):
        raw = self.inner.private.sign(self.device_bytes(data, flags, counter))
        return ssh_string(self.name, raw) + struct.pack(">BI", flags, counter)


class SecurityEcdsa(SecurityEd25519):
    name = "sk-ecdsa-sha2-nistp256@openssh.com"

    def __init__(self):
        self.private = ec.generate_private_key(ec.SECP256R1())
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        self.blob = ssh_string(self.name, "nistp256", point, self.application)

    def sign(self, data, flags=TOUCHED, counter=7):
        der = self.private.sign(self.device_bytes(data, flags, counter),
                                ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        raw = ssh_mpint(r) + ssh_mpint(s)
        return ssh_string(self.name, raw) + struct.pack(">BI", flags, counter)
