"""Access that is withdrawn while somebody works: the directory file is changed under live sessions."""

import os
import signal
import subprocess
import time

import paramiko
import pytest

from keys import Ed25519
from regions import end_with_us
from terminal import Terminal
from waiting import pids_running, stays_true, wait_until

pytestmark = pytest.mark.gateway

FAREWELL = "access to this sandbox has been withdrawn"
LIMIT_S = 2.0  # directory_check_s is 1


class Client:
    """ssh that runs `cat`, with something of its own in the sandbox; live when `starts` has returned."""

    def __init__(self, region, **how):
        self.token = f"{50000 + int.from_bytes(os.urandom(2), 'big')}.{os.getpid()}"
        self.process = subprocess.Popen(
            region.ssh_argv(f"sleep {self.token} & echo in; cat", **how),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, preexec_fn=end_with_us)

    def starts(self):
        assert self.process.stdout.readline() == b"in\n", self.process.stderr.read()
        return self

    def is_live(self):
        if self.process.poll() is not None:
            return False
        self.process.stdin.write(b"x\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == b"x\n"

    def ends(self, seconds):
        """(status, stderr); the sandbox's side is gone, too."""
        status = self.process.wait(seconds)
        wait_until(lambda: not pids_running("sleep", self.token), "the hang-up of what it ran")
        return status, self.process.stderr.read().decode()

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def clients():
    started = []

    def start(region, **how):
        started.append(Client(region, **how))
        return started[-1].starts()

    yield start
    for client in started:
        client.kill()


@pytest.fixture
def guest(new_region, tmp_path):
    """A region with a second user, in the same team; (region, identity file)."""
    region = new_region(sandboxes=2)
    key = Ed25519()
    identity = key.write(tmp_path / "guest")
    region.change_directory(lambda text: text.replace(
        "sandboxes:\n", f"  - id: u-guest\n    teams: [t-local]\n    keys:\n      - \"{key.line}\"\n"
        "sandboxes:\n"))
    return region, identity


def without_key(text):
    head, _, tail = text.partition("  - id: u-guest\n")
    return head + "  - id: u-guest\n    teams: [t-local]\n    keys: []\n" + tail[tail.index("sandboxes:\n"):]


def without_team(text):
    return text.replace("  - id: u-guest\n    teams: [t-local]\n", "  - id: u-guest\n    teams: [t-other]\n")


def without_user(text):
    head, _, tail = text.partition("  - id: u-guest\n")
    return head + tail[tail.index("sandboxes:\n"):]


def of_somebody_else(text):
    return text.replace("  - id: u-guest\n", "  - id: u-heir\n")


@pytest.mark.parametrize("change", [without_key, without_team, without_user, of_somebody_else])
def test_user(guest, clients, change):
    """He is out within two seconds, told why, and what he ran is hung up; the other user works on."""
    region, identity = guest
    his = [clients(region, identity=identity), clients(region, identity=identity, box=region.sandboxes[1])]
    other = clients(region)
    region.edit_directory(change)
    begun = time.monotonic()
    for client in his:
        status, words = client.ends(LIMIT_S - (time.monotonic() - begun))
        assert status == 255
        assert f"Received disconnect from {region.host}" in words and FAREWELL in words, words
    assert other.is_live()
    if change is not of_somebody_else:
        assert "Permission denied" in region.ssh("true", identity=identity).err
    log = region.gateway_log()
    assert log.count("event=withdrawn") == 2 and f'reason="{FAREWELL}"' in log, log[-2000:]


def test_sandbox(guest, clients):
    region, _ = guest
    here, there = clients(region), clients(region, box=region.sandboxes[1])
    region.edit_directory(lambda text: text.replace(
        f"  - id: {region.sandboxes[1]}\n    team: t-local\n",
        f"  - id: {region.sandboxes[1]}\n    team: t-other\n"))
    status, words = there.ends(LIMIT_S)
    assert status == 255 and FAREWELL in words
    assert here.is_live()


def test_terminal(guest):
    region, identity = guest
    terminal = Terminal(region.ssh_argv(identity=identity))
    try:
        terminal.send("echo re''ady\r")
        terminal.expect("ready")
        region.edit_directory(without_key)
        begun = time.monotonic()
        terminal.expect(FAREWELL, LIMIT_S)
        assert terminal.wait() == 255
        assert time.monotonic() - begun < LIMIT_S
    finally:
        terminal.close()


def test_connection_without_a_channel(guest, tmp_path):
    """ssh -N: there is no procd stream to end."""
    region, identity = guest
    offset = region.log_size()
    client = subprocess.Popen(region.ssh_argv(flags=("-N",), identity=identity),
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=end_with_us)
    try:
        wait_until(lambda: "result=accepted" in region.log_since(offset), "the login")
        region.edit_directory(without_key)
        assert client.wait(LIMIT_S) == 255
        assert FAREWELL in client.stderr.read().decode()
    finally:
        client.kill()
        client.wait()
        client.stderr.close()


def test_stopped_client(guest, clients):
    """One that reads nothing is cut off all the same, with what it runs."""
    region, identity = guest
    client = clients(region, identity=identity)
    os.kill(client.process.pid, signal.SIGSTOP)
    try:
        region.edit_directory(without_key)
        wait_until(lambda: not pids_running("sleep", client.token), "the hang-up", LIMIT_S)
        wait_until(lambda: "event=end" in region.gateway_log(), "the session's end", 10)
    finally:
        os.kill(client.process.pid, signal.SIGCONT)


def test_unrelated_changes_end_nobody(guest, clients):
    region, identity = guest
    one, two = clients(region), clients(region, identity=identity)
    key = Ed25519()
    for change in (
            lambda text: text + "# a remark\n",
            lambda text: text.replace("sandboxes:\n", "  - id: u-third\n    teams: [t-local]\n    keys:\n"
                                      f"      - \"{key.line}\"\nsandboxes:\n"),
            lambda text: text + "  - id: rs-elsewhere\n    team: t-other\n    procd: 127.0.0.1:9\n",
            # It moved: the stream that is there is as good as before.
            lambda text: text.replace("    teams: [t-local]\n", "    teams: [t-other, t-local]\n")):
        region.change_directory(change)
        assert one.is_live() and two.is_live()
    # A file that is wrong says nothing about anybody.
    offset = region.log_size()
    region.edit_directory(lambda text: "nonsense: 1\n")
    wait_until(lambda: "kept the old content" in region.log_since(offset), "the error's line")
    assert stays_true(lambda: one.is_live() and two.is_live(), 1)
    assert "event=withdrawn" not in region.gateway_log()


def test_words_on_the_channel(guest):
    """OpenSSH shows the disconnect's text alone; a client that has the channel gets it there, and no exit status."""
    region, identity = guest
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(region.host, region.port, region.box, key_filename=identity, allow_agent=False,
                   look_for_keys=False)
    try:
        _, out, err = client.exec_command("echo in; cat")
        assert out.readline() == "in\n"
        region.edit_directory(without_key)
        assert err.read() == f"ringgate: {FAREWELL}\r\n".encode()
        assert out.channel.recv_exit_status() == -1
    finally:
        client.close()


def test_many_at_once(guest, clients):
    """A hundred sessions of one key go, those of the other stay."""
    region, identity = guest
    theirs = [clients(region, identity=identity, box=region.sandboxes[i % 2]) for i in range(100)]
    others = [clients(region, box=box) for box in region.sandboxes]
    region.edit_directory(without_key)
    wait_until(lambda: region.gateway_log().count("event=withdrawn") == 100, "all ends", LIMIT_S)
    assert all(client.process.wait(10) == 255 for client in theirs)
    assert all(client.is_live() for client in others)
