#!/usr/bin/env python3
"""deploy/region.py - one small region on this machine.

Starts a control plane, which starts some sandboxes (a procd each, with a home folder
of its own; the second one is paused), and a gateway, all on loopback. Prints curl, ssh,
scp and sftp lines that can be pasted, shows everybody's log lines, and stops all of it
on Ctrl-C or SIGTERM. `./zigw build run` runs this. With --static there is no control
plane: the sandboxes are started here and stand in a directory file.

State lives in one folder (--dir). Keys, the API's token and the control plane's database
are made once and kept; configurations and region.json are written anew at each start.
region.json exists exactly while everything answers, so a script may wait for it. Only
a SIGKILL of this process leaves it behind; the next start removes it before all else, and
until then its pids.region names a process that is gone.

No process stays behind: children are told to end and killed by pid if they do not;
this process adopts what they leave (PR_SET_CHILD_SUBREAPER) and ends that too; and
if this process itself is killed, the kernel ends its children (PR_SET_PDEATHSIG).

Python's standard library only, 3.9 or newer.
"""

import argparse
import ctypes
import errno
import fcntl
import http.client
import json
import os
import re
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

START_S = 20            # until a child must answer; a sanitizer build is slow
STOP_S = 6              # from SIGTERM to SIGKILL of a child
CONTROL_STOP_S = 20     # of the control plane, which ends its sandboxes first
API_S = 20              # an answer of the control plane; pausing is held for 10 s
ORPHAN_STOP_S = 1       # the same for what sandboxes left running
UNIX_PATH_MAX = 108     # of a socket's address; behind a longer one is no `ringgate status`
LINE_MAX_BYTES = 64 * 1024  # of a child's log line held back for its newline
POLL_S = 0.02

USER = "u-local"
TEAM = "t-local"

NUMBER_NAMES = ("one", "two", "three", "four", "five", "six", "seven", "eight",
                "nine", "ten")

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """Ends the region with a message for the user."""


class Stopped(Exception):
    """A signal asked for the end while something was waited for."""


def write_file(path, text, mode=0o644):
    """Replaces path in one step, so that a reader sees all of it or none."""
    temporary = f"{path}.tmp.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(fd, "w") as f:
        f.write(text)
    os.replace(temporary, path)


def remove_file(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read_line(path):
    with open(path, encoding="ascii") as f:
        return f.readline().strip()


def yaml_string(text):
    """JSON's strings are YAML's double-quoted ones."""
    return json.dumps(text)


def host_port(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def exit_words(status):
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was ended by {name}"
    return f"ended with status {os.WEXITSTATUS(status)}"


class Child:
    """A program of the region; its pid is ours to reap until status is set."""

    def __init__(self, name, label, argv, log_path):
        self.name = name
        self.label = label
        self.argv = argv
        self.log_path = log_path
        self.pid = None
        self.status = None
        self.pipe = None
        self.log = None
        self.partial = b""

    @property
    def is_running(self):
        return self.pid is not None and self.status is None


class Region:
    def __init__(self, options):
        self.options = options
        self.dir = os.path.abspath(options.dir)
        self.children = []
        self.selector = selectors.DefaultSelector()
        self.stop_signal = None
        self.is_unclean = False
        self.lock = None
        self.sandboxes = []
        self.identity_file = self.path("id_ed25519")
        self.known_hosts = self.path("known_hosts")
        self.api = None         # the control plane's URL
        self.token_file = self.path("api_token")
        self.port_holder = None
        self.label_width = 8
        self.can_print = True

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    # ---- output ------------------------------------------------------------

    def say(self, text=""):
        """Nobody may be left to read (the terminal is gone): stopping goes on."""
        if not self.can_print:
            return
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except OSError:
            self.can_print = False
            # What is left in the buffer must not fail once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def show_line(self, child, line):
        text = line.decode("utf-8", "replace")
        self.say(f"{child.label:<{self.label_width}} | {text}")

    def take_output(self, child):
        try:
            data = os.read(child.pipe, 65536)
        except BlockingIOError:
            return False
        if not data:
            if child.partial:
                self.show_line(child, child.partial)
                child.partial = b""
            self.selector.unregister(child.pipe)
            os.close(child.pipe)
            child.log.close()
            child.pipe = None
            return False
        child.log.write(data)
        child.log.flush()
        lines = (child.partial + data).split(b"\n")
        child.partial = lines.pop()
        if len(child.partial) > LINE_MAX_BYTES:
            lines.append(child.partial)
            child.partial = b""
        for line in lines:
            self.show_line(child, line)
        return True

    # ---- processes ---------------------------------------------------------

    def catch_signals(self):
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.selector.register(reader, selectors.EVENT_READ, ("signals", reader))
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def on_stop_signal(self, number, _frame):
        self.stop_signal = number

    def start(self, name, label, argv):
        log_path = self.path("logs", name + ".log")
        child = Child(name, label, argv, log_path)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()

        def before_exec():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        try:
            # A session of its own: Ctrl-C reaches only us, and we stop in order.
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
                start_new_session=True, preexec_fn=before_exec, cwd=self.dir)
        except OSError as error:
            os.close(reader)
            raise Failure(f"cannot start {argv[0]}: {error.strerror}") from error
        finally:
            os.close(writer)
        child.pid = process.pid
        process.returncode = 0  # We reap it ourselves, see reap().
        os.set_blocking(reader, False)
        child.pipe = reader
        child.log = open(log_path, "wb")
        self.selector.register(reader, selectors.EVENT_READ, ("child", child))
        self.children.append(child)
        return child

    def reap(self):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self.children:
                if child.pid == pid:
                    child.status = status

    def turn(self, timeout_s):
        """Passes log lines on and reaps, for at most timeout_s."""
        for key, _ in self.selector.select(timeout_s):
            kind, what = key.data
            if kind == "signals":
                try:
                    os.read(what, 512)
                except BlockingIOError:
                    pass
            else:
                self.take_output(what)
        self.reap()

    def check_alive(self):
        for child in self.children:
            if child.status is None:
                continue
            while child.pipe is not None and self.take_output(child):
                pass
            raise Failure(f"{child.name} {exit_words(child.status)}; its log: "
                          f"{child.log_path}")

    def wait_for(self, condition, what, seconds=START_S):
        deadline = time.monotonic() + seconds
        while True:
            result = condition()
            if result:
                return result
            self.turn(POLL_S)
            if self.stop_signal is not None:
                raise Stopped()
            self.check_alive()
            if time.monotonic() > deadline:
                raise Failure(f"{what} did not happen within {seconds} s")

    def end(self, children, seconds):
        """SIGTERM, a bounded wait, SIGKILL. A second Ctrl-C shortens the wait."""
        for child in children:
            if child.is_running:
                os.kill(child.pid, signal.SIGTERM)
        self.stop_signal = None
        deadline = time.monotonic() + seconds
        while any(child.is_running for child in children):
            if time.monotonic() > deadline or self.stop_signal is not None:
                break
            self.turn(POLL_S)
        for child in children:
            if child.is_running:
                self.say(f"region: {child.name} (pid {child.pid}) did not end in "
                         f"{seconds} s and is killed")
                os.kill(child.pid, signal.SIGKILL)
                self.is_unclean = True
        while any(child.is_running for child in children):
            self.turn(POLL_S)
        for child in children:
            if child.status not in (None, 0) and not (
                    os.WIFSIGNALED(child.status)
                    and os.WTERMSIG(child.status) in (signal.SIGTERM, signal.SIGKILL)):
                self.say(f"region: {child.name} {exit_words(child.status)}; its log: "
                         f"{child.log_path}")
                self.is_unclean = True

    def end_orphans(self):
        """What sandboxes left running (nohup, setsid) is ours by adoption."""
        deadline = time.monotonic() + ORPHAN_STOP_S
        told = set()
        while True:
            self.reap()
            pids = descendants()
            if not pids:
                return
            late = time.monotonic() > deadline
            for pid in pids:
                if late or pid not in told:
                    told.add(pid)
                    try:
                        os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                    except ProcessLookupError:
                        pass
            time.sleep(POLL_S)

    def stop(self):
        remove_file(self.path("region.json"))
        for name, seconds in ("gateway", STOP_S), ("control", CONTROL_STOP_S):
            self.end([c for c in self.children if c.name == name], seconds)
        self.end([c for c in self.children if c.name not in ("gateway", "control")], STOP_S)
        self.end_orphans()
        deadline = time.monotonic() + 1
        while (any(c.pipe is not None for c in self.children)
               and time.monotonic() < deadline):
            self.turn(POLL_S)

    # ---- state on disk -----------------------------------------------------

    def take_lock(self):
        os.makedirs(self.dir, mode=0o755, exist_ok=True)
        self.lock = open(self.path("lock"), "a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.lock.seek(0)
            pid = self.lock.read().strip() or "unknown"
            raise Failure(f"a region runs already in {self.dir} (pid {pid}); stop it, "
                          "or choose another folder with --dir DIR") from None
        self.lock.truncate(0)
        self.lock.write(f"{os.getpid()}\n")
        self.lock.flush()
        remove_file(self.path("region.json"))

    def check_port(self):
        """Before anything starts: the gateway shares ports with its own threads
        (SO_REUSEPORT), so that a second gateway would not notice the first."""
        options = self.options
        if options.port == 0:
            return
        family = socket.AF_INET6 if ":" in options.bind else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((options.bind, options.port))
                s.listen(1)
            except PermissionError:
                raise Failure(f"port {options.port} needs privileges; choose another "
                              "with --port PORT") from None
            except OSError as error:
                address = host_port(options.bind, options.port)
                if error.errno == errno.EADDRINUSE:
                    raise Failure(f"port {options.port} is busy ({address}); choose "
                                  "another with --port PORT, --port 0 takes any "
                                  "free one") from None
                raise Failure(f"cannot listen on {address}: {error.strerror}; see "
                              "--bind and --port") from None

    def ssh_host(self):
        """Where the gateway is reached from this machine."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.options.bind,
                                                        self.options.bind)

    def hold_port(self):
        """The control plane tells users the gateway's port before there is a gateway.
        Bound but not listening, and shared: the gateway shares its ports, too."""
        family = socket.AF_INET6 if ":" in self.options.bind else socket.AF_INET
        self.port_holder = socket.socket(family, socket.SOCK_STREAM)
        self.port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port_holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            self.port_holder.bind((self.options.bind, self.options.port))
        except OSError as error:
            raise Failure(f"cannot bind to {self.options.bind}: {error.strerror}; see "
                          "--bind and --port") from None
        self.options.port = self.port_holder.getsockname()[1]

    def run_tool(self, argv, accepts=lambda output: False):
        """Its output. A failure whose output is accepted is none."""
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=START_S)
        except FileNotFoundError:
            raise Failure(f"{argv[0]} is not there") from None
        except subprocess.TimeoutExpired:
            raise Failure(f"{shlex.join(argv)} did not end in {START_S} s") from None
        if done.returncode != 0 and not accepts(done.stdout):
            raise Failure(f"{shlex.join(argv)} failed:\n{done.stdout.rstrip()}")
        return done.stdout

    def program(self, name):
        path = os.path.join(os.path.abspath(self.options.bin), name)
        if not os.access(path, os.X_OK):
            raise Failure(f"{path} is not there; build it first (./zigw build) or name "
                          "the folder with --bin DIR")
        return path

    def make_user_key(self):
        if os.path.exists(self.identity_file):
            return
        if shutil.which("ssh-keygen") is None:
            raise Failure("no ssh-keygen to make a user key with; install the "
                          "OpenSSH client")
        self.run_tool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C",
                       "ringgate-local", "-f", self.identity_file])
        self.say(f"made the user key {self.identity_file}")

    def make_procd_key(self, path):
        if os.path.exists(path) and os.path.exists(path + ".pub"):
            return
        remove_file(path)
        remove_file(path + ".pub")
        self.run_tool([self.program("procd"), "keygen", "--out", path])

    def sandbox_id(self, index):
        if index < len(NUMBER_NAMES):
            return "rs-" + NUMBER_NAMES[index]
        return f"rs-{index + 1}"

    def user_keys(self):
        keys = [read_line(self.identity_file + ".pub")]
        for path in self.options.authorized_key:
            try:
                with open(path, encoding="ascii") as f:
                    keys += [line.strip() for line in f
                             if line.strip() and not line.startswith("#")]
            except (OSError, UnicodeDecodeError) as error:
                raise Failure(f"cannot read {path}: {error}") from None
        return keys

    def write_directory(self):
        lines = ["# Written by deploy/region.py at each start.",
                 "users:",
                 f"  - id: {USER}",
                 f"    teams: [{TEAM}]",
                 "    keys:"]
        lines += [f"      - {yaml_string(key)}" for key in self.user_keys()]
        lines.append("sandboxes:" if self.sandboxes else "sandboxes: []")
        for box in self.sandboxes:
            lines += [f"  - id: {box['id']}",
                      f"    team: {TEAM}",
                      f"    procd: {yaml_string(box['procd'])}",
                      f"    procd_key: {yaml_string(box['procd_key'])}"]
        write_file(self.path("directory.yaml"), "\n".join(lines) + "\n")

    def write_config(self):
        listen = host_port(self.options.bind, self.options.port)
        blocks = {
            "listen": f"listen: [{yaml_string(listen)}]",
            "host_key_dir": f"host_key_dir: {yaml_string(self.path('host_keys'))}",
            "procd_key_file": f"procd_key_file: {yaml_string(self.path('gateway_key'))}",
            "log": 'log: {format: logfmt, file: "-"}',
        }
        if len(os.fsencode(self.path("admin"))) < UNIX_PATH_MAX:
            blocks["admin"] = f"admin: {{socket: {yaml_string(self.path('admin'))}}}"
        if self.api:
            blocks["control"] = f"control: {{url: {yaml_string(self.api)}}}"
            if self.options.redis:
                secret = self.path("redis_secret")
                if not os.path.exists(secret):
                    write_file(secret, os.urandom(32).hex() + "\n", mode=0o600)
                blocks["redis"] = (f"redis: {{url: {yaml_string(self.options.redis)}, "
                                   f"secret_file: {yaml_string(secret)}}}")
        else:
            directory = yaml_string(self.path("directory.yaml"))
            blocks["directory"] = f"directory: {directory}"
        if self.options.config_extra:
            blocks.update(top_level_blocks(self.options.config_extra))
        text = "# Written by deploy/region.py at each start.\n"
        text += "\n".join(blocks.values()) + "\n"
        write_file(self.path("ringgate.yaml"), text, mode=0o600)

    def write_control_config(self):
        options = self.options
        local = {"folder": self.path("sandboxes"), "procd": self.program("procd"),
                 "procd_args": options.procd_arg}
        if options.user:
            local["user"] = options.user
        if options.shell:
            local["shell"] = options.shell
        settings = {
            "listen": host_port("127.0.0.1", options.api_port),
            "database": options.database or self.path("control.db"),
            "gateway_keys": [read_line(self.path("gateway_key.pub"))],
            "ssh": {"host": self.ssh_host(), "port": options.port},
            "driver": "local",
            "local": local,
            "log": {"format": "logfmt", "file": "-"},
        }
        if options.redis:
            settings["redis"] = {"url": options.redis}
        text = "# Written by deploy/region.py at each start.\n"
        # JSON is YAML.
        text += "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
        write_file(self.path("control.yaml"), text, mode=0o600)

    def write_known_hosts(self, host, port):
        folder = self.path("host_keys")
        keys = []
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith("-cert.pub"):
                continue
            if name.endswith(".pub"):
                keys.append(read_line(path))
            elif not os.path.exists(path + ".pub"):
                keys.append(self.run_tool(["ssh-keygen", "-y", "-P", "",
                                           "-f", path]).strip())
        if not keys:
            raise Failure(f"the gateway left no host key in {folder}")
        name = host if port == 22 else f"[{host}]:{port}"
        lines = [f"{name} {' '.join(key.split()[:2])}\n" for key in keys]
        write_file(self.known_hosts, "".join(lines))

    # ---- the region itself ---------------------------------------------------

    def control(self, *command):
        """The command line of ringgate-control with our configuration."""
        argv = [self.program("ringgate-control"), *command,
                "--config", self.path("control.yaml")]
        for setting in self.options.control_set:
            argv += ["--set", setting]
        return argv

    def call(self, method, path, body=None, accepts=()):
        """One call of the API as the user. Returns the status and the answer's data."""
        url = urllib.parse.urlsplit(self.api)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=API_S)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Authorization": "Bearer " + read_line(self.token_file),
                                "Content-Type": "application/json"})
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
            data = json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failure(f"the control plane did not answer {method} {path}: "
                          f"{error}") from None
        finally:
            connection.close()
        if status >= 300 and status not in accepts:
            message = data.get("error", {}).get("message", text[:200])
            raise Failure(f"the control plane said {status} to {method} {path}: {message}")
        return status, data.get("data")

    def make_token(self):
        """Kept as long as this database knows it."""
        self.run_tool(self.control("user", "add", "--user", USER, "--team", TEAM),
                      accepts=lambda output: "already" in output)
        if (os.path.exists(self.token_file)
                and self.call("GET", "/users/me/ssh-keys", accepts=(401,))[0] == 200):
            return
        output = self.run_tool(self.control("token", "create", "--user", USER,
                                            "--name", "region"))
        token = re.search(r"\brgt_[A-Za-z0-9_-]+", output)
        if not token:
            raise Failure(f"ringgate-control token create printed no token:\n{output}")
        write_file(self.token_file, token.group(0) + "\n", mode=0o600)

    def start_control(self):
        ready_file = self.path("control_ready.json")
        remove_file(ready_file)
        child = self.start("control", "control", self.control(
            "serve", "--ready-file", ready_file) + self.options.control_arg)
        text = self.wait_for(lambda: first_line(ready_file), "the control plane's start")
        try:
            address = json.loads(text)["listen"][0]
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failure("the control plane's ready file is not understood: "
                          f"{text}") from None
        self.api = f"http://{address}"
        return child

    def upload_keys(self):
        for number, key in enumerate(self.user_keys()):
            name = "region" if number == 0 else f"further-{number}"
            self.call("POST", "/users/me/ssh-keys", {"name": name, "public_key": key},
                      accepts=(409,))

    def status(self, name):
        return self.call("GET", f"/api/v1/sandboxes/{name}")[1]

    def create_sandboxes(self):
        names = [self.sandbox_id(i) for i in range(self.options.sandboxes)]
        for name in names:
            status, _ = self.call("POST", "/api/v1/sandboxes", {"id": name, "team_id": TEAM},
                                  accepts=(409,))
            if status == 409 and self.status(name)["status"] == "stopped":
                self.call("POST", f"/api/v1/sandboxes/{name}/resume")
        for index, name in enumerate(names):
            folder = self.path("sandboxes", name)
            box = {"id": name, "home": os.path.join(folder, "home"),
                   "log": os.path.join(folder, "log")}
            box["status"] = self.wait_for(lambda: self.settled(name), f"{name}'s start")
            if index == 1 and box["status"] == "running":
                answer = self.call("POST", f"/api/v1/sandboxes/{name}/pause")[1]
                box["status"] = answer["status"]
            self.sandboxes.append(box)

    def settled(self, name):
        """The sandbox's status once it is no longer on its way to another."""
        until = time.monotonic() + POLL_S
        while time.monotonic() < until:
            self.turn(POLL_S)  # Each question makes a log line, which ends a turn.
        box = self.status(name)
        if box["status"] == "stopped":
            raise Failure(f"{name} is stopped: {box.get('reason', 'nobody said why')}")
        return box["status"] if box["status"] in ("running", "paused") else None

    def start_sandboxes(self):
        options = self.options
        for index in range(options.sandboxes):
            name = self.sandbox_id(index)
            folder = self.path("sandboxes", name)
            home = os.path.join(folder, "home")
            os.makedirs(home, exist_ok=True)
            if options.user:
                shutil.chown(home, user=options.user)
            key = os.path.join(folder, "key")
            self.make_procd_key(key)
            address_file = os.path.join(folder, "address")
            remove_file(address_file)
            argv = [self.program("procd"), "serve", "--listen", "127.0.0.1:0",
                    "--sandbox", name, "--key", key,
                    "--gateway-key", self.path("gateway_key.pub"),
                    "--home", home, "--address-file", address_file]
            if options.user:
                argv += ["--user", options.user]
            if options.shell:
                argv += ["--shell", options.shell]
            child = self.start(name, name, argv + options.procd_arg)
            self.sandboxes.append({"id": name, "home": home, "child": child,
                                   "address_file": address_file,
                                   "procd_key": read_line(key + ".pub")})
        for box in self.sandboxes:
            box["procd"] = self.wait_for(lambda: first_line(box["address_file"]),
                                         f"procd's start for {box['id']}")

    def start_gateway(self):
        ready_file = self.path("ready.json")
        remove_file(ready_file)
        argv = [self.program("ringgate"), "--config", self.path("ringgate.yaml"),
                "--ready-file", ready_file]
        for setting in self.options.set:
            argv += ["--set", setting]
        child = self.start("gateway", "ringgate", argv + self.options.gateway_arg)
        text = self.wait_for(lambda: first_line(ready_file), "the gateway's start")
        try:
            ready = json.loads(text)
            port = int(ready["listen"][0].rpartition(":")[2])
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failure(f"the gateway's ready file is not understood: {text}") from None
        host = self.ssh_host()
        self.wait_for(lambda: answers(host, port), f"an SSH banner on port {port}")
        return child, host, port, ready.get("host_keys", [])

    def write_region(self, gateway, control, host, port, host_keys):
        region = {
            "ssh": {"host": host, "port": port},
            "sandboxes": [{"id": box["id"], "home": box["home"]} for box in self.sandboxes],
            "identity_file": self.identity_file,
            "known_hosts": self.known_hosts,
            "host_keys": host_keys,
            "config": self.path("ringgate.yaml"),
            "logs": {child.name: child.log_path for child in self.children},
            "pids": {"gateway": gateway.pid, "region": os.getpid()},
        }
        for shown, box in zip(region["sandboxes"], self.sandboxes):
            if control:
                shown["status"] = box["status"]
                region["logs"][box["id"]] = box["log"]
            else:
                shown["procd"] = box["procd"]
        if control:
            region["api"] = {"url": self.api, "token": read_line(self.token_file)}
            region["pids"]["control"] = control.pid
        else:
            region["directory"] = self.path("directory.yaml")
            region["pids"]["procd"] = {box["id"]: box["child"].pid
                                       for box in self.sandboxes}
        write_file(self.path("region.json"), json.dumps(region, indent=2) + "\n",
                   mode=0o600)

    def print_api_lines(self):
        token = f'"Authorization: Bearer $(cat {shlex.quote(self.token_file)})"'
        curl = f"curl -s -H {token}"
        self.say()
        self.say("the API (keys, sandboxes):")
        self.say(f"  {curl} {self.api}/users/me/ssh-keys")
        self.say(f"  {curl} {self.api}/users/me/ssh-keys -d "
                 '"{\\"name\\": \\"laptop\\", \\"public_key\\": '
                 '\\"$(cut -d" " -f1,2 ~/.ssh/id_ed25519.pub)\\"}"')
        if self.sandboxes:
            self.say(f"  {curl} {self.api}/api/v1/sandboxes/{self.sandboxes[0]['id']}")

    def print_lines(self, host, port):
        identity = f"-i {shlex.quote(self.identity_file)}"
        if "%" in self.identity_file:
            # ssh would look for the file with the % doubled, too, if -i names it.
            identity = "-o " + shlex.quote("IdentityFile=" + ssh_path(self.identity_file))
        common = (f"{identity} -o IdentitiesOnly=yes -o "
                  + shlex.quote("UserKnownHostsFile=" + ssh_path(self.known_hosts)))
        bracketed = f"[{host}]" if ":" in host else host
        self.say()
        self.say(f"ringgate answers on {host_port(host, port)}; "
                 f"state is in {self.dir}; Ctrl-C stops everything.")
        if self.api:
            self.print_api_lines()
        for box in self.sandboxes:
            name = box["id"]
            self.say()
            status = f"{box['status']}, " if "status" in box else ""
            self.say(f"{name} ({status}home {box['home']}):")
            self.say(f"  ssh -p {port} {common} {name}@{host}")
            self.say(f"  scp -P {port} {common} FILE {name}@{bracketed}:")
            self.say(f"  sftp -P {port} {common} {name}@{bracketed}")
        self.say()

    def run(self):
        self.take_lock()
        self.check_port()
        self.catch_signals()
        os.makedirs(self.path("logs"), exist_ok=True)
        os.makedirs(self.path("host_keys"), mode=0o700, exist_ok=True)
        try:
            self.make_user_key()
            self.make_procd_key(self.path("gateway_key"))
            control = None
            if self.options.static:
                self.label_width = max([len("ringgate")] + [
                    len(self.sandbox_id(i)) for i in range(self.options.sandboxes)])
                self.start_sandboxes()
                self.write_directory()
            else:
                self.hold_port()
                self.write_control_config()
                control = self.start_control()
                self.make_token()
                self.upload_keys()
                self.create_sandboxes()
            self.write_config()
            gateway, host, port, host_keys = self.start_gateway()
            if self.port_holder:
                self.port_holder.close()
            self.write_known_hosts(host, port)
            self.write_region(gateway, control, host, port, host_keys)
            self.print_lines(host, port)
            while self.stop_signal is None:
                self.turn(None)
                self.check_alive()
            self.say("region: stopping")
        except Stopped:
            self.say("region: stopped before it was up")
        finally:
            self.stop()
        self.say("region: everything has ended")
        if self.is_unclean:
            raise Failure("something did not end as it should, see above")


def ssh_path(path):
    """A path as the value of an ssh option: % stands for something, blanks end it."""
    path = path.replace("%", "%%")
    if re.search(r"[\s\"']", path):
        path = '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return path


def first_line(path):
    """The first line once it is complete, else None."""
    try:
        with open(path, encoding="utf-8") as f:
            line = f.readline()
    except FileNotFoundError:
        return None
    return line.strip() if line.endswith("\n") or line.strip().endswith("}") else None


def answers(host, port):
    try:
        with socket.create_connection((host, port), timeout=1) as s:
            return s.recv(256).startswith(b"SSH-2.0-")
    except OSError:
        return False


def descendants():
    """Pids of all our descendants that are not zombies, from /proc."""
    parents = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as f:
                state, parent = f.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            parents[int(name)] = int(parent)
    found = []
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and pid != above:
            found.append(pid)
    return found


def top_level_blocks(path):
    """A YAML file's text, cut at its top-level keys: enough to replace ours."""
    blocks = {}
    name = None
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {path}: {error}") from None
    for line in lines:
        match = re.match(r"([A-Za-z_][A-Za-z0-9_]*):", line)
        if match:
            name = match.group(1)
            blocks[name] = line
        elif name is not None:
            blocks[name] += "\n" + line
        elif line.strip() and not line.startswith(("#", "---")):
            raise Failure(f"{path}: a top-level key is expected first: {line}")
    return blocks


def port_number(text):
    value = int(text)
    if not 0 <= value <= 65535:
        raise ValueError
    return value


def sandbox_count(text):
    value = int(text)
    if not 0 <= value <= 1000:
        raise ValueError
    return value


port_number.__name__ = "port"
sandbox_count.__name__ = "number of sandboxes (0 to 1000)"


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="region.py", allow_abbrev=False,
        description="Runs a control plane, sandboxes and a gateway on this machine "
                    "until Ctrl-C.")
    add = parser.add_argument
    add("--bin", metavar="DIR", default=os.path.join(CHECKOUT, "zig-out", "bin"),
        help="folder with ringgate, ringgate-control and procd (default: zig-out/bin of the checkout)")
    add("--dir", metavar="DIR", default=os.path.join(CHECKOUT, ".ringgate"),
        help="folder for keys, homes, logs and region.json (default: .ringgate in the "
             "checkout)")
    add("--port", metavar="PORT", type=port_number, default=2222,
        help="the gateway's port; 0 takes any free one (default: 2222)")
    add("--bind", metavar="ADDR", default="127.0.0.1",
        help="the gateway's address (default: 127.0.0.1)")
    add("--sandboxes", metavar="N", type=sandbox_count, default=2,
        help="how many sandboxes (default: 2)")
    add("--static", action="store_true",
        help="no control plane: a directory file, and sandboxes that are always there")
    add("--api-port", metavar="PORT", type=port_number, default=0,
        help="the control plane's port on loopback (default: any free one)")
    add("--database", metavar="URL",
        help="the control plane's: a SQLite file or postgres://... (default: a file in "
             "--dir)")
    add("--redis", metavar="URL",
        help="a cache for the gateway, told of changes by the control plane")
    add("--authorized-key", metavar="FILE", action="append", default=[],
        help="a public key file that may log in too; may be repeated")
    add("--user", metavar="USER",
        help="run the sandboxes as this user (default: the one who starts this)")
    add("--shell", metavar="PATH", help="login shell in the sandboxes")
    add("--config-extra", metavar="FILE",
        help="YAML whose top-level keys replace or extend the gateway's configuration")
    add("--set", metavar="KEY=VALUE", action="append", default=[],
        help="a gateway setting, passed to ringgate as it is; may be repeated")
    add("--gateway-arg", metavar="ARG", action="append", default=[],
        help="one more argument for ringgate; may be repeated (--gateway-arg=--flag)")
    add("--control-set", metavar="KEY=VALUE", action="append", default=[],
        help="a setting of ringgate-control; may be repeated")
    add("--control-arg", metavar="ARG", action="append", default=[],
        help="one more argument for ringgate-control serve; may be repeated")
    add("--procd-arg", metavar="ARG", action="append", default=[],
        help="one more argument for every procd; may be repeated")
    options = parser.parse_args(argv)
    if options.static and (options.database or options.redis or options.control_set
                           or options.control_arg):
        parser.error("--static has no control plane: --database, --redis and --control-* "
                     "do not go with it")
    return options


def main(argv):
    options = parse_arguments(argv)
    try:
        Region(options).run()
    except Failure as failure:
        print(f"region: {failure}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
