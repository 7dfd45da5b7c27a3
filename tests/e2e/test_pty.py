"""Terminals: modes, size, redraws, interrupts, and what is left when the user is gone."""

import hashlib
import os
import re
import sys
import termios

import pytest

from conftest import needs_program
from terminal import Terminal
from waiting import is_alive, pids_running, pids_with, stays_true, wait_until

PROMPT = "READY> "


def token():
    """A duration for sleep that no other process of this machine sleeps for."""
    return f"{40000 + int.from_bytes(os.urandom(2), 'big')}.{os.getpid()}"


def end_all(text):
    for pid in pids_with(text):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass


@pytest.fixture
def shell(region):
    """shell(): a login shell on a terminal, at a prompt of ours."""
    opened = []

    def start(*flags, opts=(), box=None, **how):
        terminal = Terminal(region.ssh_argv(flags=flags, opts=opts, box=box), **how)
        opened.append(terminal)
        terminal.send("bind 'set enable-bracketed-paste off'; stty -echoctl; "
                      "PROMPT_COMMAND=; PS1='READ''Y> '\r")
        terminal.expect(PROMPT)
        return terminal

    yield start
    for terminal in opened:
        terminal.close()


def test_login(region, shell):
    terminal = shell()
    terminal.send("tty; pwd; echo $TERM; echo name=$0\r")
    terminal.expect(r"/dev/pts/\d+\r\n")
    terminal.expect(re.escape(os.path.realpath(region.home)) + r"\r\n")
    terminal.expect(r"xterm\S*\r\n")
    terminal.expect(r"name=-\S+\r\n" + PROMPT)
    terminal.send("exit 3\r")
    assert terminal.wait() == 3


def test_term_is_passed_on(region):
    env = dict(os.environ, TERM="screen-256color")
    with Terminal(region.ssh_argv("echo term=$TERM", flags=("-tt",)), env=env) as terminal:
        terminal.expect(r"term=screen-256color\r\n")
        assert terminal.wait() == 0


def test_exit_is_at_once(shell):
    terminal = shell()
    terminal.send("exit\r")
    assert terminal.wait(seconds=3) == 0


def test_end_of_file_ends_the_shell(shell):
    terminal = shell()
    terminal.send(b"\x04")
    assert terminal.wait(seconds=3) == 0


def test_exit_with_a_background_job(region, shell):
    """A job that holds the terminal does not hold the user."""
    mark = token()
    terminal = shell()
    terminal.send(f"sleep {mark} & disown\r")
    wait_until(lambda: pids_with(f"sleep\0{mark}"), "the job's start")
    terminal.send("exit\r")
    try:
        assert terminal.wait(seconds=5) == 0
    finally:
        end_all(mark)


def test_initial_size(region):
    with Terminal(region.ssh_argv("stty size", flags=("-tt",)), rows=37, columns=111) as t:
        t.expect(r"37 111\r\n")
        assert t.wait() == 0


def test_resize(shell):
    terminal = shell(rows=24, columns=80)
    terminal.send("stty size\r")
    terminal.expect(r"24 80\r\n" + PROMPT)
    terminal.send("trap 'echo winch; stty size' WINCH; echo trap-''set\r")
    terminal.expect("trap-set")
    terminal.expect(PROMPT)
    for rows, columns in ((50, 132), (10, 20), (61, 240)):
        terminal.resize(rows, columns)
        # Bash runs the trap when it comes back to its prompt.
        terminal.send("while ! [ \"$(stty size)\" = '%d %d' ]; do sleep 0.05; done; "
                      "echo is-''%d-%d\r" % (rows, columns, rows, columns))
        terminal.expect(f"is-{rows}-{columns}\r?\n")
    terminal.send("exit\r")
    terminal.wait()
    assert b"winch" in terminal.text


def test_interrupt(shell):
    mark = token()
    terminal = shell()
    terminal.send(f"sleep {mark}\r")
    wait_until(lambda: pids_with(f"sleep\0{mark}"), "the command's start")
    terminal.send(b"\x03")
    terminal.expect(PROMPT)
    terminal.send("echo status=$?\r")
    terminal.expect(r"status=130\r\n")
    assert not pids_with(mark)


def start_flood(terminal):
    """Until lines of it come: the first one alone is the command's echo, and bash, sshd or no sshd, loses a
    Ctrl-C that comes while it is still starting the command."""
    line = "flooding-the-screen"
    terminal.send(f"yes {line}\r")
    terminal.expect(f"({line}\r\n){{3}}")


def test_interrupt_of_a_flood(shell):
    """Ctrl-C works while the screen is being flooded."""
    terminal = shell()
    start_flood(terminal)
    terminal.send(b"\x03")
    terminal.expect(PROMPT, seconds=10)
    terminal.send("echo status=$?\r")
    terminal.expect(r"status=130\r\n")


@pytest.mark.gateway
def test_interrupt_of_a_flood_on_a_slow_line(region, shell):
    """A terminal's output is not piled up for a slow client: sshd lets it fill ssh's window, 1 MiB."""
    relay = os.path.join(os.path.dirname(os.path.abspath(__file__)), "slow_line.py")
    terminal = shell(opts=[f"ProxyCommand={sys.executable} {relay} %h %p 500000"])
    start_flood(terminal)
    # More than ssh's window: whatever can fill up has done so.
    terminal.take(1_200_000)
    before = len(terminal.text)
    terminal.send(b"\x03")
    terminal.expect(PROMPT, seconds=10)
    # 317 kB were measured, most of them in the sockets and the pipe to ssh.
    assert len(terminal.text) - before < 600_000


def test_suspend_and_resume(shell):
    mark = token()
    terminal = shell()
    terminal.send(f"sleep {mark}\r")
    wait_until(lambda: pids_with(f"sleep\0{mark}"), "the command's start")
    terminal.send(b"\x1a")
    terminal.expect(PROMPT)
    terminal.send("jobs\r")
    terminal.expect("Stopped")
    terminal.send("kill %1; wait\r")
    terminal.expect(PROMPT)


def test_modes_of_the_client(region):
    """stty -a in the sandbox shows what the client's own terminal is set to."""

    def before(fd):
        modes = termios.tcgetattr(fd)
        modes[6][termios.VINTR] = b"\x18"    # ^X
        modes[6][termios.VERASE] = b"\x08"   # ^H
        modes[6][termios.VEOF] = b"\x0e"     # ^N
        modes[0] |= termios.IUTF8 if hasattr(termios, "IUTF8") else 0o40000
        modes[0] &= ~termios.IXON
        modes[3] &= ~termios.ECHOE
        modes[3] &= ~termios.ECHOK
        modes[1] &= ~termios.ONLCR
        termios.tcsetattr(fd, termios.TCSANOW, modes)

    with Terminal(region.ssh_argv("stty -a; echo end-''mark", flags=("-tt",)),
                  before=before) as terminal:
        text = terminal.expect("(.*)end-mark").group(1).decode()
        assert terminal.wait() == 0
    for wanted in ("intr = ^X;", "erase = ^H;", "eof = ^N;"):
        assert wanted in text, text
    words = re.split(r"[\s;]+", text)
    for wanted in ("-ixon", "-echoe", "-echok", "-onlcr", "iutf8", "echo", "icanon", "isig"):
        assert wanted in words, (wanted, text)


def test_speed_of_the_line(region):
    with Terminal(region.ssh_argv("stty speed", flags=("-tt",))) as terminal:
        terminal.expect(r"38400\r\n")
        assert terminal.wait() == 0


def test_raw_bytes(shell):
    """Eight bits both ways, no translation, when the terminal is raw."""
    terminal = shell()
    data = bytes(range(256)) * 8
    terminal.send(f"stty raw -echo; echo go; head -c {len(data)} | sha256sum; stty sane\r")
    terminal.expect("go\n")
    # Ctrl sequences of ssh itself: no escape without a newline before "~".
    terminal.send(data)
    terminal.expect(hashlib.sha256(data).hexdigest())


def test_forced_terminal_with_a_command(region):
    with Terminal(region.ssh_argv("tty; test -t 0 && test -t 1 && test -t 2; exit 9",
                                  flags=("-tt",))) as terminal:
        terminal.expect(r"/dev/pts/\d+")
        assert terminal.wait() == 9


def test_forced_terminal_without_one_here(region):
    """ssh -tt from a script: stdin is no terminal, and the other side has one."""
    result = region.ssh("tty; exit 4", flags=("-tt",))
    assert result.status == 4 and b"/dev/pts/" in result.stdout, result


def test_output_of_a_terminal_is_complete(region):
    result = region.ssh("seq 1 20000; exit 2", flags=("-tt",))
    assert result.status == 2
    assert result.stdout == b"".join(b"%d\r\n" % i for i in range(1, 20001))


def test_large_paste(shell):
    """More than a terminal's line buffer (4 KiB) in lines: cat gets all of it."""
    terminal = shell()
    lines = [f"line {i} {'p' * 60}" for i in range(3000)]
    terminal.send("stty -echo; echo go; cat | sha256sum; stty echo\r")
    terminal.expect("go\r\n")
    wanted = hashlib.sha256(("\n".join(lines) + "\n").encode()).hexdigest()
    for i in range(0, len(lines), 40):
        terminal.send("\r".join(lines[i:i + 40]) + "\r")
        terminal.pump(0)
    terminal.send(b"\x04")
    terminal.expect(wanted, seconds=30)


def test_less(region, shell, work):
    needs_program("less")
    with open(os.path.join(region.home, work, "text"), "w", encoding="ascii") as f:
        f.writelines(f"text line number {i}\n" for i in range(5000))
    terminal = shell(rows=30, columns=100)
    terminal.send(f"LESS= less {work}/text\r")
    terminal.expect("text line number 28")
    terminal.send("G")
    terminal.expect("text line number 4999")
    terminal.send("?number 2500$\r")
    terminal.expect(r"text line .{0,9}number 2500.*:\x1b\[K$")
    terminal.resize(40, 100)
    # Less may take the key for the end of its redraw: it is pressed until it works.
    for _ in range(10):
        terminal.send("g")
        terminal.pump(0.2)
        if b"text line number 0\r\n" in terminal.text[terminal.mark:]:
            break
    terminal.expect("text line number 0\r\n")
    terminal.send("q")
    terminal.expect(PROMPT)


def test_vi(region, shell, work):
    if not any(os.access(f"/usr/bin/{n}", os.X_OK) for n in ("vim", "vim.tiny", "vi")):
        pytest.skip("no vi is installed (vim-tiny)")
    terminal = shell(rows=30, columns=100)
    terminal.send("V=$(command -v vim.tiny || command -v vim || command -v vi)\r")
    terminal.expect(PROMPT)
    terminal.send(f"$V -u NONE -N {work}/edited\r")
    terminal.expect("edited")
    terminal.expect("~")
    terminal.send("ihello from vi\rsecond line")
    terminal.expect("second line")
    terminal.resize(20, 60)
    terminal.send(b"\x1b")
    terminal.send("yyp:wq\r")
    terminal.expect(PROMPT)
    with open(os.path.join(region.home, work, "edited"), encoding="ascii") as f:
        assert f.read() == "hello from vi\nsecond line\nsecond line\n"


def test_full_screen_redraws(shell):
    """htop-like: a full screen many times a second, and a key ends it. Bash drops one that comes while it changes modes."""
    terminal = shell(rows=50, columns=160)
    terminal.send("while ! read -rsn1 -t 0.005 k; do printf '\\033[H'; "
                  "for i in $(seq 1 48); do printf 'row %d %0140d\\n' $i $((n++)); done; "
                  "done; echo key-''was-$k\r")
    for _ in range(20):
        terminal.expect("row 48 ")
    for _ in range(50):
        terminal.send("q")
        if terminal.expect("row 48 |key-was-q").group() == b"key-was-q":
            return
    pytest.fail("no key ended it")


def foreground_and_others(terminal, mark):
    """Starts one job of each kind; gives their pids by name."""
    jobs = {"background": f"sleep {mark}1", "nohup": f"nohup sleep {mark}2",
            "setsid": f"setsid sleep {mark}3", "foreground": f"sleep {mark}4"}
    terminal.send(f"{jobs['background']} &\r")
    terminal.expect(PROMPT)
    terminal.send(f"{jobs['nohup']} >/dev/null 2>&1 &\r")
    terminal.expect(PROMPT)
    terminal.send(f"{jobs['setsid']} >/dev/null 2>&1 </dev/null &\r")
    terminal.expect(PROMPT)
    terminal.send(f"{jobs['foreground']}\r")
    return {name: wait_until(lambda n=i: pids_running("sleep", f"{mark}{n}"), name)[0]
            for i, name in ((1, "background"), (2, "nohup"), (3, "setsid"),
                            (4, "foreground"))}


def leave_by_escape(terminal):
    # The escape is only seen behind a newline; the job in front takes that.
    terminal.send("\r")
    terminal.pump(0.2)
    terminal.send("~.")
    assert terminal.wait() == 255


def leave_by_kill(terminal):
    terminal.kill()


@pytest.mark.parametrize("leave", [leave_by_escape, leave_by_kill])
def test_gone_user_leaves_nothing(shell, leave):
    """What hangs on the terminal gets SIGHUP; nohup's and setsid's jobs live."""
    mark = token()
    terminal = shell()
    try:
        pids = foreground_and_others(terminal, mark)
        leave(terminal)
        wait_until(lambda: not is_alive(pids["foreground"])
                   and not is_alive(pids["background"]), "the end of the user's jobs")
        assert stays_true(lambda: is_alive(pids["nohup"]) and is_alive(pids["setsid"]), 1)
    finally:
        end_all(mark)


def test_gone_user_leaves_no_shell(region, shell):
    terminal = shell()
    terminal.send("echo pid=$$=\r")
    pid = int(terminal.expect(r"pid=(\d+)=").group(1))
    assert is_alive(pid)
    terminal.kill()
    wait_until(lambda: not is_alive(pid), "the end of the shell")


def test_escape_in_a_pipe_of_output(shell):
    """~. works while output that nobody reads is on its way."""
    mark = token()
    terminal = shell()
    terminal.send(f"sleep {mark} & yes\r")
    wait_until(lambda: pids_with(f"sleep\0{mark}"), "the job's start")
    terminal.expect("y\r\ny\r\n")
    try:
        terminal.send("\r~.")
        assert terminal.wait() == 255
        wait_until(lambda: not pids_with(mark), "the end of the jobs")
    finally:
        end_all(mark)


COUNTS_HANGUPS = """
import signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
print("counts", flush=True)
count, end = 0, time.monotonic() + 10
while time.monotonic() < end:
    if signal.sigtimedwait([signal.SIGHUP], 0):
        count += 1
        end = min(end, time.monotonic() + 0.5)
open(sys.argv[1], "w").write(str(count))
"""


def test_one_hangup(region, tmp_path):
    """The kernel's, and none behind it: bash, hung up twice, ends without a word to its jobs."""
    program, result = tmp_path / "counts.py", tmp_path / "count"
    program.write_text(COUNTS_HANGUPS)
    with Terminal(region.ssh_argv(f"exec python3 {program} {result}", flags=["-tt"])) as terminal:
        terminal.expect("counts")
        terminal.kill()
    wait_until(lambda: result.exists() and result.read_text(), "the count")
    assert result.read_text() == "1"


def test_nohup_output_goes_on(region, shell, work):
    """The job that stays is a working one, not a stopped one."""
    terminal = shell()
    path = os.path.join(region.home, work, "ticks")
    mark = token()
    terminal.send(f"nohup sh -c 'while :; do echo tick >>{work}/ticks; sleep 0.1; done' "
                  f"{mark} >/dev/null 2>&1 &\r")
    wait_until(lambda: os.path.exists(path), "the first tick")
    terminal.send("exit\r")
    terminal.wait()
    try:
        size = os.path.getsize(path)
        wait_until(lambda: os.path.getsize(path) > size + 20, "ticks after the exit")
    finally:
        end_all(mark)


def test_two_terminals_at_once(shell):
    one, two = shell(), shell()
    one.send("echo from-''one\r")
    two.send("echo from-''two\r")
    one.expect("from-one")
    two.expect("from-two")
    assert b"from-two" not in one.text


def test_utmp_like_names_of_terminals_differ(shell):
    names = set()
    for terminal in (shell(), shell()):
        terminal.send("tty\r")
        names.add(terminal.expect(r"/dev/pts/\d+").group(0))
    assert len(names) == 2


def test_each_keystroke_echoes_alone(shell):
    """One byte is not held back for the next one. How long it takes, bench/ says."""
    terminal = shell()
    terminal.send("cat\r")
    terminal.expect("cat\r\n")
    for i in range(100):
        key = "abcdefghij"[i % 10]
        terminal.send(key)
        terminal.expect(key)
    terminal.send(b"\x03")
