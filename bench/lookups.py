#!/usr/bin/env python3
"""bench/lookups.py - what it costs a login to find out who a key is and where the sandbox is.

    bench/lookups.py [--bin DIR] [--keys N] [--repeat N] [--parallel N]

Starts whole regions (deploy/region.py) on loopback: one whose own cache holds every key (L1), one whose own cache is far too small and which
has a Redis, and one with neither, so that each login asks the control plane. ringbench logs in with N keys in turn. The same
logins, the same machine: what differs is where the answer came from.

Prints a Markdown table of medians. Root is not needed; redis-server is.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from servers import CHECKOUT, Trouble, end_process, say, start_server, tail_of, wait_for

START_S = 60
SMALL = ("cache.keys=16", "cache.routes=16")  # The least; N keys are far more.


def parse_arguments(argv):
    parser = argparse.ArgumentParser(prog="lookups.py", allow_abbrev=False,
                                     description=__doc__.split("\n\n")[0].partition(" - ")[2])
    add = parser.add_argument
    add("--bin", metavar="DIR", default=os.path.join(CHECKOUT, "zig-out", "bin"), help="folder with the programs")
    add("--keys", type=int, default=400, help="that log in, in turn (default 400)")
    add("--repeat", type=int, default=5, help="repetitions; medians are shown (default 5)")
    add("--parallel", type=int, default=4, help="logins at once (default 4)")
    return parser.parse_args(argv)


class Redis:
    def __init__(self, folder):
        self.path = os.path.join(folder, "redis.sock")
        self.process = start_server(["redis-server", "--port", "0", "--unixsocket", self.path, "--save", "",
                                     "--appendonly", "no", "--dir", folder], os.path.join(folder, "redis.log"))
        wait_for(lambda: os.path.exists(self.path), START_S, "Redis's start")

    def commands(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.path)
            s.sendall(b"INFO stats\r\n")
            text = b""
            while b"total_commands_processed" not in text or not text.endswith(b"\r\n"):
                text += s.recv(65536)
        line = next(line for line in text.split(b"\r\n") if line.startswith(b"total_commands_processed"))
        return int(line.split(b":")[1])

    def stop(self):
        end_process(self.process)


class Region:
    def __init__(self, folder, options, arguments):
        self.folder = folder
        log = folder + ".log"
        region_json = os.path.join(folder, "region.json")
        self.process = start_server([sys.executable, os.path.join(CHECKOUT, "deploy", "region.py"), "--bin", options.bin,
                                     "--dir", folder, "--port", "0", "--sandboxes", "1", *arguments], log)
        wait_for(lambda: self.process.poll() is not None or os.path.exists(region_json), START_S, "region.json")
        if self.process.poll() is not None:
            raise Trouble(f"deploy/region.py ended: {tail_of(log)}")
        with open(region_json, encoding="utf-8") as f:
            self.info = json.load(f)

    def upload(self, keys):
        api = self.info["api"]
        for i, path in enumerate(keys):
            with open(path + ".pub", encoding="ascii") as f:
                body = json.dumps({"name": f"bench {i}", "public_key": f.read().strip()}).encode()
            request = urllib.request.Request(api["url"] + "/users/me/ssh-keys", data=body, method="POST", headers={
                "Authorization": "Bearer " + api["token"], "Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()

    def asked(self):
        """How often the gateway has asked the control plane for a key or a way, by the latter's log."""
        with open(self.info["logs"]["control"], encoding="utf-8") as f:
            return sum("path=/internal/v1/ssh-keys" in line or "path=/internal/v1/sandboxes" in line for line in f)

    def cpu(self):
        with open(f"/proc/{self.info['pids']['gateway']}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        end_process(self.process, 30)


def logins(options, region, keys):
    ssh = region.info["ssh"]
    argv = [os.path.join(options.bin, "ringbench"), "connect", "--address", f"{ssh['host']}:{ssh['port']}", "--user",
            region.info["sandboxes"][0]["id"], "--identity", keys, "--count", str(options.keys), "--parallel",
            str(options.parallel), "--kex", "curve25519-sha256", "--json", "--quiet"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise Trouble(f"ringbench: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(options, name, folder, arguments, keys, redis):
    region = Region(folder, options, arguments)
    try:
        region.upload(sorted(os.path.join(keys, n) for n in os.listdir(keys) if not n.endswith(".pub")))
        logins(options, region, keys)  # Fills what may be filled.
        runs = []
        for i in range(options.repeat):
            commands, asked, cpu = redis.commands() if redis else 0, region.asked(), region.cpu()
            run = logins(options, region, keys)
            run["cpu_ms"] = (region.cpu() - cpu) / options.keys * 1e3
            run["asked"] = (region.asked() - asked) / options.keys
            # Our own INFO is one of them.
            run["commands"] = (redis.commands() - commands - 1) / options.keys if redis else 0
            runs.append(run)
            say(f"{name} {i + 1}/{options.repeat}: {run}")
        return {key: statistics.median(run[key] for run in runs)
                for key in ("per_s", "p50_us", "p99_us", "cpu_ms", "asked", "commands")}
    finally:
        region.stop()


def main(argv):
    options = parse_arguments(argv)
    state = tempfile.mkdtemp(prefix="ringgate-lookups.")
    keys = os.path.join(state, "keys")
    os.mkdir(keys)
    redis = None
    try:
        say(f"making {options.keys} keys")
        for i in range(options.keys):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", os.path.join(keys, f"k{i}")],
                           check=True, timeout=60)
        redis = Redis(state)
        small = [word for setting in SMALL for word in ("--set", setting)]
        found = {
            "L1": measure(options, "L1", os.path.join(state, "one"), [], keys, None),
            "Redis": measure(options, "Redis", os.path.join(state, "two"),
                             [*small, "--redis", f"unix:{redis.path}"], keys, redis),
            "control plane": measure(options, "control plane", os.path.join(state, "three"), small, keys, None),
        }
    except (Trouble, OSError, subprocess.SubprocessError) as error:
        say(f"lookups.py: {error}; logs are in {state}")
        return 1
    finally:
        if redis:
            redis.stop()
    shutil.rmtree(state, ignore_errors=True)
    print(f"{options.keys} keys in turn, {options.parallel} logins at once, medians of {options.repeat}\n")
    print("| answers from | logins/s | p50 ms | p99 ms | p99 over L1, ms | gateway CPU ms | Redis commands a login | "
          "questions to the control plane a login |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, row in found.items():
        print(f"| {name} | {row['per_s']:.0f} | {row['p50_us'] / 1e3:.1f} | {row['p99_us'] / 1e3:.1f} | "
              f"{(row['p99_us'] - found['L1']['p99_us']) / 1e3:+.1f} | {row['cpu_ms']:.2f} | {row['commands']:.2f} | "
              f"{row['asked']:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
