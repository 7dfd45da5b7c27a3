"""A paused sandbox is woken up by who comes: what he sees, what he does not, and how often it is asked for."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import time

import asyncssh
import pytest

from aclient import connect as connect_async, finish
from fake_region import FakeRegion
from keys import Ed25519
from regions import end_with_us, run
from terminal import Terminal
from waiting import descendants, free_port, stays_true, wait_until

pytestmark = pytest.mark.gateway

BOX = "rs-one"
TOLD = re.compile(r"sandbox rs-one is waking up \((\d+) s\)…")
DATA = os.urandom(1 << 20)


@pytest.fixture
def sleeper(bin_dir, is_standin):
    """sleeper(settings...): a region whose one sandbox is paused, as by a driver that stops its processes."""
    started = []

    def start(*settings, wake_s=2, is_paused=True):
        region = FakeRegion(bin_dir, settings).start()
        started.append(region)
        region.control.boxes[BOX].wake_s = wake_s
        if is_paused:
            pause(region)
        return region

    yield start
    for region in started:
        signal_all(region, signal.SIGCONT)
        region.stop()


def signal_all(region, number):
    for procd in region.more_procds:
        if procd.process is None:
            continue
        for pid in [procd.pid] + descendants(procd.pid):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def pause(region, **how):
    signal_all(region, signal.SIGSTOP)
    region.control.pause(BOX, lambda: signal_all(region, signal.SIGCONT), **how)


def move(region, **how):
    """Paused without its processes: it comes back with others, elsewhere."""
    region.procds[BOX].stop()
    # Of this thread: whoever starts one takes it along when it ends.
    elsewhere = region.new_procd(BOX)
    region.control.pause(BOX, lambda: elsewhere, **how)


def box(region):
    return region.control.boxes[BOX]


def box_calls(region, *, waits=None):
    """Queries for the sandbox: all, those that wait, or those that do not."""
    with region.control.lock:
        found = [query for kind, _, query, _ in region.control.requests if kind == "boxes"]
    return [q for q in found if waits is None or ("wait" in q) == waits]


def waits(region):
    """For how long each question would have waited. Where the news that it runs overtook the answer, that was
    asked for once more, in the time left: not counted."""
    found = [int(query["wait"]) for query in box_calls(region, waits=True)]
    return found[:-1] if len(found) > 1 and found[-1] < found[-2] else found


# ---- what the user sees ------------------------------------------------------------


def test_exec(sleeper):
    """One line on stderr, and nothing else anywhere; what was typed meanwhile is there."""
    region = sleeper()
    result = region.ssh("cat; echo of-stderr >&2", input=DATA, timeout=30).ok()
    assert result.stdout == DATA
    assert re.fullmatch(TOLD.pattern + r"\nof-stderr\n", result.err), result
    assert box(region).wake_count == 1


def test_quick_one_is_no_news(sleeper):
    region = sleeper(wake_s=0.1)
    result = region.ssh("echo in", timeout=30).ok()
    assert result.stdout == b"in\n" and result.err == "", result
    assert box(region).wake_count == 1


def test_terminal(sleeper):
    """The line is written over each second, and is gone when the program starts."""
    region = sleeper(wake_s=3)
    terminal = Terminal(region.ssh_argv("echo st''arted; tty", flags=("-tt",)))
    try:
        for seconds in (b"1", b"2", b"3"):
            terminal.expect(rb"\rsandbox rs-one is waking up \(" + seconds + rb" s\)\xe2\x80\xa6")
        terminal.expect("started\r\n")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    text = terminal.text.decode()
    assert "\n" not in text.partition("started")[0], text  # always the same line
    # A client that gets both at once may write the program's output first: see the next test.
    assert re.search(r"\r {34,}\r", text.rpartition("…")[2]), text


class Pieces(asyncssh.SSHClientSession):
    """What came, and for which stream, in the order in which it came."""

    def __init__(self):
        self.all = []

    def data_received(self, data, datatype):
        self.all.append((datatype == asyncssh.EXTENDED_DATA_STDERR, data))


def test_line_is_gone_before_the_program_writes(sleeper):
    region = sleeper(wake_s=2.5)

    async def work():
        async with connect_async(region) as connection:
            channel, pieces = await connection.create_session(
                Pieces, "echo started", term_type="xterm", term_size=(80, 24))
            await channel.wait_closed()
            return pieces.all

    pieces = finish(work(), 30)
    streams = [is_stderr for is_stderr, _ in pieces]
    assert streams == sorted(streams, reverse=True) and set(streams) == {True, False}, pieces
    told = "".join(data for is_stderr, data in pieces if is_stderr)
    assert re.fullmatch("(\r" + TOLD.pattern + r"){2,}\r {34,}\r", told), pieces
    assert "".join(data for is_stderr, data in pieces if not is_stderr) == "started\r\n"


def test_narrow_terminal(sleeper):
    """A line that would be folded is told once."""
    region = sleeper(wake_s=2.5)
    terminal = Terminal(region.ssh_argv("echo st''arted", flags=("-tt",)), columns=20)
    try:
        terminal.expect("started")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert len(TOLD.findall(terminal.text.decode())) == 1


def test_shell_gets_what_was_typed(sleeper):
    region = sleeper(wake_s=1.5)
    terminal = Terminal(region.ssh_argv())
    try:
        terminal.send("echo ty''ped; exit 5\r")
        terminal.expect(TOLD.pattern)
        terminal.expect("typed")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_scp_and_sftp(sleeper, tmp_path):
    region = sleeper()
    (tmp_path / "up").write_bytes(DATA)
    result = region.scp(str(tmp_path / "up"), region.remote("there")).ok()
    assert TOLD.search(result.err) and result.stdout == b"", result
    pause(region)
    region.scp(region.remote("there"), str(tmp_path / "down")).ok()
    assert (tmp_path / "down").read_bytes() == DATA
    pause(region)
    listing = region.sftp("ls -l there\n").ok()
    assert str(len(DATA)) in listing.out and TOLD.search(listing.err)
    assert box(region).wake_count == 3


def test_forward(sleeper):
    """A direct-tcpip channel waits like any other, and is told nothing."""
    region = sleeper()
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = subprocess.Popen(
            region.ssh_argv(flags=("-N", "-L", f"{port}:localhost:{server.getsockname()[1]}")),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=end_with_us)
        try:
            with wait_until(lambda: connect(port), "the forward's port") as one:
                one.sendall(b"early")
                server.settimeout(20)
                other, _ = server.accept()
                with other:
                    assert other.recv(5) == b"early"
        finally:
            client.terminate()
            client.wait()
            assert client.stderr.read() == b""
            client.stderr.close()
    assert box(region).wake_count == 1


def connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port))
    except OSError:
        return None


# ---- how often it is asked for ---------------------------------------------------------


def start(region, *command, **how):
    return subprocess.Popen(region.ssh_argv(*command, **how), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_us)


def test_fifty_at_once(sleeper):
    """Exactly one resume, and few questions: who asks the same thing shares the answer."""
    region = sleeper(wake_s=8)
    clients = [start(region, f"echo {i}") for i in range(50)]
    for i, client in enumerate(clients):
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0 and out == b"%d\n" % i, err
    assert box(region).wake_count == 1
    assert len(box_calls(region, waits=True)) < 50


def test_fifty_channels_of_one_connection(sleeper, tmp_path):
    region = sleeper(wake_s=3)
    path = f"ControlPath={tmp_path}/mux"
    master = start(region, flags=("-N",), opts=("ControlMaster=yes", path))
    try:
        wait_until(lambda: os.path.exists(tmp_path / "mux"), "the master")
        clients = [start(region, f"echo {i}", opts=(path,)) for i in range(50)]
        for i, client in enumerate(clients):
            out, err = client.communicate(timeout=60)
            assert client.returncode == 0 and out == b"%d\n" % i, err
    finally:
        master.terminate()
        master.communicate()
    assert box(region).wake_count == 1
    assert len(waits(region)) == 1, box_calls(region)


def test_twenty_seconds(sleeper):
    """Longer than an answer is held back: asked again, and told to nobody twice."""
    region = sleeper("session.resume_poll_s=6", wake_s=20)
    begun = time.monotonic()
    result = region.ssh("echo in", timeout=60).ok()
    assert result.stdout == b"in\n" and len(TOLD.findall(result.err)) == 1
    assert 20 <= time.monotonic() - begun < 23
    assert box(region).wake_count == 1 and waits(region) == [6] * 4, box_calls(region)


def test_control_plane_that_does_not_wait(sleeper):
    """Answers come at once whatever is asked: then twice a second is enough."""
    region = sleeper(wake_s=3)
    box(region).holds = False
    assert region.ssh("echo in", timeout=30).ok().stdout == b"in\n"
    assert 3 <= len(box_calls(region, waits=True)) <= 8


def test_a_probe_wakes_nothing(sleeper, tmp_path):
    """Whoever has only the public half."""
    region = sleeper(wake_s=0)
    public = tmp_path / "id.pub"
    public.write_text(region.control.lines[region.fingerprint] + "\n")
    offset = region.log_size()
    result = region.ssh("true", identity=str(public))
    assert result.status == 255 and "Permission denied" in result.err
    wait_until(lambda: "event=end" in region.log_since(offset), "its end")
    with region.control.lock:
        kinds = [kind for kind, *_ in region.control.requests if kind != "changes"]
    assert kinds and set(kinds) == {"keys"} and box(region).state == "paused"


# ---- it does not wake up ------------------------------------------------------------


def test_resume_fails(sleeper):
    region = sleeper(wake_s=1)
    box(region).wake_fails = "no room for it\033[2J"
    result = region.ssh("echo in", timeout=30)
    assert result.status == 254 and result.stdout == b""
    assert "ringgate: the sandbox cannot be reached: no room for it" in result.err
    assert "\033" not in result.err
    # The connection is no worse for it: what is asked for later works.
    box(region).wake_fails = None
    pause(region)
    assert region.ssh("echo in", timeout=30).ok().stdout == b"in\n"


def test_resume_takes_too_long(sleeper):
    region = sleeper("session.resume_timeout_s=2", wake_s=None)
    begun = time.monotonic()
    result = region.ssh("echo in", timeout=30)
    assert result.status == 254 and result.stdout == b""
    assert "ringgate: the sandbox did not wake up within 2 s" in result.err
    assert 2 <= time.monotonic() - begun < 5


def test_sftp_and_forward_are_refused(sleeper, tmp_path):
    region = sleeper("session.resume_timeout_s=1", wake_s=None)
    result = region.scp(str(tmp_path), region.remote("there"), opts=())
    assert result.status != 0 and "did not wake up within 1 s" in result.err
    result = run(region.ssh_argv(flags=("-W", "localhost:9")))
    assert result.status != 0 and "did not wake up" in result.err and "waking up (" not in result.err


def test_deleted_while_it_wakes_up(sleeper):
    region = sleeper(wake_s=None)
    client = start(region, "echo in")
    wait_until(lambda: box_calls(region, waits=True) or region.control.calls["boxes"] >= 2, "the wait")
    region.control.delete_box(BOX)
    out, err = client.communicate(timeout=10)
    assert client.returncode in (254, 255) and out == b""
    assert b"gone, or not yours any more" in err or b"has been withdrawn" in err, err


def test_key_deleted_while_it_wakes_up(sleeper):
    region = sleeper(wake_s=None)
    client = start(region, "echo in")
    wait_until(lambda: box(region).wake_count == 1, "the resume")
    wait_until(lambda: "result=waiting" in region.gateway_log(), "the wait")
    region.control.delete_key(region.fingerprint)
    out, err = client.communicate(timeout=10)
    assert client.returncode in (254, 255) and out == b""
    assert b"not yours any more" in err or b"has been withdrawn" in err, err


# ---- the user goes ------------------------------------------------------------


@pytest.mark.parametrize("how", ["killed", "interrupted", "channel closed"])
def test_user_gone_while_waiting(sleeper, tmp_path, how):
    """The wait is dropped: nobody is asked any more."""
    region = sleeper("session.resume_poll_s=1", wake_s=None)
    path = f"ControlPath={tmp_path}/mux"
    master = None
    if how == "channel closed":
        master = start(region, flags=("-N",), opts=("ControlMaster=yes", path))
        wait_until(lambda: os.path.exists(tmp_path / "mux"), "the master")
    client = start(region, "echo in", opts=(path,) if master else ())
    try:
        wait_until(lambda: len(box_calls(region, waits=True)) >= 1, "the wait")
        client.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        client.communicate(timeout=10)
        # The question that is under way is given up, too.
        wait_until(lambda: region.counts()["lookups"]["open"] == 0, "the end of questions", 3)
        asked = region.control.calls["boxes"]
        assert stays_true(lambda: region.control.calls["boxes"] == asked, 3)
        if master:
            assert master.poll() is None
    finally:
        if master:
            master.terminate()
            master.communicate()


# ---- paused under a connection ------------------------------------------------------


class Mux:
    """A connection that stays, and a `cat` over it."""

    def __init__(self, region, folder):
        self.region = region
        self.path = f"ControlPath={folder}/mux"
        self.client = subprocess.Popen(
            region.ssh_argv("echo in; cat", opts=("ControlMaster=yes", self.path)), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=end_with_us)

    def __enter__(self):
        assert self.client.stdout.readline() == b"in\n", self.client.stderr.read()
        return self

    def __exit__(self, *_):
        self.client.terminate()
        self.client.communicate()

    def ssh(self, *command):
        return self.region.ssh(*command, opts=(self.path,), timeout=40)

    def echo(self):
        self.client.stdin.write(b"x\n")
        self.client.stdin.flush()
        return self.client.stdout.readline()


def test_paused_with_its_connections(sleeper, tmp_path):
    """Its processes stand still, and go on: nothing is lost, and the next command wakes it."""
    region = sleeper(is_paused=False)
    with Mux(region, tmp_path) as mux:
        pause(region)
        result = mux.ssh("echo here").ok()
        assert result.stdout == b"here\n" and TOLD.search(result.err), result
        assert box(region).wake_count == 1
        assert mux.echo() == b"x\n"


def test_paused_without_its_connections(sleeper, tmp_path):
    """Its processes went, and come back elsewhere."""
    region = sleeper(is_paused=False)
    with Mux(region, tmp_path) as mux:
        move(region)
        assert mux.client.wait(10) != 0  # what ran there is lost, and says so
        assert "connection to the sandbox was lost" in mux.client.stderr.read().decode()
    with Mux(region, tmp_path) as mux:
        assert box(region).wake_count == 1
        assert mux.echo() == b"x\n"


def test_paused_unheard(sleeper):
    """Nobody told the gateway; its cached route leads nowhere, and asking anew wakes the sandbox."""
    region = sleeper(is_paused=False)
    region.ssh("true").ok()
    move(region, tells=False)
    result = region.ssh("echo in", timeout=30).ok()
    assert result.stdout == b"in\n" and TOLD.search(result.err), result
    assert box(region).wake_count == 1


def test_a_check_wakes_nothing(sleeper, tmp_path):
    """All live sessions are asked for again while the sandbox rests: it rests on, and nobody is sent away."""
    region = sleeper(is_paused=False)
    with Mux(region, tmp_path) as mux:
        pause(region)
        before = len([q for q in box_calls(region) if q.get("wake") == "no"])
        region.control.forget_changes()
        wait_until(lambda: len([q for q in box_calls(region) if q.get("wake") == "no"]) > before, "the check", 10)
        assert stays_true(lambda: mux.client.poll() is None, 1)
        assert box(region).state == "paused" and box(region).wake_count == 0
        assert mux.ssh("echo here").ok().stdout == b"here\n"


def test_digest_of_a_large_upload(sleeper):
    """More than the first window holds: it stands still until the sandbox is there, and is whole."""
    region = sleeper()
    data = os.urandom(16 << 20)
    result = region.ssh("sha256sum", input=data, timeout=60).ok()
    assert result.out.split()[0] == hashlib.sha256(data).hexdigest()


def test_a_stranger_wakes_nothing(sleeper, tmp_path):
    """A key of somebody else, and one that nobody has."""
    region = sleeper(wake_s=0)
    key = Ed25519()
    identity = key.write(tmp_path / "stranger")
    assert region.ssh("true", identity=identity).status == 255
    region.control.add_key(key, ("t-other", "u-other"))
    assert region.ssh("true", identity=identity).status == 255
    assert box(region).wake_count == 0 and box(region).state == "paused"
