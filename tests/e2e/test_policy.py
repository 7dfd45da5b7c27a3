"""Policies of the region, a team and a sandbox: what each field forbids, and that the user is told by which."""

import os
import re
import subprocess

import pytest

from forwards import Server, connect, echo
from regions import Region, run
from waiting import free_port, wait_until

pytestmark = pytest.mark.gateway

# Written into the directory file; {open} is a port that is allowed, {listen} one to listen at.
POLICIES = {
    "free": None,
    "shut": "{{forward_tcp: none, forward_listen: none, forward_unix: no}}",
    "some": '{{forward_ports: ["{open}"], listen_ports: ["{listen}-{listen}"], sftp: none,'
            ' commands: ["echo *", "env", "git-upload-pack \'*\'"]}}',
    "reads": "{{sftp: read_only}}",
    "files": "{{sftp_only: yes}}",
    "shows": '{{sftp: read_only, commands: ["cat *"]}}',
}
OWNER = "; ask its owner"


class Policed:
    """A region of sandboxes with a policy each."""

    def __init__(self, region, **ports):
        self.region = region
        self.ports = ports
        self.boxes = dict(zip(POLICIES, region.sandboxes))
        region.change_directory(self.with_policies)

    def with_policies(self, text):
        for name, policy in POLICIES.items():
            if policy:
                line = f"  - id: {self.boxes[name]}\n"
                assert line in text
                text = text.replace(line, f"{line}    policy: {policy.format(**self.ports)}\n")
        return text

    def home(self, name):
        return self.region.homes[self.boxes[name]]

    def ssh(self, name, *command, **how):
        return self.region.ssh(*command, box=self.boxes[name], **how)

    def sftp(self, name, batch):
        return self.region.sftp(batch, box=self.boxes[name])

    def refused_command(self, name, words, *command, **how):
        """Standard error says why, and the status is no success of anything."""
        result = self.ssh(name, *command, **how)
        assert result.status == 1 and result.stdout == b"", result
        assert f"ringgate: this sandbox's policy forbids {words}{OWNER}\r\n" in result.err, result

    def refused_socket(self, name, path, words):
        """ssh -L to it; -W of a path never ends in OpenSSH."""
        port = free_port()
        client = subprocess.Popen(
            self.region.ssh_argv(box=self.boxes[name], flags=("-N", "-L", f"127.0.0.1:{port}:{path}")),
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

        def is_connected():
            try:
                connect(port).close()
                return True
            except ConnectionRefusedError:
                return False

        try:
            wait_until(is_connected, "ssh listens")
            line = client.stderr.readline().decode()
        finally:
            client.kill()
            client.communicate()
        assert f"administratively prohibited: this sandbox's policy forbids {words}{OWNER}" in line, line

    def refused_forward(self, name, to, words):
        """ssh -W to it."""
        result = self.ssh(name, flags=("-W", to))
        assert result.status != 0 and "administratively prohibited" in result.err, result
        assert f"this sandbox's policy forbids {words}{OWNER}" in result.err, result

    def refused_listening(self, name, spec, words):
        result = self.ssh(name, flags=("-v", "-N", "-R", spec), opts=("ExitOnForwardFailure=yes",))
        assert result.status != 0, result
        assert re.search("remote (port )?forward(ing)? (failed|failure)", result.err), result
        assert f"this sandbox's policy forbids {words}{OWNER}" in result.err, result


@pytest.fixture(scope="module")
def ports():
    """A server in the sandboxes (they share this machine's network), and a port to listen at."""
    server = Server(echo)
    yield {"open": server.port, "listen": free_port()}
    server.close()


@pytest.fixture(scope="module")
def policed(bin_dir, is_standin, ports):
    with Region(bin_dir, is_standin=is_standin, sandboxes=len(POLICIES),
                config="policy: {forward_tcp: all}\n") as region:
        yield Policed(region, **ports)


def test_without_a_policy_all_is_allowed(policed, ports):
    box = policed.boxes["free"]
    result = policed.ssh("free", "echo", "$GIT_X", env={**os.environ, "GIT_X": "y"}, opts=("SendEnv=GIT_X",))
    assert result.stdout == b"y\n", result
    policed.ssh("free", flags=("-W", f"127.0.0.1:{ports['open']}")).ok()
    policed.sftp("free", "put /etc/hostname x\nrm x\n").ok()
    port = free_port()
    run(policed.region.ssh_argv("true", box=box, flags=("-R", f"{port}:127.0.0.1:1"),
                                opts=("ExitOnForwardFailure=yes",))).ok()


def test_no_forwards(policed, ports):
    path = os.path.join(policed.home("shut"), "s")
    policed.refused_forward("shut", f"127.0.0.1:{ports['open']}", "port forwarding (forward_tcp: none)")
    policed.refused_socket("shut", path, "forwarding of Unix sockets (forward_unix: no)")
    policed.refused_listening("shut", f"{free_port()}:127.0.0.1:1", "remote port forwarding (forward_listen: none)")
    policed.refused_listening("shut", f"{path}:127.0.0.1:1", "forwarding of Unix sockets (forward_unix: no)")
    assert not os.path.exists(path)
    assert policed.ssh("shut", "echo", "in").ok().stdout == b"in\n"
    policed.sftp("shut", "ls\n").ok()


def test_ports(policed, ports):
    box = policed.boxes["some"]
    result = policed.ssh("some", flags=("-W", f"127.0.0.1:{ports['open']}"), input=b"through")
    assert result.stdout == b"through", result
    other = Server(echo)
    policed.refused_forward("some", f"127.0.0.1:{other.port}",
                            f"forwarding to port {other.port} (forward_ports)")
    assert other.peak == 0
    other.close()
    run(policed.region.ssh_argv("echo x", box=box, flags=("-R", f"{ports['listen']}:127.0.0.1:1"),
                                opts=("ExitOnForwardFailure=yes",))).ok()
    port = free_port()
    policed.refused_listening("some", f"{port}:127.0.0.1:1", f"listening at port {port} (listen_ports)")
    policed.refused_listening("some", "0:127.0.0.1:1", "listening at a port of any number (listen_ports)")


def test_commands(policed):
    assert policed.ssh("some", "echo a b-c").ok().stdout == b"a b-c\n"
    for command in ("echo", "id", "echo a; id", "echo $(id)", "echo a\nid", "git-upload-pack 'a' 'b'", "x" * 2000):
        policed.refused_command("some", "this command (commands)", command)
    policed.refused_command("some", "a shell (commands)", input=b"id\n")
    policed.refused_command("some", "a shell (commands)", flags=("-tt",))
    policed.refused_command("some", "this subsystem (commands)", "other", flags=("-s",))
    # Variables would make another command of a permitted one.
    result = policed.ssh("some", "env", env={**os.environ, "GIT_SSH_COMMAND": "id", "GIT_PROTOCOL": "version=2"},
                         opts=("SendEnv=GIT_*",)).ok()
    assert "GIT_PROTOCOL=version=2" in result.out and "GIT_SSH_COMMAND" not in result.out, result


def test_no_sftp(policed, tmp_path):
    for result in (policed.sftp("some", "ls\n"),
                   policed.ssh("some", "sftp", flags=("-s",)),
                   policed.ssh("some", "sftp-read-only", flags=("-s",)),
                   policed.region.scp(policed.region.remote("/etc/hostname", policed.boxes["some"]),
                                      str(tmp_path / "x"))):
        assert result.status != 0, result
        assert f"ringgate: this sandbox's policy forbids file transfer (sftp: none){OWNER}" in result.err, result


def snapshot(folder):
    return sorted((os.path.join(at, name), os.lstat(os.path.join(at, name)).st_mtime_ns,
                   os.lstat(os.path.join(at, name)).st_mode)
                  for at, folders, files in os.walk(folder) for name in (*folders, *files))


@pytest.mark.parametrize("name", ["reads", "shows"])
def test_read_only(policed, tmp_path, name):
    """Nothing of what could write does, and the user is told, by sftp's answer and on standard error."""
    home = policed.home(name)
    with open(os.path.join(home, "kept"), "w", encoding="ascii") as f:
        f.write("content\n")
    os.makedirs(os.path.join(home, "folder"), exist_ok=True)
    before = snapshot(home)
    words = f"ringgate: this sandbox's policy forbids writing files (sftp: read_only){OWNER}"
    commands = ("put /etc/hostname new", "put /etc/hostname kept", "rm kept",
                "rename kept other", "mkdir new", "rmdir folder", "chmod 777 kept", "ln kept hard",
                "ln -s kept soft", "put -p /etc/hostname kept")
    result = policed.sftp(name, "".join(f"-{command}\n" for command in commands))
    assert result.err.count(words) == 1, result
    assert result.err.count("enied") + result.err.count("not support") >= len(commands), result
    result = policed.sftp(name, "mkdir new\n")
    assert result.status == 1 and words in result.err, result
    target = policed.region.remote("kept", policed.boxes[name])
    result = policed.region.scp("/etc/hostname", target)
    assert result.status != 0 and words in result.err, result
    assert snapshot(home) == before
    policed.region.scp(target, str(tmp_path / "copy")).ok()
    assert (tmp_path / "copy").read_text() == "content\n"
    result = policed.sftp(name, f"ls -l\nget kept {tmp_path / 'again'}\n").ok()
    assert words not in result.err and (tmp_path / "again").read_text() == "content\n", result


def test_read_only_is_sftp_only(policed, ports):
    """A shell, or what listens in the sandbox, could write what sftp may not; limited commands are the owner's affair."""
    field = "sftp: read_only"
    policed.refused_command("reads", f"commands ({field})", "id")
    policed.refused_command("reads", f"a shell ({field})", input=b"id\n")
    policed.refused_forward("reads", f"127.0.0.1:{ports['open']}", f"port forwarding ({field})")
    assert policed.ssh("shows", "cat kept").ok().stdout == b"content\n"
    policed.refused_command("shows", "this command (commands)", "rm kept")
    policed.ssh("shows", flags=("-W", f"127.0.0.1:{ports['open']}")).ok()


def test_sftp_only(policed, ports):
    policed.sftp("files", "put /etc/hostname x\nrm x\n").ok()
    policed.refused_command("files", "commands (sftp_only)", "id")
    policed.refused_command("files", "a shell (sftp_only)", input=b"id\n")
    policed.refused_command("files", "this subsystem (sftp_only)", "other", flags=("-s",))
    policed.refused_forward("files", f"127.0.0.1:{ports['open']}", "port forwarding (sftp_only)")
    policed.refused_socket("files", "/tmp/x", "forwarding of Unix sockets (sftp_only)")
    policed.refused_listening("files", f"{free_port()}:127.0.0.1:1", "remote port forwarding (sftp_only)")


def test_each_names_its_own(bin_dir, is_standin):
    """The region's, the team's, the sandbox's: all must allow it; a change reaches sessions that are open."""
    config = "policy: {forward_ports: [1-65000], sftp: read_only, commands: [id, echo *]}\n"
    with Region(bin_dir, is_standin=is_standin, sandboxes=1, config=config) as region:
        team = re.search(r"    team: (.*)\n", open(region.info["directory"], encoding="utf-8").read()).group(1)
        result = region.ssh("ls")
        assert (result.status == 1 and result.err ==
                "ringgate: this gateway's policy forbids this command (policy.commands); ask its operator\r\n"), result
        control = os.path.join(region.dir, "control")
        opts = [f"ControlPath={control}"]
        master = subprocess.Popen(region.ssh_argv(flags=("-M", "-N"), opts=opts), stdin=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(control), "the master")
        assert region.ssh("echo", "in", opts=opts).stdout == b"in\n"
        region.change_directory(
            lambda text: text + f"teams:\n  - id: {team}\n    policy: {{commands: [id]}}\n")
        told = f"ringgate: the policy of team {team} forbids this command (commands); ask its administrators\r\n"
        wait_until(lambda: region.ssh("echo", "in", opts=opts).err == told, "the policy in a live session")
        assert region.ssh("echo", "in").err == told
        region.ssh("id", opts=opts).ok()
        assert region.ssh("ls").err.startswith("ringgate: this gateway's policy"), "the region's first"
        master.terminate()
        master.wait()


def test_mistakes_keep_what_was(policed):
    """A policy that is wrong is a mistake in the file, and said."""
    region = policed.region
    offset = region.log_size()
    region.edit_directory(lambda text: text.replace("sftp_only: yes", "sftp_onyl: yes"))
    wait_until(lambda: "unknown key 'sftp_onyl'" in region.log_since(offset), "the mistake in the log")
    policed.refused_command("files", "commands (sftp_only)", "id")
    region.change_directory(lambda text: text.replace("sftp_onyl: yes", "sftp_only: yes"))
