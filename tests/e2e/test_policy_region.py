"""Policies from a control plane, through Redis, of a sandbox that sleeps; agents; sessions that rest."""

import os
import subprocess
import time

import pytest

from forwards import Server, echo
from redises import Redis
from regions import Region, run
from terminal import Terminal
from waiting import wait_until

pytestmark = pytest.mark.gateway

BOX = "rs-one"


def is_forbidden(result, whose, what):
    assert result.status == 1 and result.stdout == b"", result
    assert f"ringgate: {whose} forbids {what}" in result.err, result
    return True


def test_the_control_plane_says_so(fake_region):
    """Team's and sandbox's; a change reaches new sessions and those that are open; nonsense lets nobody in."""
    region = fake_region()
    wait_until(lambda: region.counts()["changes"]["state"] == "up", "the feed")
    control = region.path("mux")
    opts = [f"ControlPath={control}"]
    master = subprocess.Popen(region.ssh_argv(flags=("-M", "-N"), opts=opts), stdin=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists(control), "the master")
    assert region.ssh("echo", "in", opts=opts).ok().stdout == b"in\n"
    region.control.set_policies(BOX, policy={"commands": ["echo *"], "forward_tcp": "none"},
                                team_policy={"commands": ["echo *", "id"], "sftp": "none"})
    wait_until(lambda: region.ssh("true", opts=opts).status == 1, "the policy in a live session")
    for how in ({}, {"opts": opts}):
        assert is_forbidden(region.ssh("true", **how), "the policy of team t-local", "this command (commands)")
        assert is_forbidden(region.ssh("id", **how), "this sandbox's policy", "this command (commands)")
        assert region.ssh("echo", "in", **how).ok().stdout == b"in\n"
        assert is_forbidden(region.ssh("sftp", flags=("-s",), **how), "the policy of team t-local",
                            "file transfer (sftp: none)")
    result = region.ssh(flags=("-W", "127.0.0.1:9"))
    assert "this sandbox's policy forbids port forwarding (forward_tcp: none)" in result.err, result
    region.control.set_policies(BOX)
    wait_until(lambda: region.ssh("true", opts=opts).status == 0, "its end in a live session")
    region.control.set_policies(BOX, policy={"commandz": ["echo *"]})
    wait_until(lambda: "the sandbox's policy cannot be used" in region.ssh("true").err, "the refusal of nonsense")
    assert "unknown key 'commandz'" in region.gateway_log()
    # Who is in stays in; nobody could say whether he may.
    region.ssh("true", opts=opts).ok()
    master.terminate()
    master.wait()


def test_redis_carries_it(fake_region):
    with Redis() as redis:
        first = fake_region(redis=redis.url)
        first.control.set_policies(BOX, policy={"sftp": "none"}, team_policy={"commands": ["id"]})
        second = fake_region(redis=redis.url, like=first)
        for one in (first, second):
            wait_until(lambda one=one: one.counts()["redis"]["state"] == "up", "Redis")
        first.ssh("id").ok()
        wait_until(lambda: "1" in redis.cli("EXISTS", f"rg:route:{BOX}"), "the route in Redis")
        calls = first.control.calls["boxes"]
        assert is_forbidden(second.ssh("true"), "the policy of team t-local", "this command (commands)")
        assert is_forbidden(second.ssh("sftp", flags=("-s",)), "this sandbox's policy", "file transfer (sftp: none)")
        assert first.control.calls["boxes"] == calls, "the second gateway asked"


def test_of_a_sandbox_that_sleeps(fake_region):
    """Nothing is known of it at the login; all that was asked for waits, and is then refused or not."""
    region = fake_region()
    target = Server(echo)

    def sleeps():
        region.control.pause(BOX)
        region.control.boxes[BOX].wake_s = 0.1

    region.control.set_policies(BOX, policy={"commands": ["id"], "forward_ports": ["1"], "listen_ports": ["1"],
                                             "agent": False})
    sleeps()
    region.ssh("id").ok()
    sleeps()
    assert is_forbidden(region.ssh("true"), "this sandbox's policy", "this command (commands)")
    sleeps()
    result = region.ssh(flags=("-W", f"127.0.0.1:{target.port}"))
    assert "administratively prohibited: this sandbox's policy forbids forwarding to port" in result.err, result
    assert target.peak == 0
    sleeps()
    result = region.ssh(flags=("-v", "-N", "-R", "0:127.0.0.1:9"), opts=("ExitOnForwardFailure=yes",))
    assert "this sandbox's policy forbids listening at a port of any number (listen_ports)" in result.err, result
    target.close()


def test_no_agent(fake_region):
    """The session runs without it; ssh -v and terminals are told."""
    region = fake_region()
    region.control.set_policies(BOX, policy={"agent": False})
    words = "this sandbox's policy forbids agent forwarding (agent: no); ask its owner"
    agent_dir = region.path("agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", agent_dir], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(agent_dir), "the agent")
        env = {**os.environ, "SSH_AUTH_SOCK": agent_dir}
        how = {"opts": ("IdentityAgent=SSH_AUTH_SOCK",), "env": env}
        result = region.ssh("echo", "[$SSH_AUTH_SOCK]", flags=("-A", "-v"), **how).ok()
        assert result.stdout == b"[]\n" and words in result.err, result
        assert words not in region.ssh("echo", "x", flags=("-A",), **how).ok().err
        assert words not in region.ssh("echo", "x", flags=("-v",), **how).ok().err
        assert f"ringgate: {words}" in region.ssh("echo", "x", flags=("-A", "-tt"), **how).ok().err
        # While it sleeps the client is told yes; the answer comes with the sandbox.
        region.control.pause(BOX)
        region.control.boxes[BOX].wake_s = 0
        result = region.ssh("echo", "[$SSH_AUTH_SOCK]", flags=("-A", "-v"), **how).ok()
        assert result.stdout == b"[]\n" and words in result.err, result
    finally:
        agent.kill()
        agent.wait()


# ---- rest ------------------------------------------------------------------------------

WHOSE = "this gateway's policy (policy.idle_timeout_s)"


@pytest.fixture(scope="module")
def restless(bin_dir, is_standin):
    with Region(bin_dir, is_standin=is_standin, sandboxes=1,
                config="policy: {idle_timeout_s: 2, idle_warning_s: 1}\n") as region:
        yield region


def test_who_rests_is_told_and_ended(restless):
    began = time.monotonic()
    terminal = Terminal(restless.ssh_argv(flags=("-tt",)))
    terminal.expect(rf"ringgate: nothing is being sent: the session ends in 1 s by {WHOSE}".replace("(", r"\(")
                    .replace(")", r"\)"))
    assert time.monotonic() - began >= 1
    terminal.expect(r"nothing was sent for 2 s: the session ends by this gateway's policy")
    assert terminal.process.wait(20) == 255
    assert time.monotonic() - began >= 2


def test_a_key_keeps_it(restless):
    """Typed after the warning; then it rests again, and is told again."""
    terminal = Terminal(restless.ssh_argv(flags=("-tt",)))
    terminal.expect("nothing is being sent")
    terminal.send("echo still-$((1))\n")
    terminal.expect("still-1")
    terminal.expect("nothing is being sent")
    terminal.expect("nothing was sent for 2 s")
    assert terminal.process.wait(20) == 255


def test_output_keeps_it(restless):
    result = restless.ssh("for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo $i; sleep 0.25; done").ok()
    assert result.stdout.split()[-1] == b"12" and b"nothing" not in result.stderr, result


def test_keepalives_do_not(restless):
    """Nor has a session without a channel anything that moves; the end says why."""
    result = restless.ssh(flags=("-N",), opts=("ServerAliveInterval=1",))
    assert result.status == 255 and f"nothing was sent for 2 s: the session ends by {WHOSE}" in result.err, result


# ---- all of it --------------------------------------------------------------------------


def test_with_ringgate_control(bin_dir, is_standin):
    """Set by its command line while sessions are open, heeded within the feed's time, taken back."""
    with Region(bin_dir, is_standin=is_standin, sandboxes=1, is_static=False) as region:
        def policy(*command, text=""):
            return run([os.path.join(bin_dir, "ringgate-control"), "policy", *command, "--config",
                        os.path.join(region.state, "control.yaml")], input=text.encode())

        assert region.ssh("id").ok()
        policy("set", "--team", "t-local", "--file", "-", text='{"commands": ["echo *"]}').ok()
        wait_until(lambda: region.ssh("id").status == 1, "the team's policy")
        assert is_forbidden(region.ssh("id"), "the policy of team t-local", "this command (commands)")
        policy("set", "--id", region.box, "--file", "-", text='{"sftp": "none"}').ok()
        wait_until(lambda: region.ssh("sftp", flags=("-s",)).status == 1, "the sandbox's policy")
        assert is_forbidden(region.ssh("sftp", flags=("-s",)), "this sandbox's policy", "file transfer (sftp: none)")
        policy("clear", "--team", "t-local").ok()
        wait_until(lambda: region.ssh("id").status == 0, "the end of the team's policy")
