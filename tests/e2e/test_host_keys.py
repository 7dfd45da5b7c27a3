"""Host keys that clients learn, and how an operator changes them without a word to his users."""

import os
import struct
import subprocess

import paramiko
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, utils

from fake_region import FakeRegion
from host_keys import GLOBAL_REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS, TYPES, Listener, OwnKeys, keygen, strings
from keys import Ed25519
from raw import global_request, ssh_string
from regions import run

pytestmark = pytest.mark.gateway


@pytest.fixture
def own(bin_dir):
    with OwnKeys(bin_dir) as one:
        yield one


# ---- the recipe, with the real ssh ---------------------------------------------------


class Client:
    """A user's ssh with a known_hosts of his own, for whom the gateway has one name whatever its port."""

    def __init__(self, region, tmp_path, *lines):
        self.region = region
        self.path = str(tmp_path / "known_hosts")
        with open(self.path, "w", encoding="ascii") as f:
            f.writelines(f"gateway {line}\n" for line in lines)

    def ssh(self, *command, opts=(), update="yes"):
        return self.region.ssh(*command, opts=(
            "HostKeyAlias=gateway", f"UserKnownHostsFile={self.path}", f"UpdateHostKeys={update}", "LogLevel=DEBUG1",
            *opts))

    def known(self):
        with open(self.path, encoding="ascii") as f:
            lines = [line.split() for line in f]
        assert all(words[0] == "gateway" for words in lines), lines
        return {" ".join(words[1:3]) for words in lines}


def test_the_next_key_is_learned_used_and_the_old_one_forgotten(own, tmp_path):
    late = Client(own, tmp_path, own.public("ed25519"))
    late.path += ".late"
    os.rename(str(tmp_path / "known_hosts"), late.path)
    client = Client(own, tmp_path, own.public("ed25519"))
    first = {own.public(kind) for kind in TYPES}
    # What is not in the list is not learned.
    algorithms = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512"
    by_ed25519, by_rsa = (f"HostKeyAlgorithms={a}" for a in (algorithms, "rsa-sha2-256," + algorithms))

    done = client.ssh("echo", "in").ok()
    assert done.out == "in\n" and client.known() == first, done

    keygen(own.key("ed25519", ".next"))
    keygen(own.key("rsa", ".next"), "rsa", "-b", "2048")
    os.unlink(own.key("rsa", ".next") + ".pub")  # the gateway does not need it
    rsa = " ".join(run(["ssh-keygen", "-y", "-f", own.key("rsa", ".next")]).ok().out.split()[:2])
    old, new = own.public("ed25519"), own.public("ed25519", ".next")
    own.restart_gateway()
    # An RSA key exchange: the client wants the proofs with its algorithm.
    done = client.ssh("true", opts=[by_rsa]).ok()
    assert "Server host key: ssh-rsa " in done.err, done
    assert client.known() == first | {new, rsa}, done
    assert new not in late.known()

    own.move(own.key("ed25519"), own.key("ed25519", ".old"))
    own.move(own.key("ed25519", ".next"), own.key("ed25519"))
    own.restart_gateway()
    client.ssh("true", opts=[by_ed25519], update="no").ok()
    refused = late.ssh("true", opts=[by_ed25519])
    assert refused.status == 255 and "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.err, refused
    # A gateway behind the same address that still uses the old key is believed, too.
    client.ssh("true", opts=[by_ed25519]).ok()
    assert client.known() == first | {new, rsa}

    os.unlink(own.key("ed25519", ".old"))
    os.unlink(own.key("rsa", ".next"))
    own.restart_gateway()
    client.ssh("true", opts=[by_ed25519]).ok()
    assert client.known() == (first | {new}) - {old}


def test_types_that_are_not_offered_are_not_told(bin_dir, tmp_path):
    one = OwnKeys(bin_dir)
    one.settings = ["crypto.host_keys=ssh-ed25519,rsa-sha2-256"]
    with one:
        client = Client(one, tmp_path, one.public("ed25519"))
        client.ssh("true").ok()
        assert client.known() == {one.public("ed25519"), one.public("rsa")}


def test_a_control_master_learns_keys(own, tmp_path):
    client = Client(own, tmp_path, own.public("ed25519"))
    path = tmp_path / "master"
    shared = ("ControlMaster=auto", f"ControlPath={path}", "ControlPersist=yes")
    try:
        client.ssh("true", opts=shared).ok()
        for _ in range(3):
            assert client.ssh("echo", "again", opts=shared).ok().out == "again\n"
        assert client.known() == {own.public(kind) for kind in TYPES}
    finally:
        subprocess.run(own.ssh_argv(flags=["-O", "exit", "-S", str(path)]), check=False, stderr=subprocess.DEVNULL)


# ---- the messages --------------------------------------------------------------------


def verify(blob, signature, signed):
    """With `cryptography`, not with what the gateway uses. Returns the signature's algorithm."""
    kind = strings(blob)[0].decode()
    algorithm, value = strings(signature)
    if kind == "ssh-ed25519":
        ed25519.Ed25519PublicKey.from_public_bytes(strings(blob)[1]).verify(value, signed)
    elif kind == "ssh-rsa":
        digest = {b"rsa-sha2-256": hashes.SHA256, b"rsa-sha2-512": hashes.SHA512}[algorithm]
        paramiko.RSAKey(data=blob).key.verify(value, signed, padding.PKCS1v15(), digest())
    else:
        r, s = (int.from_bytes(number, "big") for number in strings(value))
        paramiko.ECDSAKey(data=blob).verifying_key.verify(utils.encode_dss_signature(r, s), signed,
                                                          ec.ECDSA(hashes.SHA256()))
    return algorithm.decode()


@pytest.fixture(scope="module")
def fake(bin_dir):
    with FakeRegion(bin_dir) as one:
        yield one


@pytest.mark.parametrize("host_key, rsa", [("ssh-ed25519", "rsa-sha2-512"), ("rsa-sha2-256", "rsa-sha2-256"),
                                           ("rsa-sha2-512", "rsa-sha2-512")])
def test_told_once_and_proved_once(fake, host_key, rsa):
    with Listener(fake, host_key=host_key) as one:
        told = one.told()
        assert [strings(blob)[0].decode() for blob in told] == [
            "ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
        asked = [told[2], told[0], told[1]]
        one.prove(*asked)
        kind, rest = one.next()
        signatures = strings(rest)
        assert kind == REQUEST_SUCCESS and len(signatures) == 3
        used = []
        for blob, signature in zip(asked, signatures):
            signed = ssh_string("hostkeys-prove-00@openssh.com", one.transport.session_id, blob)
            used.append(verify(blob, signature, signed))
            with pytest.raises(InvalidSignature):
                verify(blob, signature, ssh_string("hostkeys-prove-00@openssh.com", b"another session", blob))
        assert used == [rsa, "ssh-ed25519", "ecdsa-sha2-nistp256"]
        one.prove(told[0])  # once was enough
        assert one.next() == (REQUEST_FAILURE, b"")
        assert one.got.empty()


def test_what_is_not_proved(fake):
    """Refused whole; the connection goes on."""
    with Listener(fake) as one:
        first, second, third = one.told()
    bad = {
        "a stranger's": ((first, Ed25519().blob), b""),
        "twice": ((first, first), b""),
        "none": ((), b""),
        "a cut one": ((), struct.pack(">I", len(first)) + first[:-1]),
        "bytes behind": ((first,), b"\0\0"),
        "too many": ((first, second, third) * 100, b""),
        "no key": ((b"",), b""),
    }
    for name, (blobs, tail) in bad.items():
        with Listener(fake) as one:
            one.told()
            one.prove(*blobs, tail=tail)
            assert one.next() == (REQUEST_FAILURE, b""), name
            # In its turn, and nothing where no reply is wanted.
            one.prove(first, want_reply=False)
            global_request(one.transport, "no-more-sessions@openssh.com")
            assert one.next() == (REQUEST_SUCCESS, b""), name


def test_proofs_keep_the_order_of_replies(fake):
    """Behind a -R that waits for the sandbox."""
    with Listener(fake) as one:
        told = one.told()
        message = paramiko.Message()
        message.add_byte(bytes([GLOBAL_REQUEST]))
        message.add_string("tcpip-forward")
        message.add_boolean(True)
        message.add_string("127.0.0.1")
        message.add_int(0)
        one.transport._send_message(message)
        one.prove(*told)
        global_request(one.transport, "no-more-sessions@openssh.com")
        kind, port = one.next()
        assert kind == REQUEST_SUCCESS and len(port) == 4 and struct.unpack(">I", port)[0] > 0
        kind, signatures = one.next()
        assert kind == REQUEST_SUCCESS and len(strings(signatures)) == 3
        assert one.next() == (REQUEST_SUCCESS, b"")


@pytest.mark.parametrize("version, is_told", [
    ("SSH-2.0-TTSSH/2.72 Win32", False), ("SSH-2.0-TeraTerm SSH", False), ("SSH-2.0-Cisco-1.25", False),
    ("SSH-2.0-TTSSH/2.8 Win32", True), ("SSH-2.0-PuTTY_Release_0.78", True)])
def test_clients_that_break_on_it_are_not_told(fake, version, is_told):
    with Listener(fake, version=version) as one:
        global_request(one.transport, "no-more-sessions@openssh.com")
        if is_told:
            assert len(one.told()) == 3
        assert one.next() == (REQUEST_SUCCESS, b"")


# ---- files that are wrong ------------------------------------------------------------


def test_wrong_files_are_errors_at_start(own):
    argv = [os.path.join(own.bin_dir, "ringgate"), "--check"]
    for setting in own.gateway_settings():
        argv += ["--set", setting]
    run(argv).ok()
    path = own.key("ed25519", ".next")

    keygen(path, "rsa", "-b", "2048")
    done = run(argv)
    assert done.status == 1 and f"{path}: is no key of the type ed25519" in done.err, done
    os.unlink(path)

    keygen(path)
    os.chmod(path, 0o644)
    done = run(argv)
    assert done.status == 1 and f"others may read the host key {path}" in done.err, done
    os.chmod(path, 0o600)
    run(argv).ok()

    with open(path, "w", encoding="ascii") as f:
        f.write("no key\n")
    done = run(argv)
    assert done.status == 1 and path in done.err, done
    os.unlink(path)

    short = own.key("rsa", ".old")
    keygen(short, "rsa", "-b", "1024")
    done = run(argv)
    assert done.status == 1 and "at least 2048 bits" in done.err, done
    os.unlink(short)

    # A copy where a move was meant: the same key is told once, and clients take it.
    with open(own.key("ed25519"), "rb") as f, open(own.key("ed25519", ".old"), "wb") as g:
        os.chmod(g.name, 0o600)
        g.write(f.read())
    own.restart_gateway()
    with Listener(own) as one:
        assert len(one.told()) == 3
