"""A region for tests, started by the project's own deploy/region.py, and its clients.

Owner: whoever calls start() calls stop(); conftest's fixtures do both.
"""

import ctypes
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from waiting import is_alive, pids_with, wait_until

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUNNER = os.path.join(CHECKOUT, "deploy", "region.py")
STANDIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "standin")

START_S = 60
STOP_S = 40


LIBC = ctypes.CDLL(None)

# What sanitizers write before they end a program, or go on.
REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error: ",
           "WARNING: ThreadSanitizer", "assertion failed")


class Result:
    """A finished client."""

    def __init__(self, argv, status, stdout, stderr):
        self.argv = argv
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    @property
    def out(self):
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self):
        return self.stderr.decode("utf-8", "replace")

    def __repr__(self):
        return (f"status {self.status}\nargv {self.argv}\n"
                f"stdout ({len(self.stdout)} bytes): {self.stdout[:2000]!r}\n"
                f"stderr: {self.err[:4000]}")

    def ok(self):
        assert self.status == 0, self
        return self


def run(argv, input=b"", timeout=60, env=None, cwd=None, stdin=None):
    """Runs a client to its end. A client that hangs is killed and fails the test."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE if stdin is None else stdin, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=env, cwd=cwd, start_new_session=True)
    try:
        out, err = process.communicate(input if stdin is None else None, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"did not end in {timeout} s: "
                             f"{Result(argv, None, out, err)}") from None
    return Result(argv, process.returncode, out, err)


def sha_of_stream(stream):
    digest = hashlib.sha256()
    count = 0
    while True:
        data = stream.read(1 << 20)
        if not data:
            return digest.hexdigest(), count
        digest.update(data)
        count += len(data)


def sha_of_file(path):
    with open(path, "rb") as f:
        return sha_of_stream(f)[0]


def pipe_sha(argv, stdin_path=None, timeout=120, env=None):
    """Runs argv with a file as its stdin; SHA-256 of its stdout, nothing held."""
    with open(stdin_path or os.devnull, "rb") as stdin, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=err,
                                   env=env, start_new_session=True)
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            digest, count = sha_of_stream(process.stdout)
            status = process.wait(timeout=timeout)
        finally:
            timer.cancel()
            process.stdout.close()
            if process.poll() is None:
                process.kill()
                process.wait()
        err.seek(0)
        result = Result(argv, status, b"", err.read())
        result.sha, result.count = digest, count
        return result


def end_with_us():
    """Between fork and exec: a test run that is killed takes its regions along."""
    LIBC.prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def has_sanitizer(path):
    with open(path, "rb") as f:
        return b"__asan_init" in f.read()


class Region:
    """One running region; also the place where client command lines are made."""

    live = []  # For the logs shown when a test fails.

    def __init__(self, bin_dir, arguments=(), sandboxes=2, config="", is_standin=False,
                 dir=None, env=None, is_static=True):
        self.bin_dir = bin_dir
        self.arguments = list(arguments)
        self.sandbox_count = sandboxes
        self.config = config
        self.is_standin = is_standin
        self.is_static = is_static  # else with a control plane, and the second sandbox paused
        self.owns_dir = dir is None
        self.dir = dir or tempfile.mkdtemp(prefix="ringgate-e2e-")
        self.state = os.path.join(self.dir, "region")
        self.env = env
        self.is_sanitized = has_sanitizer(os.path.join(bin_dir, "ringgate"))
        self.process = None
        self.info = None
        self.status = None

    # ---- life ----------------------------------------------------------------

    def command(self, port=0):
        argv = [sys.executable, RUNNER, "--bin", self.bin_dir, "--dir", self.state,
                "--port", str(port), "--sandboxes", str(self.sandbox_count)]
        if self.is_static:
            argv.append("--static")
        if self.config:
            path = os.path.join(self.dir, "extra.yaml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(self.config)
            argv += ["--config-extra", path]
        return argv + self.arguments

    def start(self, port=0):
        os.makedirs(self.dir, exist_ok=True)
        region_file = os.path.join(self.state, "region.json")
        if os.path.exists(region_file):
            os.unlink(region_file)  # Of a runner that was killed.
        self.output = open(os.path.join(self.dir, "output"), "wb")
        self.process = subprocess.Popen(
            self.command(port), stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT, start_new_session=True, env=self.env,
            preexec_fn=end_with_us)
        Region.live.append(self)
        try:
            wait_until(lambda: os.path.exists(region_file) or self.process.poll() is not None,
                       "the region's start", START_S)
            assert self.process.poll() is None, f"the region ended:\n{self.output_text()}"
        except BaseException:
            self.stop(check=False)
            raise
        with open(region_file, encoding="utf-8") as f:
            self.info = json.load(f)
        self.host = self.info["ssh"]["host"]
        self.port = self.info["ssh"]["port"]
        self.sandboxes = [box["id"] for box in self.info["sandboxes"]]
        self.homes = {box["id"]: box["home"] for box in self.info["sandboxes"]}
        self.identity = self.info["identity_file"]
        self.known_hosts = self.info["known_hosts"]
        self.gateway_pid = self.info["pids"]["gateway"]
        self.procd_pids = self.info["pids"].get("procd", {})
        if not self.is_static:
            self.address = self.info["api"]["url"].partition("//")[2]
            self.token = self.info["api"]["token"]
        return self

    def stop(self, check=True):
        """Ends it as a user would. With check, it must have ended as it should."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.status = self.process.wait()
        self.output.close()
        text = self.output_text()
        pids = [self.gateway_pid, *self.procd_pids.values()] if self.info else []
        Region.live.remove(self)
        self.process = None
        if check:
            assert self.status == 0, f"the region ended with {self.status}:\n{text[-4000:]}"
            reports = [line for line in text.splitlines()
                       if any(words in line for words in REPORTS)]
            assert not reports, f"a program reported: {reports}"
            # Whatever a control plane started has the folder in its command line.
            left = [pid for pid in pids if is_alive(pid)] + pids_with(self.state + os.sep)
            assert not left, f"left behind: {left}"
        if self.owns_dir:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.stop(check=kind is None)

    # ---- logs ----------------------------------------------------------------

    def output_text(self):
        with open(os.path.join(self.dir, "output"), "rb") as f:
            return f.read().decode("utf-8", "replace")

    def log_size(self):
        try:
            return os.path.getsize(os.path.join(self.dir, "output"))
        except OSError:
            return 0

    def log_since(self, offset):
        with open(os.path.join(self.dir, "output"), "rb") as f:
            f.seek(offset)
            return f.read().decode("utf-8", "replace")

    def gateway_log(self):
        with open(self.info["logs"]["gateway"], "rb") as f:
            return f.read().decode("utf-8", "replace")

    # ---- clients ---------------------------------------------------------------

    @property
    def box(self):
        return self.sandboxes[0]

    @property
    def home(self):
        return self.homes[self.box]

    def options(self, *more, identity=None):
        """OpenSSH options that let nothing of the user's own configuration in."""
        argv = ["-F", "/dev/null"]
        for option in (*more, "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none",
                       f"UserKnownHostsFile={self.known_hosts}",
                       "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes",
                       "LogLevel=INFO", "ConnectTimeout=20"):
            argv += ["-o", option]
        return argv + ["-i", identity or self.identity]

    def ssh_argv(self, *command, box=None, user=None, opts=(), flags=(), identity=None):
        user = user if user is not None else (box or self.box)
        return ["ssh", *self.options(*opts, identity=identity), "-p", str(self.port),
                *flags, "-l", user, self.host, *(["--", *command] if command else [])]

    def ssh(self, *command, input=b"", timeout=60, stdin=None, env=None, **how):
        return run(self.ssh_argv(*command, **how), input=input, timeout=timeout,
                   stdin=stdin, env=env)

    def remote(self, path="", box=None):
        return f"{box or self.box}@{self.host}:{path}"

    def scp_argv(self, *arguments, opts=()):
        return ["scp", *self.options(*opts), "-P", str(self.port), *arguments]

    def scp(self, *arguments, timeout=120, opts=(), cwd=None):
        return run(self.scp_argv(*arguments, opts=opts), timeout=timeout, cwd=cwd)

    def sftp(self, batch, box=None, timeout=60, opts=(), flags=()):
        """Runs sftp's batch commands; stops at the first that fails."""
        return run(["sftp", *self.options(*opts), "-P", str(self.port), *flags, "-b", "-",
                    f"{box or self.box}@{self.host}"], input=batch.encode(),
                   timeout=timeout)

    def ssh_command(self, *opts):
        """For clients that take ssh as a program (git, rsync, sshfs)."""
        return shlex.join(["ssh", *self.options(*opts), "-p", str(self.port)])

    def serves(self):
        """The gateway lives, and a new user gets in."""
        assert is_alive(self.gateway_pid), "the gateway is gone"
        result = self.ssh("echo", "serves-on")
        assert result.stdout == b"serves-on\n" and result.status == 0, result
        return True

    def edit_directory(self, change):
        """change(text) gives the new text of the static directory file."""
        path = self.info["directory"]
        with open(path, encoding="utf-8") as f:
            text = change(f.read())
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".new", path)

    def change_directory(self, change):
        """The same, and waits until the gateway has read it."""
        offset = self.log_size()
        self.edit_directory(change)
        os.kill(self.gateway_pid, signal.SIGHUP)
        wait_until(lambda: 'event=directory result="read again"' in self.log_since(offset),
                   "the directory's next reading")
