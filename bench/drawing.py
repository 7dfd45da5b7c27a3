"""bench/drawing.py - a little SVG: words, bars, lines, scales and a page around them."""

import html
import math

INK, QUIET, GRID = "#1d2327", "#646b73", "#dde1e5"
OURS, OURS_TOO, PEER, PEER_LINE = "#1b7f5c", "#8ccbb2", "#9aa1a9", "#5f666e"
GOOD, BAD, PLAIN = "#1b7f5c", "#c2412d", "#9aa1a9"


def text(x, y, words, anchor="start", size=12, color=INK, bold=False):
    weight = ' font-weight="bold"' if bold else ""
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}"{weight}>'
            f"{html.escape(words)}</text>")


def rect(x, y, width, height, color):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height}" fill="{color}"/>'


def line(x1, y1, x2, y2, color=GRID, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
            f'stroke-width="{width}"{dashes}/>')


def path(points, color, dash=""):
    """A line through points, each marked."""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{color}"/>' for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="1.8"{dashes}/>{dots}'


def legend(x, y, entries):
    """entries: (colour, words, dash or None for a filled square), one beside the other."""
    parts = []
    for color, words, dash in entries:
        if dash is None:
            parts.append(rect(x, y - 9, 14, 10, color))
        else:
            parts.append(line(x, y - 4, x + 20, y - 4, color, 2.0, dash))
        parts.append(text(x + 26, y, words, size=11, color=QUIET))
        x += 44 + 6.1 * len(words)
    return "".join(parts)


def figure(value):
    """Three digits of it, as a person would write them."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 3)}f}"


class Log:
    """A logarithmic scale from low at start to high at end, in pixels; beyond it: the edge."""

    def __init__(self, low, high, start, end):
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value):
        share = math.log(min(max(value, self.low), self.high) / self.low) / math.log(self.high / self.low)
        return self.start + (self.end - self.start) * share


class Linear:
    """From 0 at start to a round number that is at least high."""

    def __init__(self, high, start, end):
        step = 10 ** math.floor(math.log10(high))
        self.step = next(step * part for part in (0.2, 0.5, 1, 2, 5) if high / (step * part) <= 5)
        self.high = self.step * math.ceil(high / self.step)
        self.start, self.end = start, end

    def at(self, value):
        return self.start + (self.end - self.start) * value / self.high

    def marks(self):
        return [self.step * i for i in range(round(self.high / self.step) + 1)]


def page(report, title, words, width, height, parts):
    """words: a line below the title that says how to read it."""
    about = report["about"]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        text(16, 26, title, size=17, bold=True),
        text(16, 45, words, size=12, color=QUIET),
        *parts,
        text(16, height - 10, f"{about['date'][:10]} · {about['cpu']} · kernel {about['kernel']} · commit {about['commit']}"
             + (" · not the whole run" if report.get("waiting") else "")
             + "".join(f" · {failure['scenario']} failed" for failure in report["failures"]), size=10, color=QUIET)]) + "\n</svg>\n"
