"""Sandboxes that die, lie or break the protocol, and gateways that do.

A fake procd (wire.FakeProcd) stands behind the real gateway, and a fake gateway
(wire.Gateway) before a real procd. Whatever one of them does, its own connection ends
with words, and nothing else does.
"""

import hashlib
import os
import signal
import subprocess
import threading
import time

import msgpack
import pytest
from nacl.signing import SigningKey

import wire
from aclient import connect, finish
from procds import Procd, make_key
from raw import channel_request, transport
from regions import Region, run, sha_of_stream
from waiting import (descendants, is_alive, pids_running, pids_with, resident_bytes, stat_fields,
                     wait_until)
from wire import (CLOSE, CREDIT, DATA, EOF, EOW, ERROR, EXIT, EXIT_SIGNAL, HELLO, OPEN, OPENED, PING,
                  PONG, REFUSED, RESIZE, SIGNAL, FakeProcd, Gateway, encode, hello_is_good,
                  serve_one)

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def faulty(bin_dir):
    """A region whose gateway waits little for procds that say nothing."""
    settings = ["--set", "procd.hello_timeout_ms=1500", "--set", "procd.connect_timeout_ms=1500"]
    with Region(bin_dir, settings) as started:
        yield started


@pytest.fixture
def sandbox(faulty, request):
    """sandbox(procd): puts a fake or own procd into the directory; the sandbox's ID."""
    with open(faulty.info["directory"], encoding="utf-8") as f:
        original = f.read()
    count = [0]

    def add(address, public):
        count[0] += 1
        name = f"rs-f{count[0]}-" + hashlib.sha256(
            request.node.nodeid.encode()).hexdigest()[:8]
        faulty.change_directory(lambda text: text + (
            f"  - id: {name}\n    team: t-local\n    procd: \"{address}\"\n"
            f"    procd_key: \"{public}\"\n"))
        return name

    yield add
    faulty.change_directory(lambda text: original)


class Witness:
    """A session to a healthy sandbox that runs while something else goes wrong."""

    def __init__(self, region):
        self.region = region

    def __enter__(self):
        self.client = subprocess.Popen(self.region.ssh_argv("cat"), stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.check(b"before\n")
        return self

    def check(self, line):
        self.client.stdin.write(line)
        self.client.stdin.flush()
        assert self.client.stdout.readline() == line, self.client.stderr.read()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.check(b"after\n")
                self.client.stdin.close()
                assert self.client.wait(20) == 0
                assert is_alive(self.region.gateway_pid)
        finally:
            self.client.kill()
            self.client.wait()
            for stream in (self.client.stdin, self.client.stdout, self.client.stderr):
                stream.close()


@pytest.fixture
def witness(faulty):
    with Witness(faulty) as one:
        yield one


def fails_with_words(result, *words):
    assert result.status not in (0, None), result
    text = result.err.lower()
    assert text.strip(), result
    assert any(word in text for word in words or ("sandbox",)), result
    return result


# ---- a real procd that dies ------------------------------------------------------


@pytest.fixture
def mortal(faulty, tmp_path):
    """(procd, sandbox ID): a real procd of this test's own."""
    procd = Procd(faulty, "rs-mortal", str(tmp_path / "mortal"))
    procd.start()
    with open(faulty.info["directory"], encoding="utf-8") as f:
        original = f.read()
    faulty.change_directory(lambda text: text + procd.directory_entry())
    faulty.ssh("true", box="rs-mortal").ok()
    yield procd
    faulty.change_directory(lambda text: original)
    if procd.process is not None and procd.process.poll() is None:
        procd.stop()


def kill_all(pid):
    for each in [pid] + descendants(pid):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            pass


def kill_sessions(pid):
    """The process of each gateway connection, not the listener."""
    for each in descendants(pid):
        if (stat_fields(each) or (0, 0))[1] == pid:
            os.kill(each, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["procd", "session process"])
@pytest.mark.parametrize("what", ["download", "upload", "scp up", "scp down", "terminal"])
def test_procd_killed_in_mid_transfer(faulty, mortal, witness, tmp_path, what, victim):
    box = "rs-mortal"
    big = os.path.join(mortal.home, "big")
    flags = ("-tt",) if what == "terminal" else ()
    if what == "download":
        argv = faulty.ssh_argv("cat /dev/zero", box=box)
    elif what == "upload":
        argv = faulty.ssh_argv("cat >big", box=box)
    elif what == "terminal":
        argv = faulty.ssh_argv("while :; do echo line; done", box=box, flags=flags)
    elif what == "scp up":
        with open(tmp_path / "huge", "wb") as f:
            f.truncate(20 << 30)
        argv = faulty.scp_argv("-q", str(tmp_path / "huge"), faulty.remote("big", box=box))
    else:
        with open(big, "wb") as f:
            f.truncate(20 << 30)
        argv = faulty.scp_argv("-q", faulty.remote("big", box=box), "/dev/null")
    with open("/dev/zero", "rb") as zero:
        client = subprocess.Popen(argv, stdin=zero if what == "upload" else subprocess.DEVNULL,
                                  stdout=subprocess.PIPE if what in ("download", "terminal")
                                  else subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if what in ("download", "terminal"):
            assert client.stdout.read(1 << 16)
            # Go on reading, as a user's pipe would.
            drain = threading.Thread(target=lambda: sha_of_stream(client.stdout))
            drain.start()
        elif what in ("upload", "scp up"):
            wait_until(lambda: os.path.exists(big) and os.path.getsize(big) > 1 << 20,
                       "the first bytes")
        else:
            wait_until(lambda: any(os.path.realpath(f"/proc/{p}/fd/{n}") == big
                                   for p in descendants(mortal.pid)
                                   for n in list_descriptors(p)), "the open file")
        if victim == "procd":
            kill_all(mortal.pid)
        else:
            kill_sessions(mortal.pid)
        begin = time.monotonic()
        status = client.wait(20)
        err = client.stderr.read().decode()
        assert time.monotonic() - begin < 10
        assert status != 0, err
        assert "sandbox" in err or "lost" in err or "closed" in err, err
    finally:
        client.kill()
        client.wait()
        client.stderr.close()
        if client.stdout is not None:
            drain.join(10)
            client.stdout.close()
        if os.path.exists(big):
            os.unlink(big)


def list_descriptors(pid):
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def test_words_for_a_lost_sandbox(faulty, mortal):
    """On stderr, exactly once, for a plain command; and no success."""
    client = subprocess.Popen(faulty.ssh_argv("sleep 60", box="rs-mortal"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE)
    try:
        wait_until(lambda: set(pids_running("sleep", "60")) & set(descendants(mortal.pid)),
                   "the command")
        kill_all(mortal.pid)
        _, err = client.communicate(timeout=15)
        assert client.returncode == 255 or client.returncode > 0
        assert err.decode().count("sandbox was lost") == 1, err
    finally:
        client.kill()
        client.wait()


def test_lost_sandbox_is_exit_signal_hup(faulty, mortal):
    async def go():
        async with connect(faulty, "rs-mortal") as conn:
            process = await conn.create_process("echo ready; sleep 60")
            await process.stdout.readline()
            kill_all(mortal.pid)
            err = await process.stderr.read()
            await process.wait()
            return process.exit_status, process.exit_signal, err

    status, info, err = finish(go(), 30)
    assert info is not None and info[0] == "HUP" and status in (-1, None), (status, info)
    assert "sandbox" in err


def test_procd_comes_back(faulty, mortal):
    """After its death and new start, the next user gets in."""
    address = mortal.address
    kill_all(mortal.pid)
    mortal.process.wait()
    result = faulty.ssh("true", box="rs-mortal")
    fails_with_words(result)
    mortal.start(listen=address)
    assert faulty.ssh("echo back", box="rs-mortal").ok().out == "back\n"


def test_gateway_gone_hangs_up_what_it_ran(bin_dir, tmp_path):
    """procd without its gateway: live commands get SIGHUP."""
    region = Region(bin_dir, sandboxes=1).start()
    token = f"44{os.getpid()}.5"
    with Procd(region, "rs-own", str(tmp_path / "own")) as procd:
        region.change_directory(lambda text: text + procd.directory_entry())
        client = None
        try:
            client = subprocess.Popen(region.ssh_argv(f"sleep {token}; true", box="rs-own"),
                                      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda: pids_with(f"sleep\0{token}"), "the command")
            os.kill(region.gateway_pid, signal.SIGKILL)
            wait_until(lambda: not pids_with(f"sleep\0{token}"), "the command's end")
            assert is_alive(procd.pid)
            assert client.wait(10) != 0
        finally:
            if client is not None:
                client.kill()
                client.wait()
            region.stop(check=False)


# ---- a procd that is somebody else -------------------------------------------------

SECRET = b"word-of-the-user"


def nothing_of_the_user(procd):
    """Only HELLO had come: no command, no byte, no request."""
    for stream in procd.streams:
        assert SECRET not in stream.seen
        assert all(frame[0] in (HELLO, PING, PONG, ERROR) for frame in stream.frames), \
            stream.frames
    assert procd.streams, "nobody came"


def test_the_fake_procd_is_good_enough(faulty, sandbox):
    """The fake one serves a command: what follows fails for its own reasons."""
    data = os.urandom(60000)
    with FakeProcd(serve_one(data, 5, b"to stderr\n")) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("anything", box=box)
        assert result.status == 5 and result.stdout == data, result
        assert b"to stderr\n" in result.stderr
        stream = procd.streams[-1]
        public = wire.load_public(os.path.join(faulty.state, "gateway_key.pub"))
        assert hello_is_good(stream, public)
        ticket = msgpack.unpackb(stream.ticket, raw=False)
        assert ticket["sandbox"] == box and ticket["user"] == "u-local"
        assert ticket["team"] == "t-local" and ticket["client"].startswith("127.0.0.1")
        assert set(ticket) == {"sandbox", "user", "team", "session", "gateway", "client",
                               "issued"}
        assert not procd.errors, procd.errors


def welcome_by_another_key(stream, procd):
    procd.greet(stream, key=SigningKey.generate())
    stream.ends(3)


def welcome_for_another_challenge(stream, procd):
    procd.greet(stream, challenge=bytes(32))
    stream.ends(3)


def welcome_without_a_signature(stream, procd):
    procd.greet(stream, signature=b"")
    stream.ends(3)


def welcome_cut(stream, procd):
    procd.greet(stream, signature=bytes(10))
    stream.ends(3)


def welcome_of_zeros(stream, procd):
    procd.greet(stream, signature=bytes(64))
    stream.ends(3)


def welcome_unasked(stream, procd):
    stream.send(wire.WELCOME, 0, 1, bytes(64), {})
    stream.ends(3)


def opened_without_a_welcome(stream, procd):
    stream.send(wire.CHALLENGE, 0, 1, os.urandom(32), {})
    stream.expect(HELLO)
    stream.send(OPENED, 2, 1 << 20, {})
    stream.ends(3)


def other_version(stream, procd):
    stream.send(wire.CHALLENGE, 0, 99, os.urandom(32), {})
    stream.ends(3)


def short_challenge(stream, procd):
    stream.send(wire.CHALLENGE, 0, 1, b"short", {})
    stream.ends(3)


def silence(stream, procd):
    assert stream.ends(10), "the gateway waits on"


def closed_at_once(stream, procd):
    pass


def ssh_server(stream, procd):
    stream.send_bytes(b"SSH-2.0-OpenSSH_9.2p1\r\n")
    stream.ends(3)


def random_bytes(stream, procd):
    stream.send_bytes(os.urandom(100000))
    stream.ends(3)


def error_at_once(stream, procd):
    stream.send(ERROR, 0, "wrong-sandbox", "another one\x1b[31m\nlives here")
    stream.ends(3)


def endless_map(stream, procd):
    """A map that announces four billion entries."""
    stream.send_bytes(b"\x95\x00\x00\x01\xc4\x20" + bytes(32) + b"\xdf\xff\xff\xff\xff")
    for _ in range(50):
        stream.send_bytes(b"\xa1k\xa1v" * 10000)
    stream.ends(3)


@pytest.mark.parametrize("behave", [
    welcome_by_another_key, welcome_for_another_challenge, welcome_without_a_signature,
    welcome_cut, welcome_of_zeros, welcome_unasked, opened_without_a_welcome, other_version,
    short_challenge, silence, closed_at_once, ssh_server, random_bytes, error_at_once,
    endless_map], ids=lambda f: f.__name__)
def test_a_stranger_at_the_address(faulty, sandbox, witness, behave):
    """It gets HELLO at most; the user gets words and no success."""
    with FakeProcd(behave, welcome=False) as procd:
        box = sandbox(procd.address, procd.public)
        begin = time.monotonic()
        result = faulty.ssh(f"echo {SECRET.decode()}", box=box, input=SECRET,
                            opts=[f"SetEnv=LC_X={SECRET.decode()}"])
        assert time.monotonic() - begin < 12
        fails_with_words(result)
        assert result.stdout == b"" and "\x1b" not in result.err
        nothing_of_the_user(procd)


def test_real_procd_with_another_sandboxs_key(faulty, sandbox, tmp_path):
    """The directory says A's key, and B's procd answers there: two real programs."""
    procd = Procd(faulty, "rs-b", str(tmp_path / "b"))
    other = make_key(faulty, str(tmp_path / "other"))
    with procd:
        marker = os.path.join(procd.home, "marker")
        with open(other + ".pub", encoding="ascii") as f:
            public = f.read().strip()
        faulty.change_directory(lambda text: text + procd.directory_entry(public=public))
        fails_with_words(faulty.ssh("touch marker", box="rs-b"))
        assert not os.path.exists(marker)


def test_real_procd_for_another_sandbox(faulty, sandbox, tmp_path):
    """The address and key are right, and it serves another ID: it refuses the ticket."""
    with Procd(faulty, "rs-real-name", str(tmp_path / "p")) as procd:
        box = sandbox(procd.address, procd.public)
        fails_with_words(faulty.ssh("touch marker", box=box))
        assert not os.path.exists(os.path.join(procd.home, "marker"))


def test_real_procd_that_trusts_another_gateway(faulty, sandbox, tmp_path):
    key = make_key(faulty, str(tmp_path / "gw"))
    with Procd(faulty, "rs-untrusting", str(tmp_path / "p"),
               gateway_keys=[key + ".pub"]) as procd:
        faulty.change_directory(lambda text: text + procd.directory_entry())
        fails_with_words(faulty.ssh("touch marker", box="rs-untrusting"))
        assert not os.path.exists(os.path.join(procd.home, "marker"))


# ---- a procd that breaks the protocol in mid-session ----------------------------------


def broken(*after):
    """A behaviour: a channel is opened, some output comes, then `after`'s bytes."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(DATA, number, 0, b"first\n")
        for part in after:
            stream.send_bytes(part(number) if callable(part) else part)
        stream.ends(8)
        stream.was_ended = True

    return behave


DEEP = b"\x95\x0b\x02\x00" + b"\x91" * 100000

BREAKS = {
    "garbage": broken(b"\xc1" * 1000),
    "random": broken(os.urandom(200000)),
    "not an array": broken(msgpack.packb({"type": 11})),
    "empty array": broken(b"\x90"),
    "no channel": broken(b"\x91\x0b"),
    "negative type": broken(msgpack.packb([-1, 2])),
    "type is a string": broken(msgpack.packb(["data", 2])),
    "huge type": broken(b"\x92\xcf\x00\x00\x00\x01\x00\x00\x00\x0b\x02"),
    "unknown type": broken(encode(99, 2)),
    "data over 32 KiB": broken(lambda n: encode(DATA, n, 0, bytes(32769))),
    "data of 4 GiB": broken(lambda n: encode(DATA, n, 0)[:-1].replace(b"\x93", b"\x94", 1)
                            + b"\x00\xc6\xff\xff\xff\xff" + bytes(100000)),
    "data on stream 7": broken(lambda n: encode(DATA, n, 7, b"x")),
    "data without payload": broken(lambda n: encode(DATA, n, 0)),
    "data is an int": broken(lambda n: encode(DATA, n, 0, 5)),
    "string of 4 GiB": broken(b"\x94\x03\x00\xdb\xff\xff\xff\xff" + b"x" * 100000),
    "frame over 64 KiB": broken(encode(ERROR, 0, "internal", "x" * 70000)),
    "deep nesting": broken(DEEP),
    "many items": broken(b"\xdd\x00\xff\xff\xff" + b"\x01" * 200000),
    "channel above the highest": broken(encode(DATA, 4000, 0, b"x")),
    "opened twice": broken(lambda n: encode(OPENED, n, 100, {})),
    "exit twice": broken(lambda n: encode(EXIT, n, 1) + encode(EXIT, n, 0)),
    "data after eof": broken(lambda n: encode(EOF, n) + encode(DATA, n, 0, b"x")),
    "hello": broken(encode(HELLO, 0, 1, b"", b"", {})),
    "resize": broken(lambda n: encode(RESIZE, n, 1, 1, 0, 0)),
    "past the credit": broken(lambda n: encode(DATA, n, 0, bytes(32768)) * 400),
    "credit overflow": broken(lambda n: encode(CREDIT, n, 0xFFFFFFFF) * 3),
    "data on channel 0": broken(encode(DATA, 0, 0, b"x")),
    "second welcome": broken(encode(wire.WELCOME, 0, 1, bytes(64), {})),
}


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_procd_breaks_the_protocol(faulty, sandbox, witness, name):
    """That connection ends, with words; another session does not notice."""
    with FakeProcd(BREAKS[name]) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("cat", box=box, timeout=30)
        assert result.status not in (0, None), result
        # After EXIT or EOF the command's end was told, and nothing can be added to it.
        assert "sandbox" in result.err or name in ("data after eof", "exit twice"), result
        assert result.stdout.startswith(b"first\n") or result.stdout == b"", result
        stream = procd.streams[-1]
        wait_until(lambda: getattr(stream, "was_ended", False) or procd.errors,
                   "the gateway's end of the stream")


@pytest.mark.parametrize("cut", [1, 2, 5, 20])
def test_truncated_frame(faulty, sandbox, witness, cut):
    """The stream ends inside a frame."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send_bytes(encode(DATA, number, 0, bytes(100))[:cut])

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        fails_with_words(faulty.ssh("cat", box=box))


def test_byte_by_byte(faulty, sandbox):
    """Frames that come one byte at a time are frames."""

    def behave(stream, procd):
        number = stream.expect(OPEN)[1]
        text = (encode(OPENED, number, 1 << 16, {}) + encode(DATA, number, 0, b"slow\n")
                + encode(200, number, "ignorable", {"x": [1, 2]}) + encode(255, 0)
                + encode(DATA, number, 1, b"slow error\n")
                + encode(EXIT, number, 3, "unknown", "trailing", ["fields"])
                + encode(EOF, number) + encode(CLOSE, number))
        for i in range(len(text)):
            stream.send_bytes(text[i:i + 1])
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        assert result.status == 3 and result.stdout == b"slow\n", result
        assert b"slow error\n" in result.stderr


def test_stream_ends_without_an_exit(faulty, sandbox):
    """Output came, then the line broke: never success."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(DATA, number, 0, b"half of it")
        stream.expect(EOF)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        assert result.status == 255 and result.stdout == b"half of it", result
        assert "sandbox" in result.err


def test_input_is_refused_once(faulty, sandbox):
    """EOW however often: each would be a message to the client."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send_bytes(encode(EOW, number) * 1000)
        stream.send(EXIT, number, 0)
        stream.send(EOF, number)
        stream.send(CLOSE, number)
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box, flags=("-v",)).ok()
        assert result.err.count("rtype eow@openssh.com") == 1, result


@pytest.mark.parametrize("kind", [EOW, EOF, EXIT, CREDIT, CLOSE],
                         ids=["EOW", "EOF", "EXIT", "CREDIT", "CLOSE"])
def test_before_opened(faulty, sandbox, witness, kind):
    """The channel is not there yet: the stream ends, and the user is told."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(kind, number, *([1] if kind in (EXIT, CREDIT) else []))
        stream.was_ended = stream.ends(8)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = fails_with_words(faulty.ssh("x", box=box))
        assert result.status == 254, result
        wait_until(lambda: getattr(procd.streams[-1], "was_ended", False), "the stream's end")


def test_wrong_sandbox_in_mid_session(faulty, sandbox, witness):
    """ERROR wrong-sandbox after WELCOME, when the directory knows another address already:
    what hangs on the stream ends, and the next command goes to the new one."""
    moved = threading.Event()

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(DATA, number, 0, b"first\n")
        assert moved.wait(20)
        stream.send(ERROR, 0, "wrong-sandbox", "it has moved")
        stream.ends(5)

    with FakeProcd(behave) as old, FakeProcd(serve_one(b"new place\n"), key=old.key) as new:
        box = sandbox(old.address, old.public)
        client = subprocess.Popen(faulty.ssh_argv("x", box=box), stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert client.stdout.readline() == b"first\n"
            faulty.change_directory(lambda text: text.replace(old.address, new.address))
            moved.set()
            _, err = client.communicate(timeout=20)
            assert client.returncode == 255 and b"sandbox was lost" in err, err
            assert not new.streams, "what was lost was carried over"
        finally:
            client.kill()
            client.wait()
        assert faulty.ssh("x", box=box).ok().out == "new place\n"


def test_close_without_an_exit(faulty, sandbox):
    """procd closes the channel and tells no status: the client must not see 0."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(EOF, number)
        stream.send(CLOSE, number)
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        assert faulty.ssh("x", box=box).status not in (0, None)


def test_eof_before_exit(faulty, sandbox):
    """The command closed its output first and ended later: its status still comes."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(DATA, number, 0, b"out\n")
        stream.send(EOF, number)
        stream.ends(0.5)
        stream.send(EXIT, number, 7)
        stream.send(CLOSE, number)
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        assert result.status == 7 and result.stdout == b"out\n", result


@pytest.mark.parametrize("code", ["not-found", "no-memory", "internal", "shutting-down",
                                  "no-such-code"])
def test_refused_channel(faulty, sandbox, code):
    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(REFUSED, number, code, "the reason in words")
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        assert result.status not in (0, None) and result.err.strip(), result


def test_words_of_a_sandbox_are_cleaned(faulty, sandbox):
    """What the gateway says in its own name carries no control bytes of others'."""

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(REFUSED, number, "internal", "red \x1b[31m, bell \x07, line\nringgate: x")
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        assert result.status not in (0, None) and result.err.strip(), result
        assert "\x1b" not in result.err and "\x07" not in result.err, result
        assert "\nringgate: x" not in result.err, result


@pytest.mark.parametrize("kind, options", [
    ("forwarded-tcp", {"request": 1, "originator_host": "127.0.0.1", "originator_port": 5}),
    ("forwarded-unix", {"request": 1}), ("agent", {"session": 2}), ("shell", {}),
    ("exec", {"command": b"id"}), ("nonsense", {})])
def test_hostile_sandbox_opens_nothing(faulty, sandbox, kind, options):
    """What nobody asked for is refused; the session itself goes on."""
    answers = []

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, 1 << 16, {})
        stream.send(OPEN, 1, kind, options, 1 << 16)
        while True:
            frame = stream.receive()
            if frame is None:
                answers.append("end")
                return
            if frame[1] == 1:
                answers.append(frame)
                break
        stream.send(DATA, number, 0, b"goes on\n")
        stream.send(EXIT, number, 0)
        stream.send(EOF, number)
        stream.send(CLOSE, number)
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        result = faulty.ssh("x", box=box)
        wait_until(lambda: answers, "an answer")
        assert (answers[0] == "end" or answers[0][0] == REFUSED), answers
        if answers[0] != "end":
            assert answers[0][2] in ("denied", "unknown-kind"), answers
            assert result.status == 0 and result.stdout == b"goes on\n", result


def test_gateway_keeps_the_credit(faulty, sandbox):
    """It sends no more than procd granted."""
    got = {"bytes": 0}
    grant = 10000

    def behave(stream, _procd):
        number = stream.expect(OPEN)[1]
        stream.send(OPENED, number, grant, {})
        stop = time.monotonic() + 2
        while time.monotonic() < stop:
            try:
                frame = stream.receive(stop - time.monotonic())
            except AssertionError:
                break
            if frame is None:
                return
            if frame[0] == DATA:
                got["bytes"] += len(frame[3])
        got["before"] = got["bytes"]
        stream.send(CREDIT, number, 5000)
        while got["bytes"] < grant + 5000:
            frame = stream.receive(5)
            if frame[0] == DATA:
                got["bytes"] += len(frame[3])
        stream.send(EXIT, number, 0)
        stream.send(CLOSE, number)
        stream.ends(5)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        faulty.ssh("x", box=box, input=bytes(1 << 20))
        assert got["before"] == grant and got["bytes"] == grant + 5000, got


def test_moved_sandbox_is_found(faulty, sandbox):
    """A stranger at the old address, the directory already knows the new one."""
    with FakeProcd(serve_one(b"new place\n")) as new, \
            FakeProcd(welcome_by_another_key, welcome=False) as old:
        box = sandbox(old.address, new.public)
        fails_with_words(faulty.ssh("x", box=box))
        faulty.change_directory(lambda text: text.replace(old.address, new.address))
        assert faulty.ssh("x", box=box).ok().out == "new place\n"


def test_stalled_procd(faulty, sandbox, witness):
    """A procd that accepts and reads nothing more: the user may leave, others work."""
    hold = threading.Event()

    def behave(stream, _procd):
        stream.expect(OPEN)
        hold.wait(20)

    with FakeProcd(behave) as procd:
        box = sandbox(procd.address, procd.public)
        client = subprocess.Popen(faulty.ssh_argv("x", box=box), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: procd.streams and any(f[0] == OPEN for f in
                                                     procd.streams[-1].frames), "the open")
            for _ in range(3):
                assert faulty.ssh("echo x").ok().out == "x\n"
        finally:
            client.kill()
            client.wait()
            hold.set()


def test_all_channels_wait_for_a_stalled_procd(faulty, sandbox, witness):
    """256 channels whose sandbox opens none: each may send its first window of 32 KiB, all of
    them 8 MiB (SESSION_UP_BUDGET), and that is what the gateway holds."""
    hold = threading.Event()
    budget = 8 << 20

    def behave(_stream, _procd):
        hold.wait(60)

    with FakeProcd(behave) as procd:
        one, sock = transport(faulty, sandbox(procd.address, procd.public))
        try:
            before = resident_bytes(faulty.gateway_pid)
            channels = [one.open_session() for _ in range(256)]
            sent = 0
            for channel in channels:
                channel_request(one, channel.remote_chanid, "exec", "x", want_reply=False)
                while channel.send_ready():
                    sent += channel.send(bytes(32 << 10))
            one.global_request("keepalive@openssh.com")  # Answered behind all of it.
            assert sent == budget
            assert not any(channel.send_ready() for channel in channels)
            # Memory comes in chunks of 66 KiB, one at least for each channel.
            grown = resident_bytes(faulty.gateway_pid) - before
            assert faulty.is_sanitized or grown < 256 * (66 << 10) + (4 << 20), grown
            witness.check(b"beside\n")
        finally:
            one.close()
            sock.close()
            hold.set()


# ---- a gateway that is not ours, against a real procd -------------------------------


@pytest.fixture(scope="module")
def bare(faulty, tmp_path_factory):
    """A real procd that trusts a key of this file's own."""
    folder = tmp_path_factory.mktemp("bare")
    key_path = make_key(faulty, str(folder / "gateway"))
    with Procd(faulty, "rs-bare", str(folder / "p"), gateway_keys=[
            key_path + ".pub", os.path.join(faulty.state, "gateway_key.pub")]) as procd:
        procd.gateway_key = wire.load_secret(key_path)
        yield procd


def dial(bare, key=None):
    return Gateway(bare.address, key or bare.gateway_key)


def greeted(bare):
    gateway = dial(bare)
    gateway.hello("rs-bare")
    return gateway.welcome(wire.load_public(bare.key + ".pub"))


def is_well(bare):
    gateway = greeted(bare)
    out, err, ended = gateway.run(2, b"echo fine; echo err >&2; exit 3")
    assert (out, err) == (b"fine\n", b"err\n") and ended[:3] == [EXIT, 2, 3]
    gateway.close()


def test_the_fake_gateway_is_good_enough(bare):
    is_well(bare)


def refused_with(gateway, *codes):
    frame = gateway.receive()
    if frame is not None:
        assert frame[0] == ERROR and frame[1] == 0, frame
        assert frame[2] in codes, frame
        assert gateway.receive() is None
    return frame


def test_ticket_with_a_forged_signature(bare):
    gateway = dial(bare)
    gateway.hello("rs-bare", signature=bytes(64))
    assert refused_with(gateway, "bad-ticket") is not None
    is_well(bare)


def test_ticket_by_an_unknown_gateway(bare):
    gateway = dial(bare, SigningKey.generate())
    gateway.hello("rs-bare")
    assert refused_with(gateway, "bad-ticket") is not None


def test_ticket_for_another_sandbox(bare):
    gateway = dial(bare)
    gateway.hello("rs-other")
    assert refused_with(gateway, "wrong-sandbox", "bad-ticket") is not None


def test_ticket_signed_for_another_challenge(bare):
    """What was good on one stream is worth nothing on another."""
    one, two = dial(bare), dial(bare)
    assert one.challenge != two.challenge
    two.hello("rs-bare", challenge=one.challenge)
    assert refused_with(two, "bad-ticket") is not None
    one.close()


def test_ticket_changed_after_signing(bare):
    gateway = dial(bare)
    ticket = gateway.ticket("rs-bare")
    good = gateway.key.sign(b"procd-hello-1\0" + gateway.challenge + ticket).signature
    gateway.hello("rs-bare", ticket=gateway.ticket("rs-bare", user="u-root"), signature=good)
    assert refused_with(gateway, "bad-ticket") is not None


@pytest.mark.parametrize("ticket", [b"", b"\xc1", msgpack.packb([]), msgpack.packb({}),
                                    msgpack.packb({"sandbox": 5}),
                                    msgpack.packb({"sandbox": "rs-bare"}) + b"x",
                                    b"\xdf\xff\xff\xff\xff", pytest.param(os.urandom(500), id="random")])
def test_ticket_that_is_none(bare, ticket):
    """Rightly signed nonsense."""
    gateway = dial(bare)
    gateway.hello("rs-bare", ticket=ticket)
    assert refused_with(gateway, "bad-ticket", "wrong-sandbox", "protocol") is not None


def test_ticket_of_another_version(bare):
    gateway = dial(bare)
    gateway.hello("rs-bare", version=99)
    assert refused_with(gateway, "version") is not None


def test_command_before_the_welcome(bare, tmp_path):
    """An OPEN in front of HELLO, or behind a bad one, runs nothing."""
    marker = str(tmp_path / "marker")
    command = f"touch {marker}".encode()
    gateway = dial(bare)
    gateway.open_exec(2, command)
    assert gateway.ends()
    gateway = dial(bare)
    gateway.sock.sendall(encode(HELLO, 0, 1, gateway.ticket("rs-bare"), bytes(64), {})
                         + encode(OPEN, 2, "exec", {"command": command}, 1 << 16))
    assert gateway.ends()
    is_well(bare)
    assert not os.path.exists(marker)


def test_stream_without_a_hello(bare):
    """Closed after 5 s; meanwhile others come in."""
    gateway = dial(bare)
    begin = time.monotonic()
    is_well(bare)
    assert gateway.ends(9), "still open"
    assert 3 < time.monotonic() - begin < 9


def frames_before_hello():
    return {"garbage": b"\xc1" * 100, "random": os.urandom(100000),
            "http": b"GET / HTTP/1.1\r\n\r\n", "huge bin": b"\x95\x01\x00\x01\xc6\xff\xff\xff\xff"
            + bytes(200000), "deep": b"\x91" * 100000, "oversized":
            encode(HELLO, 0, 1, bytes(100000), bytes(64), {}), "map": msgpack.packb({}),
            "nothing": b""}


@pytest.mark.parametrize("name", sorted(frames_before_hello()))
def test_garbage_before_hello(bare, name):
    gateway = dial(bare)
    try:
        gateway.send_bytes(frames_before_hello()[name])
        if name == "nothing":
            gateway.sock.shutdown(1)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert gateway.ends(8)
    is_well(bare)


GATEWAY_BREAKS = {
    "garbage": b"\xc1" * 1000,
    "random": os.urandom(100000),
    "unknown type": encode(99, 0),
    "data over 32 KiB": encode(DATA, 2, 0, bytes(32769)),
    "frame over 64 KiB": encode(PING, 0, "x" * 70000),
    "open over 288 KiB": encode(OPEN, 4, "exec", {"command": bytes(300000)}, 1000),
    "string of 4 GiB": b"\x94\x08\x04\xdb\xff\xff\xff\xff" + bytes(400000),
    "channel above the highest": encode(DATA, 400, 0, b"x"),
    "odd channel": encode(OPEN, 5, "exec", {"command": b"id"}, 1000),
    "channel used again": encode(OPEN, 2, "exec", {"command": b"id"}, 1000),
    "past the credit": encode(DATA, 2, 0, bytes(32768)) * 400,
    "exit from the gateway": encode(EXIT, 2, 0),
    "challenge": encode(wire.CHALLENGE, 0, 1, bytes(32), {}),
    "hello again": encode(HELLO, 0, 1, b"", b"", {}),
    "deep": b"\x95\x08\x04" + b"\x91" * 100000,
    "data on stream 9": encode(DATA, 2, 9, b"x"),
}


@pytest.mark.parametrize("name", sorted(GATEWAY_BREAKS))
def test_gateway_breaks_the_protocol(bare, name):
    """That stream ends and its command is hung up; another's goes on."""
    token = f"45{os.getpid()}.{abs(hash(name)) % 10000}"
    other = greeted(bare)
    other.open_exec(2, b"cat")
    other.expect(OPENED)
    gateway = greeted(bare)
    gateway.open_exec(2, f"exec sleep {token}".encode())
    gateway.expect(OPENED)
    wait_until(lambda: pids_with(f"sleep\0{token}"), "the command")
    try:
        gateway.send_bytes(GATEWAY_BREAKS[name])
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert gateway.ends(8), gateway.frames[-3:]
    wait_until(lambda: not pids_with(f"sleep\0{token}"), "the command's end")
    other.send(DATA, 2, 0, b"still here\n")
    assert other.expect(DATA)[2:] == [0, b"still here\n"]
    other.close()


def test_frames_for_a_closed_channel_are_dropped(bare):
    """They were on their way: no error."""
    gateway = greeted(bare)
    assert gateway.run(2, b"true")[2][:3] == [EXIT, 2, 0]
    for frame in ((DATA, 2, 0, b"late"), (CREDIT, 2, 5), (EOF, 2), (RESIZE, 2, 1, 1, 0, 0),
                  (SIGNAL, 2, "TERM"), (CLOSE, 2)):
        gateway.send(*frame)
    assert gateway.run(4, b"echo on")[0] == b"on\n"
    gateway.close()


def test_ignorable_frames_and_trailing_fields(bare):
    gateway = greeted(bare)
    gateway.send(128, 0, {"new": ["thing"]})
    gateway.send(4000, 77, "x")
    gateway.send(OPEN, 2, "exec", {"command": b"echo on", "new-option": {"a": [1]}}, 1000,
                 "trailing", {"more": 1})
    gateway.expect(OPENED)
    assert gateway.expect(DATA)[3] == b"on\n"
    gateway.close()


def test_procd_keeps_the_credit(bare):
    """`yes` is stopped by the credit to the byte, and goes on by it."""
    gateway = greeted(bare)
    gateway.open_exec(2, b"yes", credit=10000)
    gateway.expect(OPENED)

    def take(seconds):
        count = 0
        while True:
            try:
                frame = gateway.receive(seconds)
            except AssertionError:
                return count
            if frame[0] == DATA:
                count += len(frame[3])

    assert take(1) == 10000
    gateway.send(CREDIT, 2, 1234)
    assert take(1) == 1234
    # A stalled channel stops no other.
    assert gateway.run(4, b"echo beside")[0] == b"beside\n"
    gateway.close()


def test_ping(bare):
    gateway = greeted(bare)
    gateway.send(PING, 0, 123456789)
    assert gateway.expect(PONG)[2] == 123456789
    gateway.close()


def test_procd_asks_later_than_a_gateway(bare):
    """After 45 s, so that beside one that asks each 30 s it never does."""
    gateway = greeted(bare)
    begin = time.monotonic()
    frame = gateway.receive(60)
    assert frame[:2] == [PING, 0], frame
    assert 40 < time.monotonic() - begin < 55
    gateway.close()


@pytest.mark.parametrize("kind, options, codes", [
    ("nonsense", {}, ["unknown-kind"]),
    ("subsystem", {"name": "nonsense"}, ["unknown-subsystem"]),
    ("exec", {"command": b"x" * 140000}, ["too-large"]),
    ("exec", {"command": b"true", "env": {b"N%d" % i: b"v" for i in range(300)}},
     ["too-large", "protocol"]),
    ("tcp", {"host": b"127.0.0.1", "port": 1, "originator_host": b"", "originator_port": 0},
     ["unreachable"]),
    ("unix", {"path": b"/no/such/socket"}, ["unreachable", "not-found"]),
])
def test_refused_by_procd(bare, kind, options, codes):
    gateway = greeted(bare)
    gateway.send(OPEN, 2, kind, options, 1000)
    frame = gateway.receive()
    if frame is None:
        assert "protocol" in codes
    else:
        if frame[0] == ERROR:
            assert "protocol" in codes, frame
        else:
            assert frame[0] == REFUSED and frame[2] in codes, frame
            assert gateway.run(4, b"echo on")[0] == b"on\n"
    gateway.close()
    is_well(bare)


def test_too_many_channels(bare):
    gateway = greeted(bare)
    for i in range(257):
        gateway.open_exec(2 + 2 * i, b"exec sleep 100", credit=1000)
    answers = {OPENED: 0, REFUSED: 0}
    for _ in range(257):
        frame = gateway.receive(30)
        assert frame is not None and frame[0] in answers, frame
        answers[frame[0]] += 1
        if frame[0] == REFUSED:
            assert frame[2] == "too-many-channels", frame
    assert answers == {OPENED: 256, REFUSED: 1}
    gateway.close()
    wait_until(lambda: len(descendants(bare.pid)) < 20, "the commands' end")
    is_well(bare)


def test_too_many_streams(bare):
    """64 at once; the next is refused, and room comes back."""
    wait_until(lambda: len(descendants(bare.pid)) == 0, "the end of other tests' streams")
    gateways = []
    try:
        for _ in range(64):
            gateways.append(greeted(bare))
        try:
            last = dial(bare)
            last.hello("rs-bare")
            frame = last.receive()
            assert frame is None or frame[0] == ERROR, frame
        except (AssertionError, ConnectionResetError):
            pass
    finally:
        for gateway in gateways:
            gateway.close()
    wait_until(lambda: len(descendants(bare.pid)) == 0, "the streams' end")
    is_well(bare)


def test_order_at_the_end(bare):
    """DATA, then EXIT, then EOF, then CLOSE; each once."""
    gateway = greeted(bare)
    gateway.open_exec(2, b"echo out; exit 4")
    kinds = []
    while True:
        frame = gateway.receive()
        if frame[0] == PING:
            continue
        kinds.append(frame[0])
        if frame[0] == CLOSE:
            break
    kinds = [kind for kind in kinds if kind != CREDIT]
    assert kinds[0] == OPENED and kinds[-1] == CLOSE
    assert kinds.count(EXIT) == 1 and kinds.count(EOF) == 1
    assert kinds.index(DATA) < kinds.index(EXIT)
    gateway.close()


def test_exit_signal(bare):
    gateway = greeted(bare)
    _, _, ended = gateway.run(2, b"kill -SEGV $$; sleep 9")
    assert ended[0] == EXIT_SIGNAL and ended[2] == "SEGV", ended
    gateway.close()


def test_crossing_closes(bare):
    """CLOSE before OPENED, and two that cross."""
    gateway = greeted(bare)
    gateway.sock.sendall(encode(OPEN, 2, "exec", {"command": b"sleep 100"}, 1000)
                         + encode(CLOSE, 2))
    kinds = []
    while CLOSE not in kinds and REFUSED not in kinds:
        kinds.append(gateway.receive()[0])
    assert gateway.run(4, b"echo on")[0] == b"on\n"
    gateway.close()
    is_well(bare)


def test_rotation_of_gateway_keys(faulty, tmp_path):
    """Two keys are trusted at once."""
    old = make_key(faulty, str(tmp_path / "old"))
    new = make_key(faulty, str(tmp_path / "new"))
    with Procd(faulty, "rs-rotating", str(tmp_path / "p"),
               gateway_keys=[old + ".pub", new + ".pub"]) as procd:
        for path in (old, new):
            gateway = Gateway(procd.address, wire.load_secret(path))
            gateway.hello("rs-rotating")
            gateway.welcome(wire.load_public(procd.key + ".pub"))
            assert gateway.run(2, b"echo in")[0] == b"in\n"
            gateway.close()


# ---- procd's own command line --------------------------------------------------------


def test_keygen(faulty, tmp_path):
    path = make_key(faulty, str(tmp_path / "key"))
    assert os.stat(path).st_mode & 0o777 == 0o600
    secret = wire.load_secret(path)
    assert bytes(secret.verify_key) == bytes(wire.load_public(path + ".pub"))
    # A second run does not replace it.
    before = open(path, "rb").read()
    done = run([os.path.join(faulty.bin_dir, "procd"), "keygen", "--out", path])
    assert done.status != 0 and open(path, "rb").read() == before, done


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["serve"], ["serve", "--nonsense"],
                                       ["keygen"]])
def test_procd_usage(faulty, arguments):
    done = run([os.path.join(faulty.bin_dir, "procd"), *arguments], timeout=10)
    assert done.status not in (0, None) and done.err.strip(), done


def test_procd_ends_at_sigterm(faulty, tmp_path):
    procd = Procd(faulty, "rs-x", str(tmp_path / "p")).start()
    procd.process.terminate()
    assert procd.process.wait(10) == 0
    procd.process = None
