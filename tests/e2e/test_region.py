"""deploy/region.py: what `./zigw build run` promises to people and to scripts."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from regions import RUNNER, Region, run
from waiting import descendants, is_alive, pids_with, wait_until


@pytest.fixture
def own(new_region):
    return new_region()


def test_region_json(own):
    with open(os.path.join(own.state, "region.json"), encoding="utf-8") as f:
        info = json.load(f)
    assert info["ssh"]["host"] == "127.0.0.1" and info["ssh"]["port"] > 0
    assert [box["id"] for box in info["sandboxes"]] == own.sandboxes
    assert len(own.sandboxes) == 2
    assert os.access(info["identity_file"], os.R_OK)
    assert os.stat(info["identity_file"]).st_mode & 0o077 == 0
    assert is_alive(info["pids"]["gateway"])
    assert sorted(info["pids"]["procd"]) == sorted(own.sandboxes)
    assert all(is_alive(pid) for pid in info["pids"]["procd"].values())
    # It is there only once everything answers: no waiting is needed here.
    with socket.create_connection((info["ssh"]["host"], info["ssh"]["port"]), 5) as s:
        s.settimeout(5)
        assert s.recv(100).startswith(b"SSH-2.0-")
    for box in own.sandboxes:
        own.ssh("true", box=box).ok()


def test_printed_lines_can_be_pasted(own, tmp_path):
    """ssh, scp and sftp lines, as they stand, by a shell, for each sandbox."""
    text = own.output_text()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    (tmp_path / "FILE").write_text("pasted\n")
    for box in own.sandboxes:
        lines = {kind: re.search(rf"^ *({kind} .*{box}@.*)$", text, re.M).group(1)
                 for kind in ("ssh", "scp", "sftp")}
        done = run(["sh", "-c", lines["ssh"] + " 'echo hello from $HOME'"], env=env)
        assert done.ok().out == f"hello from {os.path.realpath(own.homes[box])}\n"
        run(["sh", "-c", lines["scp"]], env=env, cwd=tmp_path).ok()
        with open(os.path.join(own.homes[box], "FILE"), encoding="ascii") as f:
            assert f.read() == "pasted\n"
        done = run(["sh", "-c", lines["sftp"]], input=b"ls\n", env=env).ok()
        assert "FILE" in done.out


@pytest.mark.gateway
def test_pasted_lines_in_a_folder_with_odd_characters(bin_dir, is_standin, tmp_path):
    folder = tmp_path / "with space 'and quote %h"
    with Region(bin_dir, is_standin=is_standin, dir=str(folder), sandboxes=1) as own:
        line = re.search(r"^ *(ssh .*rs-.*@.*)$", own.output_text(), re.M).group(1)
        done = run(["sh", "-c", line + " 'echo hello'"],
                   env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
        assert done.ok().out == "hello\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(new_region, number):
    own = new_region()
    token = f"43{os.getpid()}.5"
    client = subprocess.Popen(own.ssh_argv(f"sleep {token}"), stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    own.ssh(f"setsid sleep {token} >/dev/null 2>&1 </dev/null &").ok()
    wait_until(lambda: len(pids_with(f"sleep\0{token}")) == 2, "both commands")
    everything = descendants(own.process.pid)
    assert own.gateway_pid in everything
    own.process.send_signal(number)
    assert own.process.wait(30) == 0, own.output_text()[-3000:]
    assert [pid for pid in everything if is_alive(pid)] == []
    assert pids_with(f"sleep\0{token}") == []
    assert not os.path.exists(os.path.join(own.state, "region.json"))
    assert client.wait(20) != 0
    with pytest.raises(OSError):
        socket.create_connection((own.host, own.port), 5)


def test_killed_runner_leaves_nothing(bin_dir, is_standin, tmp_path):
    """Even SIGKILL of the runner: the kernel ends its children."""
    own = Region(bin_dir, is_standin=is_standin, dir=str(tmp_path / "r")).start()
    pids = [own.gateway_pid, *own.procd_pids.values()]
    own.process.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of the children")
    own.stop(check=False)
    # And the next start on the same folder works, with the same keys.
    with open(own.identity, "rb") as f:
        before = f.read()
    again = Region(bin_dir, is_standin=is_standin, dir=str(tmp_path / "r"))
    with again:
        again.ssh("true").ok()
        with open(again.identity, "rb") as f:
            assert f.read() == before


def test_region_json_of_a_killed_runner(bin_dir, is_standin, tmp_path):
    """It tells by pids.region that it is stale, and goes at the next start, whatever comes of
    that: who waits for the file never meets the old one."""
    own = Region(bin_dir, is_standin=is_standin, dir=str(tmp_path / "r")).start()
    path = os.path.join(own.state, "region.json")
    try:
        own.process.kill()
        own.process.wait()
        with open(path, encoding="utf-8") as f:
            assert not is_alive(json.load(f)["pids"]["region"])
        with socket.create_server(("127.0.0.1", 0)) as s:
            port = s.getsockname()[1]
            done = runner("--bin", bin_dir, "--dir", own.state, "--port", str(port))
        assert done.status == 1 and "busy" in done.err, done
        assert not os.path.exists(path)
    finally:
        own.stop(check=False)


def test_restart_keeps_keys_and_homes(bin_dir, is_standin, tmp_path):
    with Region(bin_dir, is_standin=is_standin, dir=str(tmp_path / "r")) as own:
        own.ssh("echo kept >file").ok()
        with open(own.known_hosts, encoding="ascii") as f:
            keys = {line.split(None, 1)[1] for line in f}
    with Region(bin_dir, is_standin=is_standin, dir=str(tmp_path / "r")) as own:
        assert own.ssh("cat file").ok().out == "kept\n"
        with open(own.known_hosts, encoding="ascii") as f:
            assert {line.split(None, 1)[1] for line in f} == keys


def runner(*arguments, timeout=40):
    return run([sys.executable, RUNNER, *arguments], timeout=timeout)


def test_busy_port(bin_dir, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        done = runner("--bin", bin_dir, "--dir", str(tmp_path / "r"), "--port", str(port))
    assert done.status == 1, done
    assert "busy" in done.err and str(port) in done.err and "--port" in done.err, done


def test_port_busy_by_another_region(own, bin_dir, tmp_path):
    """The gateway shares its port with its own threads; never with another's."""
    done = runner("--bin", bin_dir, "--dir", str(tmp_path / "r"), "--port", str(own.port))
    assert done.status == 1 and "busy" in done.err and "--port" in done.err, done
    own.ssh("true").ok()


def test_second_start_on_the_same_folder(own, bin_dir):
    done = runner("--bin", bin_dir, "--dir", own.state, "--port", "0")
    assert done.status == 1 and "--dir" in done.err and "runs already" in done.err, done
    assert os.path.exists(os.path.join(own.state, "region.json"))
    own.ssh("true").ok()


def test_usage(tmp_path):
    done = runner("--no-such-flag")
    assert done.status == 2 and "usage" in done.err and "--no-such-flag" in done.err
    done = runner("--port", "99999")
    assert done.status == 2 and "port" in done.err
    done = runner("surplus")
    assert done.status == 2
    done = runner("--help")
    assert done.status == 0 and "--port" in done.out and "--dir" in done.out


def test_missing_programs(tmp_path):
    done = runner("--bin", str(tmp_path), "--dir", str(tmp_path / "r"), "--port", "0")
    assert done.status == 1 and "--bin" in done.err, done


@pytest.mark.parametrize("victim", ["gateway", "procd"])
def test_a_dead_child_ends_the_region(bin_dir, is_standin, victim):
    own = Region(bin_dir, is_standin=is_standin).start()
    pids = [own.gateway_pid, *own.procd_pids.values()]
    name = "gateway" if victim == "gateway" else own.box
    os.kill(own.gateway_pid if victim == "gateway" else own.procd_pids[own.box],
            signal.SIGKILL)
    try:
        assert own.process.wait(30) == 1
        text = own.output_text()
        assert name in text and "SIGKILL" in text, text[-2000:]
        assert not any(is_alive(pid) for pid in pids)
        assert not os.path.exists(os.path.join(own.state, "region.json"))
    finally:
        own.stop(check=False)


def test_sandbox_count_and_names(new_region):
    own = new_region(sandboxes=3)
    assert len(set(own.sandboxes)) == 3
    for box in own.sandboxes:
        out = own.ssh("pwd", box=box).ok().out
        assert out == os.path.realpath(own.homes[box]) + "\n"


def test_further_key(new_region, tmp_path):
    """A newcomer's own key, named by a flag."""
    run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "mine")]).ok()
    own = new_region("--authorized-key", str(tmp_path / "mine.pub"))
    own.ssh("true", identity=str(tmp_path / "mine")).ok()
    own.ssh("true").ok()


def test_live_logs(own):
    """Every child's lines are shown, with its name in front."""
    own.ssh("true").ok()
    wait_until(lambda: re.search(r"^ringgate +\| .*", own.output_text(), re.M), "a log line")


def test_reader_of_the_logs_may_go_away(bin_dir, tmp_path):
    """`zigw build run | head`: a closed pipe must not leave processes behind."""
    folder = str(tmp_path / "r")
    process = subprocess.Popen(
        [sys.executable, RUNNER, "--bin", bin_dir, "--dir", folder, "--port", "0", "--static"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    try:
        path = os.path.join(folder, "region.json")
        wait_until(lambda: os.path.exists(path), "the region's start", 60)
        process.stdout.close()
        with open(path, encoding="utf-8") as f:
            info = json.load(f)
        with socket.create_connection((info["ssh"]["host"], info["ssh"]["port"]), 5):
            pass
        process.terminate()
        assert process.wait(30) == 0
        assert not is_alive(info["pids"]["gateway"])
        assert not any(is_alive(pid) for pid in info["pids"]["procd"].values())
    finally:
        process.kill()
        process.wait()


def test_lines_name_no_shell_metacharacters(own):
    """The printed lines are one command each."""
    for line in re.findall(r"^ *((?:ssh|scp|sftp) -.*)$", own.output_text(), re.M):
        assert shlex.split(line)[0] in ("ssh", "scp", "sftp")
