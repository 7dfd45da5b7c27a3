"""The operator's words: before login (login.banner_file) and on a terminal (session.motd_file)."""

import os
import signal

import pytest

from conftest import needs_program
from fake_region import FakeRegion
from keys import Ed25519
from raw import RawLogin, transport
from regions import run
from waiting import wait_until

pytestmark = pytest.mark.gateway

BANNER = "Authorised users only.\n\tGrüße aus der Region\n\nno end of line"
SENT = BANNER.replace("\n", "\r\n") + "\r\n"
MOTD = "\x1b[1mMaintenance\x1b[0m on Sunday\nGrüße\nthe last line"
SHOWN = (MOTD.replace("\n", "\r\n") + "\r\n").encode()
UTF8 = dict(os.environ, LC_ALL="C.UTF-8")


class Texts(FakeRegion):
    def __init__(self, bin_dir, folder):
        self.banner, self.motd = folder / "banner", folder / "motd"
        self.banner.write_text(BANNER)
        self.motd.write_text(MOTD)
        super().__init__(bin_dir, [f"login.banner_file={self.banner}", f"session.motd_file={self.motd}"])

    def reload(self, words):
        offset = self.log_size()
        os.kill(self.gateway_pid, signal.SIGHUP)
        wait_until(lambda: words in self.log_since(offset), words)


@pytest.fixture(scope="module")
def texts(bin_dir, tmp_path_factory):
    with Texts(bin_dir, tmp_path_factory.mktemp("texts")) as one:
        yield one


# ---- the banner ----------------------------------------------------------------------


def test_ssh_shows_the_banner(texts):
    done = texts.ssh("echo", "in", env=UTF8).ok()
    assert done.stdout == b"in\n" and done.stderr.count(SENT.encode()) == 1, done
    assert texts.ssh("true", env=UTF8, opts=["LogLevel=ERROR"]).ok().stderr == b""


def test_who_is_denied_has_seen_it(texts, tmp_path):
    stranger = Ed25519().write(tmp_path / "stranger")
    done = texts.ssh("true", identity=stranger, env=UTF8)
    assert done.status == 255 and done.stderr.startswith(SENT.encode()) and b"Permission denied" in done.stderr, done


def test_it_comes_once_before_the_first_answer(texts):
    key = Ed25519()
    with RawLogin(texts) as login:
        types = login.types_from_now()
        for _ in range(3):
            login.probe("rs-one", key.name, key.blob)
            assert login.answer()[0] == "failure"
        # The list misses the first packet that comes, which is the banner.
        assert types == [51, 51, 51], types


def test_other_clients_get_in(texts, tmp_path):
    one, sock = transport(texts)
    assert one.get_banner() == SENT.encode()
    one.close()
    sock.close()
    needs_program("dbclient")
    needs_program("dropbearconvert")
    run(["dropbearconvert", "openssh", "dropbear", texts.identity, str(tmp_path / "key")]).ok()
    (tmp_path / ".ssh").mkdir(mode=0o700)
    done = run(["dbclient", "-y", "-T", "-i", str(tmp_path / "key"), "-p", str(texts.port),
                f"{texts.box}@{texts.host}", "echo in"], env=dict(os.environ, HOME=str(tmp_path))).ok()
    assert done.stdout == b"in\n" and b"Authorised users only." in done.stderr, done


# ---- the message of the day ----------------------------------------------------------


def shell(region, *flags, text="echo a-$((1+1))-b; exit 3\n"):
    """A login shell, or what `flags` say, fed from a file: it needs no terminal of ours."""
    return region.ssh(input=text.encode(), flags=flags, opts=["LogLevel=ERROR"])


def test_a_login_shell_on_a_terminal_shows_it_first(texts):
    done = shell(texts, "-tt")
    assert done.status == 3, done
    # What the terminal echoes may come at any time; the shell itself begins behind the message.
    assert done.stdout.count(SHOWN) == 1 and done.stderr == b"", done
    assert done.stdout.index(SHOWN) < done.stdout.index(b"a-2-b"), done
    assert done.stdout.startswith(SHOWN) or done.stdout.startswith(b"echo a-"), done


def test_nothing_else_shows_it(texts):
    assert b"Maintenance" not in texts.ssh("echo", "in", opts=["LogLevel=ERROR"]).ok().stdout
    assert texts.ssh("echo", "in", flags=["-tt"], opts=["LogLevel=ERROR"]).ok().stdout == b"in\r\n"
    done = shell(texts, "-T")
    assert done.status == 3 and b"a-2-b\n" in done.stdout and b"Maintenance" not in done.stdout, done
    done = texts.sftp("pwd\n", opts=["LogLevel=ERROR"]).ok()
    assert b"Maintenance" not in done.stdout + done.stderr


def test_hushlogin(texts):
    path = os.path.join(texts.home, ".hushlogin")
    with open(path, "w", encoding="ascii"):
        pass
    try:
        done = shell(texts, "-tt")
        assert done.status == 3 and b"Maintenance" not in done.stdout, done
    finally:
        os.unlink(path)


def test_the_control_plane_has_a_word_too(texts):
    """Behind the region's; what would move the cursor is shown as ?; a change is seen at the next shell."""
    box = texts.box
    try:
        texts.control.set_policies(box, motd="disk 97 %\x1b[2J\x07 füll\x9b\n\tsecond line")
        said = "disk 97 %?[2J? füll?\r\n\tsecond line\r\n".encode()
        done = wait_until(lambda: (lambda d: d if b"disk 97" in d.stdout else None)(shell(texts, "-tt")), "the word")
        assert SHOWN + said in done.stdout, done
        assert b"disk" not in texts.ssh("true", opts=["LogLevel=ERROR"]).ok().stdout
        # It rules nothing by itself, and a policy beside it still does.
        texts.control.set_policies(box, motd="no copies", policy={"sftp": "none"})
        wait_until(lambda: b"no copies" in shell(texts, "-tt").stdout, "the next word")
        assert "forbids file transfer" in texts.ssh("sftp", flags=("-s",)).err
    finally:
        texts.control.set_policies(box)
    wait_until(lambda: b"no copies" not in shell(texts, "-tt").stdout, "its end")


# ---- changes, and files that are wrong ------------------------------------------------


def test_both_are_read_again(bin_dir, tmp_path):
    with Texts(bin_dir, tmp_path) as own:
        # As long as it may be: more than a terminal holds at once.
        lines = "".join(f"line {i:03d} {'x' * 54}\n" for i in range(128))
        assert len(lines) == 8192
        own.motd.write_text(lines)
        own.banner.write_text("another one\n")
        own.reload('event=texts result="read again"')
        done = shell(own, "-tt")
        assert lines.replace("\n", "\r\n").encode() in done.stdout, done
        assert b"another one\r\n" in own.ssh("true").ok().stderr

        own.motd.write_text(lines + "x")
        own.banner.write_text("not taken\n")
        own.reload('event=texts result="kept the old content"')
        assert "session.motd_file" in own.gateway_log().splitlines()[-1]
        assert b"another one\r\n" in own.ssh("true").ok().stderr

        own.motd.write_text("")
        own.banner.write_text("")
        own.reload('event=texts result="read again"')
        assert own.ssh("true").ok().stderr == b""
        assert b"line 000" not in shell(own, "-tt").stdout


def test_wrong_files_are_errors_at_start(texts, tmp_path):
    path = tmp_path / "text"

    def check(setting):
        argv = [os.path.join(texts.bin_dir, "ringgate"), "--check"]
        for one in [*texts.gateway_settings(), f"{setting}={path}"]:
            argv += ["--set", one]
        return run(argv)

    for setting in ("login.banner_file", "session.motd_file"):
        for content, words in ((b"x" * 8193, "more than 8192 bytes"), (b"fine\n\xc3\x28\n", ":2: is no UTF-8"),
                               (b"a\nb\n\xed\xa0\x80", ":3: is no UTF-8"), (b"a\0b", ":1: holds a control character"),
                               (b"\xc2\x9b31m", ":1: holds a control character")):
            path.write_bytes(content)
            done = check(setting)
            assert done.status == 1 and setting in done.err and f"{path}" in done.err and words in done.err, done
        path.write_bytes("ä€😀\r\n".encode())
        check(setting).ok()
        path.unlink()
        done = check(setting)
        assert done.status == 1 and "No such file" in done.err, done
        path.mkdir()
        done = check(setting)
        assert done.status == 1 and str(path) in done.err, done
        path.rmdir()
    path.write_text("\x1b[1mbold\x1b[0m\n")
    check("session.motd_file").ok()
    done = check("login.banner_file")
    assert done.status == 1 and "control character" in done.err, done
