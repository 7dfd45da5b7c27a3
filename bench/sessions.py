"""bench/sessions.py - logins, commands and terminals by ringbench."""

import contextlib
import subprocess
import threading
import time

from driver import PEER_KEX, in_background, load
from servers import Trouble, end_process

STORM_PARALLEL = 16
STORM_RATE = 40          # Half of what sshd can do on two cores: the same for both.
MANY_BESIDE = 20
HOST_KEYS = {"ed25519": "ssh-ed25519", "ecdsa": "ecdsa-sha2-nistp256", "rsa": "rsa-sha2-512"}


class Sessions:
    """Part of Bench: uses its options, targets and report."""

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
        """Echoes at rest, beside one and many scp, beside as many exec streams, in a storm of logins and beside some at a rate."""
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
                                   "--command", f"cat {self.source(options.beside_size)}"):
                    time.sleep(1)
                    return echo(target)
            self.keys_rows(f"beside {beside} exec stream{'s' if beside > 1 else ''}", by_exec)

        def in_a_storm(target):
            with in_background(options, target, "connect", "--count", "1000000", "--parallel",
                               str(STORM_PARALLEL), "--kex", PEER_KEX):
                return echo(target)
        self.keys_rows(f"in a storm of {STORM_PARALLEL} logins at once", in_a_storm)

        def in_steady_logins(target):
            with in_background(options, target, "connect", "--count", "1000000", "--parallel", "1000", "--rate",
                               str(STORM_RATE), "--kex", PEER_KEX):
                return echo(target)
        self.keys_rows(f"beside {STORM_RATE} logins a second", in_steady_logins)

    def keys_rows(self, setting, one_run):
        self.add_result_rows("keys", setting, self.run_in_turn(f"keys {setting}", one_run), (
            ("p50 ms", "p50_us", 1e3, 3), ("p99 ms", "p99_us", 1e3, 3), ("p999 ms", "p999_us", 1e3, 3),
            ("max ms", "max_us", 1e3, 3)))

    @contextlib.contextmanager
    def copies_beside(self, target, count):
        """So many scp downloads of the source, to nowhere, again and again until the body has ended."""
        source, cipher = self.source(self.options.beside_size), self.options.ciphers[0]
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
