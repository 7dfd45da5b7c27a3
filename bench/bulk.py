"""bench/bulk.py - bytes by ringbench: exec streams, many at once, small files, over a distance."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import time

import meters
from driver import load, long_way
from measure import Altered, measured, remove, run_client, sha256_of, transfer_limit_s
from plan import transfer_of
from servers import say


class Bulk:
    """Part of Bench: uses its options, targets and report."""

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
        for cipher in self.options.ciphers:
            size, repeat = transfer_of(self.options, cipher)
            for way in ("down", "up"):
                runs = self.run_in_turn(f"stream {way} {cipher}", lambda target, way=way, cipher=cipher, size=size: self.stream(
                    target, way, cipher, size), repeat)
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
            say(f"files {way}, {tool} -r {target.name} {i + 1}/{self.repeat}: {count / how.seconds:.0f}/s")
        name, runs = f"files {way}, {tool} -r", (found[self.ours.name], found[self.sshd.name])
        self.report.add(name, setting, "files a second", *([count / how.seconds for _, how in side] for side in runs),
                        digits=0)
        self.add_cpu_rows(name, setting, "ms a file", count / 1e3, *runs)

    # ---- distance ------------------------------------------------------------

    def distance(self):
        """Uploads and downloads over a long way, by exec stream and by scp."""
        options = self.options
        sizes = {"up": options.distance_size, "down": options.distance_down_size}
        for round_trip in options.round_trips:
            with contextlib.ExitStack() as stack:
                address = {t.name: stack.enter_context(long_way(
                    options, t, round_trip // 2, self.path(f"relay-{i}")))
                    for i, t in enumerate((self.ours, self.sshd))}
                for part in options.distance_parts:
                    way = part.removeprefix("scp ")
                    if part != way:
                        self.far_scp(way, round_trip, address, sizes[way])
                        continue
                    more = ("--path", self.path("far")) if way == "up" else ("--keep", "--path", self.pattern(sizes[way]))

                    def one_run(target, way=way, more=more):
                        return load(options, target, way, "--size", str(sizes[way]), *more, "--cipher", options.ciphers[0],
                                    address=address[target.name]), None
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
            say(f"scp {way} at {round_trip} ms {target.name} {i + 1}/{self.repeat}: "
                f"{rates[target.name][-1]:.1f} MB/s")
        self.report.add(f"distance, scp {way}", f"{round_trip} ms round trip", "MB/s", rates[self.ours.name],
                        rates[self.sshd.name], digits=1)
