#!/usr/bin/env python3
"""
tests/run.py - runs the checks that build.zig asks for and ends with one total line.

The steps of build.zig give it executables and folders; by hand nobody needs it. A part that cannot run
is counted as skipped, with its reason; a part that is asked for and has nothing in it is said to be empty.
"""
import argparse
import glob
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, f"{ROOT}/tests/fuzz")
import fuzz_seeds  # noqa: E402

CLANG_FORMAT_MAJOR = 19
UNIT_TIMEOUT_S = 300
# Fewer were reached: nothing was fuzzed but the way in.
FUZZ_EDGES_MIN = 50
# Most end-to-end tests wait for something: so many files of them run beside each other, the tests of a file in their order.
E2E_AT_ONCE = (os.cpu_count() or 1) + 1
OUR_FOLDERS = ("core", "ring", "ssh", "upstream", "gateway", "procd", "control", "bench", "tests")


class Total:
    """What was counted so far."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, what, passed=0, failed=0, skipped=0, note=""):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped
        word = "FAIL" if failed else "skip" if skipped and not passed else "ok"
        count = ", ".join(f"{n} {name}" for n, name in
                          ((passed, "passed"), (failed, "failed"), (skipped, "skipped")) if n)
        print(f"{word:4} {what}: {count}{' - ' + note if note else ''}", flush=True)


def our_c_files():
    return sorted(os.path.relpath(f, ROOT) for folder in OUR_FOLDERS for ext in ("c", "h")
                  for f in glob.glob(f"{ROOT}/{folder}/**/*.{ext}", recursive=True))


def clang_format():
    """The program of the pinned major version (others format differently), or None and why not."""
    found = []
    for name in (os.environ.get("CLANG_FORMAT"), f"clang-format-{CLANG_FORMAT_MAJOR}", "clang-format"):
        path = name and shutil.which(name)
        if not path:
            continue
        out = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        version = re.search(r"version (\d+)", out)
        if version and int(version.group(1)) == CLANG_FORMAT_MAJOR:
            return path, None
        found.append(out.strip())
    return None, f"clang-format {CLANG_FORMAT_MAJOR} not found" + (f" (only {', '.join(found)})" if found else "")


def check_format(total, write):
    tool, why = clang_format()
    files = our_c_files()
    if not tool:
        total.add("format", skipped=1, note=why)
    elif write:
        ok = subprocess.run([tool, "--style=file", "-i", *files], cwd=ROOT).returncode == 0
        total.add("format", passed=int(ok), failed=int(not ok))
    elif files:
        bad = [f for f in files if not is_formatted(tool, f)]
        total.add("format", passed=int(not bad), failed=int(bool(bad)), note="./zigw build fmt mends it" if bad else "")


def is_formatted(tool, name):
    with open(f"{ROOT}/{name}", encoding="utf-8") as f:
        is_now = f.read().splitlines()
    to_be = subprocess.run([tool, "--style=file", name], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for number, (a, b) in enumerate(itertools.zip_longest(is_now, to_be.splitlines()), 1):
        if a != b:
            print(f"{name}:{number}: not formatted from here on")
            return False
    return True


def check_include_graph(total):
    ok = subprocess.run([sys.executable, f"{ROOT}/tests/include_graph.py"], cwd=ROOT).returncode == 0
    total.add("include graph", passed=int(ok), failed=int(not ok))


def run_unit(total, name, exe, env):
    """One cmocka executable: its own counts, or one failure where it crashed, hung or tested nothing."""
    try:
        r = subprocess.run([exe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=env,
                           stdin=subprocess.DEVNULL, timeout=UNIT_TIMEOUT_S)
        out, status, note = r.stdout, r.returncode, ""
    except subprocess.TimeoutExpired as e:
        out, status, note = e.stdout or b"", -1, f"no end after {UNIT_TIMEOUT_S} s"
    text = out.decode(errors="replace")
    # cmocka: "[       OK ] name", "[  FAILED  ] name" (and again in its summary), "[  SKIPPED ] name"
    results = {word: set(re.findall(rf"^\[\s*{word}\s*\] (?!---|\d+ test)(\S.*)$", text, re.M))
               for word in ("OK", "FAILED", "SKIPPED", "ERROR")}
    failed = results["FAILED"] | results["ERROR"]
    if status < 0 or (status != 0 and not failed):
        failed |= {"(the program)"}
        note = note or (f"ended by signal {-status}" if status < 0 else f"exit status {status}")
    elif not any(results.values()):
        failed, note = {"(the program)"}, "ran no test"
    total.add(f"unit {name}", len(results["OK"]), len(failed), len(results["SKIPPED"] - failed), note)
    if failed:
        print("".join(f"     | {line}\n" for line in text.splitlines()), end="", flush=True)
    elif results["SKIPPED"]:
        print("".join(f"     | {line}\n" for line in text.splitlines() if "SKIPPED" in line or "skip:" in line), end="")


def run_fuzz(total, name, exe, seconds):
    """One libFuzzer target for so long. What it finds worth keeping stays for the next run, in .zig-cache."""
    corpus, finds = f"{ROOT}/.zig-cache/fuzz/{name}", f"{ROOT}/zig-out/fuzz"
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(finds, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        note = fuzz_seeds.write(name, seeds)
        argv = [exe, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
                f"-artifact_prefix={finds}/{name}-", corpus, seeds]
        try:
            r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, timeout=seconds + 60)
            text, status = r.stdout.decode(errors="replace"), r.returncode
        except subprocess.TimeoutExpired as e:
            text, status = (e.stdout or b"").decode(errors="replace"), "no end"
    executed = re.search(r"number_of_executed_units:\s*(\d+)", text)
    covered = re.findall(r" cov: (\d+)", text)
    is_blind = status == 0 and (not covered or int(covered[-1]) < FUZZ_EDGES_MIN)
    count = f"{int(executed.group(1)):,} inputs, {covered[-1]} edges" if executed and covered else f"status {status}"
    if is_blind:
        count += ": too few, it is not instrumented or refuses all"
    failed = int(status != 0 or is_blind)
    total.add(f"fuzz {name}", 1 - failed, failed, note=", ".join(filter(None, (count, note))))
    if failed:
        print(f"     | {exe}\n" + "".join(f"     | {line}\n" for line in text.splitlines()[-60:]), end="", flush=True)


def sanitizer_env(logs):
    """Reports of programs that tests start go to files, so that none is lost."""
    env = dict(os.environ)
    env["ASAN_OPTIONS"] = f"log_path={logs}/asan:detect_stack_use_after_return=1:" + env.get("ASAN_OPTIONS", "")
    return env


def side_by_side(args):
    """pytest's arguments for that; none where the caller has chosen tests, or without the package that does it."""
    if args:
        return []
    if subprocess.run([sys.executable, "-c", "import xdist"], capture_output=True).returncode != 0:
        print("     e2e: pytest-xdist is missing, so one test at a time", flush=True)
        return []
    return ["-n", str(E2E_AT_ONCE), "--dist", "loadfile"]


def run_e2e(total, bindir, args, asan):
    if not glob.glob(f"{ROOT}/tests/e2e/**/test_*.py", recursive=True):
        print("     e2e: there are no tests yet", flush=True)
        return
    if subprocess.run([sys.executable, "-c", "import pytest"], capture_output=True).returncode != 0:
        total.add("e2e", failed=1, note="pytest is missing: ./zigw build e2e installs it")
        return
    with tempfile.TemporaryDirectory() as tmp:
        logs = f"{tmp}/sanitizer"
        os.mkdir(logs)
        os.chmod(logs, 0o1777)
        os.chmod(tmp, 0o755)
        env = sanitizer_env(logs) if asan else dict(os.environ)
        r = subprocess.run([sys.executable, "-m", "pytest", "-rs", f"--junitxml={tmp}/e2e.xml", "--bin", bindir,
                            "tests/e2e", *side_by_side(args), *args],
                           cwd=ROOT, env=env)
        try:
            suites = xml.etree.ElementTree.parse(f"{tmp}/e2e.xml").getroot().iter("testsuite")
            n = {k: 0 for k in ("tests", "failures", "errors", "skipped")}
            for s in suites:
                for k in n:
                    n[k] += int(s.get(k, 0))
        except (OSError, xml.etree.ElementTree.ParseError):
            total.add("e2e", failed=1, note=f"pytest ended with status {r.returncode} and no result")
            return
        bad = n["failures"] + n["errors"]
        note = ""
        if r.returncode != 0 and bad == 0:
            bad, note = 1, f"pytest ended with status {r.returncode}"
        reports = sorted(os.listdir(logs))
        for name in reports:
            with open(f"{logs}/{name}", errors="replace") as f:
                print(f"--- {name}\n{f.read()}", flush=True)
        total.add("e2e", max(0, n["tests"] - bad - n["skipped"]), bad, n["skipped"], note)
        if asan:
            total.add("sanitizer reports", passed=int(not reports), failed=len(reports))


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--fmt", action="store_true")
    p.add_argument("--fmt-write", action="store_true")
    p.add_argument("--include-graph", action="store_true")
    p.add_argument("--unit-tests", action="store_true")
    p.add_argument("--unit", action="append", default=[], metavar="NAME=EXE")
    p.add_argument("--fuzz", action="append", default=[], metavar="NAME=EXE")
    p.add_argument("--fuzz-seconds", type=int)
    p.add_argument("--e2e", metavar="BIN")
    p.add_argument("--asan", action="store_true")
    p.add_argument("pytest", nargs="*")
    a = p.parse_args()

    total = Total()
    if a.fmt or a.fmt_write:
        check_format(total, a.fmt_write)
    if a.include_graph:
        check_include_graph(total)
    if a.unit_tests and not a.unit:
        print("     unit: there are no tests", flush=True)
    for unit in a.unit:
        run_unit(total, *unit.split("=", 1), dict(os.environ))
    for target in a.fuzz:
        run_fuzz(total, *target.split("=", 1), a.fuzz_seconds)
    if a.fuzz_seconds is not None and not a.fuzz:
        total.add("fuzz", skipped=1, note="no target, or no libFuzzer: the package libclang-rt-dev has it")
    if a.e2e:
        run_e2e(total, a.e2e, a.pytest, a.asan)
    if not a.fmt_write:
        skipped = f", {total.skipped} skipped" if total.skipped else ""
        print(f"{total.passed} passed, {total.failed} failed{skipped}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
