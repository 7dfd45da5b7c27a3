"""A real code-server in the sandbox and a real browser here, through -D and -L. Only by hand:

    npm install code-server                  needs the Node.js that it asks for, and libkrb5-dev
    apt-get install chromium
    ./zigw build e2e -- -k code_server --editors "node $PWD/node_modules/code-server"

RINGGATE_E2E_SHOTS names a folder for screenshots.
"""

import base64
import json
import os
import shlex
import shutil
import subprocess
import time
import urllib.request

import pytest

import ws
from conftest import needs_program
from forwards import connect, forwarding
from waiting import free_port, wait_until

READY_S = 90

# As in test_editors: the shell reads it from its standard input and stays for -D.
START = r"""
mkdir -p "$HOME/code/data" && cd "$HOME/code" && date >hello-from-the-sandbox.txt
if ! { [ -e pid ] && kill -0 "$(cat pid)" 2>/dev/null; }; then
    nohup %s --bind-addr 127.0.0.1:0 --auth none --user-data-dir data --disable-telemetry \
        --disable-update-check --disable-workspace-trust --ignore-last-opened >log 2>&1 </dev/null &
    echo $! >pid
fi
until grep -qs 'HTTP server listening on' log; do sleep 0.1; done
echo "listeningOn==$(sed -n 's,.*listening on http://[^:]*:\([0-9]*\)/.*,\1,p' log)=="
"""


@pytest.fixture
def command(request):
    found = request.config.getoption("--editors")
    if not found:
        pytest.skip("only with --editors: a real code-server is too heavy for every run")
    return found


class Browser:
    """A headless Chromium, driven by its DevTools protocol."""

    def __init__(self, folder, *flags):
        self.process = subprocess.Popen(
            [needs_program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu",
             "--window-size=1280,800", "--remote-debugging-port=0", f"--user-data-dir={folder}",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             *flags, "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.path = os.path.join(folder, "DevToolsActivePort")
        wait_until(lambda: os.path.exists(self.path) and open(self.path).read().count("\n"),
                   "the browser's start", READY_S)
        with open(self.path, encoding="ascii") as f:
            self.port = int(f.readline())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/json/list") as answer:
            page = next(p for p in json.load(answer) if p["type"] == "page")
        self.socket = connect(self.port)
        self.socket.settimeout(READY_S)
        self.page = ws.upgraded(self.socket, page["webSocketDebuggerUrl"].partition(str(self.port))[2],
                                f"127.0.0.1:{self.port}")
        self.serial = 0

    def do(self, method, **how):
        self.serial += 1
        self.page.send(json.dumps({"id": self.serial, "method": method, "params": how}))
        while True:
            answer = json.loads(self.page.receive()[1])
            if answer.get("id") == self.serial:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, expression):
        return self.do("Runtime.evaluate", expression=expression)["result"].get("value")

    def wait_for(self, expression, what):
        wait_until(lambda: self.value(expression), what, READY_S)

    def shot(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.do("Page.captureScreenshot")["data"]))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)


class Line:
    """The `ssh -T -D` of a window: the start script on its standard input."""

    def __init__(self, region, command, socks_port):
        self.ssh = subprocess.Popen(
            region.ssh_argv("bash", flags=("-T", "-D", f"127.0.0.1:{socks_port}")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ssh.stdin.write((START % command).encode())
        self.ssh.stdin.flush()
        self.port = int(self.ssh.stdout.readline().decode().split("==")[1])

    def end(self):
        self.ssh.kill()
        self.ssh.communicate()


def named(name):
    """Is this file shown in the explorer?"""
    return f"(document.querySelector('.explorer-folders-view')?.innerText || '').includes({json.dumps(name)})"


def sees_new_files(browser, folder, name):
    """The server tells of them by itself, once it watches: so one after the other is made."""
    made = []

    def is_seen():
        made.append(f"{name}-{len(made)}")
        with open(os.path.join(folder, made[-1]), "w", encoding="ascii") as f:
            f.write("made\n")
        time.sleep(1)
        return browser.value(named(name + "-"))

    wait_until(is_seen, f"a file {name} in the explorer", READY_S)


@pytest.mark.timeout(600)
def test_code_server(region, command, tmp_path, capsys):
    shots = os.environ.get("RINGGATE_E2E_SHOTS", str(tmp_path))
    socks_port, local = free_port(), free_port()
    folder = os.path.join(region.home, "code")
    lines, browsers = [Line(region, command, socks_port)], []
    port = lines[0].port
    times = {}
    try:
        for way in ("dynamic", "local"):
            flags = [f"--proxy-server=socks5://127.0.0.1:{socks_port}",
                     "--proxy-bypass-list=<-loopback>"] if way == "dynamic" else []
            at = port if way == "dynamic" else local
            with forwarding(region, "-L", f"127.0.0.1:{local}:127.0.0.1:{port}", port=local):
                browser = Browser(str(tmp_path / way), *flags)
                browsers.append(browser)
                begin = time.monotonic()
                browser.do("Page.navigate", url=f"http://localhost:{at}/?folder={folder}")
                browser.wait_for("!!document.querySelector('.monaco-workbench .part.sidebar')", "the workbench")
                browser.wait_for(named("hello-from-the-sandbox.txt"), "the sandbox's file in the explorer")
                times[way] = time.monotonic() - begin
                browser.shot(os.path.join(shots, f"code-server-{way}.png"))
                sees_new_files(browser, folder, f"made-{way}")
        # The line is lost; a new one on the same port, and the page finds its session again.
        lines[0].end()
        lines.append(Line(region, command, socks_port))
        assert lines[1].port == port
        sees_new_files(browsers[0], folder, "made-later")
        browsers[0].shot(os.path.join(shots, "code-server-again.png"))
        with capsys.disabled():
            print(f"\ncode-server: seconds to the page with its files: {times}")
    finally:
        for one in browsers:
            one.close()
        for line in lines:
            line.end()
        pid = int(open(os.path.join(folder, "pid"), encoding="ascii").read())
        os.kill(pid, 15)
        shutil.rmtree(folder, ignore_errors=True)
