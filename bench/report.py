"""bench/report.py - rows of medians, as a Markdown table and as JSON; several results made one.

    bench/report.py [--out FOLDER] RESULT.json...

One table of all their runs: pieces of one measurement, taken one after the other. With --out the same files as bench/compare.py writes.
"""

import argparse
import json
import os
import statistics
import sys

import charts
import goals

OTHER_WORK_SHARE = 0.10  # Of the machine's CPU time; above it a note is printed.


class Report:
    def __init__(self, ours, peer, about, note=None):
        self.ours = ours
        self.peer = peer
        self.about = about
        self.notes = [note] if note else []
        self.rows = []
        self.failures = []
        self.waiting = []  # Scenarios that did not run yet.
        self.agreements = {}
        self.other_cpu = 0.0
        self.machine_cpu = 0.0

    def add(self, scenario, setting, measure, ours, peer, digits=2, raw=None, note=None):
        """ours and peer: a figure of each repetition; peer may have none. Such a row again: more runs of it."""
        for row in self.rows:
            if (row["scenario"], row["setting"], row["measure"]) == (scenario, setting, measure):
                row["ours_runs"] = row["ours_runs"] + ours
                row["peer_runs"] = row["peer_runs"] + (peer or [])
                break
        else:
            row = {"scenario": scenario, "setting": setting, "measure": measure, "ours_runs": ours,
                   "peer_runs": peer or [], "digits": digits, "note": note}
            self.rows.append(row)
        row["ours"] = statistics.median(row["ours_runs"])
        row["peer"] = statistics.median(row["peer_runs"]) if row["peer_runs"] else None
        row["ratio"] = row["ours"] / row["peer"] if row["peer"] else None
        goal = goals.goal_of(row)
        if goal is not None and self.ours == "ringgate":
            row["goal"], row["is_met"] = goal.words(), goal.is_met(row)
            row["goal_what"], row["goal_limit"] = goal.what, goal.limit
        if raw is not None:
            row["raw"] = joined(row["raw"], raw) if "raw" in row else raw

    def fail(self, scenario, why):
        self.failures.append({"scenario": scenario, "why": " ".join(why.split())})

    def agreed(self, name, what):
        self.agreements[name] = what
        if len(self.agreements) == 2:
            first, second = ({key: value for key, value in found.items() if key != "server"}
                             for found in self.agreements.values())
            if first != second:
                self.notes.append(f"the two did not agree on the same algorithms: {first}, {second}")

    def see_other_cpu(self, other, machine):
        self.other_cpu += max(0.0, other)
        self.machine_cpu += machine

    def all_notes(self):
        notes = list(self.notes)
        if self.machine_cpu and self.other_cpu > OTHER_WORK_SHARE * self.machine_cpu:
            notes.append(f"{self.other_cpu / self.machine_cpu:.0%} of the machine's CPU time during "
                         "the runs was neither the servers' nor the clients': it was not quiet")
        if self.waiting:
            notes.append(f"not the whole run, not done or not to their end: {', '.join(self.waiting)}")
        return notes

    def markdown(self):
        about = self.about
        text = [f"{about['date']} · {about['cpu']} · kernel {about['kernel']} · {about['openssh']} · "
                f"commit {about['commit']} · files {about['files']} · CPU by {about['cpu_by']}",
                "", *(f"`{command}`" for command in about["command"].splitlines()), ""]
        for name, found in self.agreements.items():
            text.append(f"{name}: {found.get('server')}, {found.get('algorithm')}, "
                        f"{found.get('host key algorithm')}, {found.get('server->client cipher')}")
        text += ["", f"| scenario | | measure | {self.ours} | {self.peer} | ratio | goal |",
                 "|---|---|---|---:|---:|---:|---|"]
        last = None
        for row in self.rows:
            here = (row["scenario"], row["setting"])
            text.append(self.line(row, here if here != last else ("", "")))
            last = here
        for failure in self.failures:
            text.append(f"| {failure['scenario']} | | **failed** | {failure['why']} | | | |")
        row_notes = {row["note"] for row in self.rows if row["note"]}
        text += ["", *(f"Note: {note}." for note in self.all_notes() + sorted(row_notes))]
        if self.ours == "ringgate":
            text += ["", "Goals:", "", *goals.as_lines(self.rows)]
        return "\n".join(text).rstrip()

    @staticmethod
    def line(row, shown):
        digits = row["digits"]
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        peer = "–" if row["peer"] is None else f"{row['peer']:.{digits}f}"
        goal = f"{row['goal']} {'met' if row['is_met'] else '**missed**'}" if "goal" in row else ""
        return (f"| {shown[0]} | {shown[1].removesuffix('@openssh.com')} | {row['measure']} | "
                f"{row['ours']:.{digits}f} | {peer} | {ratio} | {goal} |")

    def as_json(self):
        return {"ours": self.ours, "peer": self.peer, "about": self.about, "agreed": self.agreements,
                "notes": self.notes, "other_cpu_s": self.other_cpu, "machine_cpu_s": self.machine_cpu,
                "failures": self.failures, "waiting": self.waiting, "rows": self.rows,
                "goals": [{"what": goal.what, "goal": goal.words(), "verdict": verdict}
                          for goal, verdict, _, _ in goals.verdicts(self.rows)] if self.ours == "ringgate" else []}


def joined(before, after):
    """Single runs of each side: those of both."""
    if all(isinstance(runs, list) for found in (before, after) for runs in found.values()):
        return {side: before.get(side, []) + after.get(side, []) for side in {**before, **after}}
    return after


def write(report, folder=None, json_path=None):
    """What there is; a reader finds the old or the new, never a half."""
    found = report.as_json()
    words = json.dumps(found, indent=1) + "\n"
    files = [(json_path, words)] if json_path else []
    if folder:
        os.makedirs(folder, exist_ok=True)
        files += [(os.path.join(folder, name), text) for name, text in (
            ("results.json", words), ("results.md", report.markdown() + "\n"), *charts.all_of(found))]
    for path, text in files:
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(path + ".new", path)


def merged(results):
    """One report of several runs' JSON; they must be of one commit, cipher and machine to mean anything."""
    first = results[0]
    report = Report(first["ours"], first["peer"], dict(first["about"]))
    report.agreements = first["agreed"]
    report.about["command"] = "\n".join(dict.fromkeys(found["about"]["command"] for found in results))
    if len({found["about"]["commit"] for found in results}) > 1:
        report.notes.append("the runs are of different commits")
    done = {name for found in results for name in found["about"].get("seconds", {})}
    report.waiting = list(dict.fromkeys(name for found in results for name in found.get("waiting", []) if name not in done))
    for found in results:
        report.see_other_cpu(found["other_cpu_s"], found["machine_cpu_s"])
        report.failures += found["failures"]
        report.notes += [note for note in found["notes"] if note not in report.notes]
        for row in found["rows"]:
            report.add(row["scenario"], row["setting"], row["measure"], row["ours_runs"], row["peer_runs"],
                       row["digits"], raw=row.get("raw"), note=row["note"])
    return report


def main(argv):
    parser = argparse.ArgumentParser(prog="report.py", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="report.py [--out FOLDER] RESULT.json...", description=__doc__.split("\n\n", 2)[2].strip())
    parser.add_argument("--out", metavar="FOLDER", help="write results.json, results.md and the charts there")
    parser.add_argument("results", metavar="RESULT.json", nargs="+")
    options = parser.parse_args(argv)
    found = []
    for path in options.results:
        with open(path, encoding="utf-8") as f:
            found.append(json.load(f))
    report = merged(found)
    print(report.markdown())
    if options.out:
        write(report, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
