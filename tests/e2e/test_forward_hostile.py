"""Forwards between a lying procd and the real gateway, and a lying gateway and the real procd."""

import contextlib
import os
import socket
import tempfile
import threading

import asyncssh
import pytest

from aclient import connect as aconnect, finish as aclient_finish
import forwards
from procd_wire import Server
import procd_wire
from regions import Region
from waiting import wait_until
from wire import (CLOSE, CREDIT, DATA, EOF, EXIT, LISTEN, LISTENING, LISTEN_REFUSED, OPEN, OPENED, REFUSED,
                  UNLISTEN, UNLISTENED, FakeProcd, encode)

pytestmark = pytest.mark.gateway

ASKED_MAX = 64
AGENTS_MAX = 32
LISTEN_MAX = 32
KNOWN_MAX = 4 * LISTEN_MAX
TCP = {"request": 1, "originator_host": "127.0.0.1", "originator_port": 5}


@pytest.fixture(scope="module")
def faulty(bin_dir):
    with Region(bin_dir, sandboxes=1) as started:
        yield started


@contextlib.contextmanager
def sandbox_at(region, procd):
    """The name of a sandbox that is this procd."""
    name = f"rs-{procd.address.rpartition(':')[2]}"
    with open(region.info["directory"], encoding="utf-8") as f:
        original = f.read()
    region.change_directory(lambda text: text + (
        f"  - id: {name}\n    team: t-local\n    procd: \"{procd.address}\"\n"
        f"    procd_key: \"{procd.public}\"\n"))
    try:
        yield name
    finally:
        region.change_directory(lambda text: original)


def play(region, behave, *flags, command="x", **how):
    """behave(stream) is procd behind a session that wants -R 1234."""
    seen = []

    def run(stream, _procd):
        try:
            seen.append(behave(stream))
        except BaseException as error:
            seen.append(error)
            raise

    with FakeProcd(run) as procd, sandbox_at(region, procd) as name:
        result = region.ssh(command, box=name, timeout=40,
                            flags=("-v", "-R", "1234:127.0.0.1:9", *flags), **how)
        wait_until(lambda: seen, "the end of the stream")
    if isinstance(seen[0], BaseException):
        raise seen[0]
    return result, seen[0]


def frames(stream, seconds=10):
    """Its frames until it ends."""
    while (frame := stream.receive(seconds)) is not None:
        yield frame


def start(stream, listen=True):
    """LISTEN answered and the command opened; the channel's number."""
    request = number = None
    for frame in frames(stream):
        if frame[0] == LISTEN:
            request = frame[2]
            assert frame[3:6] == ["tcp", b"localhost", 1234], frame
            if listen:
                stream.send(LISTENING, 0, request, 1234)
        elif frame[0] == OPEN:
            number = frame[1]
            stream.send(OPENED, number, 1 << 16, {})
        if request and number:
            return number
    raise AssertionError("the stream ended")


def finish(stream, number):
    stream.send(EXIT, number, 0)
    stream.send(EOF, number)
    stream.send(CLOSE, number)
    for _ in frames(stream):
        pass


def ends(stream):
    return list(frames(stream))


BAD = [
    ("another request", [(OPEN, 1, "forwarded-tcp", {**TCP, "request": 7}, 1000)]),
    ("another kind", [(OPEN, 1, "forwarded-unix", {"request": 1}, 1000)]),
    ("an agent", [(OPEN, 1, "agent", {"session": 2}, 1000)]),
    ("an even number", [(OPEN, 100, "forwarded-tcp", TCP, 1000)]),
    ("too much credit", [(OPEN, 1, "forwarded-tcp", TCP, (1 << 32) - 1)]),
    ("data at once", [(OPEN, 1, "forwarded-tcp", TCP, 1000), (DATA, 1, 0, b"x")]),
    ("a number again", [(OPEN, 3, "forwarded-tcp", TCP, 1000), (OPEN, 1, "forwarded-tcp", TCP, 1000)]),
    ("a channel that is not", [(DATA, 5, 0, b"x")]),
    ("its own answer", [(OPEN, 1, "forwarded-tcp", TCP, 1000), (OPENED, 1, 1000, {})]),
    ("LISTENING twice", [(LISTENING, 0, 1, 1234)]),
    ("LISTENING unasked", [(LISTENING, 0, 9, 1234)]),
    ("UNLISTENED unasked", [(UNLISTENED, 0, 1)]),
    ("LISTEN", [(LISTEN, 0, 1, "tcp", b"localhost", 5)]),
    ("a long originator", [(OPEN, 1, "forwarded-tcp", {**TCP, "originator_host": b"x" * 300}, 1000)]),
]


@pytest.mark.parametrize("what", [name for name, _ in BAD])
def test_nonsense_ends_the_stream(faulty, what):
    def behave(stream):
        start(stream)
        # In one piece: the client's own answer must not come between.
        stream.send_bytes(b"".join(encode(*frame) for frame in dict(BAD)[what]))
        return ends(stream)

    result, _ = play(faulty, behave)
    assert result.status == 255 and "broke the protocol" in result.err, result
    assert faulty.serves()


@pytest.mark.parametrize("port", [0, 4321, 65536 + 1234])
def test_wrong_port(faulty, port):
    def behave(stream):
        for frame in frames(stream):
            if frame[0] == LISTEN:
                stream.send(LISTENING, 0, frame[2], port)
        return True

    result, _ = play(faulty, behave)
    assert result.status != 0 and "remote port forwarding failed" in result.err, result


def test_connection_before_it_listens(faulty):
    def behave(stream):
        start(stream, listen=False)
        stream.send(OPEN, 1, "forwarded-tcp", TCP, 1000)
        return ends(stream)

    result, _ = play(faulty, behave)
    assert result.status != 0 and "remote port forwarding failed" in result.err, result


def test_refusal_is_cleaned(faulty):
    """What procd says reaches ssh -v without what would steer a terminal, and the session goes on."""

    def behave(stream):
        number, is_refused = None, False
        for frame in frames(stream):  # the two come in any order
            if frame[0] == LISTEN:
                stream.send(LISTEN_REFUSED, 0, frame[2], "denied", "no\x1b[31m\r\nfake")
                is_refused = True
            elif frame[0] == OPEN:
                number = frame[1]
                stream.send(OPENED, number, 1 << 16, {})
            if number and is_refused:
                finish(stream, number)
                return True
        return False

    result, seen = play(faulty, behave)
    assert seen and result.status == 0, result
    assert "Remote: ringgate: remote port forwarding: no?[31m??fake" in result.err, result


def test_flood_of_connections(faulty):
    """Only so many wait for the client; each of the others is refused, in order, and he is served."""
    count = 2000

    def behave(stream):
        number = start(stream)
        for i in range(count):
            stream.send(OPEN, 2 * i + 1, "forwarded-tcp", TCP, 1000)
        refused, codes = set(), set()
        for frame in frames(stream):
            if frame[0] == REFUSED:
                refused.add(frame[1])
                codes.add(frame[2])
            if len(refused) == count:
                break
        stream.send(DATA, number, 0, b"served\n")
        finish(stream, number)
        return refused, codes

    # Nobody listens at the user's port 9: what he is asked for he refuses.
    result, (refused, codes) = play(faulty, behave)
    assert result.status == 0 and result.stdout == b"served\n", result
    assert len(refused) == count and codes <= {"too-many-channels", "unreachable"}, codes
    assert "unreachable" in codes


def test_connections_that_are_taken_back(faulty):
    """CLOSE before the client has agreed is answered, and the session goes on."""

    def behave(stream):
        number = start(stream)
        answers = []
        for i in range(20):
            stream.send(OPEN, 2 * i + 1, "forwarded-tcp", TCP, 1000)
            stream.send(CLOSE, 2 * i + 1)
        for frame in frames(stream):
            if frame[1] % 2 == 1:
                answers.append(frame[0])
            if answers.count(REFUSED) == 20:
                break
        finish(stream, number)
        return answers

    result, answers = play(faulty, behave)
    assert result.status == 0 and answers.count(REFUSED) == 20, (result, answers)


# --- agents ---


@pytest.fixture
def agent():
    """The environment of a user whose agent knows nothing, says hello, and counts connections."""
    with tempfile.TemporaryDirectory(prefix="ringgate-") as folder:
        server = forwards.Server(forwards.idle_agent, f"{folder}/agent")
        server.env = {**os.environ, "SSH_AUTH_SOCK": f"{folder}/agent"}
        yield server
        server.close()


def play_agent(region, behave, agent, *flags):
    return play(region, behave, *flags, env=agent.env, opts=("IdentityAgent=SSH_AUTH_SOCK",))


def answer(stream, number):
    """What comes of an OPEN of procd's own."""
    for frame in frames(stream):
        if frame[1] == number and frame[0] in (OPENED, REFUSED):
            return frame
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("flags", [("-a",), ("-A",)])
def test_agent_unasked(faulty, agent, flags):
    """Not for a client that offers none: the stream ends. Nor for a session that is none, or not yet."""

    def behave(stream):
        if flags == ("-a",):
            number = start(stream)
            stream.send(OPEN, 1, "agent", {"session": number}, 1000)
            return ends(stream)
        for frame in frames(stream):
            if frame[0] == LISTEN:
                stream.send(LISTENING, 0, frame[2], 1234)
            elif frame[0] == OPEN:
                break
        number = frame[1]
        assert frame[3].get("agent") is True, frame
        seen = []
        # Before its OPENED, and for what no session is.
        for one, session in ((1, number), (3, 0), (5, number + 2), (7, 5), (9, 1 << 31)):
            if one == 3:
                stream.send(OPENED, number, 1 << 16, {})
            stream.send(OPEN, one, "agent", {"session": session} if session else {}, 1000)
            seen.append(answer(stream, one)[:3])
        assert seen == [[REFUSED, one, "denied"] for one in (1, 3, 5, 7, 9)], seen
        stream.send(OPEN, 11, "agent", {"session": number}, 1000)
        assert answer(stream, 11)[0] == OPENED
        finish(stream, number)
        return True

    result, _ = play_agent(faulty, behave, agent, *flags)
    if flags == ("-a",):
        assert result.status == 255 and "broke the protocol" in result.err, result
        assert "auth-agent@openssh.com" not in result.err, result
    else:
        assert result.status == 0 and result.err.count("ctype auth-agent@openssh.com") == 1, result
    assert faulty.serves()


def test_agent_is_not_kept(faulty, agent):
    """The session is over: the gateway ends what was open to its agent, and opens no more."""

    def behave(stream):
        number = start(stream)
        stream.send(OPEN, 1, "agent", {"session": number}, 1000)
        assert answer(stream, 1)[0] == OPENED
        stream.send(EXIT, number, 0)
        stream.send(CLOSE, number)
        stream.send(OPEN, 5, "agent", {"session": number}, 1000)
        assert answer(stream, 5)[:3] == [REFUSED, 5, "denied"]
        # The agent's own channel, as the gateway ends it.
        return any(f[0] == CLOSE and f[1] == 1 for f in stream.frames) or any(
            f[0] == CLOSE and f[1] == 1 for f in frames(stream))

    result, ended = play_agent(faulty, behave, agent, "-A")
    assert result.status == 0 and ended, result


def test_agent_flood(faulty, agent):
    """Only so many at one time; the others are refused in order, and the session is served."""
    count = 500

    def behave(stream):
        number = start(stream)
        for i in range(count):
            stream.send(OPEN, 2 * i + 1, "agent", {"session": number}, 1000)
        opened, refused = set(), set()
        for frame in frames(stream):
            if frame[0] == OPENED:
                opened.add(frame[1])
            elif frame[0] == REFUSED:
                assert frame[2] == "too-many-channels", frame
                refused.add(frame[1])
            if len(opened) + len(refused) == count:
                break
        stream.send(DATA, number, 0, b"served\n")
        finish(stream, number)
        return opened, refused

    result, (opened, refused) = play_agent(faulty, behave, agent, "-A")
    assert result.status == 0 and result.stdout == b"served\n", result
    assert len(opened) == AGENTS_MAX and not opened & refused, opened
    assert agent.peak <= AGENTS_MAX + 1


# --- places of what listens ---


def test_cancelled_one_gives_its_place_back(faulty):
    """At once, though procd has not said that it ended; but not without end."""
    counts = {"listen": 0, "unlisten": 0}

    def behave(stream, _procd):
        for frame in frames(stream, 60):
            if frame[0] == LISTEN:
                counts["listen"] += 1
                stream.send(LISTENING, 0, frame[2], 20000 + counts["listen"])
            elif frame[0] == UNLISTEN:
                counts["unlisten"] += 1  # and never a word

    async def go(region, box):
        async with aconnect(region, box) as connection:
            async def listen(port):
                return await connection.forward_remote_port("", port, "127.0.0.1", 9)

            live = [await listen(0) for _ in range(LISTEN_MAX)]
            with pytest.raises(asyncssh.ChannelListenError):
                await listen(0)
            async def cancel(one):
                one.close()
                await one.wait_closed()

            for _ in range(KNOWN_MAX - LISTEN_MAX):
                await cancel(live.pop(0))
                live.append(await listen(0))
            await cancel(live.pop(0))
            with pytest.raises(asyncssh.ChannelListenError):
                await listen(0)

    with FakeProcd(behave) as procd:
        with sandbox_at(faulty, procd) as box:
            aclient_finish(go(faulty, box), 60)
    assert counts == {"listen": KNOWN_MAX, "unlisten": KNOWN_MAX - LISTEN_MAX + 1}, counts


# --- the real procd before a gateway of the test's own ---


@pytest.fixture(scope="module")
def program(bin_dir):
    return f"{bin_dir}/procd"


@pytest.fixture(scope="module")
def gateway(program, tmp_path_factory):
    one = Server(program, tmp_path_factory.mktemp("procd"))
    with one.gateway() as opened:
        opened.seen = []
        forward = opened.on_frame

        def on_frame(frame):
            opened.seen.append(frame)
            if frame[0] == OPEN or (frame[1] % 2 == 1 and frame[0] != OPENED):
                return None
            return forward(frame)

        opened.on_frame = on_frame
        yield opened
    one.stop()


def wait_for(gateway, kind, count=1):
    def enough():
        return sum(frame[0] == kind for frame in gateway.seen) >= count

    gateway.pump_until(enough)
    return [frame for frame in gateway.seen if frame[0] == kind]


def test_procd_offers_so_many(gateway):
    """Connections beyond those wait in the kernel; each answer lets one more in. Odd numbers, growing."""
    gateway.send(LISTEN, 0, 1, "tcp", b"localhost", 0)
    port = wait_for(gateway, LISTENING)[0][3]
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(ASKED_MAX + 10)]
    offers = wait_for(gateway, OPEN, ASKED_MAX)
    gateway.pump(0.3)
    assert len(wait_for(gateway, OPEN)) == ASKED_MAX
    assert all(one[2] == "forwarded-tcp" and one[3]["request"] == 1 for one in offers)
    for one in offers[:10]:
        gateway.send(REFUSED, one[1], "denied", "not now")
    numbers = [one[1] for one in wait_for(gateway, OPEN, ASKED_MAX + 10)]
    assert numbers == list(range(1, 2 * (ASKED_MAX + 10), 2))
    accepted = numbers[20]
    gateway.send(OPENED, accepted, 5, {})
    ours = next(c for c, n in zip(clients, numbers) if n == accepted)
    ours.sendall(b"more than the credit")
    gateway.pump_until(lambda: any(f[0] == DATA and f[1] == accepted for f in gateway.seen))
    assert [f[3] for f in gateway.seen if f[0] == DATA and f[1] == accepted] == [b"more "]
    gateway.send(DATA, accepted, 0, b"hello")
    assert ours.recv(10) == b"hello"
    gateway.send(UNLISTEN, 0, 1)
    wait_for(gateway, UNLISTENED)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    gateway.send(UNLISTEN, 0, 99)
    assert wait_for(gateway, UNLISTENED, 2)[1][2] == 99
    for c in clients:
        c.close()


@pytest.mark.parametrize("bad", [
    (OPENED, 1, 5, {}), (REFUSED, 1, "denied", ""), (DATA, 1, 0, b"x"), (OPEN, 1, "shell", {}, 5),
    (LISTENING, 0, 1, 5)])
def test_gateway_that_lies(program, tmp_path, bad):
    """About channels that procd never opened: the stream ends, procd serves on."""
    one = Server(program, tmp_path)
    try:
        with one.gateway() as gateway:
            gateway.send(*bad)
            assert gateway.wait_end() is not None
        with one.gateway() as gateway:
            assert gateway.run("echo on").out == b"on\n"
    finally:
        one.stop()
