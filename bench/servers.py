"""bench/servers.py - the two places to log in to: ringgate's region and a private sshd.

Both on loopback and free ports, with the same user key, ended by pid. A Target says
how clients reach one of them and which meters count what it costs.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from meters import Meter

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REGION = os.path.join(CHECKOUT, "deploy", "region.py")

KEY_TYPES = ("ed25519", "ecdsa", "rsa")
RSA_BITS = "3072"  # As of the host key that a gateway makes for itself.
START_S = 30
STOP_S = 20
REST_S = 10             # for session processes to be gone after their client
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class Trouble(Exception):
    """Something cannot be measured; ends the scenario with a message."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def ends_with_us():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start_server(argv, log_path, **more):
    """From the main thread only: the kernel ends it when the thread that made it ends."""
    with open(log_path, "wb") as log:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                preexec_fn=ends_with_us, start_new_session=True, **more)


def end_process(process, seconds=STOP_S):
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make_keys(folder, name):
    """A key of each type: {type: file}."""
    found = {kind: os.path.join(folder, f"{name}_{kind}") for kind in KEY_TYPES}
    for kind, path in found.items():
        more = ["-b", RSA_BITS] if kind == "rsa" else []
        subprocess.run(["ssh-keygen", "-q", "-t", kind, *more, "-N", "", "-C", "bench", "-f", path], check=True, timeout=60)
    return found


def make_identities(folder):
    """The users' keys, all of them authorized, and host keys for every sshd beside them."""
    found = make_keys(folder, "id")
    with open(authorized_keys_of(found["ed25519"]), "w", encoding="ascii") as authorized:
        for path in found.values():
            with open(path + ".pub", encoding="ascii") as f:
                authorized.write(f.read())
    make_keys(folder, "host")
    return found


def authorized_keys_of(identity):
    return os.path.join(os.path.dirname(identity), "authorized_keys")


def tail_of(path, lines=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Trouble(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def has_banner(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
            return s.recv(8).startswith(b"SSH-")
    except OSError:
        return False


class Target:
    """Where clients log in. meters[0] is the gateway's (or sshd's) own."""

    def __init__(self, name, host, port, user, identity, known_hosts):
        self.name = name
        self.host = host
        self.port = port
        self.user = user
        self.users = [user]  # All of them are as good: sandboxes.
        self.identity = identity
        self.status = None   # The command that tells a gateway's counters.
        self.meters = []
        self.programs = {}  # Of each meter: whose memory counts, commands of users do not.
        self.at_rest = {}
        self.client_options = [
            "-F", "/dev/null", "-i", identity,
            "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
            "-o", f"UserKnownHostsFile={known_hosts}", "-o", "GlobalKnownHostsFile=/dev/null",
            "-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=no",
            "-o", "HostKeyAlgorithms=ssh-ed25519",
            "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20",
            # Newer clients blur the times of keystrokes, which are measured here.
            "-o", "IgnoreUnknown=ObscureKeystrokeTiming", "-o", "ObscureKeystrokeTiming=no"]

    def more_options(self, cipher):
        return ["-c", cipher] if cipher else []

    def ssh(self, *command, cipher=None, options=()):
        return ["ssh", *self.client_options, *self.more_options(cipher), *options,
                "-p", str(self.port), f"{self.user}@{self.host}", *command]

    def scp(self, source, target, cipher=None):
        return ["scp", "-q", *self.client_options, *self.more_options(cipher),
                "-P", str(self.port), source, target]

    def sftp(self, batch_file, cipher=None):
        return ["sftp", "-q", *self.client_options, *self.more_options(cipher),
                "-P", str(self.port), "-b", batch_file, f"{self.user}@{self.host}"]

    def remote(self, path):
        return f"{self.user}@{self.host}:{path}"

    def counters(self):
        """What the gateway's workers have done so far; empty for a server that does not tell."""
        if self.status is None:
            return {}
        done = subprocess.run(self.status, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
                              check=False)
        if done.returncode != 0:
            raise Trouble(f"ringgate status: {done.stderr.strip()}")
        return json.loads(done.stdout)["workers"]

    def warm_up(self):
        """One login; then what is there without sessions is remembered."""
        done = subprocess.run(self.ssh("echo warm"), stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=60, check=False)
        if done.returncode != 0 or done.stdout != b"warm\n":
            raise Trouble(f"{self.name}: a first login failed with status {done.returncode}: "
                          f"{done.stderr.decode('utf-8', 'replace').strip()}")
        self.learn_rest()

    def learn_rest(self):
        """The number of processes once it stays the same for half a second."""
        counts, deadline = [], time.monotonic() + REST_S
        while time.monotonic() < deadline:
            counts.append([len(meter.pids()) for meter in self.meters])
            if len(counts) >= 10 and all(count == counts[-1] for count in counts[-10:]):
                break
            time.sleep(0.05)
        self.at_rest = {meter.name: len(meter.pids()) for meter in self.meters}

    def wait_for_rest(self):
        """Until session processes are gone, so that their CPU is complete."""
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline:
            if all(len(meter.pids()) <= self.at_rest[meter.name] for meter in self.meters):
                break
            time.sleep(0.005)
        else:
            say(f"  note: {self.name} still has session processes {REST_S} s after its clients")
        time.sleep(0.05)  # A gateway may still be closing.

    def negotiated(self, cipher):
        """What `ssh -v` says was agreed on."""
        argv = self.ssh("true", cipher=cipher)
        argv.insert(1, "-v")  # First, since the first of LogLevel's values counts.
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=60, check=False)
        found = dict(re.findall(r"kex: (algorithm|host key algorithm|server->client cipher): (\S+)",
                                done.stderr))
        version = re.search(r"remote software version (.*)", done.stderr)
        found["server"] = version.group(1).strip() if version else None
        return found


class Sshd:
    """The machine's own OpenSSH server, with a configuration and host key of its own."""

    def __init__(self, name, folder, identity, cgroups):
        self.name = name
        self.folder = folder
        self.identity = identity
        self.cgroups = cgroups
        self.process = None

    def start(self):
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        if not os.access(program, os.X_OK):
            raise Trouble("no sshd on this machine (package openssh-server)")
        os.makedirs(self.folder)
        home = os.path.join(self.folder, "home")
        os.mkdir(home)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        host_keys = [os.path.join(os.path.dirname(self.identity), f"host_{kind}") for kind in KEY_TYPES]
        shutil.copy(authorized_keys_of(self.identity), os.path.join(self.folder, "authorized_keys"))
        log = os.path.join(self.folder, "log")
        for _ in range(5):
            port = free_port()
            self.write_config(port, host_keys, home)
            self.process = start_server(
                [program, "-D", "-e", "-f", os.path.join(self.folder, "config")], log)
            try:
                wait_for(lambda: self.process.poll() is not None or has_banner(port),
                         START_S, f"{self.name}'s answer")
            except Trouble:
                self.stop()
                raise
            if self.process.poll() is None:
                break
        else:
            raise Trouble(f"{self.name} does not start: {tail_of(log)}")
        known_hosts = os.path.join(self.folder, "known_hosts")
        with open(host_keys[0] + ".pub", encoding="ascii") as f:
            key = " ".join(f.read().split()[:2])
        with open(known_hosts, "w", encoding="ascii") as f:
            f.write(f"[127.0.0.1]:{port} {key}\n")
        user = "root" if os.geteuid() == 0 else os.environ.get("USER", "nobody")
        target = Target(self.name, "127.0.0.1", port, user, self.identity, known_hosts)
        target.meters = [Meter("sshd", [self.process.pid], self.cgroups)]
        target.programs = {"sshd": ("sshd", "sshd-session", "sftp-server")}
        target.warm_up()
        return target

    def write_config(self, port, host_keys, home):
        # HOME as in a sandbox: an empty folder, so that shells read the same files.
        lines = [f"Port {port}", "ListenAddress 127.0.0.1", *(f"HostKey {path}" for path in host_keys),
                 f"AuthorizedKeysFile {self.folder}/authorized_keys", "StrictModes no",
                 f"PidFile {self.folder}/pid", "PermitRootLogin prohibit-password",
                 "PasswordAuthentication no", "KbdInteractiveAuthentication no",
                 "UsePAM no", "UseDNS no", "PrintMotd no", "PrintLastLog no", "LogLevel ERROR",
                 "MaxStartups 1000:30:2000", "MaxSessions 100", f"SetEnv HOME={home}",
                 "Subsystem sftp internal-sftp"]
        with open(os.path.join(self.folder, "config"), "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")

    def stop(self):
        if self.process is not None:
            end_process(self.process)
            self.process = None


class Ringgate:
    """A gateway with one sandbox, by deploy/region.py."""

    def __init__(self, folder, identity, cgroups, bin_dir, port, region_args, sandboxes=1):
        self.name = "ringgate"
        self.folder = folder
        self.identity = identity
        self.cgroups = cgroups
        self.bin_dir = bin_dir
        self.port = port
        self.region_args = region_args
        self.sandboxes = sandboxes
        self.process = None

    def start(self):
        log = self.folder + ".log"
        region_json = os.path.join(self.folder, "region.json")
        self.process = start_server(
            [sys.executable, REGION, "--bin", self.bin_dir, "--dir", self.folder,
             "--port", str(self.port), "--sandboxes", str(self.sandboxes), "--static",
             "--authorized-key", authorized_keys_of(self.identity), *self.region_args], log)
        try:
            wait_for(lambda: self.process.poll() is not None or os.path.exists(region_json),
                     START_S, "region.json")
        except Trouble:
            self.stop()
            raise
        if self.process.poll() is not None:
            raise Trouble(f"deploy/region.py ended: {tail_of(log)}")
        with open(region_json, encoding="utf-8") as f:
            region = json.load(f)
        boxes = [box["id"] for box in region["sandboxes"]]
        target = Target(self.name, region["ssh"]["host"], region["ssh"]["port"], boxes[0],
                        self.identity, region["known_hosts"])
        target.users = boxes
        target.meters = [Meter("gateway", [region["pids"]["gateway"]], self.cgroups),
                         Meter("procd", [region["pids"]["procd"][box] for box in boxes], self.cgroups)]
        target.programs = {"gateway": ("ringgate",), "procd": ("procd",)}
        target.status = [os.path.join(self.bin_dir, "ringgate"), "status", "--json", "--config", region["config"]]
        target.warm_up()
        return target

    def stop(self):
        if self.process is not None:
            end_process(self.process)
            self.process = None
