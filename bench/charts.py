"""bench/charts.py - a report as drawings (SVG).

    bench/charts.py RESULTS.json FOLDER

goals.svg: what is to be reached, and how far it is. transfers.svg: rate and CPU of one transfer, each cipher. latencies.svg: how long a
keystroke waits. distance.svg: the rate of one transfer against its round trip. results.svg: everything, beside the peer. Each is made where
the report has such rows.
"""

import json
import math
import os
import re
import sys

from drawing import (BAD, GOOD, GRID, INK, OURS, OURS_TOO, PEER, PEER_LINE, PLAIN, QUIET, Linear, Log, figure, legend, line, page, path,
                     rect, text)

WIDTH = 960
TOP = 64
HIGHER_IS_BETTER = ("MB/s", "a second", "fastest", "files a second", "commands a second")


def words_of(scenario):
    """scp-down is a scenario's name, scp -r a command."""
    return re.sub(r"^(\w+)-(up|down)$", r"\1 \2", scenario).replace("stream", "exec stream")


def name_of(row):
    setting = row["setting"].removesuffix("@openssh.com")
    return ", ".join(part for part in (words_of(row["scenario"]), setting) if part)


def is_higher_better(row):
    return row["measure"].startswith(HIGHER_IS_BETTER)


# ---- bars to both sides of 1 ---------------------------------------------

class Sides:
    """Bars from the line at 1, to the right where it is better; logarithmic."""

    ROW = 19

    def __init__(self, reach, left, right):
        self.left, self.right = left, right
        self.scale = Log(1 / reach, reach, left, right)
        self.reach = reach
        self.y = TOP + 28
        self.parts = []

    def heading(self, words, has_own_row=True):
        self.y += 8
        self.parts.append(text(16, self.y + 13, words, size=12 if has_own_row else 11, bold=True))
        self.y += self.ROW if has_own_row else 0

    def bar(self, label, better, right, color):
        one, end = self.scale.at(1), self.scale.at(better)
        self.parts.append(text(self.left - 12, self.y + 13, label, "end", 11))
        self.parts.append(rect(min(one, end), self.y + 3, max(1.5, abs(end - one)), 13, color))
        if better > self.reach or better < 1 / self.reach:
            self.parts.append(text(end, self.y + 14, "»" if better > 1 else "«", "start" if better > 1 else "end", 13, color))
        self.parts.append(text(self.right + 16, self.y + 13, right, size=11))
        self.y += self.ROW

    def drawing(self, report, title, words, worse, better):
        marks, top = [], TOP + 28
        power = 1 / self.reach
        while power <= self.reach:
            x = self.scale.at(power)
            is_one = power == 1
            marks.append(line(x, top, x, self.y + 4, INK if is_one else GRID, 1.2 if is_one else 1))
            for y in (top - 5, self.y + 18):
                marks.append(text(x, y, f"{power:g} ×" if power >= 1 else f"1/{1 / power:g}", "middle", 10, QUIET))
            power *= 2 if self.reach <= 8 else 4
        marks.append(text(self.scale.at(1) - 10, TOP + 8, f"◂ {worse}", "end", 11, BAD))
        marks.append(text(self.scale.at(1) + 10, TOP + 8, f"{better} ▸", "start", 11, GOOD))
        return page(report, title, words, WIDTH, self.y + 50, marks + self.parts)


def goals(report):
    rows = [row for row in report["rows"] if "goal" in row]
    if not rows:
        return None
    sides = Sides(8, 400, 780)
    # A report has the goals in their order, each with its words.
    for goal in report["goals"]:
        mine = [row for row in rows if row.get("goal_what") == goal["what"]]
        sides.heading(f"{goal['what']}: {goal['goal'].replace('<=', '≤').replace('>=', '≥')}"
                      + ("" if mine else " – not measured"))
        for row in mine:
            limit = row["goal_limit"]
            is_ratio = row["goal"].endswith("×")
            value = row["ratio"] if is_ratio else row["ours"]
            if not value:
                continue
            better = value / limit if row["goal"].startswith(">=") else limit / value
            sides.bar(name_of(row), better, f"{figure(value)}{' ×' if is_ratio else ''}  {'✓ met' if row['is_met'] else '✗ missed'}",
                      GOOD if row["is_met"] else BAD)
    verdicts = [goal["verdict"] for goal in report["goals"]]
    words = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("met", "missed", "not measured") if verdict in verdicts)
    return sides.drawing(report, f"Goals: {words}", f"A figure with × is the ratio to {report['peer']} in the same run; the line is "
                         "the goal.",
                         "missed", "better than the goal")


def results(report):
    rows = [row for row in report["rows"] if row["ratio"] and not row["measure"].endswith(", client")]
    if not rows:
        return None
    sides, last = Sides(64, 500, 800), None
    for row in rows:
        if name_of(row) != last:
            last = name_of(row)
            sides.heading(last, False)
        better = row["ratio"] if is_higher_better(row) else 1 / row["ratio"]
        color = PLAIN if 0.98 < better < 1.02 else GOOD if better > 1 else BAD
        sides.bar(row["measure"], better, f"{figure(row['ours'])} : {figure(row['peer'])}", color)
    return sides.drawing(report, f"{report['ours']} beside {report['peer']}",
                         f"Medians of all runs, to the right {report['ours']} is better. The figures are {report['ours']} : {report['peer']}.",
                         "worse", f"better than {report['peer']}")


# ---- transfers -----------------------------------------------------------

def transfers(report):
    """Two panels: MB/s, and CPU seconds a GB."""
    found = {}
    for row in report["rows"]:
        if row["scenario"].startswith(("scp-", "sftp-", "stream ")):
            found.setdefault((row["scenario"], row["setting"]), {})[row["measure"]] = row
    found = {key: rows for key, rows in found.items() if rows.get("MB/s", {}).get("peer") and "CPU s/GB, gateway" in rows}
    if not found:
        return None
    label, gap, each = 250, 60, 30
    order = list(dict.fromkeys(scenario for scenario, _ in found))
    middle = label + (WIDTH - label - gap) / 2
    rate = Linear(max(max(rows["MB/s"]["ours"], rows["MB/s"]["peer"]) for rows in found.values()), label, middle - 40)
    cpu = Linear(max(max(total(rows), rows["CPU s/GB, gateway"]["peer"]) for rows in found.values()), middle + gap, WIDTH - 50)
    parts, y, last = [], TOP + 34, None
    parts.append(text(label, TOP + 8, "MB/s: longer is better", size=12, bold=True))
    parts.append(text(middle + gap, TOP + 8, "CPU s/GB of the servers: shorter is better", size=12, bold=True))
    bars = []
    for (scenario, setting), rows in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        if scenario != last:
            y += 6
            bars.append(text(16, y + 17, words_of(scenario), size=12, bold=True))
            last = scenario
        bars.append(text(label - 10, y + 17, setting.removesuffix("@openssh.com"), "end", 11))
        bars += pair(rate, y, [(rows["MB/s"]["ours"], OURS)], rows["MB/s"]["peer"])
        shares = [(rows["CPU s/GB, gateway"]["ours"], OURS)]
        if "CPU s/GB, procd" in rows:
            shares.append((rows["CPU s/GB, procd"]["ours"], OURS_TOO))
        bars += pair(cpu, y, shares, rows["CPU s/GB, gateway"]["peer"])
        y += each
    for scale in (rate, cpu):
        for mark in scale.marks():
            parts.append(line(scale.at(mark), TOP + 24, scale.at(mark), y))
            parts.append(text(scale.at(mark), y + 15, figure(mark).rstrip("0").rstrip(".") if "." in figure(mark) else figure(mark),
                              "middle", 10, QUIET))
    parts.append(legend(label, y + 40, ((OURS, f"{report['ours']}: gateway", None), (OURS_TOO, "its procd in the sandbox", None),
                                        (PEER, f"{report['peer']}, all of it", None))))
    return page(report, "One transfer", "Medians. The client's CPU is not in it; commands and logins are.", WIDTH, y + 74, parts + bars)


def total(rows):
    return rows["CPU s/GB, gateway"]["ours"] + rows.get("CPU s/GB, procd", {"ours": 0})["ours"]


def pair(scale, y, shares, peer):
    """Ours, in shares, above the peer's."""
    parts, at = [], 0.0
    for value, color in shares:
        parts.append(rect(scale.at(at), y + 2, scale.at(at + value) - scale.at(at), 11, color))
        at += value
    parts.append(text(scale.at(at) + 4, y + 11.5, figure(at), size=10))
    parts.append(rect(scale.at(0), y + 14, scale.at(peer) - scale.at(0), 11, PEER))
    parts.append(text(scale.at(peer) + 4, y + 23.5, figure(peer), size=10, color=QUIET))
    return parts


# ---- latencies -----------------------------------------------------------

SHARES = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1, "max"))


def median_latencies(runs):
    """Of each share the median of all runs: [(share, ms)]."""
    columns = zip(*(run["latencies_us"] for run in runs))
    return [(column[0][0], sorted(value for _, value in column)[len(column) // 2] / 1e3) for column in columns]


def nines(share):
    """0 for half of all, one quarter further for each nine: where the tail is, is the room."""
    return min(1.0, -math.log10(2 * max(5e-5, 1 - share)) / 4)


def latencies(report):
    panels, shares = [], [0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1]
    for row in report["rows"]:
        raw = row.get("raw")
        if row["scenario"] not in ("keys", "day") or not isinstance(raw, dict):
            continue
        sides = [median_latencies(raw[side]) for side in ("ours", "peer") if raw.get(side) and "latencies_us" in raw[side][0]]
        if len(sides) == 2:
            panels.append(("a day: " if row["scenario"] == "day" else "") + row["setting"])
            panels[-1] = (panels[-1], *([point for point in side if point[0] in shares] for side in sides))
    if not panels:
        return None
    values = [ms for _, *sides in panels for side in sides for _, ms in side]
    low, high = 10 ** math.floor(math.log10(max(1e-3, min(values)))), 10 ** math.ceil(math.log10(max(values)))
    columns, width, height = 3, (WIDTH - 20) / 3, 240
    parts = [legend(16, TOP + 4, ((OURS, report["ours"], ""), (PEER_LINE, report["peer"], "5 3")))]
    for i, (title, ours, peer) in enumerate(panels):
        left, top = 10 + width * (i % columns) + 52, TOP + 50 + height * (i // columns)
        right, bottom = left + width - 76, top + height - 76
        scale = Log(low, max(high, low * 10), bottom, top)
        parts.append(text(left, top - 12, title, size=12, bold=True))
        power = low
        while power <= high * 1.001:
            parts.append(line(left, scale.at(power), right, scale.at(power)))
            parts.append(text(left - 6, scale.at(power) + 4, f"{power:g} ms", "end", 10, QUIET))
            power *= 10
        for share, words in SHARES:
            x = left + (right - left) * nines(share)
            parts.append(line(x, top, x, bottom))
            parts.append(text(x, bottom + 15, words, "middle", 10, QUIET))
        for side, color, dash in ((peer, PEER_LINE, "5 3"), (ours, OURS, "")):
            parts.append(path([(left + (right - left) * nines(share), scale.at(ms)) for share, ms in side], color, dash))
    rows = -(-len(panels) // columns)
    return page(report, "How long a keystroke waits", "From the key to its echo, lower is better; logarithmic. At each share the median "
                "of the repetitions.", WIDTH, TOP + 36 + height * rows, parts)


# ---- distance ------------------------------------------------------------

def distance(report):
    rows = [row for row in report["rows"] if row["scenario"].startswith("distance") and row["peer"]]
    if not rows:
        return None
    trips = sorted({int(row["setting"].split()[0]) for row in rows})
    rates = [row[side] for row in rows for side in ("ours", "peer")]
    names = list(dict.fromkeys(row["scenario"] for row in rows))
    width, top, bottom = (WIDTH - 20) / max(2, len(names)), TOP + 50, TOP + 290
    low, high = min(rates) / 1.7, max(rates) * 1.5
    parts = [legend(16, TOP + 4, ((OURS, report["ours"], ""), (PEER_LINE, report["peer"], "5 3")))]
    for i, name in enumerate(names):
        left = 10 + width * i + 66
        right = left + width - 100
        scale, across = Log(low, high, bottom, top), Linear(max(trips), left, right)
        parts.append(text(left, top - 14, {"up": "exec stream up", "down": "exec stream down"}.get(kind := name.partition(", ")[2], kind), size=12, bold=True))
        for value in (value for power in (1, 10, 100, 1000) for value in (power, 2 * power, 5 * power)):
            if low <= value <= high:
                parts.append(line(left, scale.at(value), right, scale.at(value)))
                parts.append(text(left - 6, scale.at(value) + 4, f"{value} MB/s", "end", 10, QUIET))
        for trip in trips:
            parts.append(text(across.at(trip), bottom + 16, f"{trip} ms", "middle", 10, QUIET))
        for side, color, dash in (("peer", PEER_LINE, "5 3"), ("ours", OURS, "")):
            points = [(int(row["setting"].split()[0]), row[side]) for row in rows if row["scenario"] == name]
            parts.append(path([(across.at(trip), scale.at(value)) for trip, value in points], color, dash))
            for trip, value in points:
                parts.append(text(across.at(trip), scale.at(value) + (-8 if side == "ours" else 17), figure(value), "middle", 10,
                                  color if side == "ours" else QUIET))
    return page(report, "One transfer over a long way", "MB/s against the round trip in ms, higher is better; logarithmic. scp's time has its login "
                "in it.", WIDTH, bottom + 60, parts)


DRAWINGS = {"goals.svg": goals, "transfers.svg": transfers, "latencies.svg": latencies, "distance.svg": distance, "results.svg": results}


def all_of(report):
    """(name, SVG) of each that there is."""
    drawings = ((name, draw(report)) for name, draw in DRAWINGS.items())
    return [(name, drawing) for name, drawing in drawings if drawing]


def main(argv):
    if len(argv) != 2 or argv[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    with open(argv[0], encoding="utf-8") as f:
        report = json.load(f)
    os.makedirs(argv[1], exist_ok=True)
    for name, drawing in all_of(report):
        with open(os.path.join(argv[1], name), "w", encoding="utf-8") as f:
            f.write(drawing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
