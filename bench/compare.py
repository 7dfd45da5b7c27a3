#!/usr/bin/env python3
"""bench/compare.py - ringgate beside the machine's own OpenSSH sshd, in one run.

Starts a region (deploy/region.py) and a private sshd with internal-sftp, both on
loopback, and drives both with the machine's OpenSSH clients in turn: each repetition
has both, who is first changes. Prints a Markdown table of medians; --json keeps every
single run. Clients and servers share this machine, so only ratios mean something
elsewhere.

What is counted: MB/s is the file's size over the client's whole life, login included.
CPU is that of all processes of a server while the client lived and until its session's
processes were gone, commands and login included. GB is 1e9 bytes. The list at the end says which
goals (bench/goals.py) were met. --plan says what would run and how long it takes; --quick is the
whole suite with small sizes, in minutes: it shows that all works, its figures are rough.

Python's standard library only, 3.11 or newer; root is needed for sshd to log in and for
cgroups, which count CPU exactly.
"""

import datetime
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import meters
import plan
from bulk import Bulk
from copies import Copies
from driver import Driver
from forwards import Forwards
from measure import Base
from memory import Memory
from meters import Cgroups
from options import parse_arguments
from report import Report, write
from run import run_all
from servers import CHECKOUT, Ringgate, Sshd, Trouble, make_identities, say
from sessions import Sessions


class Bench(Base, Copies, Driver, Sessions, Bulk, Forwards, Memory):
    """All kinds of scenarios on the same targets; the method scp_down is scp-down."""


def free_bytes(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def data_folder(options):
    """Files in memory, where a disk does not slow anybody; room for source and copies."""
    sizes = {plan.transfer_of(options, cipher)[0] for cipher in options.ciphers}
    need = 2 * sum(sizes) + max(sizes) + 2**20
    for name, size in (("parallel", options.parallel_size), ("keys", options.beside_size), ("distance", options.distance_size),
                       ("forwards", options.forward_size), ("transfer-memory", options.memory_size)):
        need += size if name in options.scenarios else 0
    if options.data:
        os.makedirs(options.data, exist_ok=True)
        return tempfile.mkdtemp(prefix="ringgate-bench.", dir=options.data), None
    if os.path.isdir("/dev/shm") and free_bytes("/dev/shm") > need \
            and meters.available_memory() > need + 2 * 2**30:
        return tempfile.mkdtemp(prefix="ringgate-bench.", dir="/dev/shm"), None
    folder = tempfile.mkdtemp(prefix="ringgate-bench.", dir="/var/tmp")
    return folder, "files are on a disk: /dev/shm or the memory is too small"


def output_of(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip()


def about_this_run(options, argv, cgroups, folder):
    cpu = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    ringgate = os.path.join(options.bin, "ringgate")
    version = output_of(ringgate, "--version") if options.ours == "ringgate" else "sshd"
    dirty = output_of("git", "-C", CHECKOUT, "status", "--porcelain", "--untracked-files=no")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["bench/compare.py", *argv]),
        "cpu": f"{os.cpu_count()} × {cpu or platform.machine()}",
        "kernel": platform.release(),
        "openssh": output_of("ssh", "-V"),
        "ours": version,
        "commit": output_of("git", "-C", CHECKOUT, "rev-parse", "--short", "HEAD") +
                  (" with changes" if dirty else ""),
        "files": "in memory" if folder.startswith("/dev/shm/") else "on a disk",
        "cpu_by": "cgroup v2" if cgroups.base else f"process tree ({cgroups.why_not})",
        "load_average_before": os.getloadavg(),
        "seconds": {},
    }


def stop_on_signal(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv):
    options = parse_arguments(argv, "\n\n".join([__doc__.partition(" - ")[2].split("\n\n")[0], *__doc__.split("\n\n")[1:3]]))
    if options.plan:
        print(plan.table(options, options.scenarios))
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # As nohup has it.
            signal.signal(number, stop_on_signal)
    for tool in ("ssh", "scp", "sftp", "ssh-keygen"):
        if shutil.which(tool) is None:
            say(f"compare.py: no {tool} on this machine")
            return 2
    cgroups = Cgroups()
    folder, note = data_folder(options)
    state = tempfile.mkdtemp(prefix="ringgate-bench-state.")
    serial = 0
    servers = []

    identities = make_identities(state)
    identity = identities["ed25519"]

    def new_sshd(name="sshd"):
        nonlocal serial
        serial += 1
        server = Sshd(name, os.path.join(state, f"sshd-{serial}"), identity, cgroups)
        servers.append(server)
        return server

    def new_ours():
        nonlocal serial
        if options.ours == "sshd":
            return new_sshd("sshd again")
        serial += 1
        server = Ringgate(os.path.join(state, f"region-{serial}"), identity, cgroups,
                          options.bin, options.port, options.region_arg)
        servers.append(server)
        return server

    status = 0
    report = Report(options.ours if options.ours == "ringgate" else "sshd again", "sshd",
                    about_this_run(options, argv, cgroups, folder), note)
    report.waiting = list(options.scenarios)
    try:
        bench = Bench(options, report, folder, new_ours, new_sshd)
        bench.identities = identities
        ours_server, sshd_server = new_ours(), new_sshd()
        bench.ours, bench.sshd = ours_server.start(), sshd_server.start()
        for target in (bench.ours, bench.sshd):
            agreed = target.negotiated(options.ciphers[0])
            report.agreed(target.name, agreed)
            say(f"{target.name}: {agreed}")

        def stop_servers():
            ours_server.stop()
            sshd_server.stop()

        def are_well():
            bench.ours, bench.sshd = anew(ours_server, sshd_server, bench)

        bench.stop_servers = stop_servers
        status = run_all(bench, lambda: write(report, options.out, options.json), are_well)
    except Trouble as error:
        say(f"compare.py: {error}")
        if not report.rows and not report.failures:
            return 2
        report.fail("servers", str(error))
        status = 1
    except KeyboardInterrupt:
        say("compare.py: stopped")
        status = 130
    finally:
        for server in servers:
            server.stop()
        cgroups.remove()
        shutil.rmtree(folder, ignore_errors=True)
        if status == 0:
            shutil.rmtree(state, ignore_errors=True)
        else:
            say(f"logs and keys are left in {state}")
    print(report.markdown())
    write(report, options.out, options.json)
    if options.out:
        say(f"results are in {options.out}")
    return status


def anew(ours_server, sshd_server, bench):
    """The same targets if they still log in, else new processes in the same objects."""
    targets = []
    for server, target in ((ours_server, bench.ours), (sshd_server, bench.sshd)):
        try:
            target.warm_up()
        except (Trouble, subprocess.SubprocessError):
            say(f"{target.name} does not answer any more and is started anew")
            server.stop()
            server.folder += "+"
            target = server.start()
        targets.append(target)
    return targets


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
