"""A PostgreSQL server of a test's own, from the distribution's package, on a unix socket.

It refuses to run as root: then it is the user postgres that it runs as.
"""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile

import pytest

from regions import end_with_us, run
from waiting import wait_until

START_S = 60


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"),
                   key=lambda path: int(path.split("/")[-2]))
    if not found:
        pytest.skip("postgresql is not installed (see tests/e2e/packages.txt)")
    return found[-1]


class Postgres:
    def __init__(self):
        self.bin = programs()
        self.dir = tempfile.mkdtemp(prefix="rg-pg-", dir="/tmp")  # a socket's path is short
        self.prefix = []
        self.process = None
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.dir, user.pw_uid, user.pw_gid)
            # The last word: this server ends with the tests, whatever ends them.
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                           "--pdeathsig=SIGQUIT"]
        run([*self.prefix, f"{self.bin}/initdb", "-D", self.path("data"), "-A", "trust",
             "-U", "postgres", "-E", "UTF8", "--no-sync"], timeout=START_S, cwd="/").ok()

    def path(self, name):
        return os.path.join(self.dir, name)

    def url(self, database):
        return f"postgres://postgres@/{database}?host={self.dir}"

    def start(self):
        with open(self.path("log"), "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, f"{self.bin}/postgres", "-D", self.path("data"), "-k", self.dir,
                 "-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                start_new_session=True, preexec_fn=end_with_us)
        wait_until(lambda: self.sql("SELECT 1").status == 0 or self.process.poll() is not None,
                   "PostgreSQL's start", START_S)
        assert self.process.poll() is None, self.log()
        return self

    def sql(self, text, database="postgres"):
        return run([f"{self.bin}/psql", "-h", self.dir, "-U", "postgres", "-qAtc", text, database])

    def create(self, database):
        self.sql(f"CREATE DATABASE {database}").ok()
        return self.url(database)

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def end(self):
        self.process.send_signal(signal.SIGINT)  # "fast": open sessions are ended
        self.process.wait(30)
        self.process = None

    def pids(self):
        """The server's and its children's."""
        own = self.process.pid
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as f:
            return [own, *map(int, f.read().split())]

    def stop(self):
        if self.process:
            self.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        self.stop()
