"""A curve as an SVG drawing whose colours are the page's, and a value with its interval as a small dot and whisker."""

from __future__ import annotations

import io
import math
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from assay.contracts import Curve, Estimate, digest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that matplotlib writes and the page replaces, so that one drawing serves a light and a dark page.
INK, ACCENT, MUTED, RULE = "#010101", "#020202", "#030303", "#040404"
PAGE_COLOURS = {INK: "currentColor", ACCENT: "var(--accent)", MUTED: "var(--muted)", RULE: "var(--rule)"}
WIDTH, HEIGHT = 5.0, 3.2  # inches; 360 x 230 points
NAME_HEIGHT, LONGEST_NAME = 0.27, 30  # inches a row, letters: names stand at the left of rows, where they have room


def chart_svg(curve: Curve, name: str) -> str:
    """One self-contained <svg> element, the same bytes for the same curve. `name` is read aloud to the blind."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": digest(name), "font.size": 10, "text.parse_math": False}
    with mpl.rc_context(settings):
        height = 0.75 + NAME_HEIGHT * len(curve.x) if curve.x_names else HEIGHT
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        _dress(axes, curve)
        (_draw_names if curve.x_names else _draw)(axes, curve)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _for_the_page(out.getvalue().decode(), name)


def whisker_svg(estimate: Estimate, low: float, high: float, marks: tuple[float, ...] = ()) -> str:
    """A dot with its interval on an axis from low to high, with faint marks; made of numbers, so safe to print."""
    width, middle = 160.0, 9.0

    def place(value: float) -> float:
        return round(4 + (width - 8) * min(1.0, max(0.0, (value - low) / ((high - low) or 1.0))), 1)

    lines = [f'<line class="axis" x1="4" x2="{width - 4:g}" y1="{middle:g}" y2="{middle:g}"/>']
    lines += [
        f'<line class="axis" x1="{place(m):g}" x2="{place(m):g}" y1="3" y2="15"/>' for m in marks if low <= m <= high
    ]
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        left, right = place(estimate.low), place(estimate.high)
        lines.append(f'<line class="whisker" x1="{left:g}" x2="{right:g}" y1="{middle:g}" y2="{middle:g}"/>')
    if math.isfinite(estimate.value):
        lines.append(f'<circle class="dot" cx="{place(estimate.value):g}" cy="{middle:g}" r="3.6"/>')
    size = f'viewBox="0 0 {width:g} 18" width="{width:g}" height="18"'
    return f'<svg class="whiskers" {size} aria-hidden="true">{"".join(lines)}</svg>'


def _dress(axes: Axes, curve: Curve) -> None:
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(RULE)
    axes.tick_params(colors=MUTED, length=3, width=0.8)
    axes.grid(axis="x" if curve.x_names else "y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(curve.y_label if curve.x_names else curve.x_label, color=INK)
    axes.set_ylabel("" if curve.x_names else curve.y_label, color=INK)


def _draw(axes: Axes, curve: Curve) -> None:
    x, y, reach = list(curve.x), [estimate.value for estimate in curve.y], _reaches(curve)
    if curve.diagonal:
        ends = [min(x), max(x)]
        axes.plot(ends, ends, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    if curve.kind == "bars":
        gaps = [b - a for a, b in pairwise(x)] or [1.0]
        axes.bar(x, y, width=0.86 * min(gaps), color=ACCENT, linewidth=0)
    else:
        axes.errorbar(x, y, yerr=reach, fmt="none", ecolor=ACCENT, elinewidth=1.4, alpha=0.55)
        line = "-" if curve.kind == "line" else "none"
        axes.plot(x, y, color=ACCENT, linewidth=1.6, linestyle=line, marker="o", markersize=4.2, markeredgewidth=0)
    if min(curve.x) < 0 < max(curve.x):
        axes.axvline(0, color=MUTED, linewidth=0.8)


def _draw_names(axes: Axes, curve: Curve) -> None:
    """A row a name, the first at the top: a dot and its interval, or a bar."""
    rows, x = list(range(len(curve.x))), [estimate.value for estimate in curve.y]
    if curve.kind == "bars":
        axes.barh(rows, x, height=0.7, color=ACCENT, linewidth=0)
    else:
        axes.errorbar(x, rows, xerr=_reaches(curve), fmt="none", ecolor=ACCENT, elinewidth=1.4, alpha=0.55)
        axes.plot(x, rows, color=ACCENT, linestyle="none", marker="o", markersize=4.6, markeredgewidth=0)
    seen = [v for e in curve.y for v in (e.value, e.low, e.high) if math.isfinite(v)]
    if seen and min(seen) < 0 < max(seen):
        axes.axvline(0, color=MUTED, linewidth=0.8)
    names = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in curve.x_names]
    axes.set_yticks(rows, names, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _reaches(curve: Curve) -> list[list[float]]:
    """How far each interval goes below and above its value."""
    return [[_reach(e.value, e.low) for e in curve.y], [_reach(e.high, e.value) for e in curve.y]]


def _reach(high: float, low: float) -> float:
    return max(0.0, high - low) if math.isfinite(high - low) else 0.0


def _for_the_page(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    for written, ours in PAGE_COLOURS.items():
        svg = svg.replace(written, ours)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="(?:figure|axes|patch|text|matplotlib|line2d|xtick|ytick|LineCollection)[\w.]*"', "", svg)
    svg = re.sub(r"font(-family)?: ?([\d.]+px )?[^;\"]*sans-serif", lambda m: f"font-size: {m[2]}" if m[2] else "", svg)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\n\s*", "\n", svg.replace("; ;", ";"))
    label = name.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = re.sub(r"<svg([^>]*?) (?:width|height)=\"[^\"]*\"", r"<svg\1", svg, count=1)
    svg = re.sub(r"<svg([^>]*?) (?:width|height)=\"[^\"]*\"", r"<svg\1", svg, count=1)
    return svg.replace("<svg", f'<svg class="chart" role="img" aria-label="{label}"', 1).strip()
