"""scp and sftp of OpenSSH: every byte, name, mode and time, and honest failures."""

import hashlib
import os
import subprocess

import pytest

from regions import run, sha_of_file
from waiting import wait_until

IS_ROOT = os.geteuid() == 0


def there(region, *parts):
    """A path in the first sandbox, seen from outside."""
    return os.path.join(region.home, *parts)


@pytest.mark.parametrize("size", [0, 1, 32767, 32768, 32769, 261120, 3000001])
def test_sizes_both_ways(region, work, tmp_path, size):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    region.scp(str(source), region.remote(f"{work}/f")).ok()
    assert sha_of_file(there(region, work, "f")) == sha_of_file(source)
    region.scp(region.remote(f"{work}/f"), str(tmp_path / "back")).ok()
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_more_than_4_gib(region, roomy):
    """4 GiB + 1 byte, sparse at the source: offsets need 64 bits, both directions."""
    size = (4 << 30) + 1
    marks = {0: b"first", (2 << 30) - 3: b"around 2 GiB", (4 << 30) - 5: b"4 GiB:"}

    def write_marks(path):
        with open(path, "wb") as f:
            f.truncate(size)
            for offset, text in marks.items():
                f.seek(offset)
                f.write(text)
        return path

    source = write_marks(os.path.join(roomy, "source"))
    wanted = sha_of_file(source)
    target = os.path.join(roomy, "target")
    region.scp(source, region.remote(target), timeout=180).ok()
    assert os.path.getsize(target) == size
    assert sha_of_file(target) == wanted
    os.unlink(target)
    os.rename(source, target)
    region.scp(region.remote(target), source, timeout=180).ok()
    assert os.path.getsize(source) == size
    assert sha_of_file(source) == wanted


def tree_digest(root):
    digest = hashlib.sha256()
    root = os.fsencode(str(root))
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            digest.update(os.path.relpath(path, root) + b"\0")
            with open(path, "rb") as f:
                digest.update(hashlib.sha256(f.read()).digest())
    return digest.hexdigest()


@pytest.mark.slow
def test_ten_thousand_files(region, work, tmp_path):
    source = tmp_path / "many"
    for i in range(100):
        folder = source / f"d{i}"
        folder.mkdir(parents=True)
        for j in range(100):
            (folder / f"file-{j}").write_bytes(b"%d:%d\n" % (i, j) * (j % 11))
    wanted = tree_digest(source)
    region.scp("-r", "-q", str(source), region.remote(f"{work}/")).ok()
    assert tree_digest(there(region, work, "many")) == wanted
    region.scp("-r", "-q", region.remote(f"{work}/many"), str(tmp_path / "back")).ok()
    assert tree_digest(tmp_path / "back") == wanted
    assert sum(len(f) for _, _, f in os.walk(tmp_path / "back")) == 10000


def test_preserve(region, work, tmp_path):
    """-p: modes and times, of folders too, both ways."""
    source = tmp_path / "p"
    source.mkdir()
    modes = {"run.sh": 0o755, "secret": 0o600, "read-only": 0o444, "shared": 0o664}
    for name, mode in modes.items():
        (source / name).write_text(name)
        os.chmod(source / name, mode)
        os.utime(source / name, (1111111111, 1234567890))
    os.chmod(source, 0o750)
    os.utime(source, (1000000001, 1000000002))

    def check(root):
        for name, mode in modes.items():
            stat = os.stat(os.path.join(root, name))
            assert stat.st_mode & 0o7777 == mode, name
            assert int(stat.st_mtime) == 1234567890 and int(stat.st_atime) == 1111111111
        stat = os.stat(root)
        assert stat.st_mode & 0o7777 == 0o750
        assert int(stat.st_mtime) == 1000000002

    region.scp("-rp", str(source), region.remote(f"{work}/")).ok()
    check(there(region, work, "p"))
    region.scp("-rp", region.remote(f"{work}/p"), str(tmp_path / "back")).ok()
    check(tmp_path / "back")


def test_without_preserve_the_mode_still_comes(region, work, tmp_path):
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "tool", 0o755)
    region.scp(str(tmp_path / "tool"), region.remote(f"{work}/tool")).ok()
    assert os.stat(there(region, work, "tool")).st_mode & 0o111 == 0o111


ODD_NAMES = [b"with space", b"quo'te", b'dou"ble', b"new\nline", b"-dash", b"[ab]*?",
             b"back\\slash", b"$HOME", b"`id`", "\u00fcml\u00e4ut \u2603".encode(),
             b"not-utf8-\xff\xfe", b"semi;colon&", b"tab\there", b"a" * 255, b"...", b"{x,y}",
             b"~", b"#hash", b"%d%s%n", b"col:on"]


def test_odd_names(region, work, tmp_path):
    source = os.fsencode(str(tmp_path / "odd"))
    os.mkdir(source)
    for name in ODD_NAMES:
        with open(os.path.join(source, name), "wb") as f:
            f.write(name)
    region.scp("-r", os.fsdecode(source), region.remote(f"{work}/")).ok()
    remote = os.fsencode(there(region, work, "odd"))
    assert sorted(os.listdir(remote)) == sorted(ODD_NAMES)
    region.scp("-r", region.remote(f"{work}/odd"), str(tmp_path / "back")).ok()
    back = os.fsencode(str(tmp_path / "back"))
    assert sorted(os.listdir(back)) == sorted(ODD_NAMES)
    for name in ODD_NAMES:
        with open(os.path.join(back, name), "rb") as f:
            assert f.read() == name


def test_several_sources_and_a_glob(region, work, tmp_path):
    for name in ("a1", "a2", "b1"):
        (tmp_path / name).write_text(name)
    region.scp(*(str(tmp_path / n) for n in ("a1", "a2", "b1")),
               region.remote(f"{work}/")).ok()
    assert sorted(os.listdir(there(region, work))) == ["a1", "a2", "b1"]
    target = tmp_path / "t"
    target.mkdir()
    region.scp(region.remote(f"{work}/a*"), str(target)).ok()
    assert sorted(os.listdir(target)) == ["a1", "a2"]


def test_from_one_sandbox_to_the_other(region, work, random64):
    """Through the client, as scp does by default (-3)."""
    region.scp(random64.path, region.remote(f"{work}/x")).ok()
    other = region.sandboxes[1]
    target = os.path.join(region.homes[other], "x-from-one")
    try:
        region.scp(region.remote(f"{work}/x"), region.remote("x-from-one", box=other)).ok()
        assert sha_of_file(target) == random64.sha
    finally:
        if os.path.exists(target):
            os.unlink(target)


def test_overwrite_a_longer_file(region, work, tmp_path):
    """The old file's tail must not stay."""
    with open(there(region, work, "f"), "wb") as f:
        f.write(b"x" * 1000000)
    (tmp_path / "short").write_bytes(b"short")
    region.scp(str(tmp_path / "short"), region.remote(f"{work}/f")).ok()
    with open(there(region, work, "f"), "rb") as f:
        assert f.read() == b"short"


def test_missing_target_folder(region, work, tmp_path):
    (tmp_path / "f").write_text("x")
    result = region.scp(str(tmp_path / "f"), region.remote(f"{work}/no/such/folder/f"))
    assert result.status == 1 and "No such file" in result.err, result
    assert os.listdir(there(region, work)) == []


def test_missing_source(region, tmp_path):
    result = region.scp(region.remote("no-such-file-here"), str(tmp_path / "x"))
    assert result.status == 1 and "No such file" in result.err, result
    assert not (tmp_path / "x").exists()


def test_folder_without_r(region, work, tmp_path):
    result = region.scp(region.remote(work), str(tmp_path / "x"))
    assert result.status == 1 and "regular file" in result.err, result


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere; see test_user.py")
def test_no_permission(region, work, tmp_path):
    (tmp_path / "f").write_text("x")
    os.chmod(there(region, work), 0o555)
    try:
        result = region.scp(str(tmp_path / "f"), region.remote(f"{work}/f"))
        assert result.status == 1 and "Permission denied" in result.err, result
    finally:
        os.chmod(there(region, work), 0o755)


def test_disk_full_device(region, tmp_path):
    """/dev/full says ENOSPC to each write: scp must fail, and say so."""
    (tmp_path / "f").write_bytes(bytes(3000000))
    result = region.scp(str(tmp_path / "f"), region.remote("/dev/full"))
    assert result.status == 1 and "/dev/full" in result.err, result


@pytest.fixture
def small_disk(region, work):
    """A file system of 4 MiB in the sandbox."""
    if not IS_ROOT:
        pytest.skip("only root may mount a small file system")
    path = there(region, work, "small")
    os.mkdir(path)
    done = run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path])
    if done.status != 0:
        pytest.skip(f"no small file system can be mounted here: {done.err.strip()}")
    yield path
    run(["umount", path]).ok()


def test_disk_full(region, work, small_disk, tmp_path):
    (tmp_path / "f").write_bytes(os.urandom(16 << 20))
    result = region.scp(str(tmp_path / "f"), region.remote(f"{work}/small/f"))
    assert result.status == 1, result
    assert os.stat(os.path.join(small_disk, "f")).st_blocks * 512 <= 4 << 20
    # And with room again, the same transfer is whole.
    os.unlink(os.path.join(small_disk, "f"))
    (tmp_path / "g").write_bytes(os.urandom(2 << 20))
    region.scp(str(tmp_path / "g"), region.remote(f"{work}/small/g")).ok()
    assert sha_of_file(os.path.join(small_disk, "g")) == sha_of_file(tmp_path / "g")


def test_local_disk_full_of_a_download(region, work, tmp_path):
    """The client fails by itself; nothing may hang."""
    with open(there(region, work, "f"), "wb") as f:
        f.write(bytes(8 << 20))
    result = region.scp(region.remote(f"{work}/f"), "/dev/full")
    assert result.status == 1, result
    region.serves()


def test_sixty_four_mib_both_ways_with_sftp(region, work, random64, tmp_path):
    region.sftp(f"cd {work}\nput {random64.path} up\nget up {tmp_path}/back\n",
                timeout=120).ok()
    assert sha_of_file(there(region, work, "up")) == random64.sha
    assert sha_of_file(tmp_path / "back") == random64.sha


def test_sftp_starts_at_home(region):
    assert os.path.realpath(region.home) in region.sftp("pwd\n").ok().out


def test_sftp_commands(region, work, tmp_path):
    (tmp_path / "f").write_text("content\n")
    batch = f"""
cd {work}
put {tmp_path}/f f
chmod 640 f
rename f g
ln g hard
ln -s g soft
mkdir d
mkdir d/e
rmdir d/e
put {tmp_path}/f d/x
df
ls -la
"""
    result = region.sftp(batch).ok()
    top = there(region, work)
    assert sorted(os.listdir(top)) == ["d", "g", "hard", "soft"]
    assert os.stat(f"{top}/g").st_mode & 0o7777 == 0o640
    assert os.stat(f"{top}/g").st_nlink == 2
    assert os.readlink(f"{top}/soft") == "g"
    assert "hard" in result.out and "Avail" in result.out


def test_rename_replaces(region, work):
    """posix-rename@openssh.com, which OpenSSH's client uses where it is offered."""
    for name in ("a", "b"):
        with open(there(region, work, name), "w", encoding="ascii") as f:
            f.write(name)
    region.sftp(f"rename {work}/a {work}/b\n").ok()
    assert os.listdir(there(region, work)) == ["b"]
    with open(there(region, work, "b"), encoding="ascii") as f:
        assert f.read() == "a"


def test_rmdir_of_a_full_folder_fails(region, work):
    os.makedirs(there(region, work, "d"))
    with open(there(region, work, "d", "keep"), "w", encoding="ascii") as f:
        f.write("keep")
    result = region.sftp(f"rmdir {work}/d\n")
    assert result.status == 1, result
    assert os.listdir(there(region, work, "d")) == ["keep"]


def test_resume(region, work, random64, tmp_path):
    """reput and reget go on where a transfer was cut."""
    with open(random64.path, "rb") as f:
        head = f.read(20000000)
    with open(there(region, work, "f"), "wb") as f:
        f.write(head)
    (tmp_path / "back").write_bytes(head)
    region.sftp(f"reput {random64.path} {work}/f\nreget {work}/f {tmp_path}/back\n").ok()
    assert sha_of_file(there(region, work, "f")) == random64.sha
    assert sha_of_file(tmp_path / "back") == random64.sha


def test_copy_inside(region, work, random64):
    """copy-data: sftp's cp, without the bytes coming here."""
    region.scp(random64.path, region.remote(f"{work}/f")).ok()
    result = region.sftp(f"cp {work}/f {work}/g\n")
    if "Invalid command" in result.err:
        pytest.skip("this sftp has no cp")
    result.ok()
    assert sha_of_file(there(region, work, "g")) == random64.sha


def test_symlinks_are_followed_by_scp(region, work, tmp_path):
    with open(there(region, work, "f"), "w", encoding="ascii") as f:
        f.write("through the link")
    os.symlink("f", there(region, work, "link"))
    region.scp(region.remote(f"{work}/link"), str(tmp_path / "x")).ok()
    assert (tmp_path / "x").read_text() == "through the link"


def test_dangling_link(region, work):
    """A dangling link is listed, and reading it fails."""
    os.symlink("nowhere", there(region, work, "dangling"))
    result = region.sftp(f"ls -l {work}\n").ok()
    assert "dangling" in result.out
    assert region.sftp(f"get {work}/dangling /dev/null\n").status == 1


def test_big_directory_listing(region, work):
    """More names than one answer holds."""
    names = [f"entry-{i:05d}-{'x' * 60}" for i in range(3000)]
    for name in names:
        open(there(region, work, name), "w", encoding="ascii").close()
    result = region.sftp(f"ls -1 {work}\n").ok()
    listed = [line.rsplit("/", 1)[-1].strip() for line in result.out.splitlines()
              if "entry-" in line and not line.startswith("sftp>")]
    assert listed == names


def test_bandwidth_limit_of_the_client(region, work, tmp_path):
    (tmp_path / "f").write_bytes(os.urandom(400000))
    region.scp("-l", "8000", str(tmp_path / "f"), region.remote(f"{work}/f")).ok()
    assert sha_of_file(there(region, work, "f")) == sha_of_file(tmp_path / "f")


def test_interrupted_upload_leaves_the_gateway_well(region, work):
    """A client killed in mid-transfer: its end of the line is taken as an end."""
    client = subprocess.Popen(
        region.ssh_argv(f"cat >{work}/f"), stdin=open("/dev/zero", "rb"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        path = there(region, work, "f")
        wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 1 << 20,
                   "the first bytes")
    finally:
        client.kill()
        client.wait()
    region.serves()


@pytest.mark.gateway
@pytest.mark.parametrize("direction", ["up", "down", "recursive"])
def test_legacy_scp_is_refused_in_words(region, work, tmp_path, direction):
    (tmp_path / "f").write_text("x")
    words = "legacy scp mode is not supported; use the default scp (SFTP) mode"
    if direction == "down":
        result = region.scp("-O", region.remote(f"{work}/f"), str(tmp_path / "g"), timeout=20)
    else:
        more = ["-r", "-p"] if direction == "recursive" else []
        result = region.scp("-O", *more, str(tmp_path / "f"), region.remote(f"{work}/f"),
                            timeout=20)
    assert result.status == 1, result
    assert words in result.err, result
    assert os.listdir(there(region, work)) == []


@pytest.mark.gateway
@pytest.mark.parametrize("command", ["scp -t x", "scp -f x", "scp -r -p -t .",
                                     "scp -v -d -t -- x"])
def test_legacy_scp_by_hand(region, command):
    result = region.ssh(command, timeout=20)
    assert result.status == 1 and result.stdout == b"", result
    assert ("legacy scp mode is not supported; use the default scp (SFTP) mode"
            in result.err), result


@pytest.mark.gateway
@pytest.mark.parametrize("command", ["echo scp -t x", "scpx -t", "scp --help 2>&1 | cat"])
def test_what_only_looks_like_legacy_scp(region, command):
    assert "legacy scp mode" not in region.ssh(command).err
