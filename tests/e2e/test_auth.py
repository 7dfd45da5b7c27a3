"""Who gets in, who does not, and that nobody learns why or waits for it."""

import os
import re
import socket
import struct
import time

import pytest

from keys import TOUCHED, VERIFIED, Ed25519, Rsa, SecurityEcdsa, SecurityEd25519
from procds import Procd
from raw import RawLogin, global_request, ssh_string
from regions import Region, run
from waiting import wait_until

AT_ONCE_S = 5  # Far below the login deadline.


class Everybody:
    """The users' keys; all of `known` stand in the directory for u-local."""

    def __init__(self):
        self.ed25519 = Ed25519()
        self.rsa = Rsa(2048)
        self.sk_ed25519 = SecurityEd25519()
        self.sk_ecdsa = SecurityEcdsa()
        self.known = [self.ed25519, self.rsa, self.sk_ed25519, self.sk_ecdsa]
        self.weak_rsa = Rsa(1024)
        self.stranger = Ed25519()
        self.other_team = Ed25519()


@pytest.fixture(scope="module")
def everybody():
    return Everybody()


@pytest.fixture(scope="module")
def guarded(bin_dir, is_standin, everybody, tmp_path_factory):
    """A region with many keys and, behind a real gateway, a second team."""
    folder = tmp_path_factory.mktemp("auth")
    keys = folder / "keys.pub"
    keys.write_text("".join(key.line + "\n" for key in everybody.known))
    with Region(bin_dir, ["--authorized-key", str(keys)], is_standin=is_standin) as started:
        if is_standin:
            started.foreign = "root"
            yield started
            return
        with Procd(started, "rs-foreign", str(folder / "foreign")) as procd:
            def change(text):
                text = text.replace("sandboxes:\n", f"""  - id: u-other
    teams: [t-other]
    keys: ["{everybody.other_team.line}"]
sandboxes:
""")
                return text + procd.directory_entry("t-other")

            started.change_directory(change)
            identity = everybody.other_team.write(folder / "other")
            started.ssh("true", user="rs-foreign", identity=identity).ok()
            started.foreign = "rs-foreign"
            yield started


def attempt(region, user, key, algorithm=None, signature=None):
    """One signed request; the answer and the seconds that it took."""
    with RawLogin(region) as login:
        begin = time.monotonic()
        login.signed(user, algorithm or key.name, key.blob, signature or key.sign)
        return login.answer(), time.monotonic() - begin


def refused(answer):
    what, seconds = answer
    assert what[0] in ("failure", "closed"), what
    assert seconds < AT_ONCE_S, seconds
    if what[0] == "failure":
        assert what[1] == ["publickey"] and what[2] is False, what


# ---- keys that are good ----------------------------------------------------------


@pytest.mark.parametrize("kind", [["ed25519"], ["ecdsa", "-b", "256"], ["ecdsa", "-b", "384"],
                                  ["ecdsa", "-b", "521"], ["rsa", "-b", "2048"],
                                  ["rsa", "-b", "4096"]])
def test_key_types(new_region, tmp_path, kind):
    path = str(tmp_path / "key")
    run(["ssh-keygen", "-q", "-t", *kind, "-N", "", "-f", path]).ok()
    region = new_region("--authorized-key", path + ".pub", sandboxes=1)
    region.ssh("true", identity=path).ok()
    if kind[0] == "rsa":
        for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
            region.ssh("true", identity=path,
                       opts=[f"PubkeyAcceptedAlgorithms={algorithm}"]).ok()


def test_good_key_by_hand(guarded, everybody):
    """The crafted login itself works: what follows fails for its own reasons."""
    answer, _ = attempt(guarded, guarded.box, everybody.ed25519)
    assert answer == ("success",)


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
def test_rsa_by_hand(guarded, everybody, algorithm):
    key = everybody.rsa
    answer, _ = attempt(guarded, guarded.box, key, algorithm,
                        lambda data: key.sign(data, algorithm))
    assert answer == ("success",)


@pytest.mark.parametrize("name", ["sk_ed25519", "sk_ecdsa"])
@pytest.mark.parametrize("flags", [TOUCHED, TOUCHED | VERIFIED])
def test_security_key_with_presence(guarded, everybody, name, flags):
    key = getattr(everybody, name)
    answer, _ = attempt(guarded, guarded.box, key,
                        signature=lambda data: key.sign(data, flags))
    assert answer == ("success",)


# ---- keys and signatures that are not -------------------------------------------


@pytest.mark.parametrize("name", ["sk_ed25519", "sk_ecdsa"])
@pytest.mark.parametrize("flags", [0, VERIFIED, 0x40])
def test_security_key_without_presence(guarded, everybody, name, flags):
    key = getattr(everybody, name)
    refused(attempt(guarded, guarded.box, key,
                    signature=lambda data: key.sign(data, flags)))
    guarded.serves()


def test_security_key_with_presence_added_later(guarded, everybody):
    """The flag is part of what is signed."""
    key = everybody.sk_ed25519

    def forged(data):
        return key.sign(data, 0)[:-5] + struct.pack(">BI", TOUCHED, 7)

    refused(attempt(guarded, guarded.box, key, signature=forged))


def wrong_signatures(key):
    good = key.sign
    return {
        "one bit": lambda data: good(data)[:-1] + bytes([good(data)[-1] ^ 1]),
        "other data": lambda data: good(data + b"x"),
        "no bytes": lambda data: b"",
        "zeros": lambda data: ssh_string("ssh-ed25519", bytes(64)),
        "short": lambda data: ssh_string("ssh-ed25519", bytes(10)),
        "long": lambda data: good(data) + bytes(100),
        "other name": lambda data: key.sign(data, "ssh-rsa"),
        "garbage": lambda data: os.urandom(80),
        "huge length": lambda data: b"\xff\xff\xff\xff" + bytes(70),
    }


@pytest.mark.parametrize("name", sorted(wrong_signatures(Ed25519())))
def test_wrong_signature(guarded, everybody, name):
    key = everybody.ed25519
    refused(attempt(guarded, guarded.box, key, signature=wrong_signatures(key)[name]))


def test_signature_of_another_session(guarded, everybody):
    key = everybody.ed25519
    with RawLogin(guarded) as one, RawLogin(guarded) as two:
        data = one.to_sign(guarded.box, key.name, key.blob)
        begin = time.monotonic()
        two.signed(guarded.box, key.name, key.blob, key.sign(data))
        refused((two.answer(), time.monotonic() - begin))


def test_signature_for_another_user_name(guarded, everybody):
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        data = login.to_sign("somebody-else", key.name, key.blob)
        begin = time.monotonic()
        login.signed(guarded.box, key.name, key.blob, key.sign(data))
        refused((login.answer(), time.monotonic() - begin))


def bad_blobs(key):
    return {
        "empty": b"",
        "garbage": os.urandom(51),
        "name only": ssh_string(key.name),
        "short key": ssh_string(key.name, bytes(5)),
        "long key": ssh_string(key.name, bytes(500)),
        "cut": key.blob[:-1],
        "trailing": key.blob + b"x",
        "other name inside": ssh_string("ssh-rsa", key.raw),
        "length past the end": b"\x7f\xff\xff\xff" + key.blob,
        "rsa without numbers": ssh_string("ssh-rsa", b"", b""),
    }


@pytest.mark.parametrize("name", sorted(bad_blobs(Ed25519())))
@pytest.mark.parametrize("is_probe", [True, False])
def test_unparsable_key(guarded, everybody, name, is_probe):
    """libssh says nothing at all to some of these: the gateway must."""
    key = everybody.ed25519
    blob = bad_blobs(key)[name]
    with RawLogin(guarded) as login:
        begin = time.monotonic()
        if is_probe:
            login.probe(guarded.box, key.name, blob)
        else:
            login.signed(guarded.box, key.name, blob, key.sign)
        refused((login.answer(), time.monotonic() - begin))


def test_after_an_unparsable_key_a_good_one_works(guarded, everybody):
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        login.probe(guarded.box, key.name, b"garbage")
        if login.answer()[0] == "closed":
            pytest.skip("this server ends the connection")
        login.signed(guarded.box, key.name, key.blob, key.sign)
        assert login.answer() == ("success",)


def test_rsa_with_sha1(guarded, everybody):
    key = everybody.rsa
    refused(attempt(guarded, guarded.box, key, "ssh-rsa",
                    lambda data: key.sign(data, "ssh-rsa")))


@pytest.mark.parametrize("asked, named", [("rsa-sha2-256", "ssh-rsa"),
                                          ("rsa-sha2-512", "ssh-rsa"),
                                          ("rsa-sha2-512", "rsa-sha2-256")])
def test_signature_by_another_algorithm_than_announced(guarded, everybody, asked, named):
    key = everybody.rsa
    refused(attempt(guarded, guarded.box, key, asked,
                    lambda data: key.sign(data, named)))


def test_openssh_with_sha1_only(guarded, everybody, tmp_path):
    result = guarded.ssh("true", opts=["PubkeyAcceptedAlgorithms=ssh-rsa"])
    assert result.status == 255, result


def test_rsa_of_1024_bits(guarded, everybody, is_standin):
    """Even where the directory has it."""
    key = everybody.weak_rsa
    if not is_standin:
        guarded.edit_directory(lambda text: text.replace(
            "    keys:\n", f"    keys:\n      - \"{key.line}\"\n", 1))
        time.sleep(1.5)  # The next look at the file; it may well refuse such a key.
    refused(attempt(guarded, guarded.box, key, "rsa-sha2-256", key.sign))
    guarded.serves()


def make_certificate(everybody, guarded, tmp_path):
    """A certificate of the user's own, good key by an authority that nobody named."""
    identity = everybody.ed25519.write(tmp_path / "id")
    (tmp_path / "id.pub").write_text(everybody.ed25519.line + "\n")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "ca")]).ok()
    run(["ssh-keygen", "-q", "-s", str(tmp_path / "ca"), "-I", "me", "-n", guarded.box,
         str(tmp_path / "id.pub")]).ok()
    return identity, tmp_path / "id-cert.pub"


@pytest.mark.parametrize("is_probe", [True, False])
def test_certificate(guarded, everybody, tmp_path, is_probe):
    import base64
    _, path = make_certificate(everybody, guarded, tmp_path)
    algorithm, text = path.read_text().split()[:2]
    assert algorithm == "ssh-ed25519-cert-v01@openssh.com"
    blob, key = base64.b64decode(text), everybody.ed25519
    for named in (algorithm, "ssh-ed25519"):
        with RawLogin(guarded) as login:
            begin = time.monotonic()
            if is_probe:
                login.probe(guarded.box, named, blob)
            else:
                login.signed(guarded.box, named, blob, key.sign)
            refused((login.answer(), time.monotonic() - begin))


def test_openssh_with_a_certificate_falls_back_to_its_key(guarded, everybody, tmp_path):
    """ssh offers the certificate first and the bare key next, which is known."""
    identity, path = make_certificate(everybody, guarded, tmp_path)
    guarded.ssh("true", identity=identity, opts=[f"CertificateFile={path}"]).ok()


@pytest.mark.parametrize("method", ["none", "password", "keyboard-interactive", "hostbased",
                                    "no-such-method"])
def test_other_methods(guarded, method):
    with RawLogin(guarded) as login:
        message = login.start(guarded.box, method=method)
        if method == "password":
            message.add_boolean(False)
            message.add_string("secret")
        if method == "keyboard-interactive":
            message.add_string("")
            message.add_string("")
        begin = time.monotonic()
        login.send(message)
        refused((login.answer(), time.monotonic() - begin))


def test_no_password_prompt(guarded):
    result = guarded.ssh("true", opts=["PubkeyAuthentication=no"])
    assert result.status == 255 and "Permission denied (publickey)" in result.err, result


# ---- names -----------------------------------------------------------------------


def permission_denied(region, user, identity, opts=()):
    """What the user reads, without the name that he typed himself."""
    begin = time.monotonic()
    result = region.ssh("true", user=user, identity=identity, opts=opts)
    assert result.status == 255, result
    assert time.monotonic() - begin < AT_ONCE_S
    lines = [line.strip() for line in result.err.splitlines() if line.strip()]
    return "\n".join(lines).replace(f"{user}@", "USER@")


MALFORMED = ["RS-ONE", "rs_one", "rs.one", "-rs-one", "rs-one-", "rs-one+", "rs-one+other",
             "rs-one+main+main", "+main", "rs-one ", " rs-one", "rs-one/..", "../etc", "root",
             "rs\u00fcone", "a" * 64, "a" * 300, "rs-one%s%n", "rs-one;id", "rs-one\nx",
             "rs-one@host", "*", "0"]


def test_indistinguishable(guarded, everybody, tmp_path, is_standin):
    """Unknown user, unknown key, another team's sandbox, malformed: the same words."""
    stranger = everybody.stranger.write(tmp_path / "stranger")
    known = guarded.identity
    texts = {
        "no such sandbox": permission_denied(guarded, "rs-nobody", known),
        "unknown key": permission_denied(guarded, guarded.box, stranger),
        "both": permission_denied(guarded, "rs-nobody", stranger),
        "root": permission_denied(guarded, "root", stranger),
    }
    if not is_standin:
        texts["another team's"] = permission_denied(guarded, guarded.foreign, known)
        other = everybody.other_team.write(tmp_path / "other")
        texts["ours, for another team"] = permission_denied(guarded, guarded.box, other)
    assert set(texts.values()) == {"USER@127.0.0.1: Permission denied (publickey)."}, texts


def test_probes_do_not_tell_of_sandboxes(guarded, everybody):
    """A probe's answer depends on the key alone, never on the name."""
    answers = {}
    for user in (guarded.box, "rs-nobody", "no+such+name"):
        for name, key in (("known", everybody.ed25519), ("stranger", everybody.stranger)):
            with RawLogin(guarded) as login:
                login.probe(user, key.name, key.blob)
                answers[user, name] = login.answer()[0]
    known = {answers[user, "known"] for user in (guarded.box, "rs-nobody", "no+such+name")}
    stranger = {answers[user, "stranger"]
                for user in (guarded.box, "rs-nobody", "no+such+name")}
    assert stranger == {"failure"}, answers
    if not guarded.is_standin:  # sshd does tell, by this.
        assert known == {"ok"}, answers


@pytest.mark.parametrize("user", MALFORMED)
def test_malformed_names(guarded, everybody, user):
    answer = attempt(guarded, user, everybody.ed25519)
    if guarded.is_standin and user == "root":
        pytest.skip("an account of this machine")
    refused(answer)


@pytest.mark.parametrize("user", [b"\xff\xfe", b"rs-one\0", b"rs-one\0x", b"", b"a" * 30000])
def test_names_of_odd_bytes(guarded, everybody, user):
    if guarded.is_standin and user.startswith(b"rs-one"):
        pytest.skip("sshd takes the name up to the zero byte")
    refused(attempt(guarded, user, everybody.ed25519))
    guarded.serves()


@pytest.mark.gateway
def test_main_container_by_name(guarded):
    result = guarded.ssh("pwd", user=guarded.box + "+main").ok()
    assert result.out == os.path.realpath(guarded.home) + "\n"
    sftp = guarded.sftp("pwd\n", box=guarded.box + "+main").ok()
    assert os.path.realpath(guarded.home) in sftp.out


@pytest.mark.gateway
def test_name_and_service_may_not_change(guarded, everybody):
    """RFC 4252 5: a connection that changes its mind fails or ends; it is never let in
    as the first name."""
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        login.probe("rs-nobody", key.name, key.blob)
        login.answer()
        login.signed(guarded.box, key.name, key.blob, key.sign)
        assert login.answer()[0] in ("failure", "closed")
    with RawLogin(guarded) as login:
        message = login.start(guarded.box, service="no-such-service")
        message.add_boolean(False)
        message.add_string(key.name)
        message.add_string(key.blob)
        login.send(message)
        assert login.answer()[0] in ("failure", "closed")


@pytest.mark.gateway
def test_name_may_not_change_between_signatures(guarded, everybody):
    """Nor may it where nothing was probed and no signature was wrong."""
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        login.signed("rs-nobody", key.name, key.blob, key.sign)
        assert login.answer()[0] == "failure"
        login.signed(guarded.box, key.name, key.blob, key.sign)
        assert login.answer()[0] in ("failure", "closed")


@pytest.mark.gateway  # sshd answers UNIMPLEMENTED
def test_requests_after_success_are_ignored(guarded, everybody):
    """RFC 4252 5.1: whatever they ask. Not a word comes back, and the session goes on."""
    good, bad = everybody.ed25519, everybody.stranger
    with RawLogin(guarded) as login:
        login.signed(guarded.box, good.name, good.blob, good.sign)
        assert login.answer() == ("success",)
        types = login.types_from_now()
        channel = login.transport.open_session()
        channel.exec_command("cat")
        types.clear()
        login.send(login.start(guarded.box, method="none"))
        login.probe(guarded.box, good.name, good.blob)
        login.signed(guarded.box, good.name, good.blob, good.sign)
        login.signed("rs-nobody", bad.name, bad.blob, bad.sign)
        login.signed(guarded.box, good.name, good.blob, bad.sign)
        login.send(login.start(guarded.box, service="no-such-service"))
        global_request(login.transport, "keepalive@openssh.com")
        # Answers come in order: what comes before this one answers a request above. A window (93) answers none.
        wait_until(lambda: set(types) - {93}, "an answer")
        assert [t for t in types if t != 93] in ([81], [82]), types
        channel.sendall(b"goes on\n")
        assert channel.recv(100) == b"goes on\n"
        again = login.transport.open_session()
        again.exec_command("echo anew; exit 5")
        assert again.recv(100) == b"anew\n" and again.recv_exit_status() == 5
        assert not {3, 51, 52, 53, 60} & set(types), types


@pytest.mark.gateway
def test_identity_is_the_signature_not_the_probe(guarded, everybody):
    """Probing with a good key and signing with another: the other one counts."""
    good, bad = everybody.ed25519, everybody.stranger
    with RawLogin(guarded) as login:
        login.probe(guarded.box, good.name, good.blob)
        assert login.answer() == ("ok", "ssh-ed25519")
        login.signed(guarded.box, bad.name, bad.blob, bad.sign)
        assert login.answer()[0] == "failure"
        login.signed(guarded.box, good.name, good.blob, bad.sign)
        assert login.answer()[0] == "failure"


@pytest.mark.gateway
def test_probe_is_no_login(guarded, everybody):
    """After an accepted probe nothing may be opened."""
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        login.probe(guarded.box, key.name, key.blob)
        assert login.answer()[0] == "ok"
        from paramiko.message import Message
        message = Message()
        message.add_byte(bytes([90]))
        message.add_string("session")
        message.add_int(0)
        message.add_int(1 << 20)
        message.add_int(32768)
        login.send(message)
        assert login.answer()[0] == "closed"
    guarded.serves()


@pytest.mark.gateway
def test_pipelined_requests_are_answered_in_order(guarded, everybody):
    """Five requests at once, none waiting for the other's answer."""
    good, bad = everybody.ed25519, everybody.stranger
    with RawLogin(guarded) as login:
        login.probe(guarded.box, bad.name, bad.blob)
        login.probe(guarded.box, good.name, good.blob)
        login.probe(guarded.box, bad.name, bad.blob)
        login.probe(guarded.box, good.name, good.blob)
        login.signed(guarded.box, good.name, good.blob, good.sign)
        assert [login.answer()[0] for _ in range(5)] == \
            ["failure", "ok", "failure", "ok", "success"]


# ---- limits ----------------------------------------------------------------------


@pytest.mark.gateway
def test_six_wrong_signatures(guarded, everybody):
    """The sixth ends the connection; five do not keep a good one out."""
    key = everybody.ed25519
    with RawLogin(guarded) as login:
        for i in range(5):
            login.signed(guarded.box, key.name, key.blob, everybody.stranger.sign)
            assert login.answer()[0] == "failure", i
        login.signed(guarded.box, key.name, key.blob, key.sign)
        assert login.answer() == ("success",)
    with RawLogin(guarded) as login:
        count = 0
        while count < 20:
            login.signed(guarded.box, key.name, key.blob, everybody.stranger.sign)
            count += 1
            if login.answer()[0] == "closed":
                break
            if count >= 6:
                # The answer may come before the end.
                assert login.answer()[0] == "closed"
                break
        assert count == 6


@pytest.mark.gateway
def test_thirty_keys(guarded, everybody):
    """An agent full of keys gets in by its thirtieth; the thirty-first is too much."""
    good = everybody.ed25519
    strangers = [Ed25519() for _ in range(31)]
    with RawLogin(guarded) as login:
        for key in strangers[:28]:
            login.probe(guarded.box, key.name, key.blob)
            assert login.answer()[0] == "failure"
        login.probe(guarded.box, good.name, good.blob)
        assert login.answer()[0] == "ok"
        login.signed(guarded.box, good.name, good.blob, good.sign)
        assert login.answer() == ("success",)
    with RawLogin(guarded) as login:
        ended_at = None
        for i, key in enumerate(strangers):
            login.probe(guarded.box, key.name, key.blob)
            if login.answer()[0] == "closed":
                ended_at = i + 1
                break
        if ended_at is None:
            login.probe(guarded.box, good.name, good.blob)
            assert login.answer()[0] == "closed"
            ended_at = 32
        assert 30 <= ended_at <= 32, ended_at


@pytest.mark.gateway
def test_thirty_keys_without_a_probe(guarded):
    """A key that is proved and denied counts as one that is offered: nobody tries sandboxes by signing at once."""
    key = Ed25519()
    with RawLogin(guarded) as login:
        for i in range(30):
            login.signed(guarded.box, key.name, key.blob, key.sign)
            assert login.answer()[0] == "failure", i
        login.signed(guarded.box, key.name, key.blob, key.sign)
        assert login.answer()[0] == "closed"


def test_agent_with_many_keys(guarded, tmp_path):
    """The real client, 12 wrong keys before the right one."""
    options = []
    for i in range(12):
        path = str(tmp_path / f"k{i}")
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path]).ok()
        options += ["-i", path]
    guarded.ssh("true", flags=tuple(options)).ok()


def read_to_end(s, seconds):
    """What comes until the other side closes; fails after `seconds`."""
    s.settimeout(seconds)
    begin, data = time.monotonic(), b""
    try:
        while part := s.recv(4096):
            data += part
            assert time.monotonic() - begin < seconds
    except ConnectionResetError:
        pass
    return data, time.monotonic() - begin


@pytest.mark.gateway
@pytest.mark.parametrize("stage", ["silent", "banner only", "key exchange only",
                                   "one letter a time"])
def test_login_deadline(hurried, stage, everybody):
    """login.grace_s is 2 here: whatever the client does, it ends then."""
    if stage == "key exchange only":
        with RawLogin(hurried) as login:
            begin = time.monotonic()
            wait_until(lambda: not login.transport.is_active(), "the end", 8)
            assert 0.5 < time.monotonic() - begin < 6
        return
    with socket.create_connection((hurried.host, hurried.port), 5) as s:
        if stage == "banner only":
            s.sendall(b"SSH-2.0-slow\r\n")
        if stage == "one letter a time":
            s.settimeout(0.2)
            begin = time.monotonic()
            while True:
                try:
                    s.sendall(b"S")
                    if s.recv(4096) == b"":
                        break
                except socket.timeout:
                    pass
                except OSError:
                    break
                assert time.monotonic() - begin < 8
            return
        _, seconds = read_to_end(s, 8)
        assert 1 < seconds < 6, seconds
    hurried.serves()


@pytest.fixture(scope="module")
def hurried(bin_dir):
    with Region(bin_dir, ["--set", "login.grace_s=2"], sandboxes=1) as started:
        yield started


@pytest.mark.gateway
def test_no_deadline_after_login(hurried):
    assert hurried.ssh("sleep 4; echo still-here").ok().out == "still-here\n"


@pytest.mark.gateway
def test_random_early_drop(bin_dir):
    """Past `begin` some are dropped, at `full` all; those who are in do not notice."""
    settings = ["--set", "login.unauthenticated.begin=10",
                "--set", "login.unauthenticated.rate=50",
                "--set", "login.unauthenticated.full=40"]
    with Region(bin_dir, settings, sandboxes=1) as region:
        control = f"/tmp/ringgate-drop-{os.getpid()}"
        import subprocess
        master = subprocess.Popen(region.ssh_argv(flags=("-M", "-N", "-S", control)),
                                  stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        held = []
        try:
            wait_until(lambda: os.path.exists(control), "the master")

            def is_held(s):
                s.settimeout(3)
                try:
                    return s.recv(4096).startswith(b"SSH-2.0-")
                except (ConnectionResetError, socket.timeout):
                    return False

            def one_more():
                s = socket.create_connection((region.host, region.port), 5)
                if is_held(s):
                    held.append(s)
                    return True
                s.close()
                return False

            assert all(one_more() for _ in range(10)), "dropped below the limit"
            results = [one_more() for _ in range(150)]
            assert 1 <= results.count(True) <= 30, results.count(True)
            assert len(held) <= 40
            assert region.ssh("echo in", flags=("-S", control)).ok().out == "in\n"
            for s in held:
                s.close()
            wait_until(lambda: region.ssh("true").status == 0, "room for a new user")
            assert "drop" in region.gateway_log()
        finally:
            for s in held:
                s.close()
            master.terminate()
            master.wait()


# ---- logs ------------------------------------------------------------------------


def lines_since(region, offset, event):
    text = region.log_since(offset)
    return [line for line in text.splitlines() if re.search(rf"\bevent={event}\b", line)]


@pytest.mark.gateway
@pytest.mark.parametrize("what", ["signature", "unparsable", "sha1", "weak", "certificate",
                                  "presence", "stranger", "no sandbox"])
def test_each_refusal_is_logged(guarded, everybody, tmp_path, what):
    """One line each, naming the client, why, and no secret."""
    offset = guarded.log_size()
    e, box = everybody, guarded.box
    if what == "signature":
        attempt(guarded, box, e.ed25519, signature=e.stranger.sign)
    elif what == "unparsable":
        with RawLogin(guarded) as login:
            login.signed(box, "ssh-ed25519", b"garbage", e.ed25519.sign)
            login.answer()
    elif what == "sha1":
        attempt(guarded, box, e.rsa, "ssh-rsa", lambda d: e.rsa.sign(d, "ssh-rsa"))
    elif what == "weak":
        attempt(guarded, box, e.weak_rsa, "rsa-sha2-256")
    elif what == "certificate":
        import base64
        _, path = make_certificate(everybody, guarded, tmp_path)
        algorithm, text = path.read_text().split()[:2]
        with RawLogin(guarded) as login:
            login.signed(box, algorithm, base64.b64decode(text), e.ed25519.sign)
            login.answer()
    elif what == "presence":
        attempt(guarded, box, e.sk_ed25519, signature=lambda d: e.sk_ed25519.sign(d, 0))
    elif what == "stranger":
        attempt(guarded, box, e.stranger)
    else:
        attempt(guarded, "rs-nobody", e.ed25519)
    lines = wait_until(lambda: [line for line in lines_since(guarded, offset, "auth")
                                if "result=accepted" not in line], "a log line", 5)
    assert len(lines) == 1, lines
    assert "client=" in lines[0] and "127.0.0.1" in lines[0] and "why=" in lines[0], lines


def test_unauthenticated_by_address(new_region):
    """login.unauthenticated.per_address: beyond it connections are closed; each that ends makes room for one."""
    region = new_region(sandboxes=1, config="login:\n  unauthenticated:\n    per_address: 2\n")

    def begin():
        s = socket.create_connection((region.host, region.port), 20)
        line = s.makefile("rb").readline()
        if not line:
            s.close()
        return s, line

    def begins_again():
        s, line = begin()
        s.close()
        return line.startswith(b"SSH-2.0-")

    held = [begin() for _ in range(2)]
    assert all(line.startswith(b"SSH-2.0-") for _, line in held)
    assert begin()[1] == b"" and begin()[1] == b""
    held.pop()[0].close()
    wait_until(begins_again, "the place that was given back")
    # Who is logged in counts no more.
    assert region.ssh("echo in").ok().out == "in\n"
    held.pop()[0].close()
