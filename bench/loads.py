"""bench/loads.py - the scenarios that ringbench drives: many sessions from one core, against two targets in turn.

ringbench compares every byte that it moves and fails where one differs; that fails the scenario.
"""

import contextlib
import json
import os
import subprocess
import time

import meters
from scenarios import GB, Altered, measured, run_client, transfer_limit_s
from servers import Trouble, end_process, say, start_server, wait_for

START_S = 20
LIMIT_S = 1800
ECHO_SETTINGS = (("at rest", 0), ("beside 1 download", 1), ("beside 20 downloads", 20))
STORM_PARALLEL = 16


def ringbench(options, target, scenario, *more, address=None):
    """The command line."""
    return [os.path.join(options.bin, "ringbench"), scenario,
            "--address", address or f"{target.host}:{target.port}", "--user", target.user,
            "--identity", target.identity, "--json", "--quiet", "--limit", str(LIMIT_S), *more]


def result_of(argv, text, errors, status):
    if "BYTES" in errors:
        raise Altered(errors.strip())
    if status != 0 or not text.strip():
        raise Trouble(f"ringbench {argv[1]} ended with status {status}: {errors.strip()[-500:]}")
    return json.loads(text.splitlines()[-1])


def load(options, target, scenario, *more, address=None):
    argv = ringbench(options, target, scenario, *more, address=address)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LIMIT_S + 60, check=False)
    return result_of(argv, done.stdout, done.stderr, done.returncode)


@contextlib.contextmanager
def in_background(options, target, scenario, *more):
    """A load that goes on while the body runs; it is ended by its pid."""
    argv = ringbench(options, target, scenario, *more)
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    try:
        yield process
        if process.poll() is not None:
            raise Trouble(f"the load beside it ended early: {process.stderr.read().strip()[-300:]}")
    finally:
        end_process(process)
        process.stderr.close()


@contextlib.contextmanager
def long_way(options, target, delay_ms, log):
    """The target's address behind a relay that holds bytes back for delay_ms each way."""
    process = start_server([os.path.join(options.bin, "ringbench"), "relay", "--address",
                            f"{target.host}:{target.port}", "--delay-ms", str(delay_ms)], log)

    def address():
        with open(log, encoding="ascii") as f:
            words = f.readline().split()
        return words[1] if len(words) == 2 else None

    try:
        wait_for(lambda: address() is not None, START_S, "the relay's start")
        yield address()
    finally:
        end_process(process)


def times(results, key):
    return [result[key] for result in results]


class Loads:
    """Part of Bench: uses its options, targets and report."""

    def run_in_turn(self, name, one_run):
        """one_run(target) gives (ringbench's result, Measured)."""
        found = {self.ours.name: [], self.sshd.name: []}
        for i, target in self.in_turn():
            result, how = one_run(target)
            found[target.name].append((result, how))
            figures = {key: result[key] for key in ("per_s", "mb_per_s", "p50_us", "p99_us", "max_us")
                       if result.get(key)}
            say(f"{name} {target.name} {i + 1}/{self.options.repeat}: {figures} "
                + ", ".join(f"{key} {value:.3f} CPU s" for key, value in (how.cpu if how else {}).items()))
        return found[self.ours.name], found[self.sshd.name]

    def counted(self, target, scenario, *more, size=0, clients=1):
        box = {}

        def work():
            box["result"] = load(self.options, target, scenario, *more)
            return box["result"]["own_cpu_s"]

        how = measured(target, work, size, clients)
        return box["result"], how

    def add_cpu_rows(self, name, setting, unit, count, ours, sshd, goals=None):
        peer = [sum(how.cpu.values()) / count for _, how in sshd]
        for meter in self.ours.meters:
            self.report.add(name, setting, f"CPU {unit}, {meter.name}",
                            [how.cpu[meter.name] / count for _, how in ours], peer,
                            digits=3, goal=(goals or {}).get(meter.name))
        for _, how in ours + sshd:
            self.report.see_other_cpu(how.other_cpu, how.machine_cpu)

    # ---- logins and commands -------------------------------------------------

    def logins(self):
        """A connection, a login, `true`, close: curve25519; mlkem against sshd's curve25519 where it lacks that."""
        count, parallel = self.options.logins, self.options.connect_parallel
        peer_kex = "curve25519-sha256"
        for kex, limit in (("curve25519-sha256", 0.07), ("mlkem768x25519-sha256", 0.1)):
            def one_run(target, kex=kex):
                chosen = kex if target is self.ours else peer_kex
                return self.counted(target, "connect", "--count", str(count), "--parallel",
                                    str(parallel), "--kex", chosen, clients=count)
            ours, sshd = self.run_in_turn(f"logins {kex}", one_run)
            note = None if kex == peer_kex else f"sshd with {peer_kex}"
            self.report.add("logins", kex, "a second", times([r for r, _ in ours], "per_s"),
                            times([r for r, _ in sshd], "per_s"), digits=0, note=note,
                            raw={"ours": [r for r, _ in ours], "peer": [r for r, _ in sshd]})
            self.add_cpu_rows("logins", kex, "ms each", count / 1e3, ours, sshd,
                              {"gateway": ("ratio", "<=", limit)})

    def commands(self):
        """`true` again and again over one connection."""
        count = self.options.commands
        ours, sshd = self.run_in_turn("commands", lambda target: self.counted(
            target, "exec", "--count", str(count), "--parallel", "1", clients=count))
        self.report.add("commands", "over one connection", "a second",
                        times([r for r, _ in ours], "per_s"), times([r for r, _ in sshd], "per_s"),
                        digits=0, goal=("ratio", ">=", 2.0),
                        raw={"ours": [r for r, _ in ours], "peer": [r for r, _ in sshd]})
        self.add_cpu_rows("commands", "over one connection", "ms each", count / 1e3, ours, sshd)

    # ---- keystrokes ----------------------------------------------------------

    def keys(self):
        options = self.options
        more = ("--count", str(options.keystrokes), "--interval-ms", str(options.key_interval_ms))
        for setting, beside in ECHO_SETTINGS:
            def one_run(target, beside=beside):
                with contextlib.ExitStack() as stack:
                    if beside:
                        stack.enter_context(in_background(
                            options, target, "exec", "--parallel", str(beside), "--count", "1000000",
                            "--command", f"cat {self.source(options.size)}"))
                        time.sleep(1)
                    return load(options, target, "echo", *more), None
            self.keys_rows(setting, one_run, ("ratio", "<=", 1.0 if beside else 1.3))

        def in_a_storm(target):
            with in_background(options, target, "connect", "--count", "1000000", "--parallel",
                               str(STORM_PARALLEL), "--kex", "curve25519-sha256"):
                return load(options, target, "echo", *more), None
        self.keys_rows(f"in a storm of {STORM_PARALLEL} logins at once", in_a_storm, None)

    def keys_rows(self, setting, one_run, goal):
        ours, sshd = self.run_in_turn(f"keys {setting}", one_run)
        mine, peer = [r for r, _ in ours], [r for r, _ in sshd]
        for key in ("p50_us", "p99_us", "p999_us", "max_us"):
            limit = goal if key == "p99_us" else ("ratio", "<=", 1.0) if key == "max_us" and goal else None
            self.report.add("keys", setting, key.replace("_us", " ms"),
                            [r[key] / 1e3 for r in mine], [r[key] / 1e3 for r in peer], digits=3,
                            goal=limit, raw={"ours": mine, "peer": peer} if key == "p50_us" else None)

    # ---- bytes ---------------------------------------------------------------

    def streams(self):
        """One exec stream, every cipher, both ways."""
        size = self.options.size
        for cipher in self.options.ciphers:
            for way in ("down", "up"):
                ours, sshd = self.run_in_turn(f"stream {way} {cipher}", lambda target, way=way, cipher=cipher:
                                              self.counted(target, way, "--size", str(size), "--cipher", cipher,
                                                           "--path", self.path("stream"), size=size))
                self.report.add(f"stream {way}", cipher, "MB/s", times([r for r, _ in ours], "mb_per_s"),
                                times([r for r, _ in sshd], "mb_per_s"), digits=0)

    def parallel(self):
        """Many downloads at once: the rate of all, fairness, memory."""
        n, size = self.options.parallel, self.options.parallel_size
        grown = {self.ours.name: [], self.sshd.name: []}

        def one_run(target):
            target.wait_for_rest()
            base = {m.name: m.memory(target.programs[m.name])["rss"] for m in target.meters}
            with meters.Sampler(target.meters, target.programs) as sampler:
                result, how = self.counted(target, "down", "--parallel", str(n), "--size", str(size),
                                           "--path", self.path("many"), size=n * size, clients=n)
            first = target.meters[0].name
            grown[target.name].append((sampler.peak[first]["rss"] - base[first]) / n / 2**20)
            return result, how

        ours, sshd = self.run_in_turn(f"{n} downloads", one_run)
        mine, peer = [r for r, _ in ours], [r for r, _ in sshd]
        name = f"{n} downloads at once"
        self.report.add(name, "", "MB/s of all", times(mine, "mb_per_s"), times(peer, "mb_per_s"), digits=0,
                        raw={"ours": mine, "peer": peer})
        self.report.add(name, "", "fastest's time to slowest's", times(mine, "slowest_to_fastest"),
                        times(peer, "slowest_to_fastest"), goal=("value", ">=", 0.7))
        self.report.add(name, "", "growth in MiB each, gateway", grown[self.ours.name], grown[self.sshd.name],
                        goal=("value", "<=", 2.0))
        self.add_cpu_rows(name, "", "s/GB", n * size / GB, ours, sshd)

    def distance(self):
        """One upload and one download over a long way, by exec stream and by scp."""
        size = self.options.distance_size
        for round_trip in self.options.round_trips:
            with contextlib.ExitStack() as stack:
                address = {t.name: stack.enter_context(long_way(
                    self.options, t, round_trip // 2, self.path(f"relay-{i}")))
                    for i, t in enumerate((self.ours, self.sshd))}
                for way in ("up", "down"):
                    def one_run(target, way=way):
                        return load(self.options, target, way, "--size", str(size), "--path", self.path("far"),
                                    address=address[target.name]), None
                    ours, sshd = self.run_in_turn(f"{way} at {round_trip} ms", one_run)
                    goal = ("ratio", ">=", 4.0) if way == "up" and round_trip == 100 else None
                    self.report.add(f"distance, {way}", f"{round_trip} ms round trip", "MB/s",
                                    times([r for r, _ in ours], "mb_per_s"),
                                    times([r for r, _ in sshd], "mb_per_s"), digits=1, goal=goal)
                self.far_scp(round_trip, address, size)

    def far_scp(self, round_trip, address, size):
        source, rates = self.source(size), {self.ours.name: [], self.sshd.name: []}
        arrived = self.path("arrived")
        for _, target in self.in_turn():
            host, _, port = address[target.name].rpartition(":")
            argv = [word for word in target.scp(source, target.remote(arrived), self.options.ciphers[0])]
            argv[argv.index("-P") + 1] = port
            argv[1:1] = ["-o", f"HostKeyAlias=[{target.host}]:{target.port}"]
            begin = time.perf_counter()
            run_client(argv, transfer_limit_s(size))
            rates[target.name].append(size / 1e6 / (time.perf_counter() - begin))
            self.check(arrived, source, f"scp at {round_trip} ms")
            os.unlink(arrived)
        self.report.add("distance, scp up", f"{round_trip} ms round trip", "MB/s", rates[self.ours.name],
                        rates[self.sshd.name], digits=1)

    # ---- memory --------------------------------------------------------------

    def idle(self):
        """Sessions that rest after bytes both ways: resident memory each."""
        each = {}
        for which, make, count in (("ours", self.new_ours, self.options.idle_sessions),
                                   ("sshd", self.new_sshd, self.options.idle_sshd_sessions)):
            with self.fresh(make) as target:
                each[which] = self.idle_each(target, count)
        peer = next(iter(each["sshd"].values()))
        for name, mine in each["ours"].items():
            for kind in ("rss", "pss"):
                self.report.add("idle", f"{self.options.idle_sessions} sessions",
                                f"{kind.upper()} in KiB a session, {name}", [mine[kind]], [peer[kind]], digits=1,
                                goal=("value", "<=", 40) if (name, kind) == ("gateway", "rss") else None,
                                note=f"sshd: {self.options.idle_sshd_sessions} sessions", raw=each)

    def idle_each(self, target, count):
        options = self.options
        base = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        say(f"idle {target.name}: {count} sessions, each {options.idle_bytes} bytes both ways")
        argv = ringbench(options, target, "idle", "--count", str(count), "--size", str(options.idle_bytes),
                         "--parallel", str(options.idle_parallel), "--kex", "curve25519-sha256")
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        try:
            line = process.stdout.readline()
            if not line.startswith("resting"):
                process.wait(10)
                result_of(argv, "", process.stderr.read(), process.returncode)
            cpu = {m.name: m.cpu() for m in target.meters}
            time.sleep(options.rest)
            found = {}
            for m in target.meters:
                now = m.memory(target.programs[m.name])
                found[m.name] = {kind: (now[kind] - base[m.name][kind]) / count / 1024 for kind in ("rss", "pss")}
                found[m.name]["cpu_at_rest_s"] = m.cpu() - cpu[m.name]
            say(f"  {found}")
            process.stdin.close()
            result_of(argv, process.stdout.read(), process.stderr.read(), process.wait(120))
        finally:
            end_process(process)
        return found


LOADS = {
    "logins": lambda bench: bench.logins(),
    "commands": lambda bench: bench.commands(),
    "keys": lambda bench: bench.keys(),
    "streams": lambda bench: bench.streams(),
    "parallel": lambda bench: bench.parallel(),
    "distance": lambda bench: bench.distance(),
    "idle": lambda bench: bench.idle(),
}
