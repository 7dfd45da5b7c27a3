"""ringbench against a region: what it counts is what happened, and what fails is said."""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import types
import xml.etree.ElementTree

import pytest

BENCH = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bench")
PIDFD_GETFD = 438  # The system call's number, the same everywhere.


@pytest.fixture(scope="module")
def ringbench(request):
    path = os.path.join(os.path.abspath(request.config.getoption("--bin")), "ringbench")
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is not there; build it first (./zigw build)")
    return path


def run(ringbench, region, scenario, *more, user=None):
    argv = [ringbench, scenario, "--address", f"{region.host}:{region.port}", "--user", user or region.box,
            "--identity", region.identity, "--json", "--quiet", "--limit", "120", *more]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)
    lines = done.stdout.splitlines()
    return done, json.loads(lines[-1]) if lines else None


def test_connect(ringbench, region):
    done, result = run(ringbench, region, "connect", "--count", "12", "--parallel", "4")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 12 and result["failed"] == 0
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]


def test_connect_at_a_rate(ringbench, region):
    done, result = run(ringbench, region, "connect", "--count", "20", "--parallel", "8", "--rate", "20")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 20 and result["failed"] == 0
    assert 0.95 <= result["seconds"] < 10  # The twentieth begins behind 950 ms, however fast the others were.


def test_late_ones_count_from_when_they_were_due(ringbench, region):
    """No coordinated omission: one at a time, all due at once, so that the last has waited for all before it."""
    done, result = run(ringbench, region, "connect", "--count", "10", "--parallel", "1", "--rate", "100000")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 10
    assert result["max_us"] > 5 * result["latencies_us"][0][1]


def test_its_packets_do_not_wait_for_acknowledgements(ringbench, region, server):
    """TCP_NODELAY: no 40 ms of Nagle's algorithm in a figure, whoever is measured."""
    is_there, is_over = threading.Event(), threading.Event()

    def handle(connection):
        connection.recv(1)
        is_there.set()
        is_over.wait(20)

    argv = [ringbench, "connect", "--address", f"127.0.0.1:{server(handle).port}", "--user", "x", "--identity", region.identity,
            "--count", "1", "--quiet"]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        assert is_there.wait(20)
        pidfd = os.pidfd_open(client.pid)
        links = {int(fd): os.readlink(f"/proc/{client.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{client.pid}/fd")}
        (number,) = [fd for fd, link in links.items() if link.startswith("socket:")]
        with socket.socket(fileno=ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, number, 0)) as theirs:
            assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        os.close(pidfd)
        is_over.set()
        client.kill()


def test_exec(ringbench, region):
    done, result = run(ringbench, region, "exec", "--count", "30", "--parallel", "2", "--command", "printf abc")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 30 and result["bytes"] == 90


@pytest.mark.parametrize("direction", ["up", "down"])
def test_bulk(ringbench, region, direction):
    done, result = run(ringbench, region, direction, "--size", "5000001", "--parallel", "3", "--path", "bench.bulk")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 3 and result["bytes"] == 3 * 5000001
    assert 0 < result["slowest_to_fastest"] <= 1
    assert not [name for name in os.listdir(region.home) if name.startswith("bench.bulk")]


def test_echo(ringbench, region):
    done, result = run(ringbench, region, "echo", "--count", "30", "--parallel", "2", "--interval-ms", "1")
    assert done.returncode == 0, done.stderr
    assert result["done"] == 60


def test_idle(ringbench, region):
    done, result = run(ringbench, region, "idle", "--count", "5", "--size", "100000", "--hold", "1")
    assert done.returncode == 0, done.stderr
    assert "resting 5" in done.stdout.splitlines()
    assert result["bytes"] == 500000


def test_a_session_that_does_not_rest_to_the_end_is_a_failure(ringbench, region):
    """Whoever takes the memory of so many sessions would divide by too many."""
    argv = [ringbench, "idle", "--address", f"{region.host}:{region.port}", "--user", region.box, "--identity", region.identity,
            "--count", "3", "--size", "1000", "--quiet", "--limit", "60"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as idle:
        assert idle.stdout.readline() == "resting 3\n"
        cats = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_cat_of(pid, region.home)]
        assert len(cats) == 3
        os.kill(int(cats[0]), signal.SIGKILL)
        assert idle.wait(60) == 1
        assert "a session" in idle.stderr.read()


def is_cat_of(pid, home):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read() == b"cat\0" and os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(home)
    except OSError:
        return False


def test_a_load_that_failed_is_no_load(request, monkeypatch, region):
    """What was measured beside it would be better than it is."""
    monkeypatch.syspath_prepend(BENCH)
    from driver import in_background
    from servers import Trouble
    options = types.SimpleNamespace(bin=os.path.abspath(request.config.getoption("--bin")))
    target = types.SimpleNamespace(host=region.host, port=region.port, users=[region.box], identity=region.identity,
                                   wait_for_rest=lambda: None)
    ringbench = os.path.join(options.bin, "ringbench")

    def meanwhile():
        done, _ = run(ringbench, region, "connect", "--count", "10", "--parallel", "1")
        assert done.returncode == 0

    argv = ("connect", "--count", "1000000", "--parallel", "10", "--rate", "50")
    with in_background(options, target, *argv):
        meanwhile()
    target.users = ["rs-nobody"]
    with pytest.raises(Trouble, match="denied"), in_background(options, target, *argv):
        meanwhile()


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("count,size,requests", [(40, 4096, 8), (3, 3_000_001, 64), (2, 0, 1)])
def test_sftp(ringbench, region, work, direction, count, size, requests):
    done, result = run(ringbench, region, f"sftp-{direction}", "--count", str(count), "--size", str(size), "--requests",
                       str(requests), "--parallel", "2", "--path", f"{work}/files")
    assert done.returncode == 0, done.stderr
    assert result["done"] == count and result["bytes"] == count * size
    assert os.listdir(os.path.join(region.home, work)) == []


def test_day(ringbench, region, work):
    done, result = run(ringbench, region, "day", "--mix", "3,2,2", "--seconds", "2", "--pause-ms", "10", "--size", "500001",
                       "--interval-ms", "5", "--path", f"{work}/day")
    assert done.returncode == 0, done.stderr
    assert result["failed"] == 0 and result["echoes"] > 0 and result["commands"] > 0 and result["copies"] > 0
    assert result["done"] == result["echoes"] + result["commands"] + result["copies"]
    assert result["bytes"] >= result["copies"] * 500001
    assert 0 < result["p50_us"] <= result["p99_us"] <= result["max_us"]
    assert os.listdir(os.path.join(region.home, work)) == []


def test_what_is_kept(ringbench, region, work):
    """Uploads stay, to be compared by whoever measures; a download finds the pattern where it was put."""
    path = os.path.join(region.home, work, "kept")
    made = subprocess.run([ringbench, "pattern", "--size", "2000003"], capture_output=True, timeout=30, check=True).stdout
    assert len(made) == 2000003
    done, result = run(ringbench, region, "up", "--size", "2000003", "--parallel", "2", "--path", path, "--keep")
    assert done.returncode == 0 and result["bytes"] == 2 * 2000003, done.stderr
    for name in (f"{path}.0", f"{path}.1"):
        with open(name, "rb") as f:
            assert f.read() == made
    done, result = run(ringbench, region, "down", "--size", "2000003", "--path", f"{path}.0", "--keep")
    assert done.returncode == 0 and result["bytes"] == 2000003, done.stderr
    with open(f"{path}.0", "r+b") as f:
        f.seek(1234567)
        f.write(b"\0\0")
    done, _ = run(ringbench, region, "down", "--size", "2000003", "--path", f"{path}.0", "--keep")
    assert done.returncode == 1 and "BYTES DIFFER" in done.stderr


def test_several_users_and_keys_take_turns(ringbench, region, work):
    """Of two users one is nobody, so every other login is denied."""
    done, result = run(ringbench, region, "connect", "--count", "10", "--parallel", "2", user=f"{region.box},rs-nobody")
    assert done.returncode == 1
    assert result["done"] == 5 and result["failed"] == 5
    keys = os.path.join(region.home, work, "keys")
    os.mkdir(keys)
    for name in ("a", "b"):
        shutil.copy(region.identity, os.path.join(keys, name))
    done, result = run(ringbench, region, "connect", "--count", "4", "--kex", "ecdh-sha2-nistp256", "--host-key", "rsa-sha2-512", "--identity",
                       keys)
    assert done.returncode == 0 and result["done"] == 4, done.stderr


def test_an_altered_file_is_a_failure(ringbench, region, work):
    """Of files that are read over SFTP: two that changed places are of the right size, and are not what was stored."""
    where = os.path.join(region.home, work, "files")
    argv = ("--count", "12", "--size", "2000", "--path", where, "--keep")
    done, _ = run(ringbench, region, "sftp-up", *argv)
    assert done.returncode == 0, done.stderr
    done, result = run(ringbench, region, "sftp-down", *argv)
    assert done.returncode == 0 and result["done"] == 12, done.stderr
    shutil.copy(f"{where}/3", f"{where}/4")
    done, _ = run(ringbench, region, "sftp-down", *argv)
    assert done.returncode == 1 and "BYTES DIFFER" in done.stderr
    os.truncate(f"{where}/4", 100)
    done, _ = run(ringbench, region, "sftp-down", *argv)
    assert done.returncode == 1 and "BYTES" in done.stderr


@pytest.mark.parametrize("scenario,more", [
    ("up", ()), ("sftp-up", ("--count", "5")), ("day", ("--mix", "0,0,1", "--seconds", "1")),
])
def test_a_lost_upload_is_a_failure(ringbench, region, work, scenario, more):
    """The sandbox swallows what it is given, without a word."""
    where = os.path.join(region.home, work)
    os.mkdir(f"{where}/f")
    for name in ("f.0", "f/0"):
        os.symlink("/dev/null", f"{where}/{name}")
    done, _ = run(ringbench, region, scenario, "--size", "100000", "--path", f"{work}/f", *more)
    assert done.returncode == 1
    assert "BYTES DIFFER" in done.stderr


def test_a_failed_command_is_a_failure(ringbench, region):
    done, result = run(ringbench, region, "connect", "--count", "2", "--command", "exit 3")
    assert done.returncode == 1
    assert result["failed"] == 2 and result["done"] == 0
    assert "another status" in done.stderr


def test_a_download_that_differs_is_a_failure(ringbench, region, work):
    """The path is shell text here, by which the sandbox appends to what was stored."""
    done, _ = run(ringbench, region, "down", "--size", "100000", "--path", f"{work}/f; echo more >>{work}/f; : x")
    assert done.returncode == 1
    assert "BYTES DIFFER" in done.stderr


def test_a_denied_login_is_a_failure(ringbench, region):
    done, _ = run(ringbench, region, "connect", "--count", "1", user="rs-nobody")
    assert done.returncode == 1
    assert "denied" in done.stderr


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_key_types(ringbench, new_region, scratch, kind):
    """The signature of each type is accepted: it is the login that a rate is taken of."""
    key = str(scratch / f"bench-{kind}")
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True, timeout=60)
    other = new_region("--authorized-key", key + ".pub", "--sandboxes", "1")
    done, result = run(ringbench, other, "connect", "--count", "3", "--identity", key)
    assert done.returncode == 0 and result["done"] == 3, done.stderr


# --- bench/compare.py and its reports ---

def compare(request, *more):
    argv = [sys.executable, os.path.join(BENCH, "compare.py"), "--bin",
            os.path.abspath(request.config.getoption("--bin")), "--repeat", "1", *more]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets nobody log in unless root started it")
@pytest.mark.skipif(not os.path.exists("/usr/sbin/sshd"), reason="no sshd on this machine to measure beside")
def test_compare(request, ringbench, tmp_path):
    """Each scenario that ringbench drives, once and small: all moves and is compared, and rows of both come out."""
    done = compare(request, "--only", "logins,commands,streams,scp-up,parallel,files,distance,day,idle", "--out", str(tmp_path),
                   "--size", "300001", "--logins", "4", "--kexes", "curve25519-sha256", "--key-types", "ed25519,rsa", "--commands", "10", "--ciphers",
                   "aes128-gcm@openssh.com", "--parallel", "2", "--parallel-size", "200K", "--files", "30",
                   "--file-size", "100", "--distance-size", "100K", "--distance-down-size", "50K", "--distance-parts", "up,down,scp down",
                   "--round-trips", "4", "--day-mix", "2,1,1",
                   "--day-seconds", "1", "--day-size", "100K", "--day-key-interval-ms", "10", "--idle-sessions", "4",
                   "--idle-sshd-sessions", "2", "--idle-bytes", "50K", "--rest", "0.4")
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads((tmp_path / "results.json").read_text())
    rows = {(row["scenario"], row["setting"], row["measure"]): row for row in found["rows"]}
    cipher = "aes128-gcm@openssh.com"
    for key in (("logins", "curve25519-sha256, host key rsa", "a second"), ("commands", "over one connection", "a second"),
                ("stream up", cipher, "MB/s"), ("stream down", cipher, "CPU s/GB, procd"), ("scp-up", cipher, "MB/s"),
                ("2 downloads at once", "0 MiB each", "fastest's time to slowest's"),
                ("files down, sftp -r", "30 of 100 bytes", "files a second"), ("distance, scp down", "4 ms round trip", "MB/s"),
                ("day", "2 shells, 1 of commands, 1 of copies", "echo p99 ms"), ("idle", "4 sessions", "RSS in KB a session, gateway")):
        assert rows[key]["ours"] > 0 and rows[key]["peer"] > 0, rows[key]
    counted = rows["stream down", cipher, "bytes copied a byte, gateway"]
    assert 0.9 < counted["ours"] < 10 and counted["peer"] is None
    assert rows["stream down", cipher, "system calls a GB, gateway"]["ours"] > 0
    assert {goal["verdict"] for goal in found["goals"]} <= {"met", "missed", "not measured"}
    assert "Goals:" in done.stdout and "gateway CPU a GB, scp and exec stream, aes128-gcm" in done.stdout
    assert found["waiting"] == [] and set(found["about"]["seconds"]) >= {"logins", "idle"}
    for name in CHARTS:
        assert xml.etree.ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")


def test_compare_finds_altered_files(monkeypatch, tmp_path):
    """What arrived is compared with what was sent, by size and by content."""
    monkeypatch.syspath_prepend(BENCH)
    from bulk import Bulk
    from measure import Altered, Base, sha256_of
    bench = type("Both", (Base, Bulk), {})(types.SimpleNamespace(size=1000), None, str(tmp_path), None, None)
    source = bench.source(1000)
    arrived = tmp_path / "arrived"
    shutil.copy(source, arrived)
    bench.check(str(arrived), source, "a copy")
    arrived.write_bytes(arrived.read_bytes()[:-1] + b"?")
    assert sha256_of(arrived) != bench.hashes[source]
    with pytest.raises(Altered, match="SHA-256 differs"):
        bench.check(str(arrived), source, "a copy")
    os.truncate(arrived, 999)
    with pytest.raises(Altered, match="999 bytes"):
        bench.check(str(arrived), source, "a copy")
    bench.hashes[bench.path("pattern-6")] = hashlib.sha256(b"abcdef").hexdigest()
    storm = tmp_path / "storm"
    storm.mkdir()
    for i, words in enumerate((b"ab", b"cd", b"ef")):
        (storm / str(i)).write_bytes(words)
    bench.check_storm(str(storm), 3, 2, "files")
    (storm / "1").write_bytes(b"ef")
    with pytest.raises(Altered):
        bench.check_storm(str(storm), 3, 2, "files")


def test_the_standard_suite_fits_in_fifty_minutes():
    """--plan says so before anything runs, and takes what is asked for."""
    def plan(*argv):
        done = subprocess.run([sys.executable, os.path.join(BENCH, "compare.py"), "--plan", *argv], capture_output=True, text=True,
                              timeout=30, check=True)
        return done.stdout
    whole = plan()
    minutes, seconds = whole.splitlines()[-1].split("|")[-2].strip().split(":")
    assert int(minutes) * 60 + int(seconds) < 50 * 60
    for words in ("| scp-up | 512 MiB by aes128-gcm | 5 |", "| 512 MiB by chacha20-poly1305 | 5 |", "| parallel | 20 × 1 GiB |",
                  "scp and exec streams of 1 GiB", "| idle | 5000 sessions (sshd: 200), 10 MiB each way | 1 |", "| 100 ms: up 512 MiB"):
        assert words in whole
    one = plan("--only", "scp-up", "--size", "8M", "--repeat", "2", "--ciphers", "aes128-ctr")
    assert "| scp-up | 8 MiB by aes128-ctr | 2 |" in one and "scp-down" not in one


def test_a_run_that_is_cut_off_keeps_what_it_did(monkeypatch, tmp_path):
    """Results are written after each scenario; one that fails, by whatever, is said and loses none of the others."""
    monkeypatch.syspath_prepend(BENCH)
    from options import parse_arguments
    from report import Report, write
    from run import run_all
    from servers import Trouble
    report = Report("ringgate", "sshd", {**ABOUT, "seconds": {}})
    options = parse_arguments(["--only", "scp-up,keys,commands,idle,day"])
    assert options.scenarios == ["scp-up", "keys", "commands", "day", "idle"]
    report.waiting = list(options.scenarios)
    happened = []

    def scp_up():
        report.add("scp-up", AES, "MB/s", [120.0] * 5, [100.0] * 5, digits=0)

    def keys():
        report.add("keys", "at rest", "p99 ms", [1.0], [1.0])
        raise KeyError("p99_us")

    def commands():
        on_disk = json.loads((tmp_path / "results.json").read_text())
        happened.append([row["scenario"] for row in on_disk["rows"]])
        raise Trouble("the server\nis gone")

    def day():
        raise KeyboardInterrupt

    bench = types.SimpleNamespace(options=options, report=report, scp_up=scp_up, keys=keys, commands=commands, day=day, repeat=0)
    with pytest.raises(KeyboardInterrupt):
        run_all(bench, lambda: write(report, str(tmp_path)), lambda: happened.append("looked"))
    assert happened == ["looked", ["scp-up", "keys"], "looked"]
    text = (tmp_path / "results.md").read_text()
    assert "| keys | | **failed** | KeyError: 'p99_us' |" in text and "| commands | | **failed** | the server is gone |" in text
    assert "not the whole run, not done or not to their end: day, idle" in text and "| scp-up | aes128-gcm | MB/s | 120 |" in text
    assert "not the whole run · keys failed · commands failed" in (tmp_path / "goals.svg").read_text()
    assert not list(tmp_path.glob("*.new"))
    options.scenarios = ["commands", "scp-up"]
    report.waiting = list(options.scenarios)
    assert run_all(bench, lambda: None, lambda: None) == 1


ABOUT = {"date": "2026-01-01T00:00:00", "cpu": "2", "kernel": "6", "openssh": "9", "commit": "abc", "files": "in memory",
         "cpu_by": "cgroup v2", "command": "compare.py"}
AES = "aes128-gcm@openssh.com"
CHARTS = ("goals.svg", "transfers.svg", "latencies.svg", "distance.svg", "results.svg")


def small_report(monkeypatch, rate, calls):
    monkeypatch.syspath_prepend(BENCH)
    from report import Report
    report = Report("ringgate", "sshd", dict(ABOUT))
    report.add("scp-up", AES, "MB/s", [rate] * 5, [100.0] * 5, digits=0)
    report.add("scp-up", AES, "system calls a GB, gateway", [calls] * 5, None, digits=0)
    report.add("keys", "at rest", "p99 ms", [2.0, 1.0, 3.0], [1.0, 1.0, 1.0])
    return report


def test_goals(monkeypatch):
    text = small_report(monkeypatch, 120.0, 5.0).markdown()
    assert "| scp-up | aes128-gcm | MB/s | 120 | 100 | 1.20 | >= 1.1 × met |" in text
    assert "| 2.00 | 1.00 | 2.00 | <= 1.3 × **missed** |" in text
    assert "- met          MB/s of one scp, up and down: >= 1.1 × (scp-up)" in text
    assert "- missed       echo p99 at rest" in text and "    - keys at rest: 2.000 ×" in text
    assert "- not measured exec a second over one connection" in text
    assert "- missed       MB/s of one scp, up and down" in small_report(monkeypatch, 109.0, 5.0).markdown()


def test_pieces_become_one_report(monkeypatch):
    pieces = [json.loads(json.dumps(small_report(monkeypatch, rate, 5.0).as_json())) for rate in (100.0, 130.0, 140.0)]
    from report import merged
    report = merged(pieces)
    row = report.rows[0]
    assert len(row["ours_runs"]) == 15 and len(row["peer_runs"]) == 15
    assert row["ours"] == 130.0 and row["is_met"]
    assert "| scp-up | aes128-gcm | MB/s | 130 | 100 | 1.30 | >= 1.1 × met |" in report.markdown()


def test_charts_of_pieces(monkeypatch, tmp_path):
    """Of each piece's runs the single ones are kept, so that what is drawn is of all."""
    monkeypatch.syspath_prepend(BENCH)
    from report import Report
    for i, us in enumerate((1000, 3000, 200_000)):
        report = Report("ringgate", "sshd", dict(ABOUT))
        shares = [[share, us * 10 * share] for share in (0.5, 0.9, 0.99, 0.999, 1)]
        report.add("keys", "beside <1> scp", "p99 ms", [us / 100], [10.0], raw={"ours": [{"latencies_us": shares}], "peer": [
            {"latencies_us": shares}]})
        for trip in (50, 150):
            report.add("distance, up", f"{trip} ms round trip", "MB/s", [5000 / trip], [500 / trip])
        for cipher in (AES, "aes128-ctr"):
            report.add("scp-up", cipher, "MB/s", [120.0], [100.0])
            report.add("scp-up", cipher, "CPU s/GB, gateway", [0.5], [1.0])
        (tmp_path / f"{i}.json").write_text(json.dumps(report.as_json()))
    done = subprocess.run([sys.executable, os.path.join(BENCH, "report.py"), "--out", str(tmp_path / "out"),
                           *(str(tmp_path / f"{i}.json") for i in range(3))], capture_output=True, text=True, timeout=60, check=True)
    assert "| distance, up | 50 ms round trip | MB/s | 100.00 | 10.00 | 10.00 |" in done.stdout
    drawn = {name: xml.etree.ElementTree.parse(tmp_path / "out" / name).getroot() for name in CHARTS}
    words = {name: [part.text for part in root.iter() if part.tag.endswith("text")] for name, root in drawn.items()}
    assert "Goals: 2 met, 1 missed, 11 not measured" in words["goals.svg"] and "beside <1> scp" in words["latencies.svg"]
    # Three runs' median, not the last one's: 30 ms of 10, 30 and 2000.
    assert "100 ms" in words["latencies.svg"] and "1000 ms" not in words["latencies.svg"]
    assert {"50 ms", "150 ms", "exec stream up"} <= set(words["distance.svg"]) and "120" in words["transfers.svg"]
    height = float(drawn["results.svg"].get("height"))
    assert all(float(part.get("y")) <= height for part in drawn["results.svg"].iter() if part.get("y"))


def test_changes_between_two_results(monkeypatch, tmp_path):
    for name, rate, calls in (("before", 100.0, 50.0), ("after", 150.0, 40.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(small_report(monkeypatch, rate, calls).as_json()))
    done = subprocess.run([sys.executable, os.path.join(BENCH, "changes.py"), str(tmp_path / "before.json"),
                           str(tmp_path / "after.json")], capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ") and "scenario" not in line]
    assert "1.50 × | 1.50 to 1.50 | up |" in lines[0]
    assert "0.80 × | 0.80 to 0.80 | down |" in lines[1]
    assert "none shown" in lines[2]


@pytest.mark.parametrize("argv,words", [
    (["day", "--mix", "1,2"], "--mix 1,2"), (["day", "--mix", "0,0,0"], "--mix 0,0,0"), (["sftp-up", "--requests", "0"], "--requests"),
    ([], "which scenario"), (["fly"], "no such scenario"), (["connect"], "--address"), (["relay"], "--address is needed"),
    (["connect", "--count", "0"], "--count 0"), (["up", "--size", "1T"], "--size 1T"), (["echo", "--sise", "1"], "--sise"),
    (["echo", "--mix", "1,1,1"], "--mix"), (["echo", "--count"], "--count: its value is missing"), (["echo", "more"], "more"),
    (["echo", "-x"], "-x"),
])
def test_usage(ringbench, argv, words):
    """One line that says what is wrong and where to read on."""
    done = subprocess.run([ringbench, *argv], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert "see ringbench " + ("" if not argv or argv[0] == "fly" else argv[0] + " ") + "--help" in done.stderr


@pytest.mark.parametrize("name,own,foreign", [
    ("connect", "command", "path"), ("exec", "command", "size"), ("idle", "hold", "mix"), ("echo", "interval-ms", "size"),
    ("up", "keep", "requests"), ("down", "path", "count"), ("sftp-up", "requests", "hold"), ("sftp-down", "keep", "mix"),
    ("day", "mix", "count"), ("relay", "delay-ms", "user"), ("pattern", "size", "address"),
])
def test_help(ringbench, name, own, foreign):
    """Of a subcommand: its own options, those that it takes."""
    done = subprocess.run([ringbench, name, "--help"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: ringbench {name}")
    assert f"--{own} " in done.stdout and f"--{foreign} " not in done.stdout
    assert f"  {name} " in subprocess.run([ringbench, "--help"], capture_output=True, text=True, timeout=30).stdout
    wrong = subprocess.run([ringbench, name, f"--{foreign}", "1"], capture_output=True, text=True, timeout=30)
    assert wrong.returncode == 2 and f"--{foreign}" in wrong.stderr
