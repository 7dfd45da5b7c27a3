"""procd alone, driven by a gateway in Python: the protocol to the letter, and what a hostile gateway may try."""

import contextlib
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import msgpack
import pytest
from nacl.signing import SigningKey

import procd_wire as w
import stuck_files
from procd_wire import Gateway, Server, make_ticket, pack, read_key, wait_for
from regions import has_sanitizer
from waiting import close_listener

pytestmark = pytest.mark.gateway


@pytest.fixture(scope="module")
def program(bin_dir):
    return os.path.join(bin_dir, "procd")


@pytest.fixture(scope="module")
def server(program, tmp_path_factory):
    one = Server(program, tmp_path_factory.mktemp("procd"))
    yield one
    one.stop()
    text = one.log()
    assert "assertion failed" not in text and "Sanitizer" not in text, text


@pytest.fixture
def gateway(server):
    with server.gateway() as one:
        yield one


def session_pids(server):
    path = f"/proc/{server.pid}/task/{server.pid}/children"
    with open(path, encoding="ascii") as f:
        return [int(x) for x in f.read().split()]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def serves(server):
    with server.gateway() as g:
        return g.run("echo yes").out == b"yes\n"


# ---- who is there ----------------------------------------------------------------


def test_hello(server):
    with server.gateway() as g:
        assert g.control[0][0] == w.CHALLENGE and g.control[0][2] == 1


def test_two_challenges_differ(server):
    with server.gateway() as a, server.gateway() as b:
        assert a.control[0][3] != b.control[0][3]


@pytest.mark.parametrize("what, code", [
    pytest.param({"key": SigningKey.generate()}, "bad-ticket", id="another key"),
    ({"signature": b""}, "bad-ticket"),
    ({"signature": bytes(64)}, "bad-ticket"),
    ({"signature": bytes(63)}, "bad-ticket"),
    ({"challenge": bytes(32)}, "bad-ticket"),
    ({"version": 2}, "version"),
    ({"ticket": b""}, "bad-ticket"),
    ({"ticket": b"\xc0"}, "bad-ticket"),
    ({"ticket": bytes(5000)}, "bad-ticket"),
    pytest.param({"ticket": make_ticket("other")}, "wrong-sandbox", id="another sandbox"),
    pytest.param({"ticket": make_ticket("box", user=None)}, "bad-ticket", id="no user"),
    pytest.param({"ticket": make_ticket("box", user="a\nb")}, "bad-ticket", id="a user of two lines"),
], ids=str)
def test_bad_hello(server, what, code):
    with server.gateway(handshake=False) as g:
        answer = g.hello(**what)
        assert answer[0] == w.ERROR and answer[2] == code
        g.wait_end()
    assert serves(server)


def test_hello_of_another_stream(server):
    """What was signed for one challenge is worth nothing on another stream."""
    with server.gateway(handshake=False) as a, server.gateway(handshake=False) as b:
        nonce = a.wait_control(w.CHALLENGE)[3]
        assert b.hello(challenge=nonce)[2] == "bad-ticket"


def test_no_hello_in_time(server):
    started = time.monotonic()
    with server.gateway(handshake=False) as g:
        assert g.wait_end() == "bad-ticket"
    assert 4 < time.monotonic() - started < 8


@pytest.mark.parametrize("frame", [
    (w.OPEN, 2, "exec", {"command": b"touch was_here"}, 1000),
    (w.DATA, 2, 0, b"x"),
    (w.PING, 0, 1),
    (w.WELCOME, 0, 1, b"", {}),
], ids=lambda f: str(f[0]))
def test_nothing_before_hello(server, frame):
    with server.gateway(handshake=False) as g:
        g.send(*frame)
        assert g.wait_end() == "protocol"
    assert not os.path.exists(os.path.join(server.home, "was_here"))


def test_several_gateway_keys(program, tmp_path):
    other = tmp_path / "other"
    subprocess.run([program, "keygen", "--out", other], check=True, stdout=subprocess.DEVNULL)
    one = Server(program, tmp_path, arguments=["--gateway-key", f"{other}.pub"])
    try:
        with one.gateway(key=SigningKey(read_key(other))) as g:
            assert g.run("echo hi").out == b"hi\n"
        assert serves(one)
    finally:
        one.stop()


def test_unix_socket(program, tmp_path):
    one = Server(program, tmp_path, listen=f"unix:{tmp_path}/socket")
    try:
        with one.gateway() as g:
            assert g.run("cat", os.urandom(3_000_000), seconds=30).exit == 0
    finally:
        one.stop()
    assert not os.path.exists(tmp_path / "socket")


# ---- commands --------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 126, 255])
def test_status(gateway, status):
    c = gateway.run(f"exit {status}")
    assert (c.exit, c.exit_signal) == (status, None)
    assert c.order.count(w.EXIT) == 1 and c.order[-1] == w.CLOSE and c.is_eof


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "HUP", "PIPE"])
def test_exit_signal(gateway, name):
    c = gateway.run(f"ulimit -c 0; kill -{name} $$")
    assert (c.exit, c.exit_signal) == (None, name)


def test_output_apart(gateway):
    c = gateway.run("echo out; echo err >&2")
    assert (c.out, c.err) == (b"out\n", b"err\n")


def test_all_output_before_exit(gateway):
    for _ in range(20):
        c = gateway.exec("head -c 300000 /dev/zero; head -c 100000 /dev/zero >&2")
        c.wait(lambda: c.exit is not None)
        assert (len(c.out), len(c.err)) == (300000, 100000)
        c.wait()


def test_output_after_exit(gateway):
    c = gateway.exec("echo first; (sleep 0.5; echo second) & exit 3")
    c.wait(lambda: c.exit is not None)
    assert c.exit == 3 and c.out == b"first\n" and not c.is_eof
    c.wait()
    assert c.out == b"first\nsecond\n"


def test_stdin_and_eof(gateway):
    data = os.urandom(8 << 20)
    c = gateway.run("sha256sum", data)
    assert c.out.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_echo_of_much(gateway):
    data = os.urandom(16 << 20)
    c = gateway.run("cat", data, seconds=60)
    assert c.exit == 0 and c.out == data


def test_output_after_eof(gateway):
    c = gateway.run("cat >/dev/null; sleep 0.2; echo done")
    assert c.out == b"done\n"


def test_pipes_not_sockets(gateway):
    c = gateway.run("readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2")
    kinds = [line.split(b":")[0] for line in c.out.split()]
    assert kinds == [b"pipe"] * 3


def test_no_foreign_descriptors(gateway):
    c = gateway.run("for f in /proc/$$/fd/*; do readlink $f; done")
    assert [line.split(b":")[0] for line in c.out.split()] == [b"pipe"] * 3, c.out


def test_no_descriptors_of_who_started_procd(program, tmp_path):
    """What its starter left open, such as a lock or a secret, is not for the sandbox's commands."""
    with open(tmp_path / "secret", "w+b") as secret:
        one = Server(program, tmp_path, pass_fds=(secret.fileno(),))
    try:
        with one.gateway() as g:
            c = g.run("for f in /proc/$$/fd/*; do readlink $f; done")
            assert [line.split(b":")[0] for line in c.out.split()] == [b"pipe"] * 3, c.out
    finally:
        one.stop()


def test_signals_are_as_ever(gateway):
    c = gateway.run("grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status")
    words = dict(line.split() for line in c.out.decode().splitlines())
    assert int(words["SigBlk:"], 16) == 0 and int(words["SigIgn:"], 16) == 0, c.out


def test_sigpipe_ends_a_pipeline(gateway):
    c = gateway.run("bash -c 'yes | head -1; echo ${PIPESTATUS[0]}'")
    assert c.out == b"y\n141\n"


def test_environment(gateway, server):
    c = gateway.run("env -0", env={b"LANG": b"C.UTF-8", b"ODD": b"a b\n\xff", b"HOME": b"/nowhere",
                                   b"EMPTY": b""})
    env = dict(x.split(b"=", 1) for x in bytes(c.out).split(b"\0") if x)
    me = pwd.getpwuid(os.getuid())
    assert env[b"HOME"] == server.home.encode() and env[b"PWD"] == server.home.encode()
    assert env[b"USER"] == env[b"LOGNAME"] == me.pw_name.encode()
    assert env[b"SHELL"] == me.pw_shell.encode()
    assert env[b"LANG"] == b"C.UTF-8" and env[b"ODD"] == b"a b\n\xff" and env[b"EMPTY"] == b""
    assert env[b"PATH"]
    assert env[b"SSH_CLIENT"].startswith(b"192.0.2.7 4711 ")
    assert re.fullmatch(rb"192\.0\.2\.7 4711 127\.0\.0\.1 \d+", env[b"SSH_CONNECTION"])
    assert b"TERM" not in env or env[b"TERM"] == b"dumb"
    assert not [name for name in env if name.startswith(b"PROCD")]


@pytest.mark.parametrize("env", [{b"A=B": b"x"}, {b"": b"x"}, {b"A\0": b"x"}, {b"A": b"\0"},
                                 {b"A": bytes(b"x" * 140000)}], ids=lambda e: repr(e)[:20])
def test_bad_environment(gateway, env):
    c = gateway.open("exec", command=b"true", env=env)
    assert c.refused == "too-large"
    assert gateway.run("exit 5").exit == 5


def test_much_environment(gateway):
    env = {f"N{i}".encode(): b"v" * 400 for i in range(256)}
    c = gateway.run("env | grep -c ^N.*vvv", env=env)
    assert c.out == b"256\n"


def test_command_bytes(gateway):
    c = gateway.run(b"printf '%s' '\xff\xfe\n\x01'")
    assert c.out == b"\xff\xfe\n\x01"
    assert gateway.open("exec", command=b"echo a\0b").refused == "too-large"


def test_long_command(gateway):
    tail = b"#" + b"x" * 131000
    assert gateway.run(b"echo yes " + tail).out == b"yes\n"
    assert gateway.open("exec", command=b"x" * 131072).refused == "too-large"


def test_login_shell_without_terminal(gateway):
    c = gateway.open("shell")
    c.send(b"echo $0; shopt -q login_shell && echo login\nexit 4\n")
    c.wait()
    assert c.out == b"-bash\nlogin\n" and c.exit == 4


def test_stdin_closed_by_the_command(gateway):
    c = gateway.exec("exec 0<&-; sleep 0.3; echo late; sleep 0.2")
    c.wait(lambda: c.is_eow)
    assert not c.is_closed
    c.wait()
    assert c.out == b"late\n" and c.exit == 0


def test_end_is_not_told_twice(gateway):
    """A command that ends has closed its stdin, too: its exit says so. On a busy machine it may end slowly."""
    for _ in range(50):
        c = gateway.exec("true")
        c.wait()
        assert c.exit == 0
        if w.EOW not in c.order:
            return
    raise AssertionError("each of 50 commands sent EOW before its exit")


def test_data_nobody_reads(gateway):
    c = gateway.exec("true")
    while c.send(bytes(10000)):
        pass
    c.wait()
    assert c.exit == 0
    assert gateway.run("echo on").out == b"on\n"


def test_signal_frame(gateway):
    c = gateway.exec("trap 'echo caught; exit 9' USR1; echo ready; while :; do sleep 0.05; done")
    c.wait(lambda: c.out == b"ready\n")
    c.frame(w.SIGNAL, "NONSENSE")
    c.frame(w.SIGNAL, "USR1")
    c.wait()
    assert c.out == b"ready\ncaught\n" and c.exit == 9


def test_signal_reaches_the_group(gateway):
    c = gateway.exec("sleep 100 | cat; exit 1")
    time.sleep(0.2)
    c.frame(w.SIGNAL, "TERM")
    c.wait()
    assert c.exit_signal == "TERM"


# ---- terminals -------------------------------------------------------------------


def modes(**values):
    return b"".join(struct.pack(">BI", op, v) for op, v in values.values()) + b"\0"


def run_pty(gateway, command, **options):
    return gateway.pty("exec", command=command.encode(), **options).wait()


def test_terminal(gateway):
    c = run_pty(gateway, "tty; stty size; echo $TERM; echo $SSH_TTY; test -t 0 -a -t 1 -a -t 2 && echo all",
                term="xterm-256color", columns=132, rows=43)
    lines = c.out.decode().split("\r\n")
    assert re.fullmatch(r"/dev/pts/\d+", lines[0])
    assert lines[1:5] == ["43 132", "xterm-256color", lines[0], "all"]
    assert c.exit == 0 and not c.err


def test_terminal_modes(gateway):
    c = run_pty(gateway, "stty -a", modes=modes(erase=(3, 8), intr=(1, 255), echo=(53, 0), icrnl=(36, 0), onlcr=(72, 0),
                                               utf8=(42, 1), speed=(128, 9600), ospeed=(129, 9600)))
    text = c.out.decode()
    assert "erase = ^H" in text and "intr = <undef>" in text and "-echo " in text
    assert "-icrnl" in text and "-onlcr" in text and " iutf8" in text and "speed 9600" in text


@pytest.mark.parametrize("cut", [b"\x35", b"\x35\0\0\0", b"\xff\0\0\0\0" * 3, b"\x7f\0\0\0\1" * 50], ids=repr)
def test_odd_terminal_modes(gateway, cut):
    assert "echo " in run_pty(gateway, "stty -a", modes=cut).out.decode()


def test_resize(gateway):
    c = gateway.pty("exec", command=b"trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done")
    c.wait(lambda: b"ready" in c.out)
    c.frame(w.RESIZE, 200, 60, 0, 0)
    c.wait()
    assert c.out.decode().split() == ["ready", "60", "200"]


def test_interrupt_character(gateway):
    c = gateway.pty("exec", command=b"echo ready; sleep 100")
    c.wait(lambda: b"ready" in c.out)
    c.send(b"\x03")
    c.wait()
    assert c.exit_signal == "INT" or c.exit == 130


@pytest.mark.parametrize("has_pty", [True, False])
def test_input_during_a_flood(gateway, has_pty):
    """A reader that takes all at once must not keep procd from listening."""
    command = b"trap 'echo; echo caught; exit 9' INT TERM; while :; do printf '%01000d\\n' 0; done"
    c = gateway.pty("exec", command=command) if has_pty else gateway.exec(command)
    c.keeps = False
    c.wait(lambda: c.out_bytes > 1_000_000)
    if has_pty:
        c.send(b"\x03")
    else:
        c.frame(w.SIGNAL, "TERM")
    c.wait(seconds=5)
    assert c.exit == 9


def test_ping_during_a_flood(gateway):
    c = gateway.exec("cat /dev/zero")
    c.keeps = False
    c.wait(lambda: c.out_bytes > 10_000_000)
    for i in range(5):
        gateway.send(w.PING, 0, i)
        gateway.pump_until(lambda i=i: any(f[0] == w.PONG and f[2] == i for f in gateway.control), 5)
    c.close()
    c.wait()


def test_shell_session(gateway):
    c = gateway.pty()
    c.send(b"PS1=; stty -echo\n")
    c.send(b"echo $0 $((6*7))\nexit 12\n")
    c.wait()
    assert b"-bash 42\r\n" in c.out and c.exit == 12


def test_eof_on_a_terminal_changes_nothing(gateway):
    c = gateway.pty("exec", command=b"sleep 0.3; echo on")
    c.eof()
    c.wait()
    assert c.out == b"on\r\n" and c.exit == 0


def test_exit_ends_a_terminal_at_once(gateway):
    """A program in the background keeps the terminal open; the channel ends all the same."""
    started = time.monotonic()
    c = gateway.pty("exec", command=b"bash -c 'trap \"\" HUP; exec sleep 5' & echo $!; sleep 0.3; exit 0").wait()
    assert c.exit == 0 and time.monotonic() - started < 2
    pid = int(c.out)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_much_through_a_terminal(gateway):
    c = gateway.pty("exec", command=b"stty -opost; seq 1 200000")
    c.wait()
    assert c.out == b"".join(b"%d\n" % i for i in range(1, 200001)) and c.exit == 0


def test_terminal_keeps_its_tail(gateway):
    """A slow reader gets all of what was written before the end."""
    c = gateway.pty("exec", command=b"stty -opost; seq 1 4000", credit=100)
    c.is_reading = False
    while not c.is_over:
        c.gateway.pump(0.15)
        c.pay()
        if c.owed == 0 and c.granted < 4000:
            c.gateway.send(w.CREDIT, c.number, 4000)
            c.granted += 4000
    assert c.out == b"".join(b"%d\n" % i for i in range(1, 4001)) and c.exit == 0


# ---- the end of things -----------------------------------------------------------

def pid_from(path):
    def read():
        try:
            with open(path, encoding="ascii") as f:
                return int(f.read() or 0)
        except OSError:
            return 0
    return wait_for(read)


def start_some(gateway, home, has_pty):
    """Starts a command that runs on in the foreground, and one under setsid."""
    names = [os.path.join(home, f"pid-{time.monotonic_ns()}-{x}") for x in "ab"]
    command = (f"setsid sh -c 'echo $$ >{names[1]}; exec sleep 60' </dev/null >/dev/null 2>&1 & "
               f"sh -c 'echo $$ >{names[0]}; exec sleep 60'").encode()
    c = gateway.pty("exec", command=command) if has_pty else gateway.exec(command)
    return c, pid_from(names[0]), pid_from(names[1])


@pytest.mark.parametrize("has_pty", [False, True])
@pytest.mark.parametrize("end", ["close", "stream", "kill"])
def test_hang_up(server, has_pty, end):
    with server.gateway() as g:
        c, front, back = start_some(g, server.home, has_pty)
        try:
            assert is_alive(front)
            if end == "close":
                c.close()
                c.wait(lambda: c.is_closed)
            elif end == "stream":
                g.close()
            else:
                session = [p for p in session_pids(server) if front in descendants(p)]
                os.kill(session[0], signal.SIGKILL)
            wait_for(lambda: not is_alive(front) or end == "kill")
            assert is_alive(back)
        finally:
            for pid in (front, back):
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
    assert serves(server)


def descendants(root):
    found, todo = set(), [root]
    while todo:
        pid = todo.pop()
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
                children = [int(x) for x in f.read().split()]
        except OSError:
            continue
        found.update(children)
        todo += children
    return found


def test_after_exit_nobody_is_signalled(server):
    with server.gateway() as g:
        name = os.path.join(server.home, "left")
        c = g.exec(f"sh -c 'echo $$ >{name}; exec sleep 60' & sleep 0.2; exit 0")
        c.wait(lambda: c.exit == 0)
        pid = pid_from(name)
        c.close()
        c.wait()
        time.sleep(0.3)
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)


def test_close_is_answered_once(gateway):
    c = gateway.exec("sleep 50")
    c.close()
    c.wait()
    gateway.pump(0.2)
    assert c.order == [w.OPENED, w.EOW, w.CLOSE] or c.order == [w.OPENED, w.CLOSE]
    # What is still sent for it is dropped.
    gateway.send(w.DATA, c.number, 0, b"late")
    gateway.send(w.CREDIT, c.number, 100)
    gateway.send(w.CLOSE, c.number)
    assert gateway.run("echo on").out == b"on\n"


def test_each_connection_is_scheduled_on_its_own(server):
    with server.gateway() as one, server.gateway() as other:
        assert one.run("echo on").out == other.run("echo on").out == b"on\n"
        pids = session_pids(server)
        assert len(pids) == 2 and [os.getsid(pid) for pid in pids] == pids


def test_reaps_its_sessions(server):
    for _ in range(20):
        with server.gateway() as g:
            g.run("true")
    wait_for(lambda: len(session_pids(server)) == 0)


def test_sigterm(program, tmp_path):
    one = Server(program, tmp_path)
    with one.gateway() as g:
        name = os.path.join(one.home, "pid")
        c = g.exec(f"echo $$ >{name}; exec sleep 60")
        pid = pid_from(name)
        one.process.terminate()
        g.wait_control(w.GOAWAY)
        assert g.open("exec", command=b"true").refused == "shutting-down"
        g.wait_end()
        assert not c.is_closed
    assert one.process.wait(5) == 0
    wait_for(lambda: not is_alive(pid))


def test_sigkill_takes_the_streams_along(program, tmp_path):
    one = Server(program, tmp_path)
    with one.gateway() as g:
        name = os.path.join(one.home, "pid")
        g.exec(f"echo $$ >{name}; exec sleep 60")
        pid = pid_from(name)
        one.process.kill()
        g.wait_end()
    wait_for(lambda: not is_alive(pid))
    one.process.wait()


def test_started_by_one_who_ignores_signals(program, tmp_path):
    """With SIGCHLD ignored the kernel would keep exit statuses to itself; commands must not inherit it either."""
    script = tmp_path / "start"
    script.write_text("#!/usr/bin/python3\nimport os, signal, sys\n"
                      "for n in (signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGINT):\n"
                      "    signal.signal(n, signal.SIG_IGN)\n"
                      f"os.execv('{program}', ['procd', *sys.argv[1:]])\n")
    script.chmod(0o755)
    one = Server(str(script), tmp_path)
    try:
        with one.gateway() as g:
            assert g.run("exit 7").exit == 7
            assert b"SigIgn:\t0000000000000000" in g.run("cat /proc/self/status").out
    finally:
        one.stop()
    assert one.process.returncode == 0


def test_is_a_good_first_process(program, tmp_path):
    """As the first process of a container it reaps orphans that were never its children."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --pid is not allowed here")
    for name in ("key", "gateway_key"):
        subprocess.run([program, "keygen", "--out", tmp_path / name], check=True, stdout=subprocess.DEVNULL)
    address = tmp_path / "address"
    with subprocess.Popen([*unshare, "--kill-child", program, "serve", "--listen", "127.0.0.1:0", "--sandbox", "box", "--key",
                           tmp_path / "key", "--gateway-key", f"{tmp_path}/gateway_key.pub", "--address-file",
                           address], stderr=subprocess.DEVNULL) as child:
        try:
            wait_for(address.exists)
            box = type("Box", (Server,), {"__init__": lambda self: None})()
            box.sandbox, box.key, box.gateway_key = "box", str(tmp_path / "key"), str(tmp_path / "gateway_key")
            box.address = address.read_text().strip()
            with box.gateway() as g:
                c = g.run("for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; sleep 0.6; "
                          "ps -eo stat= | grep -c ^Z; cat /proc/1/comm")
                assert c.out == b"0\nprocd\n"
            with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii") as f:
                os.kill(int(f.read()), signal.SIGTERM)
            assert child.wait(10) == 0
        finally:
            child.kill()


# ---- credit ----------------------------------------------------------------------


def test_no_credit_no_data(gateway):
    c = gateway.exec("head -c 1000000 /dev/zero", credit=0)
    gateway.pump(0.3)
    assert not c.out and c.exit is None
    for step in (1, 10, 32768, 32769, 100000):
        before = c.out_bytes
        gateway.send(w.CREDIT, c.number, step)
        c.granted += step
        c.wait(lambda: c.out_bytes == before + step)
        gateway.pump(0.05)
        assert c.out_bytes == before + step
    c.granted += 2_000_000
    gateway.send(w.CREDIT, c.number, 2_000_000)
    c.wait()
    assert c.out_bytes == 1_000_000 and c.exit == 0


def test_our_credit_grows_with_use(gateway):
    c = gateway.exec("cat >/dev/null")
    assert c.send_credit == 65536
    c.send(bytes(4 << 20))
    gateway.pump(0.3)
    assert 3 << 18 <= c.send_credit <= 1 << 20
    c.eof()
    c.wait()


def test_unread_input_is_bounded(server):
    """A command that reads nothing gets what its pipe holds and one window; the others go on."""
    with server.gateway() as g:
        c = g.exec("sleep 60")
        sent = 0
        while True:
            g.pump(0.1)
            n = min(c.send_credit, 32768)
            if not n:
                break
            c.send_credit -= n
            sent += n
            g.send(w.DATA, c.number, 0, bytes(n))
        assert 65536 <= sent <= 3 << 20
        assert g.run("cat", b"x" * 3_000_000).out_bytes == 3_000_000


def test_sum_of_credit(server):
    """256 channels at once, and all that procd lets the gateway send stays within the budget."""
    with server.gateway() as g:
        channels = [g.exec("sleep 60") for _ in range(256)]
        assert all(c.send_credit >= 8192 for c in channels)
        assert sum(c.send_credit for c in channels) <= 8 << 20
        assert g.open("exec", command=b"true").refused == "too-many-channels"
        channels[0].close()
        channels[0].wait()
        assert g.run("echo room").out == b"room\n"


def test_data_past_credit(server):
    with server.gateway() as g:
        c = g.exec("sleep 60")
        for _ in range(20):  # more than its pipe and one window
            g.send(w.DATA, c.number, 0, bytes(32768))
        assert g.wait_end() == "protocol"
    assert serves(server)


def test_too_much_credit(server):
    with server.gateway() as g:
        c = g.exec("sleep 60")
        g.send(w.CREDIT, c.number, 2**32 - 1)
        assert g.wait_end() == "protocol"


def test_channels_take_turns(gateway):
    """A short answer does not wait for long ones, and two long ones share."""
    big = [gateway.exec("head -c 300000000 /dev/zero") for _ in range(2)]
    for c in big:
        c.keeps = False
    big[0].wait(lambda: big[0].out_bytes > 5_000_000)
    c = gateway.run("echo quick")
    assert c.out == b"quick\n" and not any(x.is_over for x in big)
    big[0].wait(seconds=60)
    assert big[1].out_bytes > 100_000_000
    for x in big:
        x.wait(seconds=60)
        assert x.out_bytes == 300_000_000 and x.exit == 0


def test_one_stalled_channel(gateway):
    stalled = gateway.exec("head -c 10000000 /dev/zero", credit=1000)
    stalled.is_reading = False
    c = gateway.run("head -c 20000000 /dev/zero")
    assert c.out_bytes == 20_000_000 and stalled.out_bytes == 1000


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * 4096


def test_memory_of_a_gateway_that_does_not_read(server):
    with server.gateway(receive_bytes=4096) as g:
        session = int(g.run("echo $PPID").out)
        before = resident(session)
        channels = [g.exec("cat /dev/zero", credit=1 << 30) for _ in range(8)]
        for _ in range(100):
            g.send(w.PING, 0, 1)
        time.sleep(1)
        assert resident(session) - before < 4 << 20
        assert len(channels) == 8
    wait_for(lambda: session not in session_pids(server))


def test_flood_without_reading(server):
    """PINGs whose answers nobody takes: the stream ends, before memory does."""
    with server.gateway(receive_bytes=4096) as g:
        blob = pack(w.PING, 0, 2**63) * 20000
        g.sock.setblocking(True)
        g.sock.settimeout(5)
        end = time.monotonic() + 10
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:
                g.sock.sendall(blob)
    assert serves(server)


# ---- frames that are wrong -------------------------------------------------------

WRONG = {
    "odd number": (pack(w.OPEN, 3, "exec", {"command": b"true"}, 1), "protocol"),
    "number of before": (pack(w.OPEN, 2, "exec", {"command": b"true"}, 1) * 2, "protocol"),
    "unknown channel": (pack(w.EOF, 8), "protocol"),
    "data for nobody": (pack(w.DATA, 8, 0, b"x"), "protocol"),
    "procd's own frames": (pack(w.OPEN, 2, "exec", {"command": b"cat"}, 1) + pack(w.EXIT, 2, 0), "protocol"),
    "challenge": (pack(w.CHALLENGE, 0, 1, bytes(32), {}), "protocol"),
    "second hello": (pack(w.HELLO, 0, 1, b"x", b"y", {}), "protocol"),
    "unknown type": (pack(90, 0), "protocol"),
    "garbage": (b"\xc1\xc1\xc1", "protocol"),
    "text": (b"GET / HTTP/1.0\r\n\r\n", "protocol"),
    "no array": (msgpack.packb({"a": 1}), "protocol"),
    "large data": (pack(w.OPEN, 2, "exec", {"command": b"cat"}, 1) + pack(w.DATA, 2, 0, bytes(32769)), "too-large"),
    "large frame": (pack(w.GOAWAY, 0, "x" * 70000), "too-large"),
    "large open": (pack(w.OPEN, 2, "exec", {"command": bytes(300000)}, 1), "too-large"),
    "deep": (pack(w.OPEN, 2, "exec", {"a": [[[[[[[[[[1]]]]]]]]]]}, 1), "protocol"),
    "many names": (pack(w.OPEN, 2, "exec", {"command": b"cat", "env": {str(i): "" for i in range(257)}}, 1), "too-large"),
    "data on stream 1": (pack(w.OPEN, 2, "exec", {"command": b"cat"}, 1) + pack(w.DATA, 2, 1, b"x"), "protocol"),
    "data after eof": (pack(w.OPEN, 2, "exec", {"command": b"sleep 9"}, 1) + pack(w.EOF, 2) + pack(w.DATA, 2, 0, b"x"),
                       "protocol"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_frames(server, gateway, what):
    data, code = WRONG[what]
    with server.gateway() as g:
        g.is_strict = False
        for byte in data[:200]:
            g.queue(bytes([byte]))
        g.queue(data[200:])
        assert g.wait_end() == code
    assert gateway.run("echo on").out == b"on\n"


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_cut_frame(server, cut):
    with server.gateway() as g:
        g.queue(pack(w.OPEN, 2, "exec", {"command": b"true"}, 1)[:cut])
        g.sock.shutdown(socket.SHUT_WR)
        assert g.wait_end() is None


def test_ignorable(gateway):
    gateway.send(200, 0, {"later": [1, 2, 3]})
    gateway.send(w.PING, 0, 7, "and more")
    assert gateway.wait_control(w.PONG)[2] == 7
    assert gateway.open("exec", command=b"true", later=True).refused is None


@pytest.mark.parametrize("kind, options, code", [
    ("teleport", {}, "unknown-kind"),
    ("agent", {"session": 2}, "unknown-kind"),
    ("subsystem", {"name": "netconf"}, "unknown-subsystem"),
    ("subsystem", {}, "unknown-subsystem"),
    ("tcp", {"host": b"", "port": 1}, "not-found"),
    ("tcp", {"host": b"localhost", "port": 0}, "not-found"),
    ("tcp", {"host": b"x" * 300, "port": 1}, "not-found"),
    ("tcp", {"host": b"name.invalid", "port": 1}, "not-found"),
    ("unix", {"path": b"/no/such/socket"}, "not-found"),
    ("unix", {"path": b"x" * 200}, "not-found"),
])
def test_refused(gateway, kind, options, code):
    assert gateway.open(kind, **options).refused == code
    assert gateway.run("echo on").out == b"on\n"


@pytest.mark.parametrize("kind, address, port, code", [
    ("udp", b"127.0.0.1", 0, "unknown-kind"),
    ("tcp", b"not-here.invalid", 0, "unreachable"), ("tcp", b"192.0.2.1", 0, "unreachable"),
    ("tcp", b"", 0, "unreachable"), ("tcp", b"x" * 1000, 0, "unreachable"),
    ("unix", b"", 0, "unreachable"), ("unix", b"/" + b"x" * 200, 0, "unreachable"),
    ("unix", b"/no/such/folder/s", 0, "not-found"), ("unix", b"/dev/null", 0, "unreachable")])
def test_listen_is_refused(gateway, kind, address, port, code):
    gateway.send(w.LISTEN, 0, 5, kind, address, port)
    assert gateway.wait_control(w.LISTEN_REFUSED)[2:4] == [5, code]


def test_listeners_take_turns(gateway):
    """One that many connect to, and whose connections wait for their answer, leaves the other one its turn."""
    opened = []
    plain = gateway.on_frame

    def on_frame(frame):
        if frame[0] == w.OPEN:
            opened.append((frame[1], frame[3]["request"]))
        else:
            plain(frame)

    gateway.on_frame = on_frame
    ports = {}
    for request in (1, 2):
        gateway.send(w.LISTEN, 0, request, "tcp", "127.0.0.1", 0)
        gateway.pump_until(lambda: sum(f[0] == w.LISTENING for f in gateway.control) == request)
        ports[request] = gateway.control[-1][3]
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", ports[1])))
        gateway.pump_until(lambda: len(opened) == 64)
        stack.enter_context(socket.create_connection(("127.0.0.1", ports[2])))
        for at in range(2):
            gateway.send(w.REFUSED, opened[at][0], "denied", "")
            gateway.pump_until(lambda at=at: len(opened) == 65 + at)
    assert 2 in [request for _, request in opened]


def test_ping_is_answered(gateway):
    gateway.send(w.PING, 0, 2**64 - 1)
    assert gateway.wait_control(w.PONG)[2] == 2**64 - 1


def test_max_streams(program, tmp_path):
    one = Server(program, tmp_path, arguments=["--max-streams", "2"])
    try:
        with one.gateway() as a, one.gateway():
            with one.gateway(handshake=False) as c:
                assert c.hello()[2] == "too-many-channels"
            assert a.run("echo on").out == b"on\n"
        wait_for(lambda: not session_pids(one))
        assert serves(one)
    finally:
        one.stop()


def test_silent_strangers_do_not_keep_gateways_out(program, tmp_path):
    one = Server(program, tmp_path, arguments=["--max-streams", "2"])
    silent = []
    try:
        with one.gateway() as a:
            for _ in range(60):
                silent.append(one.connect())
            assert serves(one)
            assert a.run("echo on").out == b"on\n"
    finally:
        for sock in silent:
            sock.close()
        one.stop()


# ---- connections from inside the sandbox -----------------------------------------


class Peer:
    """Listens on loopback; `behave(sock)` runs for each connection."""

    def __init__(self, behave, family=socket.AF_INET, address=("127.0.0.1", 0)):
        self.sock = socket.socket(family)
        self.sock.bind(address)
        self.sock.listen(300)
        self.port = self.sock.getsockname()[1] if family != socket.AF_UNIX else None
        self.behave = behave
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.behave, args=(sock,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        close_listener(self.sock, self.thread)


def echo_until_eof(sock):
    with sock:
        data = b""
        while piece := sock.recv(1 << 16):
            data += piece
        sock.sendall(hashlib.sha256(data).digest())


def speak_then_listen(sock):
    with sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        data = b""
        while piece := sock.recv(1 << 16):
            data += piece
        assert data == b"answer" * 1000


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost", b"LocalHost"])
def test_tcp(gateway, host):
    data = os.urandom(5_000_000)
    with Peer(echo_until_eof) as peer:
        c = gateway.open("tcp", host=host, port=peer.port, originator_host=b"192.0.2.1", originator_port=5)
        c.send(data)
        c.eof()
        c.wait()
        assert c.out == hashlib.sha256(data).digest() and c.is_eof and c.exit is None


def test_tcp_other_side_first(gateway):
    with Peer(speak_then_listen) as peer:
        c = gateway.open("tcp", host=b"127.0.0.1", port=peer.port)
        c.wait(lambda: c.is_eof)
        assert c.out == b"hello" and not c.is_closed
        c.send(b"answer" * 1000)
        c.eof()
        c.wait()


def test_tcp_torn(gateway):
    def tear(sock):
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    with Peer(tear) as peer:
        c = gateway.open("tcp", host=b"127.0.0.1", port=peer.port)
        c.send(b"x")
        c.wait()
        assert c.is_closed and not c.is_eof


def test_tcp_refused_port(gateway):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert gateway.open("tcp", host=b"127.0.0.1", port=unused.getsockname()[1]).refused == "unreachable"
        assert gateway.open("tcp", host=b"localhost", port=unused.getsockname()[1]).refused == "unreachable"


def test_tcp_ipv6(gateway):
    try:
        peer = Peer(echo_until_eof, socket.AF_INET6, ("::1", 0))
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error}")
    with peer:
        for host in (b"::1", b"localhost"):
            c = gateway.open("tcp", host=host, port=peer.port)
            c.eof()
            c.wait()
            assert len(c.out) == 32


def test_an_address_that_does_not_answer(gateway):
    """Behind it is one that does. A listener whose queue is full answers nobody."""
    with socket.socket() as silent, contextlib.ExitStack() as stack:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        try:
            peer = stack.enter_context(Peer(echo_until_eof, socket.AF_INET6, ("::1", silent.getsockname()[1])))
        except OSError as error:
            pytest.skip(f"no IPv6 loopback here, or the port is taken there: {error}")
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        c = gateway.open("tcp", host=b"localhost", port=peer.port)
        assert c.refused is None
        c.eof()
        c.wait()
        assert len(c.out) == 32


def test_unix_path(gateway, tmp_path):
    with Peer(echo_until_eof, socket.AF_UNIX, str(tmp_path / "s")):
        c = gateway.open("unix", path=os.fsencode(tmp_path / "s"))
        c.send(b"x" * 100000)
        c.eof()
        c.wait()
        assert c.out == hashlib.sha256(b"x" * 100000).digest()


def test_urgent_data_holds_up_nothing(gateway):
    """A read of a socket stops in front of an urgent byte, and what is behind it is no event of its own."""
    is_sent = threading.Event()

    def speak(sock):
        with sock:
            sock.sendall(b"before")
            sock.send(b"!", socket.MSG_OOB)
            sock.sendall(b"behind")
            is_sent.set()
            sock.recv(1)

    with Peer(speak) as peer:
        c = gateway.open("tcp", host=b"127.0.0.1", port=peer.port, credit=0)
        assert is_sent.wait(10)
        gateway.pump(0.1)
        c.granted += 1000
        c.frame(w.CREDIT, 1000)
        c.wait(lambda: c.out == b"beforebehind", 5)
        c.eof()
        c.wait()


def test_passed_descriptors_hold_up_nothing(gateway, tmp_path):
    """A read of a Unix socket stops behind bytes that came with descriptors."""
    is_sent = threading.Event()

    def speak(sock):
        with sock:
            socket.send_fds(sock, [b"before"], [0])
            sock.sendall(b"behind")
            is_sent.set()
            sock.recv(1)

    with Peer(speak, socket.AF_UNIX, str(tmp_path / "s")):
        c = gateway.open("unix", path=os.fsencode(tmp_path / "s"), credit=0)
        assert is_sent.wait(10)
        gateway.pump(0.1)
        c.granted += 1000
        c.frame(w.CREDIT, 1000)
        c.wait(lambda: c.out == b"beforebehind", 5)
        c.eof()
        c.wait()


def test_200_connections(gateway):
    with Peer(echo_until_eof) as peer:
        channels = [gateway.open("tcp", host=b"127.0.0.1", port=peer.port, wait=False) for _ in range(200)]
        for i, c in enumerate(channels):
            c.wait(lambda c=c: c.send_credit or c.refused)
            c.send(b"%d" % i)
            c.eof()
        for i, c in enumerate(channels):
            c.wait()
            assert c.out == hashlib.sha256(b"%d" % i).digest()


def test_close_while_connecting(gateway):
    """192.0.2.0/24 leads nowhere: either it is refused at once or it hangs until CLOSE."""
    c = gateway.open("tcp", host=b"192.0.2.1", port=9, wait=False)
    gateway.pump(0.2)
    if not c.refused:
        c.close()
        c.wait()
    assert c.refused


def test_many_names_do_not_block(gateway):
    channels = [gateway.open("tcp", host=b"n%d.invalid" % i, port=9, wait=False) for i in range(50)]
    assert gateway.run("echo on").out == b"on\n"
    for c in channels[::2]:
        c.close()
    for c in channels:
        c.wait(seconds=30)
        assert c.refused in ("not-found", "denied", "unreachable")


# ---- sftp ------------------------------------------------------------------------


class Sftp:
    """Raw packets over a channel."""

    def __init__(self, gateway, **options):
        self.channel = gateway.open("subsystem", name="sftp", **options)
        assert self.channel.refused is None
        self.at = 0
        self.request(1, struct.pack(">I", 3))
        assert self.reply()[0] == 2

    def request(self, kind, body):
        self.channel.send(struct.pack(">IB", len(body) + 1, kind) + body)

    def reply(self, seconds=20):
        c = self.channel
        c.wait(lambda: len(c.out) - self.at >= 4 or c.is_over, seconds)
        n = struct.unpack_from(">I", c.out, self.at)[0]
        c.wait(lambda: len(c.out) - self.at >= 4 + n or c.is_over, seconds)
        packet = bytes(c.out[self.at + 4:self.at + 4 + n])
        self.at += 4 + n
        return packet[0], packet[1:]

    def open(self, path, flags):
        name = path.encode()
        self.request(3, struct.pack(">II", 1, len(name)) + name + struct.pack(">II", flags, 0))
        kind, body = self.reply()
        assert kind == 102, body
        return body[8:]


def string(b):
    return struct.pack(">I", len(b)) + b


def test_sftp_write_and_read(server, gateway):
    data = os.urandom(20_000_000)
    s = Sftp(gateway)
    handle = s.open("up", 0x2 | 0x8 | 0x10)
    count = 0
    for at in range(0, len(data), 32000):
        s.request(6, struct.pack(">I", at) + string(handle) + struct.pack(">Q", at) + string(data[at:at + 32000]))
        count += 1
    for _ in range(count):
        kind, body = s.reply()
        assert kind == 101 and body[4:8] == bytes(4)
    s.request(4, struct.pack(">I", 9) + string(handle))
    s.reply()
    with open(os.path.join(server.home, "up"), "rb") as f:
        assert f.read() == data
    handle = s.open("up", 1)
    for at in range(0, len(data), 250000):
        s.request(5, struct.pack(">I", at) + string(handle) + struct.pack(">QI", at, 250000))
    got = {}
    for _ in range(0, len(data), 250000):
        kind, body = s.reply()
        assert kind == 103
        got[struct.unpack(">I", body[:4])[0]] = body[8:]
    assert b"".join(got[at] for at in sorted(got)) == data
    s.channel.eof()
    s.channel.wait()
    assert s.channel.exit == 0 and s.channel.order[-2:] == [w.EOF, w.CLOSE]


def test_sftp_garbage(gateway):
    c = gateway.open("subsystem", name="sftp")
    c.send(b"\xff" * 100)
    c.wait()
    assert c.exit == 1
    assert gateway.run("echo on").out == b"on\n"


def test_sftp_without_reading(server):
    """A client that asks for much and reads nothing: bounded memory, and CLOSE ends it."""
    with open(os.path.join(server.home, "zeros"), "wb") as f:
        f.truncate(1 << 30)
    with server.gateway() as g:
        session = int(g.run("echo $PPID").out)
        before = resident(session)
        s = Sftp(g, credit=100_000)
        s.channel.is_reading = False
        handle = s.open("zeros", 1)
        count = 0
        while s.channel.send_credit > 100 and count < 20000:
            s.request(5, struct.pack(">I", count) + string(handle) + struct.pack(">QI", 0, 262144 - 1024))
            count += 1
            if s.channel.send_credit <= 100:
                g.pump(0.3)
        assert count < 20000
        assert resident(session) - before < 6 << 20
        assert s.channel.out_bytes <= 100_000
        s.channel.close()
        s.channel.wait()
        again = Sftp(g)
        again.channel.eof()
        again.channel.wait()
        assert again.channel.exit == 0


def test_sftp_many(gateway):
    servers = [Sftp(gateway) for _ in range(40)]
    for s in servers:
        s.channel.eof()
    for s in servers:
        s.channel.wait()
        assert s.channel.exit == 0


@pytest.fixture
def stuck(tmp_path):
    """Files that hang when they are told to."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    try:
        one = stuck_files.StuckFiles(tmp_path / "stuck")
    except OSError as error:
        pytest.skip(f"no FUSE here: {error.strerror}")
    yield one
    one.stop()


def write_request(handle, at, data):
    return struct.pack(">I", at) + string(handle) + struct.pack(">Q", at) + string(data)


@pytest.mark.parametrize("what", ["lookup", "open", "read", "write", "flush"])
def test_files_that_hang_stop_nobody_else(server, gateway, stuck, what):
    """A channel whose file system hangs waits alone, and goes on when that does."""
    s, other = Sftp(gateway), Sftp(gateway)
    stuck.content[:] = b"old"
    handle = s.open(stuck.path, 0x1 | 0x2)
    stuck.hold(getattr(stuck_files, what.upper()))
    if what in ("lookup", "open"):
        name = stuck.path.encode()
        s.request(3, struct.pack(">I", 7) + string(name) + struct.pack(">II", 1, 0))
    elif what == "read":
        s.request(5, struct.pack(">I", 7) + string(handle) + struct.pack(">QI", 0, 100))
    elif what == "write":
        s.request(6, write_request(handle, 7, b"new"))
    else:
        s.request(4, struct.pack(">I", 7) + string(handle))
    s.request(17, struct.pack(">I", 8) + string(b"."))   # behind it: STAT
    wait_for(lambda: stuck.held_count() == 1)
    for i in range(20):
        assert gateway.run("echo on").out == b"on\n"
        assert other.open(f"other{i}", 0x2 | 0x8)
    # One that hangs later, too.
    late = Sftp(gateway)
    late.request(17, struct.pack(">I", 9) + string(stuck.path.encode()))
    if what == "lookup":
        wait_for(lambda: stuck.held_count() == 2)
        assert gateway.run("echo on").out == b"on\n"
    gateway.pump(0.05)
    assert len(s.channel.out) == s.at
    stuck.release()
    kind, body = s.reply()
    assert body[:4] == struct.pack(">I", 7)
    assert kind == {"lookup": 102, "open": 102, "read": 103, "write": 101, "flush": 101}[what]
    assert s.reply()[0] == 105
    assert late.reply()[0] == 105
    # It is served as before, its end too.
    handle = s.open("after", 0x1 | 0x2 | 0x8 | 0x10)
    s.request(6, write_request(handle, 0, b"x" * 200_000))
    assert s.reply()[1][4:8] == bytes(4)
    s.request(5, struct.pack(">I", 1) + string(handle) + struct.pack(">QI", 0, 200_000))
    assert s.reply()[1][8:] == b"x" * 200_000
    for one in (s, other, late):
        one.channel.eof()
        one.channel.wait()
        assert one.channel.exit == 0


@pytest.mark.parametrize("count", [1, 10])
def test_files_that_are_slow_hold_up_little(gateway, stuck, count):
    """Each answer is quicker than what would be called hanging, and there is always a next one: that adds up."""
    stuck.content[:] = b"x" * 100
    echo = gateway.exec("cat")
    servers = [Sftp(gateway) for _ in range(count)]
    for s in servers:
        handle = s.open(stuck.path, 0x1)
        stuck.slow_s = 0
        for i in range(1000):
            s.request(5, struct.pack(">I", i) + string(handle) + struct.pack(">QI", 0, 100))
    stuck.slow_s = 0.005
    took = []
    for i in range(20):
        began = time.monotonic()
        echo.send(b"x")
        echo.wait(lambda: len(echo.out) > i)
        took.append(time.monotonic() - began)
    stuck.slow_s = 0
    print([round(1000 * t) for t in took])
    assert sorted(took)[10] < 0.03, took


def test_bytes_of_a_write_that_hangs(gateway, stuck):
    """They lie where the stream was read into, which others' bytes go through meanwhile."""
    s = Sftp(gateway)
    data = os.urandom(1_000_000)
    handle = s.open(stuck.path, 0x2)
    stuck.hold(stuck_files.WRITE)
    # In one piece on the wire: some of what stands behind the write is in the same read.
    packets = [struct.pack(">IB", len(body) + 1, 6) + body for body in
               (write_request(handle, at, data[at:at + 10_000]) for at in range(0, len(data), 10_000))]
    s.channel.send(b"".join(packets[:6]))
    wait_for(lambda: stuck.held_count() == 1)
    assert gateway.run("cksum", stdin=b"other" * 200_000).exit == 0
    stuck.release()
    for packet in packets[6:]:
        s.channel.send(packet)
    for _ in packets:
        assert s.reply()[1][4:8] == bytes(4)
    assert stuck.content == data


def test_a_copy_inside_stops_nobody_else(gateway):
    """It waits for nothing, it only takes long."""
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no memory file system: on a disk a copy waits")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        big = os.path.join(folder, "big")
        with open(big, "wb") as f:
            f.truncate(1 << 30)
        s = Sftp(gateway)
        handles = s.open(big, 0x1), s.open(os.path.join(folder, "copy"), 0x2 | 0x8 | 0x10)
        s.request(200, struct.pack(">I", 1) + string(b"copy-data") + string(handles[0]) + struct.pack(">QQ", 0, 0) +
                  string(handles[1]) + struct.pack(">Q", 0))
        assert gateway.run("echo on").out == b"on\n"
        is_copied = len(s.channel.out) > s.at
        s.channel.close()
        s.channel.wait()
        assert gateway.run("echo on").out == b"on\n"
    assert not is_copied


def test_ends_while_files_hang(server, stuck):
    """A channel that is closed, then a stream that is lost: neither waits for the files."""
    def hang(s, count):
        handle = s.open(stuck.path, 0x1)
        stuck.hold(stuck_files.READ)
        s.request(5, struct.pack(">I", 7) + string(handle) + struct.pack(">QI", 0, 100))
        wait_for(lambda: stuck.held_count() == count)
        assert g.run("echo on").out == b"on\n"

    with server.gateway() as g:
        session = int(g.run("echo $PPID").out)
        servers = [Sftp(g) for _ in range(5)]
        for count, s in enumerate(servers, 1):
            hang(s, count)
        servers[0].channel.close()
        servers[0].channel.wait()
        assert g.run("echo on").out == b"on\n"
        stuck.release()
        for s in servers[1:3]:
            assert s.reply()[0] == 101   # the file is empty
        hang(Sftp(g), 1)
    wait_for(lambda: not is_alive(session))


@pytest.fixture
def frugal(program, tmp_path):
    """A procd of its own; a sanitizer in it does not keep freed memory aside."""
    options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0:thread_local_quarantine_size_kb=0"
    one = Server(program, tmp_path, env={**os.environ, "ASAN_OPTIONS": options})
    yield one
    one.stop()


def test_sftp_memory_of_a_large_file(frugal, program):
    server = frugal
    # A sanitizer's shadow is an eighth of what it watches, and it pads each allocation.
    bound = (10 if has_sanitizer(program) else 8) << 20
    with open(os.path.join(server.home, "zeros"), "wb") as f:
        f.truncate(1 << 30)
    with server.gateway() as g:
        s = Sftp(g)
        session = int(g.run("echo $PPID").out)
        before = resident(session)
        handle = s.open("zeros", 1)
        s.channel.keeps = False
        start = s.channel.out_bytes
        total = 512 << 20
        for at in range(0, total, 262144 - 1024):
            n = min(262144 - 1024, total - at)
            s.request(5, struct.pack(">I", 1) + string(handle) + struct.pack(">QI", at, n))
        s.channel.wait(lambda: s.channel.out_bytes - start >= total, seconds=60)
        assert resident(session) - before < bound, (resident(session) - before) / (1 << 20)


# ---- the command line ------------------------------------------------------------


def call(program, *arguments, env=None):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, **(env or {})}, timeout=10)


def test_keygen(program, tmp_path):
    path = tmp_path / "key"
    done = call(program, "keygen", "--out", path)
    assert done.returncode == 0 and done.stdout.startswith("ed25519:")
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert (tmp_path / "key.pub").read_text() == done.stdout
    assert bytes(SigningKey(read_key(path)).verify_key) == read_key(f"{path}.pub")
    again = call(program, "keygen", "--out", path)
    assert again.returncode == 1 and "exists" in again.stderr
    assert call(program, "keygen").returncode == 2


def test_help_and_version(program):
    assert call(program, "--version").stdout.startswith("procd ")
    for arguments in (("--help",), ("serve", "--help")):
        done = call(program, *arguments)
        assert done.returncode == 0 and "PROCD_SANDBOX" in done.stdout
    assert call(program).returncode == 2
    assert call(program, "nonsense").returncode == 2


def test_wrong_flags(program, tmp_path):
    for name in ("key", "gateway"):
        call(program, "keygen", "--out", tmp_path / name)
    good = {"--listen": "127.0.0.1:0", "--sandbox": "box", "--key": str(tmp_path / "key"),
            "--gateway-key": f"{tmp_path}/gateway.pub"}

    def serve(**changes):
        flags = {**good, **{"--" + k.replace("_", "-"): v for k, v in changes.items()}}
        return call(program, "serve", *[x for k, v in flags.items() if v is not None for x in (k, v)])

    for name in good:
        done = serve(**{name[2:].replace("-", "_"): None})
        assert done.returncode == 2 and f"{name} is missing" in done.stderr
    for changes, status, words in [
            ({"sandbox": "Not_An_Id"}, 2, "--sandbox"), ({"listen": "nowhere"}, 2, "ADDR:PORT"),
            ({"listen": "127.0.0.1:99999999"}, 2, "ADDR:PORT"), ({"listen": "192.0.2.1:1"}, 1, "cannot listen"),
            ({"key": "/no/such"}, 1, "No such file"), ({"key": f"{tmp_path}/key.pub"}, 1, "key"),
            ({"gateway_key": str(tmp_path / "key")}, 1, "not a public key"),
            ({"user": "no-such-user"}, 1, "no such user"), ({"home": "relative"}, 2, "--home"),
            ({"max_streams": "0"}, 2, "--max-streams"), ({"max_streams": "many"}, 2, "--max-streams"),
            ({"log_level": "loud"}, 2, "--log-level"), ({"nonsense": "1"}, 2, "unknown flag"),
            ({"address_file": "/no/such/folder/file"}, 1, "cannot write")]:
        done = serve(**changes)
        assert done.returncode == status and words in done.stderr, (changes, done)
    os.chmod(tmp_path / "key", 0o644)
    assert "chmod 600" in serve().stderr


def test_settings_from_the_environment(program, tmp_path):
    for name in ("key", "gateway_key"):
        call(program, "keygen", "--out", tmp_path / name)
    env = {**os.environ, "PROCD_LISTEN": "127.0.0.1:0", "PROCD_SANDBOX": "from-env", "PROCD_KEY": str(tmp_path / "key"),
           "PROCD_GATEWAY_KEY": f"{tmp_path}/gateway_key.pub", "PROCD_HOME": str(tmp_path),
           "PROCD_ADDRESS_FILE": str(tmp_path / "address")}
    with subprocess.Popen([program, "serve"], env=env, stderr=subprocess.PIPE, text=True) as child:
        wait_for((tmp_path / "address").exists)
        child.terminate()
        assert "sandbox=from-env" in child.stderr.read()
    assert child.returncode == 0


@pytest.fixture
def open_folder():
    """A folder that other users may enter."""
    path = tempfile.mkdtemp(prefix="procd-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


def test_runs_as_a_user(program, open_folder):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    user = pwd.getpwnam("nobody")
    one = Server(program, open_folder, arguments=["--user", "nobody", "--shell", "/bin/bash"])
    try:
        os.chown(one.home, user.pw_uid, user.pw_gid)
        with one.gateway() as g:
            c = g.run("id -u; id -g; id -G; echo $USER; echo $SHELL; touch mine; cat /proc/$PPID/status | grep ^Cap")
            lines = c.out.decode().splitlines()
            assert lines[:2] == [str(user.pw_uid), str(user.pw_gid)] and "0" not in lines[2].split()
            assert lines[3:5] == ["nobody", "/bin/bash"]
            assert "CapEff:\t0000000000000000" in lines
            s = Sftp(g)
            s.open("by-sftp", 0x2 | 0x8)
        for name in ("mine", "by-sftp"):
            assert os.stat(os.path.join(one.home, name)).st_uid == user.pw_uid
    finally:
        one.stop()


def test_home_that_is_not_there(program, tmp_path):
    one = Server(program, tmp_path)
    try:
        os.rmdir(one.home)
        with one.gateway() as g:
            c = g.run("pwd")
            assert c.out == b"/\n" and b"cannot enter the home folder" in c.err and c.exit == 0
    finally:
        one.stop()
        os.mkdir(one.home)


def test_shell_that_is_not_there(program, tmp_path):
    one = Server(program, tmp_path, arguments=["--shell", "/no/such/shell"])
    try:
        with one.gateway() as g:
            c = g.run("true")
            assert c.exit == 127 and b"no such file" in c.err
    finally:
        one.stop()
