#!/usr/bin/env python3
"""bench/changes.py - what changed between two results of bench/compare.py.

    bench/changes.py BEFORE.json AFTER.json

For each measure that both have: ours after to ours before, each over its run's peer where it has one, so that a machine that was slower
on that day cancels out; with a 95 % confidence interval by resampling the single runs. A change whose interval holds 1 is none.
"""

import json
import random
import statistics
import sys

RESAMPLES = 4000


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return {(row["scenario"], row["setting"], row["measure"]): row for row in json.load(f)["rows"]}


def resampled(runs, rng):
    return statistics.median(rng.choices(runs, k=len(runs)))


def change(before, after, rng):
    """Median ratio and the ends of its interval; None where a figure is 0."""
    has_peer = before["peer_runs"] and after["peer_runs"]

    def once(pick):
        parts = [pick(row["ours_runs"] if key == "ours" else row["peer_runs"]) if key == "ours" or has_peer else 1
                 for row in (after, before) for key in ("ours", "peer")]
        if 0 in parts:
            return None
        return parts[0] / parts[1] / (parts[2] / parts[3])

    middle = once(statistics.median)
    found = [once(lambda runs: resampled(runs, rng)) for _ in range(RESAMPLES)]
    found = sorted(value for value in found if value is not None)
    if middle is None or len(found) < RESAMPLES / 2:
        return None
    return middle, found[int(len(found) * 0.025)], found[int(len(found) * 0.975)]


def main(argv):
    if len(argv) != 2 or argv[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    before, after = rows_of(argv[0]), rows_of(argv[1])
    rng = random.Random(1)
    print("| scenario | | measure | before | after | change | 95 % | |")
    print("|---|---|---|---:|---:|---:|---|---|")
    for key, row in after.items():
        if key not in before:
            continue
        found = change(before[key], row, rng)
        words = "" if found is None else "none shown" if found[1] <= 1 <= found[2] else (
            "up" if found[0] > 1 else "down")
        numbers = ("", "") if found is None else (f"{found[0]:.2f} ×", f"{found[1]:.2f} to {found[2]:.2f}")
        print(f"| {' | '.join(key)} | {before[key]['ours']:.3g} | {row['ours']:.3g} | {numbers[0]} | {numbers[1]} | "
              f"{words} |")
    missing = [key for key in before if key not in after]
    if missing:
        print(f"\nOnly before: {', '.join(' '.join(part for part in key if part) for key in missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
