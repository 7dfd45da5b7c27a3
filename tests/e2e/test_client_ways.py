"""What people do with ssh beside running commands: ends of input, no command at all, breaks."""

import os
import subprocess

import paramiko
import pytest

from raw import GatedSocket, channel_request
from terminal import Terminal
from waiting import stays_true, wait_until

pytestmark = pytest.mark.gateway


# ---- eow@openssh.com -----------------------------------------------------------------


def test_who_writes_for_a_command_that_takes_nothing_is_told(region, work, tmp_path):
    """`yes | ssh`: the client reads no more of it while the command still runs, and the rest comes all the same."""
    go = os.path.join(region.home, work, "go")
    command = f"exec 0<&-; while ! [ -e {work}/go ]; do sleep 0.05; done; echo done; exit 7"
    log = tmp_path / "log"
    yes = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
    with open(log, "wb") as stderr:
        client = subprocess.Popen(region.ssh_argv(command, opts=["LogLevel=DEBUG2"]), stdin=yes.stdout,
                                  stdout=subprocess.PIPE, stderr=stderr)
    yes.stdout.close()
    try:
        wait_until(lambda: "channel 0: input open -> closed" in log.read_text(), "the client's end of reading")
        assert client.poll() is None
        with open(go, "w", encoding="ascii"):
            pass
        out, _ = client.communicate(timeout=20)
        assert client.returncode == 7 and out == b"done\n", (client.returncode, out)
        assert log.read_text().count("rtype eow@openssh.com reply 0") == 1
    finally:
        for process in (yes, client):
            process.kill()
            process.wait()
        client.stdout.close()


@pytest.mark.parametrize("version, is_told", [
    ("SSH-2.0-OpenSSH_9.2p1 Debian-2", True), ("SSH-2.0-OpenSSH_for_Windows_9.5", True),
    ("SSH-2.0-OpenSSH_4.3", False), ("SSH-2.0-paramiko_2.12.0", False), ("SSH-2.0-WinSCP_like_OpenSSH_9.2", False)])
def test_only_openssh_is_told_and_what_is_sent_is_dropped(region, work, version, is_told):
    sock = GatedSocket(region.host, region.port)
    one = paramiko.Transport(sock)
    one.local_version = version
    names = []

    def on_request(channel, message):
        start = message.packet.tell()
        names.append(message.get_text())
        message.packet.seek(start)
        channel._handle_request(message)

    one._channel_handler_table = {**paramiko.Transport._channel_handler_table, 98: on_request}
    one.start_client(timeout=20)
    try:
        one.auth_publickey(region.box, paramiko.Ed25519Key.from_private_key_file(region.identity))
        channel = one.open_session(timeout=20)
        channel.exec_command(f"exec 0<&-; echo closed; while ! [ -e {work}/go ]; do sleep 0.05; done; echo end; exit 3")
        assert channel.makefile().readline() == "closed\n"
        for _ in range(256):  # 8 MiB: more than any window holds
            channel.sendall(bytes(32768))
        with open(os.path.join(region.home, work, "go"), "w", encoding="ascii"):
            pass
        assert channel.recv(100) == b"end\n"
        assert channel.recv_exit_status() == 3
        assert names.count("eow@openssh.com") == (1 if is_told else 0) and "exit-status" in names, names
    finally:
        one.close()
        sock.close()


# ---- no command, and a command in the background ---------------------------------------


def test_no_command(region):
    """ssh -N: in, with no channel, for as long as it likes."""
    offset = region.log_size()
    client = subprocess.Popen(region.ssh_argv(flags=["-N"]), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: "result=accepted" in region.log_since(offset), "the login")
        assert stays_true(lambda: client.poll() is None, 0.3)
        client.terminate()
        client.communicate(timeout=20)
        wait_until(lambda: " channels=0" in region.log_since(offset), "the end's line")
    finally:
        client.kill()
        client.wait()


# ---- break (RFC 4335) ------------------------------------------------------------------


def test_break_from_the_keyboard(region):
    """~B: a pseudo terminal has no line to break; it does no harm, as with sshd."""
    terminal = Terminal(region.ssh_argv(flags=["-tt"], opts=["LogLevel=DEBUG2"]))
    try:
        terminal.send("stty -echo; echo re'ady'\n")
        terminal.expect("ready\r\n")
        terminal.send("\n~B")
        terminal.expect("channel_request_start|channel 0: request break")
        terminal.send("\necho still-$((1+1)); exit 5\n")
        terminal.expect("still-2\r\n")
        assert terminal.process.wait(20) == 5
    finally:
        terminal.close()


def test_break_is_answered(region):
    """Yes on a terminal, no without one."""
    sock = GatedSocket(region.host, region.port)
    one = paramiko.Transport(sock)
    one.start_client(timeout=20)
    answers = []
    table = dict(paramiko.Transport._channel_handler_table)
    for kind in (99, 100):
        table[kind] = lambda channel, message, kind=kind: answers.append(kind)
    try:
        one.auth_publickey(region.box, paramiko.Ed25519Key.from_private_key_file(region.identity))
        for has_pty, answer in ((True, 99), (False, 100)):
            channel = one.open_session(timeout=20)
            if has_pty:
                channel.get_pty()
            channel.exec_command("cat")
            one._channel_handler_table, answers[:] = table, []
            channel_request(one, channel.remote_chanid, "break", 500)
            wait_until(lambda: answers, "the answer")
            del one._channel_handler_table
            assert answers == [answer], has_pty
            channel.close()
    finally:
        one.close()
        sock.close()
