"""bench/measure.py - what all scenarios share: a client's run between two looks at all clocks, two targets in turn, files to move.

What was moved is verified by SHA-256 outside the timed part; Altered fails the scenario.
"""

import contextlib
import hashlib
import os
import subprocess
import threading
import time

import meters
from servers import Trouble, say

CHUNK = 1 << 20
GB = 1e9


class Altered(Exception):
    """Bytes that arrived are not those that were sent."""


def sha256_of(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def transfer_limit_s(size):
    """Long enough for 5 MB/s; what is slower is a failure."""
    return 60 + size / 5e6


def remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


class Measured:
    """One client's run: wall time and CPU of everybody."""

    def __init__(self, seconds, size, cpu, client_cpu, machine_cpu, own_cpu, counters):
        self.counters = counters
        self.seconds = seconds
        self.size = size
        self.cpu = cpu
        self.client_cpu = client_cpu
        # What nobody of ours used: other work on the machine disturbs the figures.
        self.other_cpu = machine_cpu - sum(cpu.values()) - client_cpu - own_cpu
        self.machine_cpu = machine_cpu

    def as_json(self):
        return {"seconds": round(self.seconds, 4), "MB/s": round(self.size / 1e6 / self.seconds, 1),
                "cpu_s": {name: round(value, 4) for name, value in self.cpu.items()},
                "client_cpu_s": round(self.client_cpu, 4),
                "machine_cpu_s": round(self.machine_cpu, 2), "gateway": self.counters,
                "other_cpu_s": round(self.other_cpu, 2)}


def own_cpu():
    times = os.times()
    return times.user + times.system


def measured(target, work, size, clients=1):
    """Runs work() -> CPU seconds of clients, between two looks at all clocks."""
    target.wait_for_rest()
    counters = target.counters()
    before = {meter.name: meter.cpu() for meter in target.meters}
    by_tree = {meter.name: meter.cpu_by_tree() for meter in target.meters}
    machine, own, start = meters.machine_busy(), own_cpu(), time.perf_counter()
    client_cpu = work()
    seconds = time.perf_counter() - start
    target.wait_for_rest()
    machine, own = meters.machine_busy() - machine, own_cpu() - own
    cpu = {meter.name: meter.cpu() - before[meter.name] for meter in target.meters}
    counters = {key: value - counters[key] for key, value in target.counters().items()}
    for meter in target.meters:
        tree = meter.cpu_by_tree() - by_tree[meter.name]
        # Ticks round, once for each process; more than that is an accounting error.
        if abs(tree - cpu[meter.name]) > 0.05 + 0.04 * clients + 0.05 * cpu[meter.name]:
            say(f"  note: CPU of {meter.name} is {cpu[meter.name]:.3f} s by its cgroup, "
                f"{tree:.3f} s by its tree")
    return Measured(seconds, size, cpu, client_cpu, machine, own, counters)


def run_client(argv, limit_s, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
    """Ends well or raises; returns the CPU seconds of the client and its children."""
    process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    try:
        errors = process.stderr.read()
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        timer.cancel()
        process.stderr.close()
    if process.returncode != 0:
        words = errors.decode("utf-8", "replace").strip()[-500:]
        raise Trouble(f"{argv[0]} ended with status {process.returncode}"
                      f"{' (or was over its time)' if process.returncode < 0 else ''}: {words}")
    return usage.ru_utime + usage.ru_stime


class Base:
    """Options, the two targets, the folder for data, and the report."""

    def __init__(self, options, report, folder, new_ours, new_sshd):
        self.options = options
        self.report = report
        self.folder = folder
        self.new_ours = new_ours
        self.new_sshd = new_sshd
        self.ours = None
        self.sshd = None
        self.repeat = 1  # Of the scenario that runs.
        self.hashes = {}
        self.stop_servers = None
        self.identities = {}  # Of each type of key.

    def path(self, name):
        return os.path.join(self.folder, name)

    def in_turn(self, repeat=None):
        """(repetition, target): each repetition has both, and who is first changes."""
        for i in range(self.repeat if repeat is None else repeat):
            pair = (self.ours, self.sshd) if i % 2 == 0 else (self.sshd, self.ours)
            for target in pair:
                yield i, target

    def source(self, size):
        """A file of random bytes, made once."""
        path = self.path(f"source-{size}")
        if path not in self.hashes:
            say(f"making {size} random bytes")
            with open(path, "wb") as f:
                left = size
                while left > 0:
                    left -= f.write(os.urandom(min(left, CHUNK)))
            self.hashes[path] = sha256_of(path)
        return path

    def remove_files(self):
        """Those made so far; they take memory."""
        for path in self.hashes:
            remove(path)
        self.hashes = {}

    def check(self, path, source, what):
        if os.path.getsize(path) != os.path.getsize(source):
            raise Altered(f"{what}: {os.path.getsize(path)} bytes arrived of "
                          f"{os.path.getsize(source)}")
        if sha256_of(path) != self.hashes[source]:
            raise Altered(f"{what}: SHA-256 differs")

    def add_transfer_rows(self, name, cipher, size, runs):
        ours, sshd = runs[self.ours.name], runs[self.sshd.name]
        raw = {key: [run.as_json() for run in value] for key, value in runs.items()}
        self.report.add(name, cipher, "MB/s", [size / 1e6 / run.seconds for run in ours],
                        [size / 1e6 / run.seconds for run in sshd], digits=0, raw=raw)
        self.add_cost_rows(name, cipher, size, ours, sshd)

    def add_cost_rows(self, name, setting, size, ours, sshd):
        """What a GB cost: CPU of each program by name, and what the gateway's rings did for it."""
        gbytes = size / GB
        add = self.report.add
        peer = [sum(run.cpu.values()) / gbytes for run in sshd]
        for meter in self.ours.meters:
            add(name, setting, f"CPU s/GB, {meter.name}", [run.cpu[meter.name] / gbytes for run in ours], peer)
        if len(self.ours.meters) > 1:
            add(name, setting, "CPU s/GB, servers together", [sum(run.cpu.values()) / gbytes for run in ours], peer)
        add(name, setting, "CPU s/GB, client", [run.client_cpu / gbytes for run in ours],
            [run.client_cpu / gbytes for run in sshd])
        if all(run.counters for run in ours):
            def each(figure):
                return [figure(run.counters) for run in ours]
            for measure, key in (("system calls", "enters"), ("completions", "completions"), ("mails", "mails")):
                add(name, setting, f"{measure} a GB, gateway", each(lambda n, key=key: n[key] / gbytes), None, digits=0)
            for measure, key in (("send", "sends"), ("receive", "recvs")):
                add(name, setting, f"KB a {measure}, gateway",
                    each(lambda n, key=key: n[key[:-1] + "_bytes"] / max(1, n[key]) / 1e3), None, digits=1)
            add(name, setting, "bytes copied a byte, gateway", each(lambda n: n["copied_bytes"] / size), None)
        for run in ours + sshd:
            self.report.see_other_cpu(run.other_cpu, run.machine_cpu)

    @contextlib.contextmanager
    def fresh(self, make):
        """A server that has moved nothing yet but one login."""
        server = make()
        try:
            yield server.start()
        finally:
            server.stop()
