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
goals (bench/goals.py) were met. --quick is the whole suite with small sizes, in minutes: it shows
that all works, its figures are rough.

Python's standard library only, 3.11 or newer; root is needed for sshd to log in and for
cgroups, which count CPU exactly.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

import meters
from meters import Cgroups
import charts
from report import Report
from forwards import FORWARDS, Forwards
from loads import LOADS, Loads
from scenarios import SCENARIOS as COPIES, Altered, Bench as Copies
from servers import CHECKOUT, KEY_TYPES, Ringgate, Sshd, Trouble, make_identities, say


SCENARIOS = {**COPIES, **LOADS, **FORWARDS}
# Those that do not run unless they are named: ringbench measures the same better.
SUPERSEDED = ("echo", "echo-load", "connect", "idle-memory", "exec-down", "exec-up")
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr")
KEXES = ("curve25519-sha256", "mlkem768x25519-sha256", "ecdh-sha2-nistp256", "sntrup761x25519-sha512@openssh.com")
DISTANCE_PARTS = ("up", "scp up", "down", "scp down")
# Minutes instead of hours.
QUICK = {"repeat": 1, "ciphers": ",".join(CIPHERS[:1] + CIPHERS[2:3]), "size": 2**26, "memory_size": 2**28, "keystrokes": 300,
         "logins": 60, "commands": 300, "parallel_size": 2**24, "forward_connects": 60, "distance_size": 2**25, "round_trips": [100], "files": 500,
         "day_seconds": 4, "idle_sessions": 200, "idle_sshd_sessions": 40, "idle_bytes": 2**20, "rest": 6.0,
         "kexes": ",".join(KEXES[:2])}


class Bench(Copies, Loads, Forwards):
    """All kinds of scenarios on the same targets."""


def size_of(text):
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = text.strip().upper().removesuffix("IB").removesuffix("B")
    scale = units.get(text[-1:], 1)
    value = int(float(text.rstrip("KMG")) * scale)
    if value <= 0:
        raise ValueError
    return value


size_of.__name__ = "size (bytes, or with K, M, G as powers of 1024)"


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        prog="compare.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=__doc__.split("\n\n")[0].partition(" - ")[2] + "\n\n" +
        "\n\n".join(__doc__.split("\n\n")[1:3]),
        epilog="scenarios: " + ", ".join(SCENARIOS) +
        "\nexit status: 0, 1 when bytes were altered or a scenario failed, 2 when nothing could start")
    add = parser.add_argument
    add("--only", metavar="NAMES", help="comma-separated scenarios (default: all)")
    add("--ours", choices=("ringgate", "sshd"), default="ringgate",
        help="sshd compares it with itself: shows the noise of this machine")
    add("--bin", metavar="DIR", default=os.path.join(CHECKOUT, "zig-out", "bin"),
        help="folder with ringgate and procd (default: zig-out/bin of the checkout)")
    add("--port", type=int, default=0, help="the gateway's port (default: any free one)")
    add("--region-arg", metavar="ARG", action="append", default=[],
        help="one more argument for deploy/region.py; may be repeated (--region-arg=--set=K=V)")
    add("--quick", action="store_true", help="small sizes and few repetitions, where nothing else is said")
    add("--repeat", metavar="N", type=int, default=5, help="repetitions; medians are shown (default 5)")
    add("--ciphers", metavar="LIST", default=",".join(CIPHERS),
        help=f"for transfers, comma-separated (default {', '.join(CIPHERS)}); other scenarios take the first")
    add("--size", type=size_of, default=size_of("1G"), help="of a transfer (default 1G)")
    add("--memory-size", type=size_of, default=size_of("4G"),
        help="of a transfer of transfer-memory (default 4G)")
    add("--data", metavar="DIR", help="folder for files (default: /dev/shm where there is room)")
    add("--keystrokes", type=int, default=2000, help="of one repetition (default 2000)")
    add("--key-pause", type=float, default=0.002, help="seconds between them (default 0.002)")
    add("--kexes", metavar="LIST", default=",".join(KEXES), help=f"of logins (default {', '.join(KEXES)})")
    add("--key-types", metavar="LIST", default=",".join(KEY_TYPES),
        help=f"of user and host, in logins (default {', '.join(KEY_TYPES)})")
    add("--connects", type=int, default=200, help="logins of one repetition (default 200)")
    add("--connect-parallel", type=int, default=8, help="at once, in the second part (default 8)")
    add("--idle-sessions", type=int, default=5000, help="of idle (default 5000)")
    add("--idle-sshd-sessions", type=int, default=200, help="the same for sshd (default 200)")
    add("--idle-bytes", type=size_of, default=size_of("10M"), help="each way (default 10M)")
    add("--idle-parallel", type=int, default=8, help="sessions that move at once (default 8)")
    add("--idle-limit-s", type=float, default=300, help="for one session's bytes (default 300)")
    add("--logins", type=int, default=400, help="of logins, one repetition (default 400)")
    add("--commands", type=int, default=1000, help="of commands, one repetition (default 1000)")
    add("--key-interval-ms", type=int, default=2, help="of keys, between keystrokes (default 2)")
    add("--parallel", type=int, default=20, help="downloads of parallel (default 20)")
    add("--parallel-size", type=size_of, default=size_of("1G"), help="of each of them (default 1G)")
    add("--files", type=int, default=10000, help="of files (default 10000)")
    add("--file-size", type=size_of, default=4096, help="of each of them (default 4K)")
    add("--day-mix", metavar="S,C,B", default="50,4,2", help="of day: shells, commands, copies at once (default 50,4,2)")
    add("--day-seconds", type=int, default=20, help="of day (default 20)")
    add("--day-size", type=size_of, default=size_of("16M"), help="of a copy of day (default 16M)")
    add("--day-key-interval-ms", type=int, default=150, help="of day, between a shell's keystrokes (default 150)")
    add("--day-pause-ms", type=int, default=200, help="of day, after a command or a copy (default 200)")
    add("--distance-size", type=size_of, default=size_of("512M"), help="of distance (default 512M)")
    add("--distance-parts", metavar="LIST", default=",".join(DISTANCE_PARTS),
        help=f"of distance: by exec stream and by scp (default {','.join(DISTANCE_PARTS)})")
    add("--round-trips", type=lambda text: [int(word) for word in text.split(",")], default=[50, 100, 150],
        metavar="LIST", help="of distance, in ms (default 50,100,150)")
    add("--forward-connects", type=int, default=300, help="of forwards, one repetition (default 300)")
    add("--rest", type=float, default=40, help="seconds before memory is read (default 40)")
    add("--json", metavar="FILE", help="write all runs there")
    add("--out", metavar="DIR", help="write results.json, results.md and charts (SVG) there")
    if "--quick" in argv:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(argv)
    options.kexes, options.key_types = options.kexes.split(","), options.key_types.split(",")
    options.distance_parts = options.distance_parts.split(",")
    if not set(options.distance_parts) <= set(DISTANCE_PARTS):
        parser.error(f"--distance-parts: there are {', '.join(DISTANCE_PARTS)}")
    if not set(options.key_types) <= set(KEY_TYPES):
        parser.error(f"--key-types: there are {', '.join(KEY_TYPES)}")
    options.ciphers = [name for name in options.ciphers.split(",") if name]
    options.scenarios = options.only.split(",") if options.only else [
        name for name in SCENARIOS if name not in SUPERSEDED]
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    if options.repeat < 1 or not options.ciphers:
        parser.error("--repeat and --ciphers need at least one")
    return options


def free_bytes(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def data_folder(options):
    """Files in memory, where a disk does not slow anybody; room for source and copies."""
    need = 3 * options.size + 2**20
    if "parallel" in options.scenarios:
        need += options.parallel_size
    if "transfer-memory" in options.scenarios:
        need += options.memory_size
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
        "repeat": options.repeat,
    }


def run_scenario(bench, name):
    """True when it ended well. A server that died is started anew for the next one."""
    say(f"--- {name}")
    try:
        SCENARIOS[name](bench)
        return True
    except Altered as error:
        bench.report.fail(name, f"ALTERED: {error}")
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        bench.report.fail(name, str(error))
    say(f"{name} FAILED: {bench.report.failures[-1]['why']}")
    return False


def stop_on_signal(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(argv):
    options = parse_arguments(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
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
    try:
        bench = Bench(options, report, folder, new_ours, new_sshd)
        bench.identities = identities
        ours_server, sshd_server = new_ours(), new_sshd()
        bench.ours, bench.sshd = ours_server.start(), sshd_server.start()
        for target in (bench.ours, bench.sshd):
            agreed = target.negotiated(options.ciphers[0])
            report.agreed(target.name, agreed)
            say(f"{target.name}: {agreed}")
        # Memory last: those scenarios have servers of their own.
        is_memory = ("transfer-memory", "idle-memory", "idle")
        for name in [n for n in options.scenarios if n not in is_memory]:
            if not run_scenario(bench, name):
                status = 1
                bench.ours, bench.sshd = anew(ours_server, sshd_server, bench)
        ours_server.stop()
        sshd_server.stop()
        for name in [n for n in options.scenarios if n in is_memory]:
            if not run_scenario(bench, name):
                status = 1
    except Trouble as error:
        say(f"compare.py: {error}")
        return 2
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
    if options.out:
        write_all(options.out, report)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(report.as_json(), f, indent=1)
            f.write("\n")
    return status


def write_all(folder, report):
    os.makedirs(folder, exist_ok=True)
    found = report.as_json()
    for name, words in (("results.json", json.dumps(found, indent=1) + "\n"),
                        ("results.md", report.markdown() + "\n"), *charts.all_of(found)):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as f:
            f.write(words)
    say(f"results are in {folder}")


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
