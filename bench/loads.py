"""bench/loads.py - the scenarios that ringbench drives: many sessions from one core, against two targets in turn.

ringbench compares every byte that it moves and fails where one differs; that fails the scenario.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import threading
import time

import meters
from scenarios import GB, Altered, measured, remove, run_client, sha256_of, transfer_limit_s
from servers import Trouble, end_process, say, start_server, wait_for

START_S = 20
LIMIT_S = 1800
STORM_PARALLEL = 16
MANY_BESIDE = 20
IDLE_BYTES_EACH = {"ours": 2_000_000, "sshd": 6_000_000}  # Of all processes and the client, as seen; for a look before.
IDLE_EACH_SANDBOX = 4000  # procd's --max-streams ends at 4096.
HOST_KEYS = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsa-sha2-512"}
PEER_KEX = "curve25519-sha256"


def ringbench(options, target, scenario, *more, address=None):
    """The command line."""
    return [os.path.join(options.bin, "ringbench"), scenario,
            "--address", address or f"{target.host}:{target.port}", "--user", ",".join(target.users),
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


def kept(runs):
    """ringbench's results for the report's JSON."""
    return {"ours": [result for result, _ in runs[0]], "peer": [result for result, _ in runs[1]]}


class Loads:
    """Part of Bench: uses its options, targets and report."""

    def run_in_turn(self, name, one_run):
        """one_run(target) gives (ringbench's result, Measured or None); (ours, the peer's) of all repetitions."""
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

    def add_result_rows(self, name, setting, runs, measures, note=None):
        """measures: (its name, ringbench's name for it, its unit in ringbench's, digits)."""
        raw = kept(runs)
        for measure, key, unit, digits in measures:
            self.report.add(name, setting, measure, [result[key] / unit for result, _ in runs[0]],
                            [result[key] / unit for result, _ in runs[1]], digits=digits, note=note, raw=raw)
            raw = None

    def add_cpu_rows(self, name, setting, unit, count, ours, sshd):
        peer = [sum(how.cpu.values()) / count for _, how in sshd]
        for meter in self.ours.meters:
            self.report.add(name, setting, f"CPU {unit}, {meter.name}",
                            [how.cpu[meter.name] / count for _, how in ours], peer, digits=3)
        for _, how in ours + sshd:
            self.report.see_other_cpu(how.other_cpu, how.machine_cpu)

    # ---- logins and commands -------------------------------------------------

    def logins(self):
        """A connection, a login, `true`, close: each key exchange, then each type of the user's and of the host's key."""
        for kex in self.options.kexes:
            self.logins_by(kex, kex)
        others = [kind for kind in self.options.key_types if kind != "ed25519"]
        for kind in others:
            self.logins_by(f"{PEER_KEX}, user's key {kind}", PEER_KEX, kind)
        for kind in others:
            self.logins_by(f"{PEER_KEX}, host key {kind}", PEER_KEX, host_key=kind)

    def logins_by(self, setting, kex, kind="ed25519", host_key="ed25519"):
        """mlkem768x25519 is beside sshd's curve25519 where that is too old for it; so the goal is set, too."""
        count = self.options.logins
        argv = ("--count", str(count), "--parallel", str(self.options.connect_parallel), "--identity",
                self.identities[kind], "--host-key", HOST_KEYS[host_key])
        peer = PEER_KEX if kex.startswith("mlkem") else kex
        runs = self.run_in_turn(f"logins {setting}", lambda target: self.counted(
            target, "connect", *argv, "--kex", kex if target is self.ours else peer, clients=count))
        self.add_result_rows("logins", setting, runs, (("a second", "per_s", 1, 0), ("p50 ms", "p50_us", 1e3, 1),
                                                       ("p99 ms", "p99_us", 1e3, 1)),
                             note=None if kex == peer else f"logins by {kex}: sshd's are by {peer}")
        self.add_cpu_rows("logins", setting, "ms each", count / 1e3, *runs)

    def commands(self):
        """`true` again and again over one connection."""
        count = self.options.commands
        runs = self.run_in_turn("commands", lambda target: self.counted(
            target, "exec", "--count", str(count), "--parallel", "1", clients=count))
        setting = "over one connection"
        self.add_result_rows("commands", setting, runs, (("a second", "per_s", 1, 0), ("p50 ms", "p50_us", 1e3, 2),
                                                         ("p99 ms", "p99_us", 1e3, 2)))
        self.add_cpu_rows("commands", setting, "ms each", count / 1e3, *runs)

    # ---- keystrokes ----------------------------------------------------------

    def keys(self):
        """Echoes at rest, beside one and many scp, beside as many exec streams, and in a storm of logins."""
        options = self.options
        more = ("--count", str(options.keystrokes), "--interval-ms", str(options.key_interval_ms))

        def echo(target):
            return load(options, target, "echo", *more), None

        self.keys_rows("at rest", echo)
        for beside in (1, MANY_BESIDE):
            def by_scp(target, beside=beside):
                with self.copies_beside(target, beside):
                    return echo(target)
            self.keys_rows(f"beside {beside} scp", by_scp)
        for beside in (1, MANY_BESIDE):
            def by_exec(target, beside=beside):
                with in_background(options, target, "exec", "--parallel", str(beside), "--count", "1000000",
                                   "--command", f"cat {self.source(options.size)}"):
                    time.sleep(1)
                    return echo(target)
            self.keys_rows(f"beside {beside} exec stream{'s' if beside > 1 else ''}", by_exec)

        def in_a_storm(target):
            with in_background(options, target, "connect", "--count", "1000000", "--parallel",
                               str(STORM_PARALLEL), "--kex", PEER_KEX):
                return echo(target)
        self.keys_rows(f"in a storm of {STORM_PARALLEL} logins at once", in_a_storm)

    def keys_rows(self, setting, one_run):
        self.add_result_rows("keys", setting, self.run_in_turn(f"keys {setting}", one_run), (
            ("p50 ms", "p50_us", 1e3, 3), ("p99 ms", "p99_us", 1e3, 3), ("p999 ms", "p999_us", 1e3, 3),
            ("max ms", "max_us", 1e3, 3)))

    @contextlib.contextmanager
    def copies_beside(self, target, count):
        """So many scp downloads of the source, to nowhere, again and again until the body has ended."""
        source, cipher = self.source(self.options.size), self.options.ciphers[0]
        argv = target.scp(target.remote(source), "/dev/null", cipher)
        stop, failures = threading.Event(), []

        def copy():
            while not stop.is_set():
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE)
                while process.poll() is None and not stop.wait(0.05):
                    pass
                if stop.is_set():
                    end_process(process)
                elif process.returncode != 0:
                    failures.append(process.stderr.read().decode("utf-8", "replace").strip()[-300:])
                    stop.set()
                process.stderr.close()

        threads = [threading.Thread(target=copy) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1)
            yield
        finally:
            failed = list(failures)
            stop.set()
            for thread in threads:
                thread.join()
        if failed:
            raise Trouble(f"a copy beside the keystrokes failed: {failed[0]}")
        target.wait_for_rest()

    # ---- bytes ---------------------------------------------------------------

    def pattern(self, size):
        """The file that `ringbench down --keep` expects, made once."""
        path = self.path(f"pattern-{size}")
        if path not in self.hashes:
            with open(path, "wb") as f:
                subprocess.run([os.path.join(self.options.bin, "ringbench"), "pattern", "--size", str(size)],
                               stdout=f, check=True, timeout=600)
            self.hashes[path] = sha256_of(path)
        return path

    def stream(self, target, way, cipher, size, count=1):
        """count downloads, or one upload, of which nothing but the bytes themselves is counted; all is compared."""
        source, name = self.pattern(size), self.path("went-up")
        run = self.counted(target, way, "--size", str(size), "--parallel", str(count), "--cipher", cipher, "--keep",
                           "--path", source if way == "down" else name, size=count * size, clients=count)
        for i in range(count if way == "up" else 0):
            self.check(f"{name}.{i}", source, f"upload to {target.name}")
            remove(f"{name}.{i}")
        return run

    def streams(self):
        """One exec stream, every cipher, both ways."""
        size = self.options.size
        for cipher in self.options.ciphers:
            for way in ("down", "up"):
                runs = self.run_in_turn(f"stream {way} {cipher}", lambda target, way=way, cipher=cipher: self.stream(
                    target, way, cipher, size))
                self.add_result_rows(f"stream {way}", cipher, runs, (("MB/s", "mb_per_s", 1, 0),))
                self.add_cost_rows(f"stream {way}", cipher, size, *([how for _, how in side] for side in runs))

    def parallel(self):
        """Many downloads at once: the rate of all, fairness, memory."""
        n, size, cipher = self.options.parallel, self.options.parallel_size, self.options.ciphers[0]
        grown = {self.ours.name: [], self.sshd.name: []}

        def one_run(target):
            target.wait_for_rest()
            first = target.meters[0]
            base, main = first.memory(target.programs[first.name])["rss"], meters.rss_of(first.pid)
            meters.forget_peak_rss(first.pid)
            # Looks cost CPU of their own, so they are few; of a single process the kernel knows the peak anyway.
            with meters.Sampler([first], target.programs, 0.5) as sampler:
                run = self.stream(target, "down", cipher, size, n)
            peak = max(sampler.peak[first.name]["rss"] - base, meters.peak_rss_of(first.pid) - main)
            grown[target.name].append(peak / n / 2**20)
            return run

        runs = self.run_in_turn(f"{n} downloads", one_run)
        name, setting = f"{n} downloads at once", f"{size >> 20} MiB each"
        self.add_result_rows(name, setting, runs, (("MB/s of all", "mb_per_s", 1, 0),
                                                   ("fastest's time to slowest's", "slowest_to_fastest", 1, 2)))
        self.report.add(name, setting, "growth in MiB each, gateway", grown[self.ours.name], grown[self.sshd.name])
        self.add_cost_rows(name, setting, n * size, *([how for _, how in side] for side in runs))

    # ---- small files ---------------------------------------------------------

    def files(self):
        """Thousands of small files: by ringbench with requests in flight, then by scp -r and sftp, one after the other."""
        count, size = self.options.files, self.options.file_size
        setting = f"{count} of {size} bytes"
        folder = self.path("storm")
        argv = ("--count", str(count), "--size", str(size), "--path", folder, "--keep")

        def up(target):
            shutil.rmtree(folder, ignore_errors=True)
            run = self.counted(target, "sftp-up", *argv, size=count * size)
            self.check_storm(folder, count, size, f"files up, {target.name}")
            return run

        def down(target):
            return self.counted(target, "sftp-down", *argv, size=count * size)

        for name, one_run in (("files up, in flight", up), ("files down, in flight", down)):
            runs = self.run_in_turn(name, one_run)
            self.add_result_rows(name, setting, runs, (("files a second", "files_per_s", 1, 0),))
            self.add_cpu_rows(name, setting, "ms a file", count / 1e3, *runs)
        for tool in ("scp", "sftp"):
            for way in ("up", "down"):
                self.copy_files(tool, way, folder, count, setting)
        shutil.rmtree(folder, ignore_errors=True)

    def check_storm(self, folder, count, size, what):
        """File i holds the pattern's bytes from i * size on."""
        pattern, digest = self.hashes[self.pattern(count * size)], hashlib.sha256()
        for i in range(count):
            with open(os.path.join(folder, str(i)), "rb") as f:
                digest.update(f.read())
        if digest.hexdigest() != pattern:
            raise Altered(f"{what}: SHA-256 differs")

    def copy_files(self, tool, way, folder, count, setting):
        """The whole folder by one OpenSSH client."""
        arrived, batch, cipher = self.path("arrived-files"), self.path("batch"), self.options.ciphers[0]
        size, found = self.options.file_size, {self.ours.name: [], self.sshd.name: []}

        def work(target):
            if tool == "scp":
                ends = (folder, target.remote(arrived)) if way == "up" else (target.remote(folder), arrived)
                argv = target.scp(*ends, cipher)
                argv.insert(1, "-r")
            else:
                # sftp's put -r wants the folder to be there.
                with open(batch, "w", encoding="utf-8") as f:
                    f.write(f"mkdir {arrived}\nput -r {folder}/. {arrived}\n" if way == "up" else
                            f"get -r {folder} {arrived}\n")
                argv = target.sftp(batch, cipher)
            return run_client(argv, transfer_limit_s(count * size) + count * 0.1)

        for i, target in self.in_turn():
            how = measured(target, lambda target=target: work(target), count * size)
            self.check_storm(arrived, count, size, f"{tool} -r {way}, {target.name}")
            shutil.rmtree(arrived)
            found[target.name].append((None, how))
            say(f"files {way}, {tool} -r {target.name} {i + 1}/{self.options.repeat}: {count / how.seconds:.0f}/s")
        name, runs = f"files {way}, {tool} -r", (found[self.ours.name], found[self.sshd.name])
        self.report.add(name, setting, "files a second", *([count / how.seconds for _, how in side] for side in runs),
                        digits=0)
        self.add_cpu_rows(name, setting, "ms a file", count / 1e3, *runs)

    # ---- distance ------------------------------------------------------------

    def distance(self):
        """Uploads and downloads over a long way, by exec stream and by scp."""
        size = self.options.distance_size
        for round_trip in self.options.round_trips:
            with contextlib.ExitStack() as stack:
                address = {t.name: stack.enter_context(long_way(
                    self.options, t, round_trip // 2, self.path(f"relay-{i}")))
                    for i, t in enumerate((self.ours, self.sshd))}
                for way in ("up", "down"):
                    if f"scp {way}" in self.options.distance_parts:
                        self.far_scp(way, round_trip, address, size)
                    if way not in self.options.distance_parts:
                        continue

                    def one_run(target, way=way):
                        return load(self.options, target, way, "--size", str(size), "--path", self.path("far"),
                                    "--cipher", self.options.ciphers[0], address=address[target.name]), None
                    runs = self.run_in_turn(f"{way} at {round_trip} ms", one_run)
                    self.add_result_rows(f"distance, {way}", f"{round_trip} ms round trip", runs,
                                         (("MB/s", "mb_per_s", 1, 1),))

    def far_scp(self, way, round_trip, address, size):
        source, rates = self.source(size), {self.ours.name: [], self.sshd.name: []}
        arrived = self.path("arrived")
        for i, target in self.in_turn():
            host, _, port = address[target.name].rpartition(":")
            ends = (source, target.remote(arrived)) if way == "up" else (target.remote(source), arrived)
            argv = target.scp(*ends, self.options.ciphers[0])
            argv[argv.index("-P") + 1] = port
            argv[1:1] = ["-o", f"HostKeyAlias=[{target.host}]:{target.port}"]
            begin = time.perf_counter()
            run_client(argv, transfer_limit_s(size))
            rates[target.name].append(size / 1e6 / (time.perf_counter() - begin))
            self.check(arrived, source, f"scp {way} at {round_trip} ms")
            os.unlink(arrived)
            say(f"scp {way} at {round_trip} ms {target.name} {i + 1}/{self.options.repeat}: "
                f"{rates[target.name][-1]:.1f} MB/s")
        self.report.add(f"distance, scp {way}", f"{round_trip} ms round trip", "MB/s", rates[self.ours.name],
                        rates[self.sshd.name], digits=1)

    # ---- a mixed day ---------------------------------------------------------

    def day(self):
        """Shells, commands and copies at once, in set proportions for a set time."""
        options = self.options
        argv = ("--mix", options.day_mix, "--seconds", str(options.day_seconds), "--size", str(options.day_size),
                "--interval-ms", str(options.day_key_interval_ms), "--pause-ms", str(options.day_pause_ms),
                "--path", self.path("day"))
        runs = self.run_in_turn("day", lambda target: self.counted(target, "day", *argv, clients=100))
        shells, commands, copies = options.day_mix.split(",")
        setting = f"{shells} shells, {commands} of commands, {copies} of copies"
        self.add_result_rows("day", setting, runs, (
            ("echo p50 ms", "p50_us", 1e3, 3), ("echo p99 ms", "p99_us", 1e3, 3), ("echo p999 ms", "p999_us", 1e3, 3),
            ("echo max ms", "max_us", 1e3, 3), ("commands a second", "commands_per_s", 1, 1),
            ("command p99 ms", "command_p99_us", 1e3, 1), ("MB/s of copies", "mb_per_s", 1, 1),
            ("copy p99 ms", "copy_p99_us", 1e3, 1)))
        self.add_cpu_rows("day", setting, "s", 1, *runs)

    # ---- memory --------------------------------------------------------------

    def idle(self):
        """Sessions that rest after bytes both ways: resident memory and CPU each."""
        options, each = self.options, {}
        boxes = -(-options.idle_sessions // IDLE_EACH_SANDBOX)
        if self.options.ours == "ringgate":
            def make():
                server = self.new_ours()
                server.sandboxes = boxes
                server.region_args = [*server.region_args, "--procd-arg=--max-streams",
                                      f"--procd-arg={options.idle_sessions // boxes + 90}"]
                return server
        else:
            make = self.new_ours
        for which, new, count in (("ours", make, options.idle_sessions),
                                  ("sshd", self.new_sshd, options.idle_sshd_sessions)):
            need, free = count * IDLE_BYTES_EACH[which], meters.available_memory()
            if free < need:
                raise Trouble(f"{count} idle sessions need {need >> 20} MiB, {free >> 20} are available")
            with self.fresh(new) as target:
                each[which] = self.idle_each(target, count)
        peer, setting = next(iter(each["sshd"].values())), f"{options.idle_sessions} sessions"
        note = f"idle: of sshd {options.idle_sshd_sessions} sessions"
        for name, mine in each["ours"].items():
            for kind in ("rss", "pss"):
                self.report.add("idle", setting, f"{kind.upper()} in KB a session, {name}", [mine[kind]], [peer[kind]],
                                digits=1, note=note, raw=each)
            self.report.add("idle", setting, f"CPU ms a second of 1000 sessions, {name}", [mine["cpu"]], [peer["cpu"]],
                            note=note)

    def idle_each(self, target, count):
        options = self.options
        base = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        say(f"idle {target.name}: {count} sessions, each {options.idle_bytes} bytes both ways")
        argv = ringbench(options, target, "idle", "--count", str(count), "--size", str(options.idle_bytes),
                         "--parallel", str(options.idle_parallel), "--kex", PEER_KEX, "--cipher", options.ciphers[0])
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        try:
            line = process.stdout.readline()
            if not line.startswith("resting"):
                process.wait(10)
                result_of(argv, "", process.stderr.read(), process.returncode)
            time.sleep(options.rest / 2)
            cpu = {m.name: m.cpu() for m in target.meters}
            time.sleep(options.rest / 2)
            found = {}
            for m in target.meters:
                used = m.cpu() - cpu[m.name]
                now = m.memory(target.programs[m.name])
                found[m.name] = {kind: (now[kind] - base[m.name][kind]) / count / 1e3 for kind in ("rss", "pss")}
                found[m.name]["cpu"] = used / (options.rest / 2) / count * 1e6
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
    "files": lambda bench: bench.files(),
    "distance": lambda bench: bench.distance(),
    "day": lambda bench: bench.day(),
    "idle": lambda bench: bench.idle(),
}
