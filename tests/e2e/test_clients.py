"""Every client that people use: login, exec, 64 MiB through stdin and stdout, sftp.

A client that is not installed is a skip that names it (packages.txt has them all).
"""

import asyncio
import hashlib
import os
import shlex
import shutil
import subprocess

import paramiko
import pytest

from aclient import connect, finish
from conftest import needs_program
from regions import pipe_sha, run, sha_of_file
from waiting import wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


def fingerprint(region):
    """SHA256:... of the host key, as ssh-keygen prints it."""
    out = run(["ssh-keygen", "-l", "-f", region.known_hosts]).ok().out
    return {line.split()[-1].strip("()"): line.split()[1] for line in out.splitlines()}


def check_exec(argv_for, env=None):
    """Login, output, both streams, status."""
    result = run(argv_for("echo out; echo err >&2; exit 7"), env=env)
    assert result.status == 7, result
    assert result.stdout == b"out\n" and b"err\n" in result.stderr, result


def check_bulk(argv_for, file, env=None):
    result = pipe_sha(argv_for("cat"), file.path, timeout=150, env=env)
    assert result.status == 0, result
    assert (result.sha, result.count) == (file.sha, file.bytes)


# ---- OpenSSH and what runs over it -------------------------------------------


def test_openssh(region, random64):
    check_exec(region.ssh_argv)
    check_bulk(region.ssh_argv, random64)


CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com",
           "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr"]


@pytest.mark.parametrize("cipher", CIPHERS)
def test_openssh_ciphers(region, cipher):
    data = os.urandom(5000000)
    for mac in ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512"):
        result = region.ssh("cat", input=data, opts=[f"Ciphers={cipher}", f"MACs={mac}"]).ok()
        assert result.stdout == data
        if not cipher.endswith("ctr"):
            return


def kex_algorithms():
    wanted = ["mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com",
              "sntrup761x25519-sha512", "curve25519-sha256",
              "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384",
              "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256",
              "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512"]
    known = run(["ssh", "-Q", "kex"]).out.split()
    return [pytest.param(name, marks=[] if name in known else
                         pytest.mark.skip(reason="this ssh does not know it"))
            for name in wanted]


@pytest.mark.parametrize("kex", kex_algorithms())
def test_openssh_key_exchanges(region, kex, is_standin):
    result = region.ssh("echo through", opts=[f"KexAlgorithms={kex}"])
    if is_standin and "no matching key exchange" in result.err:
        pytest.skip("not among sshd's own defaults")
    assert result.ok().stdout == b"through\n"


@pytest.mark.gateway
@pytest.mark.parametrize("option", [
    "KexAlgorithms=diffie-hellman-group14-sha1", "KexAlgorithms=diffie-hellman-group1-sha1",
    "KexAlgorithms=diffie-hellman-group-exchange-sha256",
    "KexAlgorithms=diffie-hellman-group-exchange-sha1",
    "Ciphers=aes128-cbc", "Ciphers=3des-cbc", "Ciphers=aes256-cbc",
    "HostKeyAlgorithms=ssh-rsa"])
def test_weak_algorithms_are_not_offered(region, option):
    result = region.ssh("true", opts=[option])
    assert result.status == 255 and "no matching" in result.err, result


@pytest.mark.gateway
@pytest.mark.parametrize("mac", ["hmac-sha1", "hmac-sha1-etm@openssh.com", "hmac-md5"])
def test_weak_macs_are_not_offered(region, mac):
    result = region.ssh("true", opts=["Ciphers=aes128-ctr", f"MACs={mac}"])
    assert result.status == 255 and "no matching MAC" in result.err, result


@pytest.mark.gateway
def test_no_compression(region):
    """Compression may be asked for, and is not agreed on."""
    result = region.ssh("echo x", opts=["Compression=yes"], flags=("-v",)).ok()
    assert "compression: none" in result.err and "zlib" not in [
        word for line in result.err.splitlines() if "kex: " in line for word in line.split()]


def test_rsync(region, work, tmp_path):
    needs_program("rsync")
    source = tmp_path / "source"
    for i in range(300):
        folder = source / f"d{i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{i}").write_bytes(os.urandom(i * 211))
    with open(source / "large", "wb") as f:
        f.write(os.urandom(20 << 20))
    rsync = ["rsync", "-a", "--stats", "-e", region.ssh_command()]
    run([*rsync, f"{source}/", region.remote(f"{work}/tree/")], timeout=120).ok()
    run(["diff", "-r", str(source), os.path.join(region.home, work, "tree")]).ok()
    again = run([*rsync, f"{source}/", region.remote(f"{work}/tree/")]).ok()
    assert "Number of regular files transferred: 0" in again.out, again
    # A change in the middle of the large file goes as a delta.
    with open(source / "large", "r+b") as f:
        f.seek(10 << 20)
        f.write(b"changed")
    # Of the same size and the same second rsync takes it for unchanged.
    os.utime(source / "large", (1e9, 1e9))
    run([*rsync, "--no-whole-file", f"{source}/", region.remote(f"{work}/tree/")]).ok()
    run([*rsync, region.remote(f"{work}/tree/"), f"{tmp_path}/back/"], timeout=120).ok()
    run(["diff", "-r", str(source), f"{tmp_path}/back"]).ok()


def test_git(region, work, tmp_path):
    needs_program("git")
    env = dict(os.environ, GIT_SSH_COMMAND=region.ssh_command(), HOME=str(tmp_path),
               GIT_CONFIG_NOSYSTEM="1", GIT_TERMINAL_PROMPT="0")
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]

    def git(*arguments, cwd):
        return run(["git", *identity, *arguments], env=env, cwd=cwd, timeout=90).ok()

    path = os.path.join(os.path.realpath(region.home), work, "repo.git")
    region.ssh(f"git init -q --bare {work}/repo.git").ok()
    url = f"ssh://{region.box}@{region.host}:{region.port}{path}"
    git("clone", "-q", url, "a", cwd=tmp_path)
    one = tmp_path / "a"
    (one / "blob").write_bytes(os.urandom(8 << 20))
    for i in range(200):
        (one / f"f{i}").write_text(f"{i}\n" * i)
    git("add", ".", cwd=one)
    git("commit", "-q", "-m", "first", cwd=one)
    git("push", "-q", "origin", "HEAD:refs/heads/main", cwd=one)
    git("clone", "-q", "-b", "main", url, "b", cwd=tmp_path)
    assert sha_of_file(tmp_path / "b" / "blob") == sha_of_file(one / "blob")
    (tmp_path / "b" / "more").write_text("more\n")
    git("add", ".", cwd=tmp_path / "b")
    git("commit", "-q", "-m", "second", cwd=tmp_path / "b")
    git("push", "-q", "origin", "main", cwd=tmp_path / "b")
    git("pull", "-q", "origin", "main", cwd=one)
    assert (one / "more").read_text() == "more\n"


def test_sshfs(region, work, random64, tmp_path):
    needs_program("sshfs")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse here for sshfs")
    mount = tmp_path / "mount"
    mount.mkdir()
    options = [f"ssh_command={region.ssh_command()}"]
    done = run(["sshfs", region.remote(work), str(mount), "-o", options[0]], timeout=30)
    if done.status != 0 and "fuse" in done.err:
        pytest.skip(f"nothing can be mounted here: {done.err.strip()}")
    done.ok()
    try:
        wait_until(lambda: os.path.ismount(mount), "the mount")
        shutil.copy(random64.path, mount / "f")
        assert sha_of_file(os.path.join(region.home, work, "f")) == random64.sha
        assert sha_of_file(mount / "f") == random64.sha
        os.makedirs(mount / "d" / "e")
        (mount / "d" / "x").write_text("one")
        with open(mount / "d" / "x", "a", encoding="ascii") as f:
            f.write(" two")
        os.rename(mount / "d" / "x", mount / "d" / "e" / "y")
        assert (mount / "d" / "e" / "y").read_text() == "one two"
        with open(mount / "f", "r+b") as f:
            f.truncate(1000)
        assert os.path.getsize(os.path.join(region.home, work, "f")) == 1000
        os.symlink("f", mount / "link")
        assert os.readlink(mount / "link") == "f"
        os.unlink(mount / "f")
        assert sorted(os.listdir(mount)) == ["d", "link"]
    finally:
        unmount = shutil.which("fusermount3") or shutil.which("fusermount")
        run([unmount, "-u", "-z", str(mount)] if unmount else ["umount", str(mount)])


def test_lftp(region, work, random64, tmp_path):
    needs_program("lftp")
    script = f"""
set sftp:connect-program {shlex.quote(region.ssh_command() + " -a -x")}
set net:max-retries 1
set net:timeout 20
open -u {region.box}, sftp://{region.host}:{region.port}
cd {work}
put {random64.path} -o up
get up -o {tmp_path}/back
mkdir d
mv up d/moved
cls -1 d
"""
    result = run(["lftp", "-f", "/dev/stdin"], input=script.encode(), timeout=120,
                 env=dict(os.environ, HOME=str(tmp_path))).ok()
    assert "moved" in result.out, result
    assert sha_of_file(tmp_path / "back") == random64.sha
    assert sha_of_file(os.path.join(region.home, work, "d", "moved")) == random64.sha


# ---- PuTTY -------------------------------------------------------------------


@pytest.fixture(scope="module")
def putty(region, tmp_path_factory):
    """(folder, options): a home for PuTTY with the key in its format."""
    needs_program("plink")
    needs_program("puttygen")
    home = tmp_path_factory.mktemp("putty")
    ppk = home / "key.ppk"
    run(["puttygen", region.identity, "-O", "private", "-o", str(ppk)],
        env=dict(os.environ, HOME=str(home))).ok()
    keys = fingerprint(region)
    options = ["-batch", "-P", str(region.port), "-i", str(ppk), "-noagent"]
    for value in keys.values():
        options += ["-hostkey", value]
    return home, options


def test_plink(region, putty, random64):
    home, options = putty
    env = dict(os.environ, HOME=str(home))

    def argv(command):
        return ["plink", "-ssh", *options, "-l", region.box, region.host, command]

    check_exec(argv, env)
    check_bulk(argv, random64, env)


def test_psftp(region, putty, work, random64, tmp_path):
    home, options = putty
    needs_program("psftp")
    script = tmp_path / "script"
    script.write_text(f"cd {work}\nput {random64.path} up\nget up {tmp_path}/back\n"
                      f"mkdir d\nmv up d/x\nls d\n")
    result = run(["psftp", *options, "-b", str(script), "-l", region.box, region.host],
                 env=dict(os.environ, HOME=str(home)), timeout=150).ok()
    assert " x" in result.out, result
    assert sha_of_file(tmp_path / "back") == random64.sha
    assert sha_of_file(os.path.join(region.home, work, "d", "x")) == random64.sha


def test_pscp(region, putty, work, tmp_path):
    home, options = putty
    needs_program("pscp")
    env = dict(os.environ, HOME=str(home))
    (tmp_path / "f").write_bytes(os.urandom(3000000))
    run(["pscp", "-sftp", *options, str(tmp_path / "f"), region.remote(f"{work}/f")],
        env=env).ok()
    run(["pscp", "-sftp", *options, region.remote(f"{work}/f"), str(tmp_path / "g")],
        env=env).ok()
    assert sha_of_file(tmp_path / "f") == sha_of_file(tmp_path / "g")


# ---- dropbear ----------------------------------------------------------------


@pytest.fixture(scope="module")
def dropbear(region, tmp_path_factory):
    needs_program("dbclient")
    needs_program("dropbearconvert")
    home = tmp_path_factory.mktemp("dropbear")
    (home / ".ssh").mkdir(mode=0o700)
    run(["dropbearconvert", "openssh", "dropbear", region.identity,
         str(home / "key")]).ok()
    return home


def test_dbclient(region, dropbear, random64):
    env = dict(os.environ, HOME=str(dropbear))

    def argv(command):
        return ["dbclient", "-y", "-T", "-i", str(dropbear / "key"), "-p",
                str(region.port), f"{region.box}@{region.host}", command]

    check_exec(argv, env)
    check_bulk(argv, random64, env)


# ---- Python ------------------------------------------------------------------


def test_asyncssh(region, work, random64, tmp_path):
    async def go():
        async with connect(region) as conn:
            done = await conn.run("echo out; echo err >&2; exit 7")
            assert (done.stdout, done.stderr, done.exit_status) == ("out\n", "err\n", 7)

            process = await conn.create_process("cat", encoding=None)
            digest = hashlib.sha256()

            async def feed():
                with open(random64.path, "rb") as f:
                    while block := f.read(1 << 18):
                        process.stdin.write(block)
                        await process.stdin.drain()
                process.stdin.write_eof()

            feeder = asyncio.create_task(feed())
            while block := await process.stdout.read(1 << 18):
                digest.update(block)
            await feeder
            await process.wait()
            assert process.exit_status == 0 and digest.hexdigest() == random64.sha

            async with conn.start_sftp_client() as sftp:
                await sftp.put(random64.path, f"{work}/up")
                await sftp.get(f"{work}/up", str(tmp_path / "back"))
                await sftp.mkdir(f"{work}/d")
                await sftp.rename(f"{work}/up", f"{work}/d/x")
                assert "x" in await sftp.listdir(f"{work}/d")
                assert (await sftp.stat(f"{work}/d/x")).size == random64.bytes
                await sftp.utime(f"{work}/d/x", (1, 1234567890))
                assert (await sftp.stat(f"{work}/d/x")).mtime == 1234567890

    finish(go(), 200)
    assert sha_of_file(tmp_path / "back") == random64.sha


def test_paramiko(region, work, random64, tmp_path):
    client = paramiko.SSHClient()
    client.load_host_keys(region.known_hosts)
    client.connect(region.host, region.port, region.box, key_filename=region.identity,
                   allow_agent=False, look_for_keys=False, timeout=20, banner_timeout=20)
    try:
        _, out, err = client.exec_command("echo out; echo err >&2; exit 7")
        assert out.read() == b"out\n" and err.read() == b"err\n"
        assert out.channel.recv_exit_status() == 7

        stdin, out, _ = client.exec_command("sha256sum")
        with open(random64.path, "rb") as f:
            shutil.copyfileobj(f, stdin, 1 << 18)
        stdin.channel.shutdown_write()
        assert out.read().split()[0].decode() == random64.sha

        _, out, _ = client.exec_command("head -c 64000000 /dev/zero")
        digest, count = hashlib.sha256(), 0
        while block := out.read(1 << 18):
            digest.update(block)
            count += len(block)
        assert count == 64000000 and out.channel.recv_exit_status() == 0
        assert digest.hexdigest() == hashlib.sha256(bytes(64000000)).hexdigest()

        with client.open_sftp() as sftp:
            sftp.put(random64.path, f"{work}/up")
            sftp.get(f"{work}/up", str(tmp_path / "back"))
            sftp.symlink("up", f"{work}/link")
            assert sftp.readlink(f"{work}/link") == "up"
            assert sorted(sftp.listdir(work)) == ["link", "up"]
            with sftp.open(f"{work}/up", "r") as f:
                f.seek(1000000)
                at = f.read(1000)
    finally:
        client.close()
    assert sha_of_file(tmp_path / "back") == random64.sha
    with open(random64.path, "rb") as f:
        f.seek(1000000)
        assert f.read(1000) == at


# ---- Go ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def go_client(tmp_path_factory):
    go = needs_program("go")
    target = tmp_path_factory.mktemp("go") / "go_client"
    env = dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly")
    done = subprocess.run([go, "build", "-o", str(target), "."], env=env, timeout=200,
                          cwd=os.path.join(HERE, "go_client"), capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        words = ("dial tcp", "no such host", "connection refused", "i/o timeout",
                 "module lookup disabled", "Forbidden", "Not Found")
        if any(word in done.stderr for word in words):
            pytest.skip(f"x/crypto cannot be fetched here: {done.stderr.strip()[-300:]}")
        raise AssertionError(done.stderr)
    return str(target)


def test_go(region, go_client, random64):
    def argv(command, *more):
        kind = "exec" if not more else command
        rest = more or (command,)
        return [go_client, "-addr", f"{region.host}:{region.port}", "-user", region.box,
                "-key", region.identity, "-known-hosts", region.known_hosts, kind, *rest]

    check_exec(argv)
    check_bulk(argv, random64)
    result = run(argv("kill -TERM $$; sleep 9"))
    assert result.status == 200 and "signal TERM" in result.err, result
    assert run(argv("many", "30")).ok().out == "all 30\n"
    result = run([*argv("shell", "-")], input=b"stty size; echo $TERM; exit 5\n")
    assert result.status == 5 and b"30 100" in result.stdout and b"vt100" in result.stdout
