"""ringbench against a region: what it counts is what happened, and what fails is said."""
import json
import os
import shutil
import subprocess

import pytest


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
    done, result = run(ringbench, region, "connect", "--count", "4", "--host-key", "rsa-sha2-512", "--identity",
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


@pytest.mark.parametrize("argv,words", [
    (["day", "--mix", "1,2"], "--mix 1,2"), (["day", "--mix", "0,0,0"], "--mix 0,0,0"), (["sftp-up", "--requests", "0"], "--requests"),
    ([], "which scenario"), (["fly"], "no such scenario"), (["connect"], "--address"),
    (["connect", "--count", "0"], "--count 0"), (["connect", "--size", "1T"], "--size 1T"),
])
def test_usage(ringbench, argv, words):
    done = subprocess.run([ringbench, *argv], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert words in done.stderr
