"""bench/scenarios.py - what is measured, against two targets in turn.

Each scenario is a function of a Bench that adds rows to its report. Transfers are
verified by SHA-256 outside the timed part; one that was altered raises Altered.
"""

import concurrent.futures
import contextlib
import gc
import hashlib
import os
import select
import signal
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


class Bench:
    """Options, the two targets, the folder for data, and the report."""

    def __init__(self, options, report, folder, new_ours, new_sshd):
        self.options = options
        self.report = report
        self.folder = folder
        self.new_ours = new_ours
        self.new_sshd = new_sshd
        self.ours = None
        self.sshd = None
        self.hashes = {}
        self.identities = {}  # Of each type of key: loads.py.

    def path(self, name):
        return os.path.join(self.folder, name)

    def in_turn(self, repeat=None):
        """(repetition, target): each repetition has both, and who is first changes."""
        for i in range(self.options.repeat if repeat is None else repeat):
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

    def check(self, path, source, what):
        if os.path.getsize(path) != os.path.getsize(source):
            raise Altered(f"{what}: {os.path.getsize(path)} bytes arrived of "
                          f"{os.path.getsize(source)}")
        if sha256_of(path) != self.hashes[source]:
            raise Altered(f"{what}: SHA-256 differs")

    # ---- transfers -----------------------------------------------------------

    def transfer(self, name, size, one_run, verify):
        """one_run(target, cipher) -> CPU of the client; verify(target, cipher)."""
        limit = max(1, self.options.repeat)
        for cipher in self.options.ciphers:
            runs = {self.ours.name: [], self.sshd.name: []}
            for i, target in self.in_turn(limit):
                what = f"{name} {cipher} {target.name} {i + 1}/{limit}"
                result = measured(target, lambda: one_run(target, cipher), size)
                verify(target, cipher, what, i)
                runs[target.name].append(result)
                say(f"{what}: {size / 1e6 / result.seconds:.0f} MB/s, CPU s/GB " +
                    ", ".join(f"{key} {value / (size / GB):.2f}"
                              for key, value in result.cpu.items()) +
                    f", client {result.client_cpu / (size / GB):.2f}, "
                    f"others' {result.other_cpu:.2f} s")
            self.add_transfer_rows(name, cipher, size, runs)

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

    def copy(self, name, by_sftp, is_up):
        size = self.options.size
        source, limit = self.source(size), transfer_limit_s(size)
        target_path, batch = self.path("arrived"), self.path("batch")

        def one_run(target, cipher):
            if by_sftp:
                with open(batch, "w", encoding="utf-8") as f:
                    f.write(f"{'put' if is_up else 'get'} {source} {target_path}\n")
                return run_client(target.sftp(batch, cipher), limit)
            if is_up:
                return run_client(target.scp(source, target.remote(target_path), cipher), limit)
            return run_client(target.scp(target.remote(source), target_path, cipher), limit)

        def verify(_target, _cipher, what, _i):
            self.check(target_path, source, what)
            remove(target_path)

        remove(target_path)
        self.transfer(name, size, one_run, verify)

    def exec_stream(self, name, is_up):
        size = self.options.size
        source, limit = self.source(size), transfer_limit_s(size)
        arrived = self.path("arrived")

        def run(target, cipher, command, read, write):
            with open(read, "rb") as stdin, open(write, "wb") as stdout:
                return run_client(target.ssh(command, cipher=cipher), limit, stdin, stdout)

        def one_run(target, cipher):
            if is_up:
                return run(target, cipher, "cat >/dev/null", source, "/dev/null")
            return run(target, cipher, f"cat {source}", "/dev/null", "/dev/null")

        def verify(target, cipher, what, i):
            """The timed runs end in /dev/null; one more of each target is kept and checked."""
            if i != 0:
                return
            if is_up:
                run(target, cipher, f"cat >{arrived}", source, "/dev/null")
            else:
                run(target, cipher, f"cat {source}", "/dev/null", arrived)
            self.check(arrived, source, what)
            remove(arrived)

        self.transfer(name, size, one_run, verify)

    # ---- memory --------------------------------------------------------------

    @contextlib.contextmanager
    def fresh(self, make):
        """A server that has moved nothing yet but one login."""
        server = make()
        try:
            yield server.start()
        finally:
            server.stop()

    def transfer_memory(self):
        size = self.options.memory_size
        for direction in ("down", "up"):
            growth = {}
            for which, make in (("ours", self.new_ours), ("sshd", self.new_sshd)):
                with self.fresh(make) as target:
                    growth[which] = self.growth_of(target, direction, size)
            raw = dict(growth)
            for meter in growth["ours"]:
                peer = next(iter(growth["sshd"].values()))
                self.report.add(
                    f"transfer-memory {direction}", self.options.ciphers[0],
                    f"RSS growth in MiB, {meter}", [growth["ours"][meter]["rss"] / 2**20],
                    [peer["rss"] / 2**20], digits=1, raw=raw)

    def growth_of(self, target, direction, size):
        """The growth over rest of one scp, a session's own processes included."""
        source, arrived = self.path("sparse"), self.path("arrived")
        cipher = self.options.ciphers[0]
        with open(source, "wb") as f:
            f.truncate(size)
        remove(arrived)
        target.wait_for_rest()
        base = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        main = target.meters[0].pid
        meters.forget_peak_rss(main)
        main_base = meters.rss_of(main)
        say(f"transfer-memory {direction} {target.name}: {size} bytes")
        argv = (target.scp(source, target.remote(arrived), cipher) if direction == "up"
                else target.scp(target.remote(source), arrived, cipher))
        with meters.Sampler(target.meters, target.programs) as sampler:
            start = time.perf_counter()
            run_client(argv, transfer_limit_s(size))
            seconds = time.perf_counter() - start
        if os.path.getsize(arrived) != size:
            raise Altered(f"transfer-memory {direction} {target.name}: "
                          f"{os.path.getsize(arrived)} bytes arrived of {size}")
        if sha256_of(arrived) != sha256_of(source):
            raise Altered(f"transfer-memory {direction} {target.name}: SHA-256 differs")
        remove(arrived)
        remove(source)
        result = {}
        for meter in target.meters:
            peak = sampler.peak[meter.name]
            result[meter.name] = {kind: peak[kind] - base[meter.name][kind]
                                  for kind in ("rss", "pss")}
            result[meter.name].update(base_rss=base[meter.name]["rss"],
                                      samples=sampler.samples, seconds=round(seconds, 2))
        # The kernel's own record misses no moment between two looks; sessions of sshd
        # and procd are other processes, so there the samples count.
        first = result[target.meters[0].name]
        first["peak_by_kernel"] = meters.peak_rss_of(main) - main_base
        first["rss"] = max(first["rss"], first["peak_by_kernel"])
        say("  growth " + ", ".join(f"{name}: RSS {value['rss'] / 2**20:.1f} MiB, "
                                    f"PSS {value['pss'] / 2**20:.1f} MiB"
                                    for name, value in result.items()))
        return result

    def idle_memory(self):
        results = {}
        for which, make, count in (("ours", self.new_ours, self.options.idle_sessions),
                                   ("sshd", self.new_sshd, self.options.idle_sshd_sessions)):
            with self.fresh(make) as target:
                results[which] = self.idle_of(target, count)
        ours, peer = results["ours"], next(iter(results["sshd"]["meters"].values()))
        for name, mine in ours["meters"].items():
            for kind in ("rss", "pss"):
                self.report.add(
                    "idle-memory", f"{ours['sessions']} sessions",
                    f"{kind.upper()} in KiB a session, {name}", [mine[kind] / 1024],
                    [peer[kind] / 1024], digits=1, raw=results,
                    note=f"sshd: {results['sshd']['sessions']} sessions")

    def idle_of(self, target, count):
        size, options = self.options.idle_bytes, self.options
        need = count * 10 * 2**20
        free = meters.available_memory()
        if free < need:
            raise Trouble(f"{count} clients need {need >> 20} MiB, {free >> 20} are available")
        command = (f"head -c {size} /dev/zero; head -c {size} >/dev/null; printf R; "
                   "exec cat >/dev/null")
        clients, lock = [], threading.Lock()
        base = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        say(f"idle-memory {target.name}: {count} sessions, each {size} bytes both ways")

        def one(_i):
            client = IdleClient(target.ssh(command, cipher=options.ciphers[0]))
            with lock:
                clients.append(client)
            client.move(size, options.idle_limit_s)
            with lock:
                if len(clients) % 100 == 0:
                    say(f"  {len(clients)} of {count}")

        try:
            with concurrent.futures.ThreadPoolExecutor(options.idle_parallel) as pool:
                done = [pool.submit(one, i) for i in range(count)]
                try:
                    for future in done:
                        future.result()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
            busy = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
            say(f"  {options.rest} s of rest")
            time.sleep(options.rest)
            dead = sum(client.process.poll() is not None for client in clients)
            if dead:
                raise Trouble(f"{dead} of {count} sessions of {target.name} did not stay")
            idle = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        finally:
            for client in clients:
                client.hang_up()
            for client in clients:
                client.end()
        result = {"sessions": count, "bytes_each_way": size, "meters": {}}
        for m in target.meters:
            result["meters"][m.name] = {
                kind: (idle[m.name][kind] - base[m.name][kind]) / count
                for kind in ("rss", "pss", "private")}
            result["meters"][m.name].update(base=base[m.name], moved=busy[m.name],
                                            idle=idle[m.name])
            say(f"  {m.name}: {result['meters'][m.name]['rss'] / 1024:.1f} KiB RSS, "
                f"{result['meters'][m.name]['pss'] / 1024:.1f} KiB PSS a session")
        target.wait_for_rest()
        after = {m.name: m.memory(target.programs[m.name]) for m in target.meters}
        for name, value in result["meters"].items():
            value["after_sessions_ended"] = after[name]
        return result

    # ---- echo ----------------------------------------------------------------

    def echo(self, name, with_load):
        options = self.options
        found = {self.ours.name: [], self.sshd.name: []}
        with contextlib.ExitStack() as stack:
            typist = {target.name: stack.enter_context(Typist(target))
                      for target in (self.ours, self.sshd)}
            for session in typist.values():
                session.type(100, options.key_pause)
            for i, target in self.in_turn():
                load = None
                if with_load:
                    load = Load(target, self.source(options.size), self.path("load"),
                                options.ciphers[0], transfer_limit_s(options.size))
                try:
                    times = typist[target.name].type(options.keystrokes, options.key_pause)
                finally:
                    moved = load.stop() if load else None
                times.sort()
                figures = {"p50": times[len(times) // 2] / 1e6,
                           "p99": times[min(len(times) - 1, len(times) * 99 // 100)] / 1e6,
                           "max": times[-1] / 1e6}
                if load:
                    figures["load MB/s"] = moved
                found[target.name].append(figures)
                say(f"{name} {target.name} {i + 1}/{options.repeat}: " +
                    ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
        for key in found[self.ours.name][0]:
            self.report.add(
                name, "", key if key.startswith("load") else f"{key} ms",
                [run[key] for run in found[self.ours.name]],
                [run[key] for run in found[self.sshd.name]], raw=found)

    # ---- connections ---------------------------------------------------------

    def connect(self):
        count = self.options.connects
        for parallel in (1, self.options.connect_parallel):
            name = f"connect, {parallel} at once" if parallel > 1 else "connect, one by one"
            runs = {self.ours.name: [], self.sshd.name: []}
            for i, target in self.in_turn():
                def work(target=target, parallel=parallel):
                    argv = target.ssh("true")
                    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
                        done = [pool.submit(run_client, argv, 60) for _ in range(count)]
                        return sum(future.result() for future in done)
                result = measured(target, work, 0, count)
                runs[target.name].append(result)
                say(f"{name} {target.name} {i + 1}/{self.options.repeat}: "
                    f"{count / result.seconds:.0f}/s, CPU ms " +
                    ", ".join(f"{key} {value / count * 1e3:.2f}"
                              for key, value in result.cpu.items()) +
                    f", others' {result.other_cpu:.2f} s")
            self.add_connect_rows(name, count, runs)

    def add_connect_rows(self, name, count, runs):
        ours, sshd = runs[self.ours.name], runs[self.sshd.name]
        raw = {key: [dict(run.as_json(), connections=count) for run in value]
               for key, value in runs.items()}
        add = self.report.add
        add(name, "", "connections/s", [count / run.seconds for run in ours],
            [count / run.seconds for run in sshd], digits=0, raw=raw)
        peer = [sum(run.cpu.values()) / count * 1e3 for run in sshd]
        for meter in self.ours.meters:
            add(name, "", f"CPU ms each, {meter.name}",
                [run.cpu[meter.name] / count * 1e3 for run in ours], peer)
        if len(self.ours.meters) > 1:
            add(name, "", "CPU ms each, servers together",
                [sum(run.cpu.values()) / count * 1e3 for run in ours], peer)
        for run in ours + sshd:
            self.report.see_other_cpu(run.other_cpu, run.machine_cpu)


class IdleClient:
    """An ssh that has moved bytes both ways and then stays, its stdin open."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, bufsize=0)

    def move(self, size, limit_s):
        timer = threading.Timer(limit_s, self.process.kill)
        timer.start()
        try:
            left, zeros = size, bytes(1 << 16)
            while left > 0:
                data = os.read(self.process.stdout.fileno(), min(left, 1 << 16))
                if not data:
                    raise Trouble("an idle session ended while it sent")
                left -= len(data)
            left = size
            while left > 0:
                left -= os.write(self.process.stdin.fileno(), zeros[:min(left, len(zeros))])
            mark = os.read(self.process.stdout.fileno(), 1)
            if mark != b"R":
                raise Trouble(f"an idle session said {mark!r} when it had received all")
        except BrokenPipeError:
            raise Trouble("an idle session ended while it received") from None
        finally:
            timer.cancel()

    def hang_up(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self):
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Typist:
    """A session with a terminal whose program gives every byte back."""

    LIMIT_S = 30

    def __init__(self, target):
        self.target = target
        self.process = subprocess.Popen(
            target.ssh("stty raw -echo; printf READY; exec cat", options=("-tt",)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        self.poll = select.poll()
        self.poll.register(self.process.stdout.fileno(), select.POLLIN)

    def __enter__(self):
        seen = b""
        try:
            while not seen.endswith(b"READY"):
                seen += self.read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def read(self):
        if not self.poll.poll(self.LIMIT_S * 1000):
            raise Trouble(f"no echo from {self.target.name} within {self.LIMIT_S} s")
        data = os.read(self.process.stdout.fileno(), 4096)
        if not data:
            raise Trouble(f"the terminal session of {self.target.name} ended")
        return data

    def type(self, count, pause_s):
        """Nanoseconds from each write until its echo was read."""
        times = []
        fd = self.process.stdin.fileno()
        gc.collect()
        gc.disable()
        try:
            for i in range(count):
                key = bytes((97 + i % 26,))
                start = time.perf_counter_ns()
                os.write(fd, key)
                back = self.read()
                times.append(time.perf_counter_ns() - start)
                if back != key:
                    raise Altered(f"echo of {self.target.name}: {back!r} came back for {key!r}")
                time.sleep(pause_s)
        finally:
            gc.enable()
        return times


class Load:
    """scp downloads, one after the other, until it is stopped."""

    def __init__(self, target, source, arrived, cipher, limit_s):
        self.argv = target.scp(target.remote(source), arrived, cipher)
        self.size = os.path.getsize(source)
        self.arrived = arrived
        self.limit_s = limit_s
        self.error = None
        self.process = None
        self.bytes = 0
        self.start_s = time.monotonic()
        self.is_stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        deadline = self.start_s + 20
        while not os.path.exists(arrived) or os.path.getsize(arrived) == 0:
            if self.error or time.monotonic() > deadline:
                self.stop()
                raise Trouble(f"the load did not start: {self.error}")
            time.sleep(0.01)

    def run(self):
        while not self.is_stopped.is_set():
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                status = self.process.wait(self.limit_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                status = "over its time"
            if self.is_stopped.is_set():
                return
            if status != 0 or os.path.getsize(self.arrived) != self.size:
                self.error = f"scp: {status}"
                return
            self.bytes += self.size

    def stop(self):
        """MB/s that it moved; whoever echoes later is not disturbed by it."""
        seconds = time.monotonic() - self.start_s
        self.is_stopped.set()
        size = self.bytes
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(OSError):
                size += os.path.getsize(self.arrived)
            self.process.terminate()  # scp takes its ssh with it.
        self.thread.join()
        remove(self.arrived)
        if self.error:
            raise Trouble(f"the load failed: {self.error}")
        time.sleep(0.3)
        return size / 1e6 / seconds


SCENARIOS = {
    "scp-down": lambda bench: bench.copy("scp-down", False, False),
    "scp-up": lambda bench: bench.copy("scp-up", False, True),
    "sftp-down": lambda bench: bench.copy("sftp-down", True, False),
    "sftp-up": lambda bench: bench.copy("sftp-up", True, True),
    "exec-down": lambda bench: bench.exec_stream("exec-down", False),
    "exec-up": lambda bench: bench.exec_stream("exec-up", True),
    "echo": lambda bench: bench.echo("echo", False),
    "echo-load": lambda bench: bench.echo("echo-load", True),
    "connect": lambda bench: bench.connect(),
    "transfer-memory": lambda bench: bench.transfer_memory(),
    "idle-memory": lambda bench: bench.idle_memory(),
}
