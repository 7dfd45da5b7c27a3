"""ringbench against a region: what it counts is what happened, and what fails is said."""
import json
import os
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
    ([], "which scenario"), (["fly"], "no such scenario"), (["connect"], "--address"),
    (["connect", "--count", "0"], "--count 0"), (["connect", "--size", "1T"], "--size 1T"),
])
def test_usage(ringbench, argv, words):
    done = subprocess.run([ringbench, *argv], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert words in done.stderr
