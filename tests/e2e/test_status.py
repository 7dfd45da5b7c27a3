"""`ringgate status` and the socket behind it."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time

import pytest

from fake_region import FakeRegion
from regions import run
from terminal import Terminal
from waiting import stays_true, wait_until

pytestmark = pytest.mark.gateway

ASKER_S = 2  # ADMIN_ASKER_MS


def status_argv(region, *arguments):
    return [os.path.join(region.bin_dir, "ringgate"), "status", *arguments]


def admin_path(region):
    return os.path.join(region.state, "admin")


def kernel():
    return tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])


def counts(region):
    return json.loads(run(status_argv(region, "--json", "--config", region.info["config"])).ok().stdout)


def test_lines(region):
    out = run(status_argv(region, "--config", region.info["config"])).ok().out
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert set(lines) == {"gateway", "sessions", "logins", "workers", "handshakes", "directory"}
    assert lines["directory"] == "kind file"
    assert re.search(rf"\bpid {region.gateway_pid},", lines["gateway"])


def at_rest(region):
    """What it counts, where no session begins or ends for a while; else None."""
    one = counts(region)
    return one if stays_true(lambda: counts(region)["sessions"] == one["sessions"], 0.3) else None


def test_it_counts(region):
    before = wait_until(lambda: at_rest(region), "the end of other tests' sessions")
    region.ssh("true").ok()
    with Terminal(region.ssh_argv(flags=("-tt",))):
        wait_until(lambda: counts(region)["sessions"]["live"] == before["sessions"]["live"] + 1, "a live session")
    wait_until(lambda: counts(region)["sessions"]["live"] == before["sessions"]["live"], "its end")
    after = counts(region)
    assert after["logins"]["good"] >= before["logins"]["good"] + 2
    assert after["sessions"]["ended"] >= before["sessions"]["ended"] + 2


def test_it_counts_what_the_rings_do(region):
    """A download's bytes come in from procd and go out to the client, and each is copied at least once."""
    size = 3_000_000
    before = counts(region)
    assert len(region.ssh(f"head -c {size} /dev/zero").ok().stdout) == size
    after = counts(region)
    workers = {name: after["workers"][name] - value for name, value in before["workers"].items()}
    for name in ("recv_bytes", "send_bytes", "copied_bytes"):
        assert size <= workers[name] < 2 * size, (name, workers)
    # The login's bytes are the handshake thread's; the session came as a mail.
    assert after["handshakes"]["accepts"] > before["handshakes"]["accepts"]
    assert 1 <= workers["mails"]
    assert 0 < workers["sends"] <= workers["completions"] and 0 < workers["recvs"] <= workers["completions"]
    assert 0 < workers["enters"]


def test_it_counts_what_was_gathered(region):
    """A command's bulk input comes a packet at a time: some waits of the worker are for several."""
    before = counts(region)
    region.ssh("cat >/dev/null", input=bytes(32_000_000)).ok()
    after = counts(region)
    gathers = after["workers"]["gathers"] - before["workers"]["gathers"]
    assert gathers <= after["workers"]["enters"] - before["workers"]["enters"]
    assert after["handshakes"]["gathers"] == 0  # nobody has a channel there
    if kernel() < (6, 12):
        assert gathers == 0
    else:
        assert gathers > 0
    line = next(line for line in run(status_argv(region, "--config", region.info["config"])).ok().out.splitlines()
                if line.startswith("workers"))
    assert re.search(r"\bgathers \d+,", line), line


def test_socket_is_its_owners(region):
    mode = os.stat(admin_path(region)).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("request_bytes", [b"", b"\n", b"status", b"stop\n", b"x" * 1000, b"status\0\n"])
def test_other_requests_get_nothing(region, request_bytes):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(admin_path(region))
        s.settimeout(10)
        try:
            s.sendall(request_bytes)
            s.shutdown(socket.SHUT_WR)
            assert s.recv(100) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
    counts(region)


def test_who_says_nothing_holds_nobody_up_for_long(region):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(admin_path(region))
        started = time.monotonic()
        counts(region)
        assert time.monotonic() - started < ASKER_S + 5
        assert region.serves()


def test_wrong_usage(region):
    for arguments in ((), ("--socket",), ("--nonsense",), ("--socket", "x", "more")):
        assert run(status_argv(region, *arguments)).status == 2
    assert run(status_argv(region, "--socket", "/none/such")).status == 1
    assert run(status_argv(region, "--socket", region.info["config"])).status == 1


@pytest.fixture
def fake_region(bin_dir):
    with FakeRegion(bin_dir) as one:
        yield one


def test_a_leftover_is_replaced(fake_region):
    os.kill(fake_region.gateway_pid, signal.SIGKILL)
    fake_region.process.wait()
    fake_region.output.close()
    FakeRegion.live.remove(fake_region)
    assert os.path.exists(admin_path(fake_region))
    os.unlink(fake_region.path("ready.json"))
    fake_region.start_gateway()
    assert fake_region.counts()["gateway"]["pid"] == fake_region.gateway_pid


def test_a_socket_in_use_is_an_error(fake_region):
    argv = [os.path.join(fake_region.bin_dir, "ringgate")]
    for setting in fake_region.gateway_settings():
        argv += ["--set", setting]
    result = run(argv)
    assert result.status == 1 and "another gateway answers there" in result.err, result
    assert fake_region.counts()["gateway"]["pid"] == fake_region.gateway_pid


def test_it_ends_with_the_gateway(fake_region):
    """An asker that is being served does not hold up the end."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(admin_path(fake_region))
        started = time.monotonic()
        fake_region.process.terminate()
        fake_region.process.wait(10)
        assert time.monotonic() - started < 5
    assert not os.path.exists(admin_path(fake_region))


def test_many_askers(region):
    """One after another, each is answered."""
    results = []
    threads = [threading.Thread(target=lambda: results.append(
        subprocess.run(status_argv(region, "--json", "--config", region.info["config"]), timeout=30,
                       stdout=subprocess.PIPE, check=False))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.returncode for r in results] == [0] * 8
    assert all(json.loads(r.stdout)["gateway"]["pid"] == region.gateway_pid for r in results)
