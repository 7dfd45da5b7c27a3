"""A Redis of a test's own, or a Sentinel, from the distribution's package, in a folder that ends with it."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from regions import end_with_us, run
from waiting import free_port, wait_until


def find_program(name):
    """Skips, with the reason, where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (see tests/e2e/packages.txt)")
    return path


class Redis:
    """Nothing is kept on disk: one that starts again is empty. Owner: the test, by `with` or start() and stop()."""

    def __init__(self, password=None, tls=None, arguments=(), sentinel_of=None):
        self.folder = tempfile.mkdtemp(prefix="ringgate-redis-")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None
        self.program = find_program("redis-server")
        self.cli_program = find_program("redis-cli")
        self.socket = os.path.join(self.folder, "socket")
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        self.password = password
        self.tls = tls
        self.arguments = list(arguments)  # more lines of its configuration
        self.sentinel_of = sentinel_of  # of which Redis; this one is a Sentinel then

    def config(self):
        lines = [f"dir {self.folder}", f"port {self.port}", "bind 127.0.0.1", f"unixsocket {self.socket}",
                 "daemonize no"]
        if self.sentinel_of:
            lines += [f"sentinel monitor region 127.0.0.1 {self.sentinel_of.port} 1",
                      "sentinel down-after-milliseconds region 500", "sentinel failover-timeout region 2000"]
        else:
            lines += ['save ""', "appendonly no"]
        if self.password:
            lines.append(f"requirepass {self.password}")
        if self.tls:
            lines += [f"tls-port {self.tls_port}", f"tls-cert-file {self.tls}/server.crt",
                      f"tls-key-file {self.tls}/server.key", f"tls-ca-cert-file {self.tls}/ca.crt",
                      "tls-auth-clients no"]
        return "\n".join([*lines, *self.arguments]) + "\n"

    def start(self):
        path = os.path.join(self.folder, "redis.conf")
        if not os.path.exists(path):  # A Sentinel writes into it.
            with open(path, "w", encoding="ascii") as f:
                f.write(self.config())
        if os.path.exists(self.socket):
            os.unlink(self.socket)  # Of one that was killed.
        argv = [self.program, path]
        if self.sentinel_of:
            argv.append("--sentinel")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, preexec_fn=end_with_us)
        wait_until(lambda: self.cli("PING", check=False) == "PONG" or self.process.poll() is not None,
                   "Redis's start")
        assert self.process.poll() is None, self.log()
        return self

    def cli(self, *words, check=True):
        """The answer to one command, as redis-cli shows it to a script."""
        env = dict(os.environ, REDISCLI_AUTH=self.password) if self.password else None
        done = run([self.cli_program, "-s", self.socket, *words], env=env)
        assert done.status == 0 or not check, done
        return done.out.strip()

    @property
    def url(self):
        """By its socket."""
        login = f"//:{self.password}@" if self.password else ""
        return f"unix:{login}{self.socket}"

    @property
    def tcp_url(self):
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    # ---- what may happen to it -----------------------------------------------

    def log(self):
        with open(self.log_path, "rb") as f:
            return f.read().decode("utf-8", "replace")

    def freeze(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def end(self, number=signal.SIGTERM):
        """Its folder stays: start() goes on with it."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self):
        self.end(signal.SIGKILL)

    def stop(self):
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()


class Cluster:
    """Three masters, a third of the slots each, without replicas."""

    def __init__(self):
        self.servers = [Redis(arguments=["cluster-enabled yes", f"cluster-port {free_port()}",
                                         "cluster-node-timeout 2000"]) for _ in range(3)]

    def start(self):
        for i, server in enumerate(self.servers):
            server.start()
            server.cli("CLUSTER", "ADDSLOTSRANGE", str(i * 16384 // 3), str((i + 1) * 16384 // 3 - 1))
        first = self.servers[0]
        bus = first.arguments[1].split()[1]
        for server in self.servers[1:]:
            assert server.cli("CLUSTER", "MEET", "127.0.0.1", str(first.port), bus) == "OK"
        wait_until(lambda: all("cluster_state:ok" in s.cli("CLUSTER", "INFO")
                               and "cluster_known_nodes:3" in s.cli("CLUSTER", "INFO") for s in self.servers),
                   "the Cluster's agreement", 30)
        return self

    def of(self, name):
        """The server that has this name."""
        slot = int(self.servers[0].cli("CLUSTER", "KEYSLOT", name))
        return next(s for i, s in enumerate(self.servers)
                    if i * 16384 // 3 <= slot < (i + 1) * 16384 // 3)

    @property
    def url(self):
        return "cluster://" + ",".join(f"127.0.0.1:{s.port}" for s in self.servers[:2])

    def stop(self):
        for server in self.servers:
            server.stop()

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()
