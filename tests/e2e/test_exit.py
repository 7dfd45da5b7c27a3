"""The truth about a command's end: status, signal, streams, EOF."""

import hashlib
import os
import subprocess

import pytest

from aclient import connect, finish
from regions import pipe_sha, run
from waiting import pids_with, stays_true, wait_until


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_status(region, status):
    result = region.ssh(f"exit {status}")
    assert result.status == status, result
    assert result.stdout == b""


def test_status_of_the_last_of_many(region):
    assert region.ssh("false; true").status == 0
    assert region.ssh("true; false").status == 1


def test_unknown_command(region):
    result = region.ssh("no-such-command-at-all")
    assert result.status == 127, result
    assert "not found" in result.err, result


@pytest.mark.parametrize("name", ["KILL", "TERM", "HUP", "USR1"])
def test_exit_signal(region, name):
    """Death by a signal arrives as exit-signal, and OpenSSH does not show success."""

    async def go():
        async with connect(region) as conn:
            done = await conn.run(f"kill -{name} $$; sleep 20")
            return done.exit_signal, done.exit_status

    signal_info, status = finish(go(), 30)
    assert signal_info is not None and signal_info[0] == name, (signal_info, status)
    assert region.ssh(f"kill -{name} $$; sleep 20").status == 255


def test_signal_of_a_child_is_a_status(region):
    result = region.ssh("sh -c 'kill -KILL $$'; exit $?")
    assert result.status == 137, result


def test_stdin_to_file(region, work, random64):
    with open(random64.path, "rb") as f:
        region.ssh(f"cat >{work}/f", stdin=f, timeout=120).ok()
    assert region.ssh(f"sha256sum <{work}/f").ok().out.split()[0] == random64.sha


def test_sort(region):
    lines = [os.urandom(20).hex().encode() for _ in range(20000)]
    result = region.ssh("LC_ALL=C sort", input=b"\n".join(lines) + b"\n").ok()
    assert result.stdout == b"\n".join(sorted(lines)) + b"\n"


def test_tar_pipe(region, work, tmp_path):
    source = tmp_path / "source"
    target = tmp_path / "target"
    target.mkdir()
    for i in range(200):
        folder = source / f"d{i % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i}").write_bytes(os.urandom(i * 137))
    up = region.ssh_argv(f"tar -C {work} -xf -")
    run(["bash", "-o", "pipefail", "-c", f'tar -C "{source}" -cf - . | "$@"', "-",
         *up]).ok()
    down = region.ssh_argv(f"tar -C {work} -cf - .")
    run(["bash", "-o", "pipefail", "-c", f'"$@" | tar -C "{target}" -xf -', "-", *down]).ok()
    run(["diff", "-r", str(source), str(target)]).ok()


def test_closed_stdin(region):
    """The command closed its stdin: what it writes still comes, and all ends well."""
    result = region.ssh("exec 0<&-; echo first; sleep 0.2; head -c 3000000 /dev/zero",
                        input=os.urandom(1 << 20)).ok()
    assert result.stdout == b"first\n" + bytes(3000000)


def test_closed_stdin_with_much_to_send(region, random64):
    """64 MiB are on offer to a command that takes none of it."""
    with open(random64.path, "rb") as f:
        result = region.ssh("exec 0<&-; sleep 0.3; echo done; exit 4", stdin=f)
    assert result.status == 4 and result.stdout == b"done\n", result


def test_unread_stdin(region, random64):
    """A command that never reads its stdin ends when it wants to."""
    with open(random64.path, "rb") as f:
        result = region.ssh("head -c 5 >/dev/null; exit 9", stdin=f)
    assert result.status == 9, result


def test_output_after_eof(region):
    result = region.ssh("cat; sleep 0.3; echo after; echo late >&2", input=b"in\n").ok()
    assert result.stdout == b"in\nafter\n" and result.stderr.endswith(b"late\n"), result


def test_stdin_half_closed_long_before_the_end(region):
    """No output may be lost when the client's side is closed from the start."""
    result = region.ssh("wc -c; head -c 20000000 /dev/zero | tr '\\0' x", input=b"").ok()
    assert result.stdout == b"0\n" + b"x" * 20000000


def test_streams_apart_and_complete(region):
    result = region.ssh("head -c 5000000 /dev/zero & head -c 3000000 /dev/zero | "
                        "tr '\\0' e >&2; wait; echo end; echo errend >&2; exit 3")
    assert result.status == 3
    assert result.stdout == bytes(5000000) + b"end\n"
    assert result.stderr == b"e" * 3000000 + b"errend\n"


def test_much_stderr_only(region):
    result = region.ssh("head -c 10000000 /dev/zero >&2").ok()
    assert result.stdout == b"" and result.stderr == bytes(10000000)


def test_output_is_complete_at_exit(region):
    """The exit status must not overtake the last bytes: many times, one by one."""
    for i in range(20):
        result = region.ssh(f"head -c 300000 /dev/zero; echo {i}; exit 5")
        assert result.status == 5 and len(result.stdout) == 300000 + len(str(i)) + 1


def test_status_of_a_command_that_closed_its_output(region):
    """EOF comes long before the end; the status must come all the same."""
    result = region.ssh("echo out; exec >&- 2>&-; sleep 0.7; exit 3")
    assert result.status == 3 and result.stdout == b"out\n", result


def test_status_of_many_commands_of_one_connection(region):
    """ControlMaster: the client closes its half as soon as it sees EOF."""
    control = f"/tmp/ringgate-exit-{os.getpid()}"
    master = subprocess.Popen(
        region.ssh_argv(flags=("-M", "-N", "-S", control)), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(control), "the master")
        wrong = {}
        for i in range(100):
            result = region.ssh(f"echo {i}; exit {i}", flags=("-S", control))
            if (result.status, result.out) != (i, f"{i}\n"):
                wrong[i] = (result.status, result.out)
        assert not wrong, wrong
    finally:
        master.terminate()
        master.wait()


def test_every_byte_value(region):
    every = bytes(range(256)) * 8 + os.urandom(1000)
    assert region.ssh("cat", input=every).ok().stdout == every


def test_sha_of_64_mib_both_ways(region, random64):
    result = pipe_sha(region.ssh_argv("cat"), random64.path)
    assert result.status == 0, result
    assert (result.sha, result.count) == (random64.sha, random64.bytes)


def test_slow_reader_loses_nothing(region, random64, work):
    """The reader is slower than the command: the output is held back, not dropped."""
    result = run(["bash", "-o", "pipefail", "-c",
                  '"$@" | (sleep 1.5; sha256sum)', "-",
                  *region.ssh_argv("head -c 50000000 /dev/zero | tr '\\0' z")]).ok()
    assert result.out.split()[0] == hashlib.sha256(b"z" * 50000000).hexdigest()


def test_no_pty_unless_asked(region):
    result = region.ssh("tty; test -t 1 || test -t 2; echo $?")
    assert result.stdout == b"not a tty\n1\n", result
    # A shell without a command and without a terminal, too.
    result = region.ssh(input=b"tty; echo $0\n", flags=("-T",))
    assert result.stdout.splitlines()[0] == b"not a tty", result


def test_shell_is_a_login_shell_at_home(region):
    result = region.ssh(input=b"echo $0; pwd; echo $HOME; exit 6\n", flags=("-T",))
    assert result.status == 6, result
    name, here, home = result.out.split("\n")[:3]
    assert name.startswith("-"), result
    assert here == home == os.path.realpath(region.home), result


def test_exec_starts_at_home(region):
    result = region.ssh("pwd; echo $HOME; echo $USER $LOGNAME; echo $SHELL").ok()
    here, home, names, shell = result.out.split("\n")[:4]
    assert here == home == os.path.realpath(region.home)
    assert len(names.split()) == 2 and shell.startswith("/")


def test_command_is_run_by_the_shell(region):
    result = region.ssh("x='a  b'; echo \"$x\" | { cat; echo $((6 * 7)); }").ok()
    assert result.stdout == b"a  b\n42\n"


def test_command_of_arbitrary_bytes(region):
    result = region.ssh(b"printf '\xff\xfe%s' '\xc3\x28' | od -An -tx1").ok()
    assert result.out.split() == ["ff", "fe", "c3", "28"]


def test_long_command(region):
    """Nearly the kernel's limit for one argument (128 KiB)."""
    result = region.ssh("printf %s " + "y" * 120000 + " | wc -c").ok()
    assert result.out.strip() == "120000"


def test_environment_is_an_allow_list(region):
    result = region.ssh("env", opts=["SetEnv=LC_ALL=C LC_MYTHING=1 GIT_PROTOCOL=version=2 "
                                     "LD_PRELOAD=/nowhere.so RINGGATE_X=1 BASH_ENV=/x"]).ok()
    env = dict(line.split("=", 1) for line in result.out.splitlines() if "=" in line)
    assert env.get("LC_MYTHING") == "1" and env.get("GIT_PROTOCOL") == "version=2", env
    assert "RINGGATE_X" not in env and "LD_PRELOAD" not in env and "BASH_ENV" not in env
    assert "TERM" not in env or env["TERM"] == "dumb"


def test_a_server_left_running_lives(region):
    """The command has ended, and what it left running on purpose is not touched."""
    token = f"41{os.getpid()}.5"
    region.ssh(f"sleep {token} >/dev/null 2>&1 </dev/null & echo started").ok()
    try:
        wait_until(lambda: pids_with(token), "the background process")
        assert stays_true(lambda: pids_with(token), 1.0)
    finally:
        for pid in pids_with(token):
            os.kill(pid, 9)


def test_background_process_that_holds_the_pipes(region):
    """Its output still comes after the command's own end, as with sshd."""
    result = region.ssh("(sleep 0.7; echo late) & echo early; exit 3")
    assert result.stdout == b"early\nlate\n" and result.status == 3, result


def test_client_signal_reaches_the_command(region, is_standin):
    if is_standin:
        pytest.skip("sshd passes no signals on to root's commands")

    async def go():
        async with connect(region) as conn:
            process = await conn.create_process(
                "trap 'echo caught; exit 12' TERM; echo ready; "
                "while :; do sleep 0.05; done")
            assert await process.stdout.readline() == "ready\n"
            process.send_signal("TERM")
            rest = await process.stdout.read()
            await process.wait()
            return rest, process.exit_status

    rest, status = finish(go(), 30)
    assert (rest, status) == ("caught\n", 12)


def test_killed_client_hangs_up_its_command(region, is_standin):
    """A lost user's command gets SIGHUP: no forgotten jobs. (sshd does not do it.)"""
    if is_standin:
        pytest.skip("sshd leaves commands without a pty running")
    token = f"42{os.getpid()}.5"
    client = subprocess.Popen(region.ssh_argv(f"sleep {token}; echo never"),
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: len(pids_with(f"sleep\0{token}")) == 1, "the command's start")
        client.kill()
        client.wait()
        wait_until(lambda: not pids_with(token), "the end of the command")
    finally:
        client.kill()
        client.wait()
        for pid in pids_with(token):
            os.kill(pid, 9)


def test_killed_client_spares_what_runs_elsewhere(region, is_standin):
    """In the background, with its streams elsewhere, it was left running on purpose, before the
    command has ended as after it: an editor's server. What still talks to the user is not."""
    if is_standin:
        pytest.skip("sshd leaves commands without a pty running")
    spared, foreground, talks = (f"{n}{os.getpid()}.5" for n in (43, 44, 45))
    client = subprocess.Popen(
        region.ssh_argv(f"sleep {spared} </dev/null >/dev/null 2>&1 & sleep {talks} >/dev/null & "
                        f"echo started; sleep {foreground} </dev/null; echo never"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    tokens = [f"sleep\0{token}" for token in (spared, foreground, talks)]
    try:
        assert client.stdout.readline() == b"started\n"
        wait_until(lambda: all(len(pids_with(token)) == 1 for token in tokens), "the start of all")
        client.kill()
        client.wait()
        wait_until(lambda: not any(pids_with(token) for token in tokens[1:]), "the end of two")
        assert stays_true(lambda: pids_with(tokens[0]), 0.5)
    finally:
        client.kill()
        client.communicate()
        for pid in [pid for token in tokens for pid in pids_with(token)]:
            os.kill(pid, 9)


def test_keepalives_of_the_client(region):
    result = region.ssh("sleep 3.5; echo alive",
                        opts=["ServerAliveInterval=1", "ServerAliveCountMax=2"]).ok()
    assert result.stdout == b"alive\n"


def test_two_sandboxes_are_apart(region):
    one, two = region.sandboxes[:2]
    region.ssh("echo one >who-am-i", box=one).ok()
    region.ssh("echo two >who-am-i", box=two).ok()
    assert region.ssh("cat who-am-i", box=one).ok().stdout == b"one\n"
    assert region.ssh("cat who-am-i", box=two).ok().stdout == b"two\n"


def test_unknown_subsystem(region):
    result = region.ssh("no-such-subsystem", flags=("-s",), timeout=20)
    assert result.status != 0 and "subsystem request failed" in result.err, result


def test_x11_and_agent_requests_do_not_hurt(region):
    """-X and -A ask for what is not there: a warning at most, and the command runs."""
    result = region.ssh("echo fine", flags=("-A", "-x"))
    assert result.status == 0 and result.stdout == b"fine\n", result
