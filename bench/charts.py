"""bench/charts.py - a report as drawings (SVG).

    bench/charts.py RESULTS.json FOLDER

results.svg: each measure's ratio to the peer. latencies.svg: the distributions of what ringbench timed. distance.svg: the rate of one
transfer against its round trip. The last two are made where the report has such rows. All axes of times, rates and ratios are logarithmic.
"""

import html
import json
import math
import os
import sys

WIDTH, LABEL, ROW, TOP = 900, 380, 20, 50
LEFT, RIGHT = LABEL + 10, WIDTH - 70
RANGE = 32  # From a 32nd to 32 times the peer; beyond it the bar ends at the edge.
GOOD, BAD, PLAIN = "#2a7f62", "#c0392b", "#7f8c8d"
LINES = ("#2a7f62", "#2c6fbb", "#8e44ad", "#d35400", "#c0392b", "#7f8c8d", "#16a085", "#b7950b")
HIGHER_IS_BETTER = ("MB/s", "a second", "connections/s", "fastest", "files a second", "commands a second", "KB a ")


def text(x, y, words, anchor="start", size=12, color="#222"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">'
            f"{html.escape(words)}</text>")


def page(report, title, height, parts):
    about = report["about"]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">'
        '<rect width="100%" height="100%" fill="#fff"/>',
        text(10, 20, title, size=14),
        text(10, 38, f"{about['date'][:10]}, {about['cpu']}, commit {about['commit']}", size=11, color="#555"),
        *parts]) + "</svg>\n"


# ---- ratios --------------------------------------------------------------

def place(ratio):
    share = math.log(max(1 / RANGE, min(RANGE, ratio))) / math.log(RANGE)
    return LEFT + (RIGHT - LEFT) * (share + 1) / 2


def is_better(row):
    higher = row["measure"].startswith(HIGHER_IS_BETTER)
    return row["ratio"] >= 1 if higher else row["ratio"] <= 1


def bar(row, y):
    one, end = place(1), place(row["ratio"])
    color = PLAIN if 0.98 < row["ratio"] < 1.02 else GOOD if is_better(row) else BAD
    goal = "" if "is_met" not in row else " ✓" if row["is_met"] else " ✗"
    label = " · ".join(part for part in (row["scenario"], row["setting"], row["measure"]) if part)
    return (text(LABEL, y + 14, label, "end")
            + f'<rect x="{min(one, end):.1f}" y="{y + 4}" width="{max(1.5, abs(end - one)):.1f}" height="12" '
              f'fill="{color}"/>'
            + text(RIGHT + 8, y + 14, f"{row['ratio']:.2f}{goal}"))


def ratios(report):
    rows = [row for row in report["rows"] if row["ratio"]]
    height = TOP + ROW * len(rows) + 30
    parts = []
    for ratio in (1 / 16, 1 / 4, 1, 4, 16):
        x = place(ratio)
        parts.append(f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{height - 24}" stroke="#ccc"/>')
        parts.append(text(x, height - 8, f"{ratio:g}", "middle", 11, "#555"))
    parts += [bar(row, TOP + ROW * i) for i, row in enumerate(rows)]
    return page(report, f"{report['ours']} beside {report['peer']}: ratio, 1 is equal; green is better", height, parts)


# ---- lines ---------------------------------------------------------------

class Plot:
    """A frame with a logarithmic axis upwards; x is a share of the width."""

    LEFT, RIGHT, TOP, HEIGHT = 70, 560, 60, 340

    def __init__(self, low, high, unit):
        self.low = math.floor(math.log10(low))
        self.high = max(self.low + 1, math.ceil(math.log10(high)))
        self.parts = []
        for power in range(self.low, self.high + 1):
            y = self.y(10 ** power)
            self.parts.append(f'<line x1="{self.LEFT}" y1="{y:.0f}" x2="{self.RIGHT}" y2="{y:.0f}" stroke="#ddd"/>')
            self.parts.append(text(self.LEFT - 6, y + 4, f"{10.0 ** power:g} {unit}", "end", 11, "#555"))

    def x(self, share):
        return self.LEFT + (self.RIGHT - self.LEFT) * share

    def y(self, value):
        share = (math.log10(max(value, 10 ** self.low)) - self.low) / (self.high - self.low)
        return self.TOP + self.HEIGHT * (1 - share)

    def mark(self, share, words):
        self.parts.append(text(self.x(share), self.TOP + self.HEIGHT + 18, words, "middle", 11, "#555"))

    def line(self, number, points, label, is_dashed):
        color = LINES[number // 2 % len(LINES)]
        dash = ' stroke-dasharray="5 4"' if is_dashed else ""
        path = " ".join(f"{self.x(share):.1f},{self.y(value):.1f}" for share, value in points)
        y = self.TOP + 14 * number
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"{dash}/>')
        self.parts.append(f'<line x1="{self.RIGHT + 15}" y1="{y}" x2="{self.RIGHT + 40}" y2="{y}" stroke="{color}" '
                          f'stroke-width="1.6"{dash}/>' + text(self.RIGHT + 46, y + 4, label, size=10))

    def svg(self, report, title, lines):
        return page(report, title, max(self.TOP + self.HEIGHT + 30, self.TOP + 14 * lines + 10), self.parts)


def median_latencies(runs):
    """Of each share the median of all runs: [(share, us)]."""
    columns = zip(*(run["latencies_us"] for run in runs))
    return [(column[0][0], sorted(value for _, value in column)[len(column) // 2]) for column in columns]


def nines(share):
    """0 for 0, one third for each nine: where the tail is, is the room."""
    return min(1.0, -math.log10(max(1e-4, 1 - share)) / 4)


def latencies(report):
    found = []
    for row in report["rows"]:
        raw = row.get("raw")
        if row["scenario"] not in ("keys", "day") or not isinstance(raw, dict) or not raw.get("ours"):
            continue
        for side in ("ours", "peer"):
            if raw.get(side) and "latencies_us" in raw[side][0]:
                found.append((f"{row['setting']}, {report[side]}"[:52], median_latencies(raw[side]), side == "peer"))
    if not found:
        return None
    values = [max(1, us) for _, points, _ in found for _, us in points]
    plot = Plot(min(values) / 1e3, max(values) / 1e3, "ms")
    for share in (0.5, 0.9, 0.99, 0.999):
        plot.mark(nines(share), f"p{share * 100:g}")
    plot.mark(1, "max")
    for number, (label, points, is_dashed) in enumerate(found):
        plot.line(number, [(nines(share), us / 1e3) for share, us in points], label, is_dashed)
    return plot.svg(report, "How long a keystroke waits: medians of all runs; dashed is the peer", len(found))


def distance(report):
    rows = [row for row in report["rows"] if row["scenario"].startswith("distance") and row["peer"]]
    if not rows:
        return None
    at = sorted({int(row["setting"].split()[0]) for row in rows})
    rates = [row[side] for row in rows for side in ("ours", "peer")]
    plot = Plot(min(rates), max(rates), "MB/s")
    for round_trip in at:
        plot.mark(round_trip / at[-1] if at[-1] else 0, f"{round_trip} ms")
    number = 0
    for name in dict.fromkeys(row["scenario"] for row in rows):
        for side in ("ours", "peer"):
            points = [(int(row["setting"].split()[0]) / max(1, at[-1]), row[side]) for row in rows
                      if row["scenario"] == name]
            plot.line(number, points, f"{name.partition(', ')[2]}, {report[side]}", side == "peer")
            number += 1
    return plot.svg(report, "One transfer against its round trip; dashed is the peer", number)


def all_of(report):
    """(name, SVG) of each that there is."""
    drawings = (("results.svg", ratios(report)), ("latencies.svg", latencies(report)), ("distance.svg", distance(report)))
    return [(name, drawing) for name, drawing in drawings if drawing]


def main(argv):
    if len(argv) != 2 or argv[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    with open(argv[0], encoding="utf-8") as f:
        report = json.load(f)
    for name, drawing in all_of(report):
        with open(os.path.join(argv[1], name), "w", encoding="utf-8") as f:
            f.write(drawing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
