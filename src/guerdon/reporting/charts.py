"""A curve as an SVG drawing in the page's own colors, its title and its rows; an estimate as a small dot with a whisker.

Drawn without a plotting library, in pixels of a phone, so that a page with forty drawings is fast and small.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from guerdon.contracts import Curve, Estimate, Unit
from guerdon.reporting.words import interval, number

__all__ = ["Strip", "chart_svg", "curve_rows", "curve_title"]

WIDTH, HEIGHT = 360.0, 230.0
TOP, RIGHT, BOTTOM = 10.0, 12.0, 40.0  # margins; the left one is as wide as its labels
ROW, MAX_NAME = 20.0, 30  # height of a row in pixels, longest name in letters
LETTER = 5.7  # width of a letter of the 10 pixel font, rounded up
TICKS = 5
STRIP_WIDTH, STRIP_TICKS = 160.0, 3
INK, ACCENT, MUTED, RULE = "currentColor", "var(--accent)", "var(--muted)", "var(--rule)"


def chart_svg(curve: Curve, name: str) -> str:
    """One self-contained <svg> element, the same for the same curve. `name` is for screen readers."""
    return (_name_chart if curve.x_names else _number_chart)(curve, name)


def curve_title(key: str, curve: Curve) -> str:
    """The curve's title, or else its key in words."""
    return curve.title or key.replace("_", " ").capitalize()


def label_unit(label: str) -> Unit:
    """A share, which is shown as a percentage, where an axis is called share, accuracy or confidence; else a number."""
    return "share" if re.search(r"\b(share|accuracy|confidence)\b", label) else "number"


def curve_rows(curve: Curve) -> list[tuple[str, ...]]:
    """The curve as a table: x, y, interval and n of each point."""
    unit, x_unit = label_unit(curve.y_label), label_unit(curve.x_label)
    names = curve.x_names or tuple(number(x, "share") if x_unit == "share" else f"{x:.4g}" for x in curve.x)
    return [
        (name, number(e.value, unit), interval(e, unit), f"{e.n:,}") for name, e in zip(names, curve.y, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Strip:
    """The axis of the small drawings next to a table's rows of one unit, from low to high, with marks at its ticks."""

    unit: Unit
    low: float
    high: float

    def whisker_svg(self, estimate: Estimate) -> str:
        """A dot with its interval. It contains numbers only, so there is nothing to escape."""
        marks = [f'<line class="axis" x1="{x:g}" x2="{x:g}" y1="3" y2="15"/>' for x, _ in self._ticks()]
        lines = [f'<line class="axis" x1="4" x2="{STRIP_WIDTH - 4:g}" y1="9" y2="9"/>', *marks]
        if math.isfinite(estimate.low) and math.isfinite(estimate.high):
            left, right = self._across(estimate.low), self._across(estimate.high)
            lines.append(f'<line class="whisker" x1="{left:g}" x2="{right:g}" y1="9" y2="9"/>')
        if math.isfinite(estimate.value):
            lines.append(f'<circle class="dot" cx="{self._across(estimate.value):g}" cy="9" r="3.6"/>')
        return _strip_svg("whiskers", 18, "".join(lines))

    def axis_svg(self) -> str:
        """The labels of the ticks, to stand below the rows."""
        labels = [
            f'<text x="{min(max(x, 3.0 * len(text)), STRIP_WIDTH - 3.0 * len(text)):g}" y="10" text-anchor="middle">{text}</text>'
            for x, text in self._ticks()
        ]
        return _strip_svg("whiskers", 13, "".join(labels))

    def _across(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(4 + (STRIP_WIDTH - 8) * min(1.0, max(0.0, share)), 1)

    def _ticks(self) -> list[tuple[float, str]]:
        low, high = self.low, self.high
        if not high > low:
            return []
        step = _step((high - low) / STRIP_TICKS)
        decimals = _decimals(step)
        values = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
        labels = [_tick_label(value if abs(value) > step / 2 else 0.0, decimals, self.unit) for value in values]
        if labels and self.unit == "nats":
            labels[-1] += " nats"
        return [(self._across(value), label) for value, label in zip(values, labels, strict=True)]


def _strip_svg(name: str, height: int, body: str) -> str:
    size = f'viewBox="0 0 {STRIP_WIDTH:g} {height}" width="{STRIP_WIDTH:g}" height="{height}"'
    return f'<svg class="{name}" {size} aria-hidden="true">{body}</svg>'


def _number_chart(curve: Curve, name: str) -> str:
    """A numeric x axis: a line, points or bars, with intervals."""
    points = [(x, e) for x, e in zip(curve.x, curve.y, strict=True) if math.isfinite(x) and math.isfinite(e.value)]
    xs, gap = [x for x, _ in points], 0.0
    if curve.kind == "bars":
        gap = min((b - a for a, b in pairwise(sorted(set(xs)))), default=1.0)
    values = [e.value for _, e in points] + ([0.0] if curve.kind == "bars" else _bounds([e for _, e in points]))
    values += [min(xs), max(xs)] if curve.diagonal and xs else []
    y_low, y_high, y_ticks = _axis(values, label_unit(curve.y_label), grounded=curve.kind == "bars")
    x_low, x_high, x_ticks = _axis(
        [x for v in xs for x in (v - gap / 2, v + gap / 2)],
        label_unit(curve.x_label),
        whole=all(x == round(x) for x in xs),
    )
    left = 26.0 + LETTER * max(len(label) for _, label in y_ticks)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(x: float) -> float:
        return left + (right - left) * (x - x_low) / (x_high - x_low)

    def up(y: float) -> float:
        return bottom - (bottom - TOP) * (y - y_low) / (y_high - y_low)

    drawn = [
        _lines(RULE, [f"M{left:.1f} {up(y):.1f}H{right:.1f}" for y, _ in y_ticks], 0.7),
        _texts(MUTED, [(left - 5, up(y) + 3.5, label) for y, label in y_ticks], "end"),
        _texts(MUTED, [(across(x), bottom + 14, label) for x, label in x_ticks], "middle"),
        _texts(INK, [((left + right) / 2, HEIGHT - 8, curve.x_label)], "middle"),
        f'<text transform="translate(11 {(TOP + bottom) / 2:.1f}) rotate(-90)" text-anchor="middle" '
        f'style="fill: {INK}">{html.escape(curve.y_label)}</text>',
    ]
    if x_low < 0 < x_high:
        drawn.append(_lines(MUTED, [f"M{across(0):.1f} {TOP}V{bottom}"], 0.8))
    if curve.diagonal and xs:
        ends = f"M{across(min(xs)):.1f} {up(min(xs)):.1f}L{across(max(xs)):.1f} {up(max(xs)):.1f}"
        drawn.append(_lines(MUTED, [ends], 1.0, "stroke-dasharray: 4 3; "))
    if curve.kind == "bars":
        half = 0.43 * gap
        bars = [
            f"M{across(x - half):.1f} {up(0):.1f}V{up(e.value):.1f}H{across(x + half):.1f}V{up(0):.1f}Z"
            for x, e in points
        ]
        drawn.append(f'<path style="fill: {ACCENT}" d="{"".join(bars)}"/>')
    else:
        spans = [(x, e) for x, e in points if _bounds([e])]
        drawn.append(
            _lines(
                ACCENT, [f"M{across(x):.1f} {up(e.low):.1f}V{up(e.high):.1f}" for x, e in spans], 1.4, "opacity: .55; "
            )
        )
        if curve.kind == "line":
            drawn.append(_lines(ACCENT, ["M" + "L".join(f"{across(x):.1f} {up(e.value):.1f}" for x, e in points)], 1.6))
        drawn.append(_dots([(across(x), up(e.value)) for x, e in points]))
    return _svg(name, HEIGHT, drawn)


def _name_chart(curve: Curve, name: str) -> str:
    """One row per name, the first at the top: a dot with its interval along x, or a bar."""
    names = [n if len(n) <= MAX_NAME else f"{n[: MAX_NAME - 1]}…" for n in curve.x_names]
    values = [e.value for e in curve.y if math.isfinite(e.value)]
    shown = values + ([0.0] if curve.kind == "bars" else _bounds(curve.y))
    low, high, ticks = _axis(shown, label_unit(curve.y_label), grounded=curve.kind == "bars")
    left, right = min(190.0, 12.0 + LETTER * max(map(len, names))), WIDTH - RIGHT
    height = TOP + ROW * len(names) + BOTTOM
    is_wide = LETTER * len(curve.y_label) > right - left  # then the label is centered under the names too
    bottom = height - BOTTOM

    def across(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    rows = [(TOP + ROW * (i + 0.5), e) for i, e in enumerate(curve.y)]
    drawn = [
        _lines(RULE, [f"M{across(x):.1f} {TOP}V{bottom:.1f}" for x, _ in ticks], 0.7),
        _texts(INK, [(left - 7, y + 3.5, n) for (y, _), n in zip(rows, names, strict=True)], "end"),
        _texts(MUTED, [(across(x), bottom + 14, label) for x, label in ticks], "middle"),
        _texts(INK, [(WIDTH / 2 if is_wide else (left + right) / 2, height - 8, curve.y_label)], "middle"),
    ]
    if low < 0 < high:
        drawn.append(_lines(MUTED, [f"M{across(0):.1f} {TOP}V{bottom:.1f}"], 0.8))
    known = [(y, e) for y, e in rows if math.isfinite(e.value)]
    if curve.kind == "bars":
        bars = [f"M{across(0):.1f} {y - 7:.1f}H{across(e.value):.1f}V{y + 7:.1f}H{across(0):.1f}Z" for y, e in known]
        drawn.append(f'<path style="fill: {ACCENT}" d="{"".join(bars)}"/>')
    else:
        spans = [f"M{across(e.low):.1f} {y:.1f}H{across(e.high):.1f}" for y, e in known if _bounds([e])]
        drawn += [_lines(ACCENT, spans, 1.4, "opacity: .55; "), _dots([(across(e.value), y) for y, e in known])]
    return _svg(name, height, drawn)


# ---- Marks -------------------------------------------------------------------------------------------------------


def _svg(name: str, height: float, drawn: Sequence[str]) -> str:
    head = f'<svg class="chart" role="img" aria-label="{html.escape(name)}" viewBox="0 0 {WIDTH:g} {height:g}" font-size="10">'
    return "\n".join([head, *filter(None, drawn), "</svg>"])


def _lines(color: str, paths: Sequence[str], width: float, style: str = "") -> str:
    """Strokes of one color, as one path."""
    if not paths:
        return ""
    return f'<path style="{style}fill: none; stroke: {color}; stroke-width: {width:g}" d="{"".join(paths)}"/>'


def _dots(points: Sequence[tuple[float, float]]) -> str:
    """Filled circles as one path: strokes of zero length with round caps."""
    if not points:
        return ""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path style="fill: none; stroke: {ACCENT}; stroke-width: 4.8; stroke-linecap: round" d="{path}"/>'


def _texts(color: str, labels: Sequence[tuple[float, float, str]], anchor: str) -> str:
    lines = "".join(f'<text x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>' for x, y, text in labels)
    return f'<g style="fill: {color}" text-anchor="{anchor}">{lines}</g>'


def _bounds(estimates: Sequence[Estimate]) -> list[float]:
    """Both ends of every finite interval."""
    known = [e for e in estimates if math.isfinite(e.low) and math.isfinite(e.high)]
    return [bound for e in known for bound in (e.low, e.high)]


def _axis(
    values: Sequence[float], unit: Unit, *, grounded: bool = False, whole: bool = False
) -> tuple[float, float, list[tuple[float, str]]]:
    """Low and high end of an axis that shows these values, and its ticks. `grounded`: no margin beyond 0, for bars.
    `whole`: no tick between whole numbers, for what is counted."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    margin = 0.05 * (high - low)
    step = _step((high - low) / TICKS)
    step = max(step, 1.0) if whole else step
    low, high = low - (0.0 if grounded and low == 0 else margin), high + (0.0 if grounded and high == 0 else margin)
    decimals = _decimals(step)
    first = math.ceil(low / step - 1e-9)
    ticks = [(k * step, k) for k in range(first, math.floor(high / step + 1e-9) + 1)]
    labels = [(value, _tick_label(value if k else 0.0, decimals, unit)) for value, k in ticks]
    return low, high, labels or [(low, f"{low:.3g}")]


def _step(wanted: float) -> float:
    """The nearest of 1, 2, 5 and 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return power * next(factor for factor in (1.0, 2.0, 5.0, 10.0) if wanted <= factor * power * 1.2)


def _decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9))


def _tick_label(value: float, decimals: int, unit: Unit) -> str:
    """A share as a percentage."""
    if unit == "share":
        return f"{100 * value:.{max(0, decimals - 2)}f} %"
    return f"{value:.{decimals}f}" if abs(value) < 10_000 else f"{value:.4g}"
