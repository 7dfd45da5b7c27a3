"""A sandbox that runs as another user than procd was started by. Root only."""

import os
import stat

import pytest

from regions import run

pytestmark = [pytest.mark.gateway,
              pytest.mark.skipif(os.geteuid() != 0, reason="only root may run as others")]

USER = "nobody"


@pytest.fixture(scope="module")
def lowly(bin_dir):
    import tempfile

    from regions import Region
    folder = tempfile.mkdtemp(prefix="ringgate-e2e-user-")
    os.chmod(folder, 0o755)
    try:
        with Region(bin_dir, ["--user", USER, "--shell", "/bin/sh"], dir=folder,
                    sandboxes=1) as started:
            yield started
    finally:
        import shutil
        shutil.rmtree(folder, ignore_errors=True)


def test_identity(lowly):
    out = lowly.ssh("id -un; id -u; id -G; echo $USER $LOGNAME $HOME; pwd").ok().out
    name, number, groups, names, here = out.splitlines()
    assert name == USER and number != "0" and "0" not in groups.split()
    assert names.split()[:2] == [USER, USER]
    assert here == os.path.realpath(lowly.home)


def test_identity_on_a_terminal(lowly):
    result = lowly.ssh("id -un; stat -c %U $(tty)", flags=("-tt",)).ok()
    assert result.out.split() == [USER, USER], result


def test_no_capabilities_are_left(lowly):
    out = lowly.ssh("grep -E '^(CapEff|CapPrm|NoNewPrivs|Groups)' /proc/self/status").ok().out
    values = dict(line.split(":", 1) for line in out.splitlines())
    assert int(values["CapEff"], 16) == 0 and int(values["CapPrm"], 16) == 0, out


def test_files_belong_to_the_user(lowly, tmp_path):
    (tmp_path / "f").write_text("x")
    lowly.scp(str(tmp_path / "f"), lowly.remote("f")).ok()
    import pwd
    assert os.stat(os.path.join(lowly.home, "f")).st_uid == pwd.getpwnam(USER).pw_uid


def test_no_permission(lowly, tmp_path):
    """scp into another's folder: words, status 1, and nothing there."""
    (tmp_path / "f").write_text("x")
    os.makedirs(os.path.join(lowly.home, "roots"), mode=0o755, exist_ok=True)
    os.chown(os.path.join(lowly.home, "roots"), 0, 0)
    result = lowly.scp(str(tmp_path / "f"), lowly.remote("roots/f"))
    assert result.status == 1 and "Permission denied" in result.err, result
    assert os.listdir(os.path.join(lowly.home, "roots")) == []


def test_no_permission_to_read(lowly, tmp_path):
    path = os.path.join(lowly.home, "secret")
    with open(path, "w", encoding="ascii") as f:
        f.write("secret")
    os.chmod(path, 0o600)
    os.chown(path, 0, 0)
    result = lowly.scp(lowly.remote("secret"), str(tmp_path / "x"))
    assert result.status == 1 and "Permission denied" in result.err, result
    assert lowly.ssh("cat secret").status == 1


def test_the_sandboxs_keys_are_out_of_reach(lowly):
    """The user in the sandbox cannot read procd's own key, nor its memory."""
    key = os.path.join(os.path.dirname(lowly.home), "key")
    assert stat.S_IMODE(os.stat(key).st_mode) == 0o600
    assert lowly.ssh(f"cat {key}").status != 0
    pid = lowly.procd_pids[lowly.box]
    assert lowly.ssh(f"cat /proc/{pid}/environ").status != 0
    assert lowly.ssh(f"kill -TERM {pid}").status != 0


def test_no_descriptor_is_inherited(lowly):
    """A command has 0, 1 and 2 and nothing else of procd's."""
    out = lowly.ssh("ls -l /proc/self/fd | awk '{print $9, $11}'").ok().out
    numbers = sorted(int(line.split()[0]) for line in out.splitlines() if line.split())
    assert numbers[:3] == [0, 1, 2] and len(numbers) == 4, out  # One is ls's own folder.


def test_signals_and_masks_are_clean(lowly):
    """No signal is blocked or ignored in a command because procd does so."""
    out = lowly.ssh("grep -E '^Sig(Blk|Ign)' /proc/self/status").ok().out
    for line in out.splitlines():
        assert int(line.split()[1], 16) == 0, out


def test_limits_of_open_files(lowly):
    """What procd raised for itself it does not hand on."""
    soft = run(["sh", "-c", "ulimit -Sn"]).ok().out
    assert lowly.ssh("ulimit -Sn").ok().out == soft
