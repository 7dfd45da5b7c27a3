"""The daemon: flags, configuration, logs, host keys, reload, keepalive, its end."""

import ctypes
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

from conftest import CHECKOUT
from keys import Ed25519
from raw import RawLogin, clear_packet, kexinit, transport
from regions import Region, run
from waiting import cpu_seconds, is_alive, resident_bytes, stays_true, wait_until

pytestmark = pytest.mark.gateway


def field(line, name):
    """A logfmt field's value, quotes taken off."""
    match = re.search(rf'(?:^| ){name}=("(?:[^"\\]|\\.)*"|\S*)', line)
    if match is None:
        return None
    value = match.group(1)
    return json.loads(value) if value.startswith('"') else value


def events(text, name):
    return [line for line in text.splitlines() if field(line, "event") == name]


@pytest.fixture
def ringgate(bin_dir):
    def start(*arguments, timeout=20, **how):
        return run([os.path.join(bin_dir, "ringgate"), *arguments], timeout=timeout, **how)
    return start


@pytest.fixture
def good_config(tmp_path):
    """A configuration that --check likes; write(text) adds to it."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "directory.yaml").write_text("users: []\nsandboxes: []\n")

    def write(text="", directory=None):
        if directory is not None:
            (tmp_path / "directory.yaml").write_text(directory)
        path = tmp_path / "ringgate.yaml"
        path.write_text(f'listen: ["127.0.0.1:0"]\nhost_key_dir: {tmp_path}/keys\n'
                        f"directory: {tmp_path}/directory.yaml\n"
                        f"procd_key_file: {tmp_path}/gateway_key\n" + text)
        return str(path)

    return write


# ---- flags and configuration ---------------------------------------------------


def test_help(ringgate):
    done = ringgate("--help").ok()
    for word in ("--config", "--check", "--set", "--ready-file", "SIGTERM"):
        assert word in done.out
    assert "ringgate" in ringgate("--version").ok().out


@pytest.mark.parametrize("arguments", [["--no-such-flag"], ["surplus"], ["--config"]])
def test_wrong_usage(ringgate, arguments):
    done = ringgate(*arguments)
    assert done.status == 2 and done.err.strip(), done


def test_check(ringgate, good_config):
    ringgate("--check", "--config", good_config()).ok()


def test_check_makes_nothing(ringgate, good_config, tmp_path):
    ringgate("--check", "--config", good_config()).ok()
    assert os.listdir(tmp_path / "keys") == []
    assert not (tmp_path / "gateway_key").exists()


@pytest.mark.parametrize("text, words", [
    ("no_such_key: 1\n", ["no_such_key"]),
    ("login:\n  no_such_key: 1\n", ["no_such_key"]),
    ("login: {grace_s: soon}\n", ["grace_s"]),
    ("login: {grace_s: 99999999}\n", ["grace_s"]),
    ("login: {grace_s: -1}\n", ["grace_s"]),
    ("log: {format: xml}\n", ["format", "xml"]),
    ("log: {level: loud}\n", ["level"]),
    ("crypto: {ciphers: aes128-cbc}\n", ["ciphers", "aes128-cbc"]),
    ("crypto: {kex: diffie-hellman-group1-sha1}\n", ["kex"]),
    ("session: [1, 2]\n", ["session"]),
    ("login: {grace_s: 5, grace_s: 6}\n", ["grace_s"]),
    ("session: {max_channels: 1000}\n", ["max_channels"]),
    ("{ not yaml\n", []),
    ("\tlogin: x\n", []),
])
def test_check_says_what_is_wrong(ringgate, good_config, text, words):
    """File, line, and the setting's name."""
    path = good_config(text)
    done = ringgate("--check", "--config", path)
    assert done.status == 1, done
    assert re.search(r"ringgate\.yaml:\d+", done.err), done
    for word in words:
        assert word in done.err, done
    # And it does not start with it, either.
    assert ringgate("--config", path).status == 1


def test_line_of_an_error(ringgate, good_config):
    done = ringgate("--check", "--config", good_config("\n\nlogin:\n  grace_s: 5\n  bad: 1\n"))
    assert "ringgate.yaml:9" in done.err, done


@pytest.mark.parametrize("setting", ["no_such=1", "login.grace_s=x", "login.grace_s", "=1",
                                     "listen=nonsense", "login.unauthenticated.rate=101"])
def test_bad_set(ringgate, good_config, setting):
    done = ringgate("--check", "--config", good_config(), "--set", setting)
    assert done.status in (1, 2) and done.err.strip(), done


def test_set_overrides(ringgate, good_config):
    path = good_config("login: {grace_s: 5}\n")
    ringgate("--check", "--config", path, "--set", "login.grace_s=7").ok()


def test_missing_files(ringgate, good_config, tmp_path):
    assert ringgate("--check", "--config", str(tmp_path / "none")).status == 1
    path = good_config()
    done = ringgate("--check", "--config", path, "--set", f"directory={tmp_path}/none")
    assert done.status == 1 and "none" in done.err, done


KEY = Ed25519().line


@pytest.mark.parametrize("directory", [
    "users: 5\nsandboxes: []\n",
    "users: []\nsandboxes: []\nextra: 1\n",
    f"users:\n  - id: u\n    teams: [t]\n    keys: [\"ssh-ed25519 garbage\"]\nsandboxes: []\n",
    f"users:\n  - id: u\n    teams: [t]\n    keys: [\"{KEY}\"]\n    more: 1\nsandboxes: []\n",
    f"users:\n  - teams: [t]\n    keys: [\"{KEY}\"]\nsandboxes: []\n",
    "users: []\nsandboxes:\n  - id: UPPER\n    team: t\n    procd: \"127.0.0.1:1\"\n",
    "users: []\nsandboxes:\n  - id: a\n    team: t\n    procd: \"nowhere\"\n",
    "users: []\nsandboxes:\n  - id: a\n    team: t\n    procd: \"127.0.0.1:1\"\n"
    "    procd_key: \"ed25519:short\"\n",
    "users: []\nsandboxes:\n  - id: a\n    team: t\n    procd: \"127.0.0.1:1\"\n"
    "  - id: a\n    team: t\n    procd: \"127.0.0.1:2\"\n",
    "[",
], ids=lambda text: text.replace(KEY, "KEY"))
def test_check_reads_the_directory(ringgate, good_config, directory):
    done = ringgate("--check", "--config", good_config(directory=directory))
    assert done.status == 1 and re.search(r"directory\.yaml:\d+", done.err), done


def test_every_setting_is_documented(ringgate):
    names = re.findall(r"^- `([a-z_.]+)`", ringgate("--help-settings").ok().out, re.M)
    assert len(names) > 20 and "listen" in names
    with open(os.path.join(CHECKOUT, "docs", "configuration.md"), encoding="utf-8") as f:
        text = f.read()
    missing = [name for name in names if f"`{name}`" not in text]
    assert not missing, missing


def forbid_io_uring():
    """A seccomp filter as containers have it: io_uring_setup fails with EPERM."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = b"".join(struct.pack("HBBI", *op) for op in (
        (0x20, 0, 0, 0),              # load the system call's number
        (0x15, 0, 1, 425),            # io_uring_setup, on every architecture
        (0x06, 0, 0, 0x00050001),     # errno EPERM
        (0x06, 0, 0, 0x7FFF0000)))    # allow
    buffer = ctypes.create_string_buffer(program)
    filter_program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, filter_program, 0, 0) != 0:
        os._exit(99)


def test_without_io_uring(bin_dir, good_config):
    done = subprocess.run([os.path.join(bin_dir, "ringgate"), "--config", good_config()],
                          preexec_fn=forbid_io_uring, capture_output=True, timeout=20,
                          text=True, check=False)
    if done.returncode == 99:
        pytest.skip("no seccomp filter may be set here")
    assert done.returncode == 1, done
    assert "io_uring" in done.stderr and "seccomp" in done.stderr, done


def test_address_in_use_by_something_else(ringgate, good_config):
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        done = ringgate("--config", good_config(), "--set", f"listen=127.0.0.1:{port}")
    assert done.status == 1 and str(port) in done.err, done


# ---- host keys -------------------------------------------------------------------


def test_host_keys(bin_dir, tmp_path):
    """Made once, with a note; private; the same after a restart."""
    folder = tmp_path / "r"
    with Region(bin_dir, dir=str(folder), sandboxes=1) as one:
        keys = os.path.join(one.state, "host_keys")
        names = sorted(os.listdir(keys))
        private = [n for n in names if not n.endswith(".pub")]
        assert "ssh_host_ed25519_key" in private
        for name in private:
            assert os.stat(os.path.join(keys, name)).st_mode & 0o077 == 0, name
        before = {n: open(os.path.join(keys, n), "rb").read() for n in private}
        assert "host_key" in one.gateway_log(), "no note of the new keys"
        first = one.info["host_keys"]
        assert first and all(f.startswith("SHA256:") for f in first)
        printed = run(["ssh-keygen", "-l", "-f", one.known_hosts]).ok().out
        assert sorted(first) == sorted(line.split()[1] for line in printed.splitlines())
    with Region(bin_dir, dir=str(folder), sandboxes=1) as two:
        assert two.info["host_keys"] == first
        after = {n: open(os.path.join(keys, n), "rb").read() for n in private}
        assert after == before
        two.ssh("true").ok()


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512",
                                       "rsa-sha2-256"])
def test_host_key_types(region, algorithm):
    region.ssh("true", opts=[f"HostKeyAlgorithms={algorithm}"]).ok()


def test_broken_host_key(ringgate, good_config, tmp_path):
    (tmp_path / "keys" / "ssh_host_ed25519_key").write_text("garbage\n")
    os.chmod(tmp_path / "keys" / "ssh_host_ed25519_key", 0o600)
    done = ringgate("--config", good_config())
    assert done.status == 1 and "ssh_host_ed25519_key" in done.err, done
    assert (tmp_path / "keys" / "ssh_host_ed25519_key").read_text() == "garbage\n"


# ---- logs ------------------------------------------------------------------------


def test_lines_of_a_session(region):
    offset = region.log_size()
    region.ssh("cat", input=b"x" * 100000).ok()

    def ended():
        return events(region.log_since(offset), "end")

    end = wait_until(ended, "the end's line")[0]
    text = region.log_since(offset)
    session = field(end, "session")
    connect, auth = events(text, "connect"), events(text, "auth")
    assert session and len(connect) == 1 and len(auth) == 1 and len(ended()) == 1, text
    assert field(connect[0], "session") == field(auth[0], "session") == session
    assert field(connect[0], "client").startswith("127.0.0.1:")
    assert field(auth[0], "result") == "accepted"
    assert field(auth[0], "sandbox") == region.box and field(auth[0], "user") == "u-local"
    assert field(auth[0], "key").startswith("SHA256:")
    assert int(field(end, "bytes_in")) > 100000 and int(field(end, "bytes_out")) > 100000
    assert 0 < float(field(end, "seconds")) < 30
    assert field(end, "reason")


def test_json_logs(new_region):
    region = new_region(config='log: {format: json, file: "-"}\n', sandboxes=1)
    region.ssh("true").ok()
    records = wait_until(lambda: [r for r in map(json.loads, region.gateway_log().splitlines())
                                  if r["event"] == "end"] and region.gateway_log(), "the end")
    records = [json.loads(line) for line in records.splitlines()]
    names = [r["event"] for r in records]
    assert {"connect", "auth", "end"} <= set(names)
    assert all({"ts", "level", "event"} <= set(r) for r in records)


def test_hostile_names_in_logs(region):
    """A user name cannot forge a line, a field or an escape sequence."""
    offset = region.log_size()
    key = Ed25519()
    with RawLogin(region) as login:
        login.signed("x\nevent=auth result=accepted \x1b[31m \" a=b", key.name, key.blob,
                     key.sign)
        assert login.answer()[0] == "failure"
    wait_until(lambda: "result=denied" in region.log_since(offset)
               or "result=refused" in region.log_since(offset), "the refusal's line")
    text = region.log_since(offset)
    assert "\x1b" not in text
    lines = [line.partition("| ")[2] for line in text.splitlines()]
    assert all(line.startswith("ts=") for line in lines), lines
    assert not [line for line in lines if field(line, "result") == "accepted"]


def test_no_secrets_in_logs(region, tmp_path):
    secret = "hunter2-" + os.urandom(8).hex()
    offset = region.log_size()
    region.ssh(f"echo {secret} >/dev/null", input=secret.encode(),
               opts=[f"SetEnv=LC_SECRET={secret}"]).ok()
    region.ssh("true", user=region.box, opts=["PubkeyAuthentication=no",
                                              "PasswordAuthentication=yes"])
    wait_until(lambda: events(region.log_since(offset), "end"), "the end's line")
    text = region.log_since(0)
    assert secret not in text
    with open(os.path.join(region.state, "gateway_key"), encoding="ascii") as f:
        assert f.read().strip().partition(":")[2] not in text
    for folder, _, files in os.walk(os.path.join(region.state, "host_keys")):
        for name in files:
            if not name.endswith(".pub"):
                with open(os.path.join(folder, name), encoding="ascii") as f:
                    for line in f.read().splitlines()[1:-1]:
                        assert line not in text


def test_log_file_and_its_rotation(bin_dir, tmp_path):
    log = tmp_path / "ringgate.log"
    with Region(bin_dir, config=f"log: {{format: logfmt, file: {log}}}\n",
                sandboxes=1) as region:
        region.ssh("true").ok()
        wait_until(lambda: "event=end" in log.read_text(), "the end's line")
        os.rename(log, tmp_path / "old.log")
        os.kill(region.gateway_pid, signal.SIGHUP)
        wait_until(log.exists, "the new file")
        region.ssh("true").ok()
        wait_until(lambda: "event=end" in log.read_text(), "a line in the new file")


# ---- directory -------------------------------------------------------------------


def test_directory_is_read_again(new_region, tmp_path):
    region = new_region(sandboxes=1)
    key = Ed25519()
    identity = key.write(tmp_path / "new")
    assert region.ssh("true", identity=identity).status == 255
    original = []

    def add(text):
        original.append(text)
        return text.replace("    keys:\n", f"    keys:\n      - \"{key.line}\"\n")

    region.edit_directory(add)
    wait_until(lambda: region.ssh("true", identity=identity).status == 0, "the new key")
    # A broken file changes nothing, and is said.
    region.edit_directory(lambda text: text + "nonsense: 1\n")
    wait_until(lambda: "nonsense" in region.gateway_log(), "the error's line")
    region.ssh("true", identity=identity).ok()
    # Taken off again.
    region.edit_directory(lambda text: original[0])
    wait_until(lambda: region.ssh("true", identity=identity).status == 255, "the key's end")
    region.ssh("true").ok()


def test_directory_by_sighup(new_region, tmp_path):
    region = new_region("--set", "directory_check_s=0", sandboxes=1)
    key = Ed25519()
    identity = key.write(tmp_path / "new")
    region.edit_directory(lambda text: text.replace(
        "    keys:\n", f"    keys:\n      - \"{key.line}\"\n"))
    os.kill(region.gateway_pid, signal.SIGHUP)
    wait_until(lambda: region.ssh("true", identity=identity).status == 0, "the new key")


def test_sandbox_without_a_procd(new_region):
    """Nobody listens at its address: words on stderr, not success."""
    region = new_region(sandboxes=1)
    region.edit_directory(lambda text: text + "  - id: rs-away\n    team: t-local\n"
                          "    procd: \"127.0.0.1:1\"\n")

    def answer():
        result = region.ssh("echo never", box="rs-away")
        return result if "Permission denied" not in result.err else None

    result = wait_until(answer, "the new sandbox")
    assert result.status not in (0, None) and result.stdout == b""
    assert "cannot be reached" in result.err, result
    region.serves()


# ---- keepalive and the end ---------------------------------------------------------


@pytest.fixture(scope="module")
def watchful(bin_dir):
    """Asks silent clients each second; two unanswered questions end them."""
    settings = ["--set", "session.keepalive_s=1", "--set", "session.keepalive_count=2"]
    with Region(bin_dir, settings, sandboxes=1) as started:
        yield started


def test_silent_client_is_ended(watchful):
    client = subprocess.Popen(watchful.ssh_argv("sleep 30"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        offset = watchful.log_size()
        wait_until(lambda: "result=accepted" in watchful.log_since(0), "the login")
        client.send_signal(signal.SIGSTOP)
        end = wait_until(lambda: events(watchful.log_since(offset), "end"), "its end", 15)
        assert field(end[-1], "reason"), end
    finally:
        client.kill()
        client.wait()
        client.stderr.close()


@pytest.mark.parametrize("program", ["openssh", "paramiko"])
def test_idle_client_that_answers_stays(watchful, program):
    if program == "openssh":
        assert watchful.ssh("sleep 5; echo here", timeout=20).ok().out == "here\n"
        return
    one, sock = transport(watchful)
    try:
        channel = one.open_session()
        channel.exec_command("sleep 5; echo here")
        assert channel.recv(100) == b"here\n"
    finally:
        one.close()
        sock.close()


def test_sigterm_is_a_clean_end(bin_dir):
    """Live sessions get a message and end non-zero; exit status 0; nothing is left."""
    region = Region(bin_dir, sandboxes=1).start()
    client = subprocess.Popen(region.ssh_argv("echo runs; exec sleep 100"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    try:
        assert client.stdout.readline() == b"runs\n"
        os.kill(region.gateway_pid, signal.SIGTERM)
        _, err = client.communicate(timeout=20)
        assert client.returncode not in (0, None)
        assert err.strip(), "not a word to the user"
        wait_until(lambda: not is_alive(region.gateway_pid), "the gateway's end")
        # The runner tells how it ended (and ends itself: it has no gateway any more).
        assert region.process.wait(30) == 1
        assert "gateway ended with status 0" in region.output_text()
        end = events(region.gateway_log(), "end")
        assert end and field(end[-1], "result") == "clean", end
    finally:
        client.kill()
        client.wait()
        region.stop(check=False)


def test_totals_at_the_end(bin_dir, tmp_path):
    """Logins and refusals are counted, and told when the gateway ends."""
    stranger = tmp_path / "stranger"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)]).ok()
    region = Region(bin_dir, sandboxes=1).start()
    try:
        region.ssh("true").ok()
        assert region.ssh("true", identity=str(stranger)).status == 255
        assert region.ssh("true", box="rs-nowhere").status == 255
        os.kill(region.gateway_pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(region.gateway_pid), "the gateway's end")
        totals = events(region.gateway_log(), "totals")[-1]
        assert field(totals, "auth_good") == "1"
        assert field(totals, "auth_denied") == "1"
        assert int(field(totals, "accepted")) >= 3
    finally:
        region.stop(check=False)


def test_sigterm_with_a_stopped_client(bin_dir):
    """A client that reads nothing cannot hold the end up."""
    region = Region(bin_dir, sandboxes=1).start()
    client = subprocess.Popen(region.ssh_argv("cat /dev/zero"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        client.stdout.read(1000)
        client.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        os.kill(region.gateway_pid, signal.SIGTERM)
        wait_until(lambda: not is_alive(region.gateway_pid), "the gateway's end", 10)
        assert time.monotonic() - begin < 8
        region.process.wait(30)
        assert "gateway ended with status 0" in region.output_text()
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
        region.stop(check=False)


def test_ipv6(bin_dir, good_config):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with Region(bin_dir, ["--bind", "::1"], sandboxes=1) as region:
        region.ssh("true").ok()


def test_many_listeners(bin_dir, tmp_path):
    with Region(bin_dir, config='listen: ["127.0.0.1:0", "127.0.0.2:0"]\n',
                sandboxes=1) as region:
        lines = events(region.gateway_log(), "listen")
        addresses = [field(line, "address").split(":") for line in lines]
        assert sorted(host for host, _ in addresses) == ["127.0.0.1", "127.0.0.2"]
        for host, port in addresses:
            with socket.create_connection((host, int(port)), 5) as s:
                s.settimeout(5)
                assert s.recv(20).startswith(b"SSH-2.0-")


def test_version_string_tells_little(region):
    with socket.create_connection((region.host, region.port), 5) as s:
        s.settimeout(5)
        line = s.recv(300)
    assert re.fullmatch(rb"SSH-2\.0-ringgate\S*\r\n.*", line, re.S), line


UNKNOWN = clear_packet(bytes([240]))  # Of a type that nobody uses.
UNIMPLEMENTED = 3


class ClearPackets:
    """Types of the packets in a stream that is not encrypted; fed piece by piece."""

    def __init__(self):
        self.data = b""
        self.has_banner = False
        self.types = []

    def feed(self, data):
        self.data += data
        if not self.has_banner:
            line, end, rest = self.data.partition(b"\n")
            if not end:
                return
            assert line.startswith(b"SSH-2.0-"), line
            self.has_banner, self.data = True, rest
        at = 0
        while at + 6 <= len(self.data):
            size = 4 + struct.unpack_from(">I", self.data, at)[0]
            if at + size > len(self.data):
                break
            self.types.append(self.data[at + 5])
            at += size
        self.data = self.data[at:]


def test_answers_pile_up_before_login(region):
    """Each packet of unknown type is answered. Whoever does not read the answers is not read
    either, after some 64 KiB of them and what the kernel's buffers take; and then goes on."""
    before = resident_bytes(region.gateway_pid)
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        s.connect((region.host, region.port))
        s.sendall(b"SSH-2.0-flood\r\n")
        s.settimeout(2)
        flood, sent = UNKNOWN * 4096, 0
        try:
            while sent < 64 << 20:
                sent += s.send(flood[sent % len(UNKNOWN):])
        except socket.timeout:
            pass
        assert sent < 64 << 20, "the gateway reads on"
        if not region.is_sanitized:
            assert resident_bytes(region.gateway_pid) - before < 2 << 20
        answers = ClearPackets()
        s.settimeout(20)
        while answers.types.count(UNIMPLEMENTED) < sent // len(UNKNOWN):
            data = s.recv(1 << 20)
            assert data, answers.types[-5:]
            answers.feed(data)
    region.serves()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(3000),
                                  b"SSH-1.5-old\r\n", b"SSH-2.0-x\r\n" + os.urandom(500),
                                  b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff" * 100,
                                  b"\n" * 100000, b"A" * 300000, b"\0" * 1000,
                                  b"SSH-2.0-x\r\n\0\0\0\x0c\x0a" + bytes(100),
                                  b"SSH-2.0-x\r\n" + clear_packet(bytes([20]) + bytes(30)),
                                  b"SSH-2.0-x\r\n" + clear_packet(bytes([20]) + bytes(16)
                                                                 + b"\0\0\0\x20curve"),
                                  b"SSH-2.0-x\r\n" + clear_packet(bytes([30]) + bytes(30)),
                                  b"SSH-2.0-x\r\n" + clear_packet(bytes([21])),
                                  b"SSH-2.0-x\r\n" + clear_packet(bytes([50]) + bytes(30))],
                         ids=["http", "random", "old", "garbage", "huge", "newlines",
                              "long line", "zeros", "zero packet", "kexinit", "cut kexinit",
                              "ecdh init", "newkeys", "userauth"])
def test_what_is_no_ssh(region, data):
    """It ends that connection before the deadline, and nothing else; the log has a reason
    of this connection's own."""
    offset = region.log_size()
    with socket.create_connection((region.host, region.port), 5) as s:
        client = "client=%s:%d " % s.getsockname()
        s.settimeout(10)
        try:
            s.sendall(data)
            while s.recv(4096):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
    end = wait_until(lambda: [line for line in events(region.log_since(offset), "end")
                              if client in line], "the end's line")
    assert 'reason=""' not in end[0] and "memory" not in end[0], end
    region.serves()


def unacknowledged(s):
    """Segments that the peer's kernel has not acknowledged: tcpi_unacked of struct tcp_info."""
    return struct.unpack_from("@I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]


def test_kexinit_is_acknowledged_at_once(region):
    """OpenSSH sets TCP_NODELAY only after the login: until its KEXINIT is acknowledged, its ECDH_INIT waits, 40 ms."""
    waits = []
    for _ in range(5):
        with socket.create_connection((region.host, region.port), 5) as s:
            s.sendall(b"SSH-2.0-x\r\n")
            got = b""
            while len(got) < 300:
                got += s.recv(4096)
            s.sendall(kexinit())
            begin = time.monotonic()
            while unacknowledged(s) > 0 and time.monotonic() - begin < 1:
                time.sleep(0.0005)
            waits.append(time.monotonic() - begin)
    assert min(waits) < 0.02, waits


def test_connections_that_say_nothing_and_go(region):
    def held():
        return len(os.listdir(f"/proc/{region.gateway_pid}/fd"))

    before = held()
    for i in range(60):
        with socket.create_connection((region.host, region.port), 5) as s:
            if i % 3 == 1:
                s.sendall(b"SSH-2.0-x\r\n")
            elif i % 3 == 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: held() <= before, "the end of all descriptors")
    region.serves()


def test_idle_gateway_is_idle(region):
    """No timer spins: an idle second costs next to nothing."""
    before = cpu_seconds(region.gateway_pid)
    assert stays_true(lambda: True, 3)
    assert cpu_seconds(region.gateway_pid) - before < 0.3
