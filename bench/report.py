"""bench/report.py - rows of medians, as a Markdown table and as JSON."""

import statistics

from servers import say

OTHER_WORK_SHARE = 0.10  # Of the machine's CPU time; above it a note is printed.

# The transfers and the cipher for which the project has set itself goals.
GOAL_SCENARIOS = ("scp-up", "scp-down", "sftp-up", "sftp-down")
GOAL_CIPHER = "aes128-gcm@openssh.com"


class Report:
    def __init__(self, ours, peer, about, note):
        self.ours = ours
        self.peer = peer
        self.about = about
        self.notes = [note] if note else []
        self.rows = []
        self.failures = []
        self.agreements = {}
        self.other_cpu = 0.0
        self.machine_cpu = 0.0

    def has_goals(self, scenario, cipher):
        return scenario in GOAL_SCENARIOS and cipher == GOAL_CIPHER

    def add(self, scenario, setting, measure, ours, peer, digits=2, goal=None, raw=None, note=None):
        """ours and peer: a figure of each repetition. goal: (ratio or value, sign, limit)."""
        row = {"scenario": scenario, "setting": setting, "measure": measure,
               "ours": statistics.median(ours), "peer": statistics.median(peer),
               "ours_runs": ours, "peer_runs": peer, "digits": digits, "note": note}
        row["ratio"] = row["ours"] / row["peer"] if row["peer"] else None
        if goal is not None and self.ours == "ringgate":
            kind, sign, limit = goal
            value = row["ratio"] if kind == "ratio" else row["ours"]
            row["goal"] = f"{sign} {limit:g}{' ×' if kind == 'ratio' else ''}"
            row["is_met"] = value is not None and {
                ">=": value >= limit, "<=": value <= limit, "<": value < limit}[sign]
        if raw is not None:
            row["raw"] = raw
        self.rows.append(row)

    def fail(self, scenario, why):
        say(f"{scenario} FAILED: {why}")
        self.failures.append({"scenario": scenario, "why": why})

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
        return notes

    def markdown(self):
        about = self.about
        text = [f"{about['date']} · {about['cpu']} · kernel {about['kernel']} · {about['openssh']} · "
                f"commit {about['commit']} · files {about['files']} · CPU by {about['cpu_by']}",
                "", f"`{about['command']}`", ""]
        for name, found in self.agreements.items():
            text.append(f"{name}: {found.get('server')}, {found.get('algorithm')}, "
                        f"{found.get('host key algorithm')}, {found.get('server->client cipher')}")
        text += ["", f"| scenario | | measure | {self.ours} | {self.peer} | ratio | goal |",
                 "|---|---|---|---:|---:|---:|---|"]
        last = None
        for row in self.rows:
            here = (row["scenario"], row["setting"])
            shown = here if here != last else ("", "")
            last = here
            digits = row["digits"]
            ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
            goal = f"{row['goal']} {'met' if row['is_met'] else '**missed**'}" if "goal" in row else ""
            text.append(f"| {shown[0]} | {shown[1].removesuffix('@openssh.com')} | {row['measure']} | "
                        f"{row['ours']:.{digits}f} | {row['peer']:.{digits}f} | {ratio} | {goal} |")
        for failure in self.failures:
            text.append(f"| {failure['scenario']} | | **failed** | {failure['why']} | | | |")
        row_notes = {row["note"] for row in self.rows if row["note"]}
        text += ["", *(f"Note: {note}." for note in self.all_notes() + sorted(row_notes))]
        return "\n".join(text).rstrip()

    def as_json(self):
        return {"about": self.about, "agreed": self.agreements, "notes": self.all_notes(),
                "other_cpu_s": self.other_cpu, "machine_cpu_s": self.machine_cpu,
                "failures": self.failures,
                "rows": [{key: value for key, value in row.items() if key != "digits"}
                         for row in self.rows]}
