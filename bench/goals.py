"""bench/goals.py - the figures that this project has set itself, and which rows of a report tell of them.

A goal is met when every row that it is about meets it. A row is recognised by its scenario, its setting and its measure (whole,
regular expressions); a ratio is ours to the peer's median of the same run, a value is ours alone.
"""

import re

AES, CHACHA = "aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"
COPIES = "(scp|exec|stream)[- ](up|down)"
MANY = "20 downloads at once"


class Goal:
    def __init__(self, what, scenario, setting, measure, kind, sign, limit):
        self.what = what
        self.parts = [re.compile(part) for part in (scenario, setting, measure)]
        self.kind, self.sign, self.limit = kind, sign, limit

    def is_about(self, row):
        keys = (row["scenario"], row["setting"], row["measure"])
        return all(part.fullmatch(key) for part, key in zip(self.parts, keys))

    def words(self):
        return f"{self.sign} {self.limit:g}{' ×' if self.kind == 'ratio' else ''}"

    def is_met(self, row):
        value = row["ratio"] if self.kind == "ratio" else row["ours"]
        if value is None:
            return False
        return value >= self.limit if self.sign == ">=" else value <= self.limit


def ratio(what, scenario, setting, measure, sign, limit):
    return Goal(what, scenario, setting, measure, "ratio", sign, limit)


def value(what, scenario, setting, measure, sign, limit):
    return Goal(what, scenario, setting, measure, "value", sign, limit)


GOALS = (
    ratio("gateway CPU a GB, scp and exec stream, aes128-gcm", COPIES, AES, "CPU s/GB, gateway", "<=", 0.8),
    ratio("gateway CPU a GB, scp and exec stream, chacha20-poly1305", COPIES, CHACHA, "CPU s/GB, gateway", "<=", 0.8),
    ratio("procd CPU a GB, sftp, of sshd's whole", "sftp-(up|down)", AES, "CPU s/GB, procd", "<=", 0.3),
    ratio("MB/s of one scp, up and down", "scp-(up|down)", AES, "MB/s", ">=", 1.1),
    ratio("MB/s of one upload at 100 ms round trip", "distance, (scp )?up", "100 ms round trip", "MB/s", ">=", 4.0),
    value("resident KB of an idle session at 5,000, gateway", "idle", r"([5-9]|\d\d)\d{3} sessions",
          "RSS in KB a session, gateway", "<=", 40),
    ratio("gateway CPU of a full connection, curve25519", "logins", "curve25519-sha256", "CPU ms each, gateway", "<=", 0.07),
    ratio("gateway CPU of a full connection, mlkem768x25519", "logins", "mlkem768x25519-sha256", "CPU ms each, gateway",
          "<=", 0.1),
    ratio("exec a second over one connection", "commands", "over one connection", "a second", ">=", 2.0),
    ratio("echo p99 at rest", "keys", "at rest", "p99 ms", "<=", 1.3),
    ratio("echo p99 beside 1 and 20 scp", "keys", "beside .* scp", "p99 ms", "<=", 1.0),
    ratio("echo max", "keys", "at rest|beside .* scp", "max ms", "<=", 1.0),
    value("20 downloads: growth of the gateway in MiB each", MANY, ".*", "growth in MiB each, gateway", "<=", 2.0),
    value("20 downloads: fastest's time to slowest's", MANY, ".*", "fastest's time to slowest's", ">=", 0.7),
)


def goal_of(row):
    return next((goal for goal in GOALS if goal.is_about(row)), None)


def verdicts(rows):
    """(goal, "met", "missed" or "not measured", its rows, those that miss it) for each goal."""
    found = []
    for goal in GOALS:
        mine = [row for row in rows if goal_of(row) is goal]
        missing = [row for row in mine if not goal.is_met(row)]
        found.append((goal, "not measured" if not mine else "missed" if missing else "met", mine, missing))
    return found


def as_lines(rows):
    """A list for the end of a run; in brackets what was measured, which may be a part of what the goal is about."""
    lines = []
    for goal, verdict, mine, missing in verdicts(rows):
        names = ", ".join(dict.fromkeys(row["scenario"] for row in mine))
        lines.append(f"- {verdict:<12} {goal.what}: {goal.words()}" + (f" ({names})" if names else ""))
        for row in missing:
            figure = "–" if row["ratio"] is None else f"{row['ratio']:.3f} ×" if goal.kind == "ratio" else f"{row['ours']:.2f}"
            lines.append(f"    - {row['scenario']} {row['setting']}: {figure}")
    return lines
