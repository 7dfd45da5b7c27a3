"""What OpenSSH's own regression tests are about, by the real ssh against the gateway.

docs/openssh-regress.md says for each of their subjects which test shows it: those that no other file has are here.
"""

import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from conftest import needs_program
from forwards import Server, connect, echo, exchange, forwarding, socks
from regions import CHECKOUT, run, sha_of_file
from test_clients import dropbear, putty  # noqa: F401: fixtures
from waiting import free_port, is_alive, wait_until


@pytest.fixture
def target():
    """The port of an echo server."""
    one = Server(echo)
    yield one.port
    one.close()


class Master:
    """ssh -M -N, and others that go through it."""

    def __init__(self, region, folder):
        self.region = region
        self.path = f"{folder}/control"
        self.process = subprocess.Popen(
            region.ssh_argv(flags=("-M", "-N", "-S", self.path), opts=["SendEnv=LC_*"]),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(self.path), "the control master")

    def order(self, what, *flags):
        return self.region.ssh(flags=("-S", self.path, "-O", what, *flags))

    def ssh(self, *command, flags=(), **how):
        return self.region.ssh(*command, flags=("-S", self.path, *flags), **how)

    def end(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def master(region, folder):
    one = Master(region, folder)
    yield one
    one.end()


def is_open(to):
    with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
        connect(to).close()
        return True
    return False


# ---- multiplex ---------------------------------------------------------------

MODES = {"passed on": (), "proxy": ("-O", "proxy")}


@pytest.mark.parametrize("mode", list(MODES))
def test_multiplex(region, master, random16, mode):
    """Commands over a master, by its own protocol and by -O proxy: streams, status, environment, bulk."""
    flags = MODES[mode]
    for status in (0, 1, 4, 44, 255):
        assert master.ssh(f"exit {status}", flags=flags).status == status
        early = f"exec sh -c 'sleep 0.05; exec >/dev/null 2>&1; sleep 0.1; exit {status}'"
        assert master.ssh(early, flags=("-n", *flags)).status == status
    done = master.ssh("cat; echo err >&2", flags=flags, input=b"in").ok()
    assert done.stdout == b"in" and b"err\n" in done.stderr
    done = master.ssh("echo $LC_FIRST $LC_SECOND", flags=("-o", "SetEnv=LC_FIRST=one", "-o",
                                                          "SendEnv=LC_SECOND", *flags),
                      env=dict(os.environ, LC_SECOND="two")).ok()
    assert done.out == "one two\n", done
    with open(random16.path, "rb") as f:
        assert master.ssh("sha256sum", flags=flags, stdin=f).ok().out.split()[0] == random16.sha
    assert len(master.ssh("head -c 8000000 /dev/zero", flags=flags).ok().stdout) == 8000000


def test_multiplex_copies(region, master, work, random16, tmp_path):
    """scp and sftp over a master, both ways."""
    opts = [f"ControlPath={master.path}"]
    region.scp(random16.path, region.remote(f"{work}/up"), opts=opts).ok()
    region.sftp(f"rename {work}/up {work}/f\nget {work}/f {tmp_path}/back\n", opts=opts).ok()
    assert sha_of_file(tmp_path / "back") == random16.sha


def test_multiplex_forwards(master, folder, target):
    """-O forward and -O cancel of each kind; an open connection outlives its forward."""
    there = f"{folder}/there"
    one = Server(echo, there)
    port = free_port()
    here = f"{folder}/here"
    for flag, to, forward in (
            ("-L", port, f"{port}:localhost:{target}"), ("-R", port, f"{port}:localhost:{target}"),
            ("-L", here, f"{here}:{there}"), ("-R", here, f"{here}:{there}"),
            ("-L", here, f"{here}:localhost:{target}"), ("-R", here, f"{here}:localhost:{target}"),
            ("-L", port, f"{port}:{there}"), ("-R", port, f"{port}:{there}")):
        master.order("forward", flag, forward).ok()
        wait_until(lambda: is_open(to), forward)
        with connect(to) as s:
            s.sendall(b"before")
            assert s.recv(100) == b"before"
            master.order("cancel", flag, forward).ok()
            wait_until(lambda: not is_open(to), f"the end of {forward}")
            s.sendall(b"after")
            assert s.recv(100) == b"after"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(here)  # ssh leaves its own behind.
    one.close()
    dynamic = free_port()
    master.order("forward", "-D", str(dynamic)).ok()
    with socks(dynamic, "localhost", target) as s:
        s.sendall(b"x")
        assert s.recv(10) == b"x"
    # One of what leads here through one of what leads there.
    first, second = f"{folder}/first", f"{folder}/second"
    master.order("forward", "-L", f"{first}:localhost:{target}").ok()
    master.order("forward", "-R", f"{second}:{first}").ok()
    data = os.urandom(1000000)
    wait_until(lambda: is_open(second), "the chain")
    assert exchange(second, data) == data


def test_multiplex_ends(region, folder):
    """-O stop: nothing new, what runs goes on and ends well. -O exit: all of it ends."""
    master = Master(region, folder)
    try:
        assert f"Master running (pid={master.process.pid})" in master.order("check").ok().err
        late = subprocess.Popen(region.ssh_argv("cat; exit 7", flags=("-S", master.path)),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        late.stdin.write(b"before ")
        late.stdin.flush()
        assert late.stdout.read(7) == b"before "
        master.order("stop").ok()
        assert not os.path.exists(master.path)
        out, _ = late.communicate(b"after", timeout=20)
        assert (out, late.returncode) == (b"after", 7)
    finally:
        master.end()
    master = Master(region, folder)
    try:
        late = subprocess.Popen(region.ssh_argv("echo up; sleep 60", flags=("-S", master.path)),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert late.stdout.readline() == b"up\n"
        master.order("exit").ok()
        master.process.wait(20)
        late.communicate(timeout=20)
        assert late.returncode == 255 and not os.path.exists(master.path)
    finally:
        master.end()


# ---- streams and ends --------------------------------------------------------


def test_stderr_after_the_end_of_stdout(region):
    """Data on stderr comes whole, long after stdout's end."""
    data = os.urandom(300000).hex().encode()
    result = region.ssh("d=$(cat); exec >/dev/null; sleep 0.3; printf %s \"$d\" >&2", input=data)
    assert result.ok().stdout == b"" and result.stderr.endswith(data), result.status


@pytest.mark.parametrize("flags", [(), ("-tt",)], ids=["pipes", "terminal"])
def test_yes_head(region, flags):
    """A writer whose reader ends in time; all lines come and nothing hangs."""
    result = region.ssh("yes | head -n 3000", flags=flags).ok()
    assert result.stdout.replace(b"\r", b"") == b"y\n" * 3000


def test_broken_pipe(region):
    """Nobody reads what ssh writes: it ends all the same."""
    for i in range(4):
        run(["bash", "-c", '"$@" | true', "-", *region.ssh_argv(f"echo {i}")], timeout=20).ok()
    region.serves()


def test_transfer_in_pieces(region, work):
    """Standard input in writes of many sizes, as dd's obs."""
    data = os.urandom(600000)
    for size in (10, 100, 1000, 32768, 65536, 131072, 262144):
        writer = subprocess.Popen(region.ssh_argv(f"cat >{work}/f"), stdin=subprocess.PIPE,
                                  bufsize=0)
        part = data[:size * 3000]
        for at in range(0, len(part), size):
            writer.stdin.write(part[at:at + size])
        writer.stdin.close()
        assert writer.wait(60) == 0
        with open(os.path.join(region.home, work, "f"), "rb") as f:
            assert f.read() == part, size


def test_no_stdin(region):
    """-n, and -f in the background."""
    assert region.ssh("cat; echo end", flags=("-n",)).ok().stdout == b"end\n"
    path = f"/tmp/ringgate-f-{os.getpid()}"
    try:
        region.ssh(f"sleep 0.3; echo late >{path}", flags=("-f",)).ok()
        wait_until(lambda: os.path.exists(path) and os.path.getsize(path), "the command in the background")
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def test_authinfo_is_not_told(region):
    """SSH_USER_AUTH is neither made nor taken from the client."""
    result = region.ssh("env", opts=["SendEnv=SSH_USER_AUTH"],
                        env=dict(os.environ, SSH_USER_AUTH="blah")).ok()
    assert "SSH_USER_AUTH" not in result.out


# ---- addresses ---------------------------------------------------------------


def test_uris(region, work, random16, tmp_path):
    """ssh://, scp:// and sftp:// with a user and a port."""
    at = f"{region.box}@{region.host}:{region.port}"
    for slash in ("", "/"):
        result = run(["ssh", *region.options(), f"ssh://{at}{slash}", "echo here"])
        assert result.ok().stdout == b"here\n"
    assert run(["ssh", *region.options(), f"ssh://{at}/path", "true"]).status == 255
    run(["scp", *region.options(), random16.path, f"scp://{at}/{work}/up"]).ok()
    run(["scp", *region.options(), f"scp://{at}/{work}/up", str(tmp_path / "one")]).ok()
    run(["sftp", *region.options(), f"sftp://{at}/{work}/up", str(tmp_path / "two")]).ok()
    assert sha_of_file(tmp_path / "one") == sha_of_file(tmp_path / "two") == random16.sha


def test_keyscan(region):
    """ssh-keyscan gets the host keys that known_hosts has."""
    needs_program("ssh-keyscan")
    result = run(["ssh-keyscan", "-p", str(region.port), region.host]).ok()
    found = {tuple(line.split()[-2:]) for line in result.out.splitlines() if line[:1] != "#"}
    with open(region.known_hosts, encoding="ascii") as f:
        known = {tuple(line.split()[1:3]) for line in f if line.strip()}
    assert found and found <= known | found and known <= found, (found, known)


# ---- forwards ----------------------------------------------------------------


def test_chain_of_forwards(region, target):
    """-R to a port here that -L leads back there: 4 channels for a connection."""
    first, second, third = (free_port() for _ in range(3))
    with forwarding(region, "-L", f"{first}:127.0.0.1:{target}", "-R", f"{second}:127.0.0.1:{first}",
                    "-L", f"{third}:localhost:{second}", port=third):
        wait_until(lambda: is_open(second), "the middle of the chain")
        data = os.urandom(2000000)
        assert exchange(third, data) == data


def test_exit_on_forward_failure(region, target):
    for flag in ("-L", "-R"):
        forward = (flag, f"127.0.0.1:{target}:127.0.0.1:1")
        hard = region.ssh("echo ran", flags=forward, opts=["ExitOnForwardFailure=yes"])
        assert hard.status == 255 and hard.stdout == b"", hard
        soft = region.ssh("echo ran", flags=forward)
        assert soft.ok().stdout == b"ran\n"
        # Cleared, there is nothing that could fail.
        cleared = region.ssh("echo ran", flags=forward,
                             opts=["ExitOnForwardFailure=yes", "ClearAllForwardings=yes"])
        assert cleared.ok().stdout == b"ran\n"


def test_forwards_of_a_configuration_file(region, target, tmp_path):
    local, remote = free_port(), free_port()
    (tmp_path / "config").write_text(f"Host *\n LocalForward {local} localhost:{target}\n"
                                     f" RemoteForward {remote} localhost:{target}\n")
    argv = region.ssh_argv(flags=("-N",))
    argv[argv.index("-F") + 1] = str(tmp_path / "config")
    client = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        for port in (local, remote):
            wait_until(lambda: is_open(port), "the forward")
            assert exchange(port, b"by file") == b"by file"
    finally:
        client.kill()
        client.wait()


def socks4(port, target, name=None):
    """SOCKS 4, or 4a with a name that is resolved over there."""
    s = connect(port)
    address = b"\0\0\0\1" if name else b"\x7f\0\0\1"
    s.sendall(struct.pack(">BBH", 4, 1, target) + address + b"user\0"
              + (name.encode() + b"\0" if name else b""))
    reply = s.makefile("rb").read(8)
    assert reply[:2] == b"\0\x5a", reply
    return s


def socks5_bytes(port, kind, address, target):
    """SOCKS 5 with a binary address."""
    s = connect(port)
    s.sendall(b"\x05\x01\x00\x05\x01\x00" + bytes([kind]) + address + struct.pack(">H", target))
    reply = s.makefile("rb").read(12)
    assert reply[:2] == b"\x05\x00" and reply[3] == 0, reply
    return s


@pytest.mark.parametrize("flag", ["-D", "-R"])
def test_dynamic_forward(region, target, flag):
    """Every version of SOCKS; -R without a target is a proxy for the sandbox, at the user's end."""
    port = free_port()
    with forwarding(region, flag, str(port), port=port):
        for s in (socks4(port, target), socks4(port, target, "localhost"),
                  socks(port, "127.0.0.1", target), socks(port, "localhost", target),
                  socks5_bytes(port, 1, b"\x7f\0\0\1", target)):
            with s:
                data = os.urandom(100000)
                thread = threading.Thread(target=s.sendall, args=(data,))
                thread.start()
                got = b""
                while len(got) < len(data):
                    part = s.recv(1 << 16)
                    assert part
                    got += part
                assert got == data
                thread.join()


# ---- integrity ---------------------------------------------------------------


class Spoiler:
    """A relay that can change one bit of what the client sends."""

    def __init__(self, host, port):
        self.to = (host, port)
        self.is_armed = threading.Event()
        self.is_done = threading.Event()
        self.before = 0  # Bytes between the arming and the bit.
        self.server = Server(self.relay)
        self.port = self.server.port

    def relay(self, client):
        with socket.create_connection(self.to) as gateway:
            thread = threading.Thread(target=self.pass_on, args=(gateway, client, False))
            thread.start()
            self.pass_on(client, gateway, True)
            thread.join()

    def pass_on(self, from_, to, may_spoil):
        with contextlib.suppress(OSError):
            while data := from_.recv(1 << 16):
                if may_spoil and self.is_armed.is_set() and not self.is_done.is_set():
                    spoilt = bytearray(data)
                    self.before = random.randrange(len(data))
                    spoilt[self.before] ^= 1 << random.randrange(8)
                    data = bytes(spoilt)
                    self.is_done.set()
                to.sendall(data)
        with contextlib.suppress(OSError):
            to.shutdown(socket.SHUT_WR)


PROTECTIONS = [("aes128-ctr", mac) for mac in
               ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com",
                "hmac-sha2-512-etm@openssh.com")] + [
    (cipher, None) for cipher in ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
                                  "chacha20-poly1305@openssh.com")]


def test_integrity(region):
    """One bit of an encrypted packet is changed on its way, wherever it is: the session ends, and not
    a byte of that packet or a later one reaches the command."""
    for cipher, mac in PROTECTIONS:
        spoiler = Spoiler(region.host, region.port)
        opts = [f"Ciphers={cipher}"] + ([f"MACs={mac}"] if mac else [])
        argv = region.ssh_argv("cat", opts=[*opts, "ServerAliveInterval=1"])
        argv[argv.index("-p") + 1] = str(spoiler.port)
        argv[argv.index("-l"):argv.index("-l")] = ["-o", f"HostKeyAlias=[{region.host}]:{region.port}"]
        client = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        offset = region.log_size()
        try:
            client.stdin.write(b"good\n")
            client.stdin.flush()
            assert client.stdout.readline() == b"good\n", client.stderr.read()
            spoiler.is_armed.set()
            # Large, so that a length that was made larger is filled, too.
            with contextlib.suppress(BrokenPipeError):
                for _ in range(16):
                    client.stdin.write(b"bad!" * 16384)
                client.stdin.flush()
            wait_until(lambda: 'event=end ' in region.log_since(offset), "the session's end")
            out, _ = client.communicate(timeout=20)
            # Whole packets before it are good, and in it there is more than their bytes; `cat` may have answered.
            assert len(out) <= spoiler.before and (b"bad!" * 16384).startswith(out), (cipher, mac, len(out), spoiler.before)
            assert client.returncode == 255, (cipher, mac)
        finally:
            client.kill()
            client.wait()
            spoiler.server.close()
    region.serves()


# ---- reconfigure -------------------------------------------------------------


def test_sighup_leaves_sessions_alone(new_region, folder, target):
    region = new_region(sandboxes=1)
    one, port = Master(region, folder), free_port()
    try:
        one.order("forward", "-L", f"{port}:localhost:{target}").ok()
        with connect(port) as s:
            for i in range(3):
                os.kill(region.gateway_pid, signal.SIGHUP)
                s.sendall(b"%d" % i)
                assert s.recv(10) == b"%d" % i
                assert one.ssh(f"echo {i}").ok().stdout == b"%d\n" % i
                assert region.ssh(f"echo new {i}").ok().stdout == b"new %d\n" % i
        assert is_alive(region.gateway_pid)
    finally:
        one.end()


# ---- sftp --------------------------------------------------------------------


def test_sftp_bad_commands(region, work, tmp_path):
    """What cannot be done fails, says so, and leaves nothing."""
    top = os.path.join(region.home, work)
    os.mkdir(f"{top}/dir")
    (tmp_path / "f").write_text("f")
    (tmp_path / "g").write_text("g")
    for command in (f"get {work}/nothing {tmp_path}/copy", f"get {work}/no* {tmp_path}/copy",
                    f"put {tmp_path}/nothing {work}/copy", f"put {tmp_path}/? {work}/nowhere/copy",
                    f"rename {work}/nothing {work}/copy", f"get -r {work}/dir {tmp_path}/no/such",
                    f"put {tmp_path}/f {work}/no/such", f"cd {work}/nothing", f"chmod 600 {work}/nothing",
                    f"rm {work}/nothing", f"mkdir {work}/dir", f"rmdir {work}/nothing",
                    "no-such-command", f"ln {work}/nothing {work}/hard"):
        result = region.sftp(f"{command}\n")
        assert result.status == 1 and result.err, result
    assert os.listdir(top) == ["dir"] and sorted(os.listdir(tmp_path)) == ["f", "g"]
    # A folder where a file should go is not replaced.
    region.sftp(f"put {tmp_path}/f {work}/file\n").ok()
    assert region.sftp(f"rename {work}/file {work}/dir\n").status == 1
    assert sorted(os.listdir(top)) == ["dir", "file"]


def test_sftp_batch(region, work, tmp_path):
    """A batch ends at its first failure, but for those that begin with a dash."""
    (tmp_path / "f").write_text("f")
    put = f"put {tmp_path}/f {work}/"
    result = region.sftp(f"# a comment\n\n{put}one\n-get {work}/nothing {tmp_path}/x\n@{put}two\n"
                         f"get {work}/nothing {tmp_path}/x\n{put}three\n")
    assert result.status == 1
    assert sorted(os.listdir(os.path.join(region.home, work))) == ["one", "two"]


def test_sftp_glob(region, work, tmp_path):
    """Patterns are matched against what is there; quoted ones are names."""
    top = os.path.join(region.home, work)
    names = ["g-one", "g-two", "g-*", "g-[ab]", "g a", "g\\x", "g'q", 'g"d', "h"]
    for name in names:
        with open(os.path.join(top, name), "w", encoding="ascii") as f:
            f.write(name)

    def got(pattern):
        here = tempfile.mkdtemp(dir=tmp_path)
        region.sftp(f"get {work}/{pattern} {here}\n").ok()
        return sorted(os.listdir(here))

    assert got("g-*") == ["g-*", "g-[ab]", "g-one", "g-two"]
    assert got("g-???") == ["g-one", "g-two"]
    assert got("g-[o-t]*") == ["g-one", "g-two"]
    assert got("g-\\*") == ["g-*"]
    assert got("g-\\[ab\\]") == ["g-[ab]"]
    assert got('"g a"') == ["g a"] and got("g\\ a") == ["g a"]
    assert got("g\\'q") == ["g'q"] and got("'g\"d'") == ['g"d']
    assert got("*") == sorted(names)


# ---- other clients' algorithms -----------------------------------------------


def test_dropbear_algorithms(region, dropbear):
    """Each cipher and MAC that both know."""
    env = dict(os.environ, HOME=str(dropbear))
    base = ["dbclient", "-y", "-T", "-i", str(dropbear / "key"), "-p", str(region.port)]

    def known(flag):
        words = run([*base, flag, "help", region.host], env=env).err.replace(",", " ").split()
        return [word for word in words if word.startswith(("aes", "chacha", "3des", "hmac"))]

    data = os.urandom(300000)
    tried = []
    for cipher in known("-c"):
        for mac in known("-m"):
            result = run([*base, "-c", cipher, "-m", mac, f"{region.box}@{region.host}", "cat"],
                         input=data, env=env)
            # SHA-1 and what is older than that: not here.
            is_weak = cipher.startswith("3des") or mac.startswith("hmac-sha1") or "cbc" in cipher
            if is_weak and not cipher.startswith("chacha"):
                assert result.status != 0 and result.stdout == b"", result
                continue
            assert result.ok().stdout == data
            tried.append((cipher, mac))
    assert {"chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-ctr"} <= {c for c, _ in tried}, tried


PUTTY_WORDS = {"Cipher": ("aes", "chacha20", "aesgcm"),
               "KEX": ("ecdh", "ntru-curve25519", "dh-group14-sha1", "dh-group16-sha512")}


def test_putty_algorithms(region, putty):
    """PuTTY's ciphers and key exchanges, by name in a saved session."""
    home, options = putty
    sessions = home / ".putty" / "sessions"
    sessions.mkdir(parents=True, exist_ok=True)
    data = os.urandom(300000)
    for key, words in PUTTY_WORDS.items():
        for word in words:
            (sessions / word).write_text(f"Protocol=ssh\n{key}={word},WARN\n")
            result = run(["plink", "-load", word, *options, "-v", "-l", region.box, region.host, "cat"],
                         input=data, env=dict(os.environ, HOME=str(home)))
            assert result.ok().stdout == data, (word, result.err)


# ---- the table ---------------------------------------------------------------


def test_the_table_names_what_is_there():
    """docs/openssh-regress.md: each test exists; no subject stands in two places."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(CHECKOUT, "docs", "openssh-regress.md"), encoding="utf-8") as f:
        text = f.read()
    tests = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(tests) > 60
    for file, name in tests:
        with open(os.path.join(here, file), encoding="utf-8") as f:
            assert not name or f"def {name}(" in f.read(), (file, name)
    subjects = [word for line in re.findall(r"^\| ([a-z0-9, -]+) \|", text, re.M)
                for word in line.split(", ") if word != "subject"]
    tail = text[text.index("which no server is part of"):]
    subjects += re.findall(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*(?=[,.]\s)", tail.partition("\n\n")[0])
    twice = {word for word in subjects if subjects.count(word) > 1}
    assert len(subjects) > 90 and not twice, (len(subjects), twice)
