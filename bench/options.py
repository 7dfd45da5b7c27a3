"""bench/options.py - compare.py's arguments; what stands here is the standard suite, plan.py has its repetitions."""

import argparse
import os

import plan
from plan import SCENARIOS
from servers import CHECKOUT, KEY_TYPES

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr")
KEXES = ("curve25519-sha256", "mlkem768x25519-sha256", "ecdh-sha2-nistp256", "sntrup761x25519-sha512@openssh.com")
DISTANCE_PARTS = ("up", "scp up", "down", "scp down")
STANDARD_DISTANCE = DISTANCE_PARTS[:3]  # The limit of both downwards is the client's.
# Minutes instead of hours.
QUICK = {"repeat": 1, "ciphers": ",".join(CIPHERS[:1] + CIPHERS[2:3]), "size": 2**26, "memory_size": 2**28, "keystrokes": 300,
         "beside_size": 2**26, "logins": 60, "commands": 300, "parallel_size": 2**24, "forward_size": 2**26, "forward_connects": 60,
         "distance_size": 2**25, "distance_down_size": 2**24, "round_trips": [100], "files": 500, "day_seconds": 4, "idle_sessions": 200,
         "idle_sshd_sessions": 40, "idle_bytes": 2**20, "rest": 6.0, "kexes": ",".join(KEXES[:2])}


def size_of(text):
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    text = text.strip().upper().removesuffix("IB").removesuffix("B")
    scale = units.get(text[-1:], 1)
    value = int(float(text.rstrip("KMG")) * scale)
    if value <= 0:
        raise ValueError
    return value


size_of.__name__ = "size (bytes, or with K, M, G as powers of 1024)"


def parse_arguments(argv, description=None):
    parser = argparse.ArgumentParser(
        prog="compare.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description=description,
        epilog="scenarios: " + ", ".join(SCENARIOS) +
        "\nexit status: 0, 1 when bytes were altered or a scenario failed, 2 when nothing could start, 130 when it was stopped;"
        "\nresults are written after each scenario, so those of a run that was cut off are there")
    add = parser.add_argument
    add("--plan", action="store_true", help="print what would run, and how long it would take; run nothing")
    add("--only", metavar="NAMES", help="comma-separated scenarios (default: all)")
    add("--ours", choices=("ringgate", "sshd"), default="ringgate",
        help="sshd compares it with itself: shows the noise of this machine")
    add("--bin", metavar="DIR", default=os.path.join(CHECKOUT, "zig-out", "bin"),
        help="folder with ringgate and procd (default: zig-out/bin of the checkout)")
    add("--port", type=int, default=0, help="the gateway's port (default: any free one)")
    add("--region-arg", metavar="ARG", action="append", default=[],
        help="one more argument for deploy/region.py; may be repeated (--region-arg=--set=K=V)")
    add("--quick", action="store_true", help="small sizes and few repetitions, where nothing else is said")
    add("--repeat", metavar="N", type=int, help="repetitions of all but transfer-memory and idle, which are always one; medians are "
        "shown (default: see --plan)")
    add("--ciphers", metavar="LIST", default=",".join(CIPHERS),
        help=f"for transfers, comma-separated (default {', '.join(CIPHERS)}); other scenarios take the first")
    add("--size", type=size_of, help="of a transfer (default 512M; 256M by ciphers of which no goal speaks)")
    add("--memory-size", type=size_of, default=size_of("4G"),
        help="of a transfer of transfer-memory (default 4G)")
    add("--data", metavar="DIR", help="folder for files (default: /dev/shm where there is room)")
    add("--keystrokes", type=int, default=2000, help="of one repetition (default 2000)")
    add("--beside-size", type=size_of, default=size_of("1G"), help="of the copies beside them (default 1G)")
    add("--kexes", metavar="LIST", default=",".join(KEXES), help=f"of logins (default {', '.join(KEXES)})")
    add("--key-types", metavar="LIST", default=",".join(KEY_TYPES),
        help=f"of user and host, in logins (default {', '.join(KEY_TYPES)})")
    add("--connect-parallel", type=int, default=8, help="of logins, at once (default 8)")
    add("--idle-sessions", type=int, default=5000, help="of idle (default 5000)")
    add("--idle-sshd-sessions", type=int, default=200, help="the same for sshd (default 200)")
    add("--idle-bytes", type=size_of, default=size_of("10M"), help="each way (default 10M)")
    add("--idle-parallel", type=int, default=8, help="sessions that move at once (default 8)")
    add("--logins", type=int, default=200, help="of logins, one repetition (default 200)")
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
    add("--distance-size", type=size_of, default=size_of("512M"), help="of distance, up (default 512M)")
    add("--distance-down-size", type=size_of, default=size_of("64M"), help="of distance, down (default 64M)")
    add("--distance-parts", metavar="LIST", default=",".join(STANDARD_DISTANCE),
        help=f"of distance, of {','.join(DISTANCE_PARTS)}: by exec stream and by scp (default {','.join(STANDARD_DISTANCE)})")
    add("--round-trips", type=lambda text: [int(word) for word in text.split(",")], default=[50, 100, 150],
        metavar="LIST", help="of distance, in ms (default 50,100,150)")
    add("--forward-size", type=size_of, default=size_of("512M"), help="of forwards (default 512M)")
    add("--forward-connects", type=int, default=200, help="of forwards, one repetition (default 200)")
    add("--rest", type=float, default=20, help="of idle, seconds before memory is read (default 20)")
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
    options.scenarios = list(dict.fromkeys(options.only.split(","))) if options.only else list(SCENARIOS)
    unknown = [name for name in options.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    # Those with servers of their own last.
    options.scenarios.sort(key=plan.ONCE.__contains__)
    if (options.repeat is not None and options.repeat < 1) or not options.ciphers:
        parser.error("--repeat and --ciphers need at least one")
    return options
