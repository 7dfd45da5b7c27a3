"""bench/memory.py - what a server keeps: growth in one long copy, and sessions that rest."""

import os
import subprocess
import time

import meters
from driver import LIMIT_S, PEER_KEX, result_of, ringbench
from measure import Altered, remove, run_client, sha256_of, transfer_limit_s
from servers import Trouble, end_process, say

IDLE_BYTES_EACH = {"ours": 2_000_000, "sshd": 6_000_000}  # Of all processes and the client, as seen; for a look before.
IDLE_EACH_SANDBOX = 4000  # procd's --max-streams ends at 4096.


class Memory:
    """Part of Bench: uses its options and report; has servers of its own, which have moved nothing yet."""

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
                         "--parallel", str(options.idle_parallel), "--kex", PEER_KEX, "--cipher", options.ciphers[0],
                         "--limit", str(LIMIT_S + count))
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
