"""How editors use ssh: the steps of VS Code's Remote-SSH and of JetBrains' Gateway, one by one.

With --editors DIR also a real code-server and a headless Chromium, see test_code_server.py.
"""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tarfile
import threading
import uuid

import pytest

import ws
from aclient import connect as aconnect, finish
from forwards import connect, forwarding, socks
from regions import run
from waiting import free_port, is_alive, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = ("editor_server.py", "ws.py")

# What the editor writes into the shell's standard input, as its own does: one server for a
# version whoever asks, fetched when it is not there, and lines that tell where it listens.
START = r"""
start() {
    id=$1 version=$2 place=$HOME/.editor-server/bin/$2
    echo "$id: running"
    mkdir -p "$place"
    exec 9>"$place/lock"
    flock 9
    pid=$(cat "$place/pid" 2>/dev/null)
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then
        echo "$id: found a running server"
    else
        if [ ! -e "$place/editor_server.py" ]; then
            echo "$id:fetch==$place==$(uname -m)=="
            until [ -e "$place/done.flag" ]; do sleep 0.1; done
            tar -C "$place" -xf "$place/server.tar"
        fi
        cd "$place"
        nohup python3 editor_server.py --version "$version" $3 >log 2>&1 </dev/null 9>&- &
        echo $! >pid
        until grep -qs 'agent listening on' log; do sleep 0.05; done
    fi
    exec 9>&-
    echo "$id: start"
    echo "listeningOn==$(sed -n 's/.*agent listening on //p' "$place/log")=="
    echo "platform==$(uname -s)=="
    echo "sshConnection==$SSH_CONNECTION=="
    echo "$id: end"
}
"""


def archive(*more):
    """The server's program in a tar, and more (name, bytes)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in PROGRAM:
            tar.add(os.path.join(HERE, name), name)
        for name, data in more:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


class Window:
    """An editor's window: an `ssh -T -D` whose shell has read the start script and stays."""

    def __init__(self, region, version, shell=("bash",), more=""):
        self.region = region
        self.id = uuid.uuid4().hex[:12]
        self.socks_port = free_port()
        self.ssh = subprocess.Popen(
            region.ssh_argv(*shell, flags=("-T", "-D", f"127.0.0.1:{self.socks_port}")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        words = shlex.join([self.id, version, more])
        self.ssh.stdin.write(f"{START}\nstart {words}\n".encode())
        self.ssh.stdin.flush()
        self.told = {}
        self.lines = []

    def read(self):
        """Until the script's last line; an archive that it asks for is copied there."""
        while (line := self.ssh.stdout.readline().decode().strip()) != f"{self.id}: end":
            assert self.ssh.poll() is None, self.lines
            self.lines.append(line)
            if line.startswith(f"{self.id}:fetch=="):
                self.install(line.split("==")[1])
            elif re.fullmatch(r"\w+==.*==", line):
                name, value = line.split("==")[:2]
                self.told[name] = value
        return self

    def install(self, place):
        """While the first ssh waits: what the server is, then a mark that it is whole."""
        folder = self.region.dir
        for name, data in (("server.tar", archive()), ("done.flag", b"")):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(data)
            self.region.scp(os.path.join(folder, name),
                            self.region.remote(f"{place}/{name}")).ok()

    def open(self):
        return socks(self.socks_port, "127.0.0.1", int(self.told["listeningOn"]))

    def get(self, path):
        with self.open() as s:
            return get(s, path)

    def end(self):
        self.ssh.kill()
        self.ssh.communicate()


def get(s, path):
    """The body of one page, over a connection that is there."""
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    stream = s.makefile("rb")
    head = []
    while (line := stream.readline().strip()):
        head.append(line.decode())
    assert head and " 200 " in head[0], head
    size = next(int(line.split(":")[1]) for line in head if line.startswith("Content-Length"))
    return stream.read(size)


def session(s, token, again=False):
    return ws.upgraded(s, f"/?reconnectionToken={token}&reconnection={str(again).lower()}")


@pytest.fixture
def windows(region):
    opened = []
    version = uuid.uuid4().hex

    def start(**how):
        opened.append(Window(region, version, **how))
        return opened[-1]

    start.version = version
    yield start
    for one in opened:
        one.end()
    place = os.path.join(region.home, ".editor-server", "bin", version)
    with contextlib.suppress(OSError), open(f"{place}/pid", encoding="ascii") as f:
        os.kill(int(f.read()), 9)
    shutil.rmtree(place, ignore_errors=True)


def test_vscode(region, windows):
    """Start, install, several windows, many channels, a lost line, and the same session again."""
    first = windows().read()
    assert any(":fetch==" in line for line in first.lines)
    assert first.told["platform"] == "Linux"
    assert first.told["sshConnection"].split()[0] == "127.0.0.1"
    assert first.get("/version") == windows.version.encode()

    # One channel for the files and settings, one for the extensions; both stay.
    token = uuid.uuid4().hex
    with first.open() as one, first.open() as two:
        management, extensions = session(one, token), session(two, token + "-ext")
        said = json.loads(management.ask("hello"))
        assert said["count"] == 1 and said["said"] == "hello"
        for size in (0, 1, 125, 126, 70000, 3000000):
            data = os.urandom(size)
            assert management.ask(data) == data and extensions.ask(data) == data
        management.send(b"p", ws.PING)
        assert management.receive() == (ws.PONG, b"p")
        # While they are open: pages, and the shell that still reads its standard input.
        for count in (0, 5, 100000):
            assert len(first.get(f"/bytes/{count}")) == count
        first.ssh.stdin.write(b"echo still $((6 * 7))\n")
        first.ssh.stdin.flush()
        assert first.ssh.stdout.readline() == b"still 42\n"

        # Other windows, by sh and by the login shell itself: the same server.
        for shell in (("sh",), ()):
            other = windows(shell=shell).read()
            assert any("found a running server" in line for line in other.lines), other.lines
            assert other.told["listeningOn"] == first.told["listeningOn"]
            with other.open() as s:
                assert json.loads(session(s, uuid.uuid4().hex).ask("x"))["pid"] == said["pid"]

        # The line is lost: the channels with it, the server not.
        first.ssh.kill()
        with pytest.raises((ConnectionError, OSError)):
            management.receive()
    assert is_alive(said["pid"])
    again = windows().read()
    assert any("found a running server" in line for line in again.lines), again.lines
    with again.open() as s:
        now = json.loads(session(s, token, again=True).ask("back"))
        assert (now["count"], now["pid"]) == (2, said["pid"])
    with again.open() as s, pytest.raises(ConnectionError, match="409"):
        session(s, "nobody-has-this", again=True)


def test_vscode_without_dynamic_forwarding(region, windows):
    """The port is known only from the script: then one more ssh, with -L to it."""
    window, port = windows().read(), free_port()
    with forwarding(region, "-L", f"127.0.0.1:{port}:127.0.0.1:{window.told['listeningOn']}",
                    port=port):
        with connect(port) as s:
            assert get(s, "/version") == windows.version.encode()
        with connect(port) as s:
            assert json.loads(session(s, uuid.uuid4().hex).ask("x"))["count"] == 1


def test_vscode_server_on_a_socket(region, windows):
    """Where the server is told to listen at a path, -L leads there."""
    path, port = f"/tmp/ringgate-editor-{os.getpid()}.sock", free_port()
    try:
        window = windows(more=f"--socket={path}")
        # Unquoted in the script, as options of the server are.
        window.read()
        assert window.told["listeningOn"] == path
        with forwarding(region, "-L", f"127.0.0.1:{port}:{path}", port=port):
            with connect(port) as s:
                assert json.loads(session(s, uuid.uuid4().hex).ask("x"))["count"] == 1
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def test_vscode_over_a_control_master(region, windows):
    """One connection for everything: -O forward when the port is known, -O cancel at the end."""
    control = f"/tmp/ringgate-editor-{os.getpid()}.ctl"
    window, port = windows().read(), free_port()
    forward = f"127.0.0.1:{port}:127.0.0.1:{window.told['listeningOn']}"
    master = subprocess.Popen(region.ssh_argv(flags=("-N", "-M", "-S", control)),
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(control), "the control master")
        region.ssh(flags=("-S", control, "-O", "forward", "-L", forward)).ok()
        with connect(port) as s:
            socket_ = session(s, uuid.uuid4().hex)
            assert region.ssh("echo beside", flags=("-S", control)).ok().out == "beside\n"
            region.ssh(flags=("-S", control, "-O", "cancel", "-L", forward)).ok()
            # What is open goes on; nothing new comes in.
            assert json.loads(socket_.ask("x"))["count"] == 1
        with pytest.raises(ConnectionRefusedError):
            connect(port)
    finally:
        master.kill()
        master.wait()


def test_jetbrains(region, work, random64):
    """One connection of a library: look around, sftp of an archive, unpack, start, a forward."""
    with open(random64.path, "rb") as f:
        data = archive(("idea.jar", f.read()))

    async def go():
        async with aconnect(region) as connection:
            async def output(command):
                return (await connection.run(command, check=True)).stdout.strip()

            # Several at once, as the client asks about the host.
            system, home, shell, missing = await asyncio.gather(
                output("uname -sm"), output("echo $HOME"), output("echo $SHELL"),
                connection.run(f"test -d {work}/dist/idea"))
            assert system == " ".join((os.uname().sysname, os.uname().machine))
            assert os.path.samefile(home, region.home) and shell and missing.exit_status == 1
            dist = f"{home}/{work}/dist"
            async with connection.start_sftp_client() as sftp:
                await sftp.makedirs(dist)
                async with sftp.open(f"{dist}/idea.tar.part", "wb") as f:
                    await f.write(data)
                await sftp.rename(f"{dist}/idea.tar.part", f"{dist}/idea.tar")
                assert (await sftp.stat(f"{dist}/idea.tar")).size == len(data)
            assert (await output(f"sha256sum {dist}/idea.tar")).split()[0] == \
                hashlib.sha256(data).hexdigest()
            await output(f"mkdir {dist}/idea && tar -C {dist}/idea -xf {dist}/idea.tar")
            assert (await output(f"sha256sum {dist}/idea/idea.jar")).split()[0] == random64.sha
            backend = await connection.create_process(
                f"cd {dist}/idea && exec python3 editor_server.py --link --version idea")
            link = await backend.stdout.readline()
            port = int(re.fullmatch(r"Join link: tcp://127\.0\.0\.1:(\d+)#jt=.*\n", link)[1])
            listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
            assert await asyncio.to_thread(use, listener.get_port()) == 2
            backend.terminate()
            await backend.wait()
            assert backend.exit_signal[0] == "TERM"

    def use(port):
        with connect(port) as s:
            assert get(s, "/version") == b"idea"
        with connect(port) as one, connect(port) as two:
            first, second = session(one, "one"), session(two, "two")
            big = os.urandom(5000000)
            threads = [threading.Thread(target=lambda s=s: answers.append(s.ask(big)))
                       for s in (first, second)]
            answers = []
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            return sum(answer == big for answer in answers)

    finish(go(), 120)
