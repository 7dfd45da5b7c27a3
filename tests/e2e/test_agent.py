"""ssh -A: the user's agent inside a session, for that session alone."""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import asyncssh
import paramiko
import pytest

from aclient import connect as aconnect, finish
from forwards import Server, idle_agent
from procd_wire import Server as Procd
from regions import run
from waiting import wait_until

pytestmark = pytest.mark.gateway

CONNECTIONS_MAX = 32
TELL = 'echo "$SSH_AUTH_SOCK"; '


class Agent:
    """The user's real ssh-agent, with the key that he logs in by."""

    def __init__(self, region):
        self.folder = tempfile.mkdtemp(prefix="ringgate-")
        self.path = f"{self.folder}/agent"
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", self.path],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.env = {**os.environ, "SSH_AUTH_SOCK": self.path}
        self.region = region
        try:
            # Its socket is there before it listens; 2 is ssh-add's word for no agent.
            wait_until(lambda: run(["ssh-add", "-l"], env=self.env).status != 2, "the agent")
            run(["ssh-add", "-q", region.identity], env=self.env).ok()
            self.list = run(["ssh-add", "-l"], env=self.env).ok().out
        except BaseException:
            self.stop()
            raise

    def ssh(self, command, flags=("-A",), opts=(), region=None, **how):
        return (region or self.region).ssh(command, flags=flags, env=self.env,
                                           opts=("IdentityAgent=SSH_AUTH_SOCK", *opts), **how)

    def argv(self, *command, flags=("-A",), opts=()):
        return self.region.ssh_argv(*command, flags=flags,
                                    opts=("IdentityAgent=SSH_AUTH_SOCK", *opts))

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)


@pytest.fixture
def agent(region):
    one = Agent(region)
    yield one
    one.stop()


def is_gone(path):
    return not os.path.lexists(path) and not os.path.lexists(os.path.dirname(path))


def python(text):
    """A command for a sandbox's shell."""
    return f"{sys.executable} -c {shlex.quote(text)}"


@pytest.mark.parametrize("flags", [("-A",), ("-A", "-tt")])
def test_in_a_session(agent, flags):
    """Its keys are there; the socket is the user's alone, and goes with the session."""
    result = agent.ssh(TELL + "ssh-add -l; stat -c '%a %u %F' $SSH_AUTH_SOCK "
                       "$(dirname $SSH_AUTH_SOCK)", flags=flags).ok()
    path, keys, *modes = result.out.replace("\r", "").splitlines()
    assert keys + "\n" == agent.list
    assert modes == [f"600 {os.getuid()} socket", f"700 {os.getuid()} directory"], modes
    wait_until(lambda: is_gone(path), "the end of socket and folder")
    other = agent.ssh(TELL + "ssh-add -l", flags=flags).out.splitlines()[0].strip()
    assert other.startswith("/") and other != path


def test_never_unasked(agent):
    """Without -A there is none, whatever the user has in his environment."""
    result = agent.ssh(TELL + "ssh-add -l", flags=("-a",))
    assert result.out == "\n" and "connection to your authentication agent" in result.err, result


def test_signature(agent, tmp_path):
    """Made in the sandbox by a key that is not there, good at home."""
    with open(agent.region.identity + ".pub", encoding="ascii") as f:
        public = f.read().strip()
    text = "what is signed\n"
    result = agent.ssh(f"umask 077; echo {shlex.quote(public)} > sign.pub; "
                       "ssh-keygen -q -Y sign -n test -f sign.pub -", input=text.encode()).ok()
    (tmp_path / "signature").write_bytes(result.stdout)
    (tmp_path / "signers").write_text("me " + public + "\n")
    check = ["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-f", str(tmp_path / "signers"),
             "-s", str(tmp_path / "signature")]
    run(check, input=text.encode()).ok()
    assert run(check, input=b"something else\n").status != 0


def test_many_at_once(agent):
    """More than may be open at once: the others wait for their turn, and each is served."""
    count = 2 * CONNECTIONS_MAX
    result = agent.ssh(f"for i in $(seq {count}); do ssh-add -l & done; wait", timeout=120).ok()
    assert result.out == agent.list * count and result.err == "", result


def test_so_many_open(region):
    """Connections that are held: no more than the limit reach the user's agent, until one ends."""
    with tempfile.TemporaryDirectory(prefix="ringgate-") as folder:
        server = Server(idle_agent, f"{folder}/agent")
        text = f"""
import os, select, socket
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["SSH_AUTH_SOCK"])
    return s
held = [connect() for _ in range({CONNECTIONS_MAX})]
assert all(s.recv(5) == b"hello" for s in held)
more = connect()
print(select.select([more], [], [], 0.3)[0])
held.pop().close()
print(more.recv(5))
"""
        result = region.ssh(python(text), flags=("-A",), opts=("IdentityAgent=SSH_AUTH_SOCK",),
                            env={**os.environ, "SSH_AUTH_SOCK": f"{folder}/agent"}).ok()
        server.close()
    assert result.out == "[]\nb'hello'\n", result
    # One more where a connection was made before its predecessor's end was seen.
    assert server.peak in (CONNECTIONS_MAX, CONNECTIONS_MAX + 1)


def test_sessions_of_one_connection(agent, tmp_path):
    """One with the agent, one without; each agent ends with its own session."""
    control = f"ControlPath={agent.folder}/master"
    with subprocess.Popen(agent.argv(flags=("-A", "-N", "-M"), opts=(control,)), env=agent.env,
                          stdin=subprocess.DEVNULL) as master:
        try:
            wait_until(lambda: os.path.exists(f"{agent.folder}/master"), "the master")
            first = subprocess.Popen(agent.argv(TELL + "read x", opts=(control,)), env=agent.env,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            path = first.stdout.readline().decode().strip()
            without = agent.ssh(TELL + "true", flags=("-a",), opts=(control,)).ok()
            assert without.out == "\n", without
            second = agent.ssh(TELL + "ssh-add -l", opts=(control,)).ok().out.splitlines()
            assert second[1] + "\n" == agent.list and second[0] not in ("", path)
            wait_until(lambda: is_gone(second[0]), "the second session's agent's end")
            assert run(["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": path}).ok().out == agent.list
            first.communicate(b"\n", 20)
            wait_until(lambda: is_gone(path), "the first session's agent's end")
            assert master.poll() is None
        finally:
            master.kill()


def test_connections_end_with_the_session(region, agent):
    """A program that was left running keeps no way to the agent, while the SSH connection lives."""
    text = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["SSH_AUTH_SOCK"])
s.sendall(bytes([0, 0, 0, 1, 11]))
print(s.recv(5)[4], flush=True)
if os.fork() == 0:
    os.setsid()
    for fd in range(3):
        os.close(fd)
    while s.recv(1000):
        pass
    os.rename("waiting", "ended")
os._exit(0)
"""

    async def go():
        async with aconnect(region, agent_forwarding=True, agent_path=agent.path) as connection:
            result = await connection.run("rm -f ended; touch waiting; " + python(text), check=True)
            assert result.stdout == "12\n", result
            for _ in range(400):
                if os.path.exists(f"{region.home}/ended"):
                    break
                await asyncio.sleep(0.05)
            assert os.path.exists(f"{region.home}/ended")
            assert (await connection.run("ssh-add -l", check=True)).stdout == agent.list

    finish(go(), 60)


def test_asyncssh_and_paramiko(region, agent):
    async def go():
        async with aconnect(region, agent_forwarding=True, agent_path=agent.path) as connection:
            many = await asyncio.gather(*(connection.run("ssh-add -l", check=True) for _ in range(5)))
            assert [one.stdout for one in many] == [agent.list] * 5

    finish(go(), 60)
    client = paramiko.SSHClient()
    client.load_host_keys(region.known_hosts)
    before = os.environ.get("SSH_AUTH_SOCK")
    os.environ["SSH_AUTH_SOCK"] = agent.path  # paramiko looks nowhere else
    try:
        client.connect(region.host, region.port, region.box, key_filename=region.identity,
                       allow_agent=False, look_for_keys=False)
        channel = client.get_transport().open_session()
        handler = paramiko.agent.AgentRequestHandler(channel)
        channel.exec_command("ssh-add -l")
        assert channel.makefile("rb").read().decode() == agent.list
        assert channel.recv_exit_status() == 0
        handler.close()
    finally:
        client.close()
        os.environ.pop("SSH_AUTH_SOCK")
        if before is not None:
            os.environ["SSH_AUTH_SOCK"] = before


def test_git_clone_from_another_host(region, agent):
    """The second sandbox is the git host; the first has the user's agent and no key."""
    host = region.sandboxes[1]
    region.ssh("git init -q -b main --bare there.git && git init -q -b main w && cd w && "
               "git config user.email a@example.org && git config user.name a && "
               "head -c 300000 /dev/urandom > file && git add file && git commit -q -m one && "
               "git push -q ../there.git main && sha256sum < file", box=host).ok()
    ssh = shlex.join(["ssh", "-F", "none", "-o", f"UserKnownHostsFile={region.known_hosts}",
                      "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
                      "-p", str(region.port)])
    clone = (f"rm -rf mine; GIT_SSH_COMMAND={shlex.quote(ssh)} "
             f"git clone -q {host}@{region.host}:there.git mine && sha256sum < mine/file")
    assert "Permission denied" in agent.ssh(clone, flags=("-a",)).err
    there = region.ssh("sha256sum < w/file", box=host).ok().out
    assert agent.ssh(clone).ok().out == there


def test_agent_that_goes(agent):
    """In the middle of a session: what asks it fails, the session goes on."""
    with subprocess.Popen(agent.argv("ssh-add -l; read x; ssh-add -l; echo $?; ssh-add -l; echo $?"),
                          env=agent.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as client:
        assert client.stdout.readline().decode() == agent.list
        agent.process.kill()
        agent.process.wait()
        os.unlink(agent.path)
        out, err = client.communicate(b"\n", 30)
        # Nobody answers, or it dies of SIGPIPE while it asks.
        assert client.returncode == 0 and re.fullmatch(rb"([12]|141)\n([12]|141)\n", out), (out, err)


def test_socket_is_in_nobodys_way(region, agent):
    """Another user of the sandbox's machine cannot connect."""
    if os.geteuid() != 0:
        pytest.skip("only root may run as others")
    with subprocess.Popen(agent.argv(TELL + "read x"), env=agent.env, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as client:
        path = client.stdout.readline().decode().strip()
        look = [sys.executable, "-c", "import socket, sys\n"
                "socket.socket(socket.AF_UNIX).connect(sys.argv[1])", path]
        run(look).ok()
        other = subprocess.run(look, user="nobody", group="nogroup", extra_groups=[],
                               capture_output=True, text=True, check=False)
        assert other.returncode != 0 and "PermissionError" in other.stderr, other
        # Nor past the folder.
        os.chmod(os.path.dirname(path), 0o755)
        other = subprocess.run(look, user="nobody", group="nogroup", extra_groups=[],
                               capture_output=True, text=True, check=False)
        assert other.returncode != 0 and "PermissionError" in other.stderr, other
        client.communicate(b"\n", 20)


def test_killed_client(region, agent):
    """The user's connection is lost: nothing is left of his agent in the sandbox."""
    client = subprocess.Popen(agent.argv(TELL + "sleep 60"), env=agent.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE)
    path = client.stdout.readline().decode().strip()
    assert os.path.exists(path)
    client.send_signal(signal.SIGKILL)
    client.communicate()
    wait_until(lambda: is_gone(path), "the end of socket and folder")


def test_policy(new_region):
    """policy.agent: there is none, ssh -v shows which policy that is, and the session goes on."""
    region = new_region(sandboxes=1, config="policy:\n  agent: no\n")
    agent = Agent(region)
    try:
        result = agent.ssh(TELL + "exit 4", flags=("-A", "-v"))
        assert result.status == 4 and result.out == "\n", result
        assert "Remote: ringgate: this gateway's policy forbids agent forwarding (policy.agent: no)" in result.err, result
    finally:
        agent.stop()


def test_nowhere_to_put_it(bin_dir):
    """A sandbox in which nothing can be written: the user is told, and his command runs."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not possible here")
    folder = tempfile.mkdtemp(prefix="ringgate-", dir="/var/tmp")
    try:
        with open(f"{folder}/procd", "w", encoding="ascii") as f:
            f.write(f"""#!/bin/sh
[ $1 = keygen ] && exec {bin_dir}/procd "$@"
exec unshare -m sh -ec '
for place in /tmp /dev/shm {folder}/home; do
    mount --bind $place $place
    mount -o remount,bind,ro $place
done
exec {bin_dir}/procd "$@"' procd "$@"
""")
        os.chmod(f"{folder}/procd", 0o755)
        one = Procd(f"{folder}/procd", folder)
        try:
            with one.gateway() as gateway:
                for pty in ({}, {"pty": {"term": "xterm", "columns": 80, "rows": 24, "xpixels": 0,
                                         "ypixels": 0, "modes": b""}}):
                    ran = gateway.open("exec", command=TELL + "echo ran", agent=True, **pty).wait()
                    said = bytes(ran.err if not pty else ran.out).decode()
                    assert "procd: no agent forwarding: " in said, ran.order
                    assert bytes(ran.out).endswith(b"\nran\n" if not pty else b"\r\nran\r\n")
                    assert ran.exit == 0
        finally:
            one.stop()
    finally:
        shutil.rmtree(folder)
