"""bench/driver.py - runs ringbench: many sessions from one core, against two targets in turn.

ringbench compares every byte that it moves and fails where one differs; that fails the scenario.
"""

import contextlib
import json
import os
import subprocess
import tempfile

from measure import Altered, measured
from servers import Trouble, end_process, say, start_server, wait_for

START_S = 20
LIMIT_S = 600  # A run that hangs is not to cost the whole suite its time.
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
    """A load that goes on while the body runs; it is ended by its pid. One that failed meanwhile was none."""
    argv = ringbench(options, target, scenario, *more)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            yield process
            status = process.poll()
        finally:
            end_process(process)
            target.wait_for_rest()  # The next one is not to run beside its end.
        errors.seek(0)
        words = errors.read().strip()[-300:]
        if status is not None or words:
            raise Trouble(f"the load beside it {'failed' if words else 'ended early'}: {words}")


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



def kept(runs):
    """ringbench's results for the report's JSON."""
    return {"ours": [result for result, _ in runs[0]], "peer": [result for result, _ in runs[1]]}


class Driver:
    """Part of Bench: uses its options, targets and report."""

    def run_in_turn(self, name, one_run, repeat=None):
        """one_run(target) gives (ringbench's result, Measured or None); (ours, the peer's) of all repetitions."""
        repeat = repeat or self.repeat
        found = {self.ours.name: [], self.sshd.name: []}
        for i, target in self.in_turn(repeat):
            result, how = one_run(target)
            found[target.name].append((result, how))
            figures = {key: result[key] for key in ("per_s", "mb_per_s", "p50_us", "p99_us", "max_us")
                       if result.get(key)}
            say(f"{name} {target.name} {i + 1}/{repeat}: {figures} "
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
