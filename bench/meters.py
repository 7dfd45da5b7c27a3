"""bench/meters.py - who used how much CPU and memory.

A Meter belongs to one program and all its descendants. CPU is counted by a cgroup of
its own (version 2, which needs root): exact, and it keeps what processes that ended
have used, adopted ones too. Without one it is the sum over the living tree of
utime + stime + cutime + cstime, in ticks of 10 ms, and misses orphans that init adopted.

All CPU is in seconds, all memory in bytes.
"""

import os
import threading
import time

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def stat_fields(pid):
    """Fields of /proc/PID/stat from the third (state) on, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].split()
    except OSError:
        return None


def tree_of(*roots):
    """They and their living descendants (zombies too: they still hold their CPU)."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(name)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def rss_of(pid):
    try:
        with open(f"/proc/{pid}/statm", "rb") as f:
            return int(f.read().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return 0


def rollup_of(pid):
    """{'Rss': bytes, 'Pss': ..., 'Private_Dirty': ...}, empty when pid is gone."""
    result = {}
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                words = line.split()
                if len(words) == 3 and words[2] == "kB":
                    result[words[0].rstrip(":")] = int(words[1]) * 1024
    except OSError:
        pass
    return result


def peak_rss_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def forget_peak_rss(pid):
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5\n")


def available_memory():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if "MemAvailable" in line)


def machine_busy():
    """CPU seconds that this machine has worked since its start."""
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(word) for word in f.readline().split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) * TICK_S


class Cgroups:
    """A folder for our cgroups, or nothing where that is not allowed."""

    def __init__(self):
        self.base = None
        self.why_not = None
        try:
            with open("/proc/self/mounts", encoding="utf-8") as f:
                mounts = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
            with open("/proc/self/cgroup", encoding="utf-8") as f:
                own = [line.strip()[3:] for line in f if line.startswith("0::")]
            if not mounts or not own:
                self.why_not = "no cgroup v2 here"
                return
            base = f"{mounts[0]}{own[0].rstrip('/')}/ringgate-bench-{os.getpid()}"
            os.mkdir(base)
            self.base = base
            probe = self.make("probe")
            with open(os.path.join(probe, "cpu.stat"), encoding="ascii") as f:
                if "usage_usec" not in f.read():
                    self.why_not = "its cgroups do not count CPU"
            os.rmdir(probe)
        except OSError as error:
            self.why_not = f"cgroup v2: {error.strerror}"
        if self.why_not:
            self.remove()
            self.base = None

    def make(self, name):
        path = os.path.join(self.base, name)
        os.mkdir(path)
        return path

    def remove(self):
        """Empty once the servers have ended; what was moved may need a moment."""
        if self.base is None:
            return
        deadline = time.monotonic() + 3
        while True:
            try:
                for entry in os.scandir(self.base):
                    if entry.is_dir():
                        os.rmdir(entry.path)
                os.rmdir(self.base)
                return
            except OSError:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.05)


class Meter:
    """Programs and their descendants; moved into a cgroup when there is one."""

    serial = 0

    def __init__(self, name, roots, cgroups):
        self.name = name
        self.roots = roots
        self.pid = roots[0]
        self.group = None
        if cgroups.base is not None:
            Meter.serial += 1
            group = cgroups.make(f"{name}-{Meter.serial}")
            # A child made between the look and the move would stay outside: look again.
            for _ in range(3):
                for member in self.tree():
                    try:
                        with open(f"{group}/cgroup.procs", "w", encoding="ascii") as f:
                            f.write(str(member))
                    except OSError:
                        pass  # It has just ended.
            self.group = group

    def pids(self):
        if self.group is None:
            return self.tree()
        try:
            with open(f"{self.group}/cgroup.procs", encoding="ascii") as f:
                return [int(line) for line in f]
        except OSError:
            return []

    def cpu_by_cgroup(self):
        with open(f"{self.group}/cpu.stat", encoding="ascii") as f:
            for line in f:
                if line.startswith("usage_usec"):
                    return int(line.split()[1]) / 1e6
        raise RuntimeError(f"{self.group}/cpu.stat has no usage_usec")

    def cpu_by_tree(self):
        total = 0
        for pid in self.tree():
            fields = stat_fields(pid)
            if fields:
                total += sum(int(word) for word in fields[11:15])
        return total * TICK_S

    def tree(self):
        return tree_of(*self.roots)

    def cpu(self):
        return self.cpu_by_tree() if self.group is None else self.cpu_by_cgroup()

    def rss(self):
        return sum(rss_of(pid) for pid in self.pids())

    def memory(self, only=None):
        """Sums of RSS, PSS and private memory; only: names of programs to count."""
        total = {"rss": 0, "pss": 0, "private": 0, "processes": 0}
        for pid in self.pids():
            if only is not None and program_of(pid) not in only:
                continue
            rollup = rollup_of(pid)
            if not rollup:
                continue
            total["rss"] += rollup["Rss"]
            total["pss"] += rollup["Pss"]
            total["private"] += rollup["Private_Clean"] + rollup["Private_Dirty"]
            total["processes"] += 1
        return total


def program_of(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


class Sampler:
    """The highest RSS and PSS of meters, looked at every period_s."""

    def __init__(self, meters, programs, period_s=0.05):
        self.meters = meters
        self.programs = programs
        self.period_s = period_s
        self.peak = {meter.name: {"rss": 0, "pss": 0} for meter in meters}
        self.samples = 0
        self.is_stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.is_stopped.is_set():
            for meter in self.meters:
                now = meter.memory(self.programs[meter.name])
                peak = self.peak[meter.name]
                for kind in peak:
                    peak[kind] = max(peak[kind], now[kind])
            self.samples += 1
            self.is_stopped.wait(self.period_s)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_stopped.set()
        self.thread.join()
