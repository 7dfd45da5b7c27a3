"""bench/chart.py - a report as a drawing (SVG): each measure's ratio to the peer, on a logarithmic scale.

    bench/chart.py RESULTS.json >chart.svg
"""

import html
import json
import math
import sys

WIDTH, LABEL, ROW, TOP = 900, 380, 20, 50
LEFT, RIGHT = LABEL + 10, WIDTH - 70
RANGE = 32  # From a 32nd to 32 times the peer; beyond it the bar ends at the edge.
GOOD, BAD, PLAIN = "#2a7f62", "#c0392b", "#7f8c8d"
HIGHER_IS_BETTER = ("MB/s", "a second", "connections/s", "fastest")


def place(ratio):
    share = math.log(max(1 / RANGE, min(RANGE, ratio))) / math.log(RANGE)
    return LEFT + (RIGHT - LEFT) * (share + 1) / 2


def is_better(row):
    higher = row["measure"].startswith(HIGHER_IS_BETTER)
    return row["ratio"] >= 1 if higher else row["ratio"] <= 1


def text(x, y, words, anchor="start", size=12, color="#222"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" fill="{color}">'
            f"{html.escape(words)}</text>")


def bar(row, y):
    one, end = place(1), place(row["ratio"])
    color = PLAIN if 0.98 < row["ratio"] < 1.02 else GOOD if is_better(row) else BAD
    goal = "" if "is_met" not in row else " ✓" if row["is_met"] else " ✗"
    label = " · ".join(part for part in (row["scenario"], row["setting"], row["measure"]) if part)
    return (text(LABEL, y + 14, label, "end")
            + f'<rect x="{min(one, end):.1f}" y="{y + 4}" width="{max(1.5, abs(end - one)):.1f}" height="12" '
              f'fill="{color}"/>'
            + text(RIGHT + 8, y + 14, f"{row['ratio']:.2f}{goal}"))


def svg(report):
    rows = [row for row in report["rows"] if row["ratio"]]
    height = TOP + ROW * len(rows) + 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
             f'font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>',
             text(10, 20, "ringgate beside sshd: ratio, 1 is equal, logarithmic; green is better", size=14),
             text(10, 38, f"{report['about']['date'][:10]}, {report['about']['cpu']}, commit "
                          f"{report['about']['commit']}", size=11, color="#555")]
    for ratio in (1 / 16, 1 / 4, 1, 4, 16):
        x = place(ratio)
        parts.append(f'<line x1="{x:.0f}" y1="{TOP}" x2="{x:.0f}" y2="{height - 24}" stroke="#ccc"/>')
        parts.append(text(x, height - 8, f"{ratio:g}", "middle", 11, "#555"))
    parts += [bar(row, TOP + ROW * i) for i, row in enumerate(rows)]
    return "\n".join(parts) + "</svg>\n"


def main(argv):
    if len(argv) != 1 or argv[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    with open(argv[0], encoding="utf-8") as f:
        sys.stdout.write(svg(json.load(f)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
