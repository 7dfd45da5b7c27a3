"""deploy/region.py with a control plane: what `./zigw build run` promises, and that it leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from controls import User
from redises import find_program
from regions import RUNNER, Region, run
from waiting import descendants, is_alive, pids_with, wait_until

pytestmark = pytest.mark.gateway


@pytest.fixture
def own(bin_dir):
    with Region(bin_dir, is_static=False) as started:
        yield started


def user_of(region):
    return User(region, "u-local", region.token)


def test_region_json(own):
    path = os.path.join(own.state, "region.json")
    with open(path, encoding="utf-8") as f:
        info = json.load(f)
    assert os.stat(path).st_mode & 0o077 == 0, "it holds a token"
    assert set(info["api"]) == {"url", "token"}
    assert [(box["id"], box["status"]) for box in info["sandboxes"]] == [("rs-one", "running"), ("rs-two", "paused")]
    assert all(is_alive(info["pids"][name]) for name in ("gateway", "control", "region"))
    assert all(os.path.exists(path) for path in info["logs"].values())
    user = user_of(own)
    assert [key["comment"] for key in user.keys()] == ["ringgate-local"]
    for box in info["sandboxes"]:
        seen = user.sandbox(box["id"])
        assert seen["status"] == box["status"] and seen["team_id"] == "t-local", seen
        assert seen["ssh"] == {"host": own.host, "port": own.port, "username": box["id"]}, seen
    own.ssh("true").ok()


def test_printed_lines_can_be_pasted(own, tmp_path):
    find_program("curl")
    text = own.output_text()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    os.mkdir(tmp_path / ".ssh")
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "it's \"mine\" \\", "-f",
         str(tmp_path / ".ssh" / "id_ed25519")]).ok()
    assert own.token not in text, "no secret on the terminal"
    lines = re.findall(r"^ *(curl .*)$", text, re.M)
    answers = [json.loads(run(["sh", "-c", line], env=env).ok().out) for line in lines]
    assert len(answers) == 3 and all(answer["success"] for answer in answers), answers
    listed, uploaded, detail = (answer["data"] for answer in answers)
    assert len(listed["ssh_keys"]) == 1
    assert uploaded["fingerprint_sha256"].startswith("SHA256:")
    assert detail["id"] == "rs-one" and detail["status"] == "running"
    own.ssh("true", identity=str(tmp_path / ".ssh" / "id_ed25519")).ok()
    for box in own.sandboxes:
        assert re.search(rf"^ *ssh .*{box}@.*$", text, re.M) and re.search(rf"^ *scp .*{box}@.*:$", text, re.M)


def wake(region, box="rs-two"):
    user = user_of(region)
    assert user.call("POST", f"/api/v1/sandboxes/{box}/resume").status == 200
    wait_until(lambda: user.sandbox(box)["status"] == "running", f"{box}'s resume")


def leave_processes(region, token):
    """One with a session, one without, in a sandbox that runs and in one that is paused then."""
    client = subprocess.Popen(region.ssh_argv(f"sleep {token}"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    region.ssh(f"setsid sleep {token} >/dev/null 2>&1 </dev/null &").ok()
    region.ssh(f"trap '' TERM; setsid sleep {token} >/dev/null 2>&1 </dev/null &").ok()
    wake(region)
    region.ssh(f"setsid sleep {token} >/dev/null 2>&1 </dev/null &", box="rs-two").ok()
    wait_until(lambda: len(pids_with(f"sleep\0{token}")) == 4, "the commands")
    assert user_of(region).call("POST", "/api/v1/sandboxes/rs-two/pause").data["status"] == "paused"
    return client


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(bin_dir, number):
    own = Region(bin_dir, is_static=False).start()
    token = f"44{os.getpid()}.5"
    client = leave_processes(own, token)
    everything = descendants(own.process.pid)
    assert own.info["pids"]["control"] in everything
    own.process.send_signal(number)
    assert own.process.wait(40) == 0, own.output_text()[-3000:]
    assert [pid for pid in everything if is_alive(pid)] == []
    assert pids_with(f"sleep\0{token}") == []
    assert not os.path.exists(os.path.join(own.state, "region.json"))
    assert client.wait(20) != 0
    own.stop()


def test_killed_runner_leaves_nothing(bin_dir):
    own = Region(bin_dir, is_static=False).start()
    token = f"45{os.getpid()}.5"
    client = leave_processes(own, token)
    everything = descendants(own.process.pid)
    own.process.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in everything), "the end of everything", 30)
    assert pids_with(f"sleep\0{token}") == []
    client.wait(20)
    own.stop(check=False)


def test_killed_control_plane_leaves_nothing(bin_dir):
    own = Region(bin_dir, is_static=False).start()
    token = f"46{os.getpid()}.5"
    client = leave_processes(own, token)
    everything = descendants(own.process.pid)
    os.kill(own.info["pids"]["control"], signal.SIGKILL)
    assert own.process.wait(40) == 1
    assert "control was ended by SIGKILL" in own.output_text()
    assert [pid for pid in everything if is_alive(pid)] == []
    assert pids_with(f"sleep\0{token}") == []
    client.wait(20)
    own.stop(check=False)


def test_restart_keeps_keys_homes_and_the_token(bin_dir, tmp_path):
    with Region(bin_dir, is_static=False, dir=str(tmp_path / "r")) as own:
        token = own.token
        own.ssh("echo kept >file").ok()
        wake(own)
        own.ssh("echo kept >file", box="rs-two").ok()
        ids = [key["id"] for key in user_of(own).keys()]
    with Region(bin_dir, is_static=False, dir=str(tmp_path / "r")) as own:
        assert own.token == token and [key["id"] for key in user_of(own).keys()] == ids
        assert [box["status"] for box in own.info["sandboxes"]] == ["running", "paused"]
        wake(own)
        for box in own.sandboxes:
            assert own.ssh("cat file", box=box).ok().out == "kept\n"
    # Paused when it ended, and so when it begins again.
    with Region(bin_dir, is_static=False, dir=str(tmp_path / "r")) as own:
        assert own.info["sandboxes"][1]["status"] == "paused"
    with Region(bin_dir, is_static=False, dir=str(tmp_path / "r")) as own:
        assert own.info["sandboxes"][1]["status"] == "paused"
        wake(own)
        assert own.ssh("cat file", box="rs-two").ok().out == "kept\n"


def test_a_procd_that_dies(own):
    user = user_of(own)
    before = user.sandbox("rs-one")["updated_at"]
    procd = [pid for pid in pids_with("serve\0--listen\000127.0.0.1:0\0--sandbox\0rs-one")
             if pid in descendants(own.process.pid)]
    assert len(procd) == 1
    os.kill(procd[0], signal.SIGKILL)
    wait_until(lambda: user.sandbox("rs-one")["status"] == "stopped", "the news")
    assert "signal 9" in user.sandbox("rs-one")["reason"] and user.sandbox("rs-one")["updated_at"] >= before
    wake(own, "rs-one")
    own.ssh("true").ok()


def test_settings_of_the_control_plane(bin_dir):
    with Region(bin_dir, ["--control-set", "local.fail_resume=yes", "--control-set", "log.level=warn"],
                is_static=False) as own:
        user = user_of(own)
        assert user.call("POST", "/api/v1/sandboxes/rs-two/resume").status == 200
        wait_until(lambda: "fail resumes" in user.sandbox("rs-two").get("reason", ""), "the failure")
        assert user.sandbox("rs-two")["status"] == "paused"


def test_usage():
    for arguments in (["--static", "--redis", "redis://localhost"], ["--static", "--database", "x"],
                      ["--static", "--control-set", "x=y"]):
        done = run([sys.executable, RUNNER, *arguments])
        assert done.status == 2 and "--static" in done.err, done
