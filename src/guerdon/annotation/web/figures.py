"""Numbers as words, and small drawings as SVG, for the pages of managers. No style attributes: the page's policy refuses them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

__all__ = ["ago", "bars", "curve", "duration", "estimate", "order", "share", "stacked"]

WIDTH: Final = 640
Estimate = Mapping[str, Any] | None


def estimate(value: Estimate, digits: int = 2) -> str:
    """An estimate with its interval; a dash where nothing is known."""
    if value is None or value.get("value") is None:
        return "–"
    low, high = (f"{end:,.{digits}f}" if (end := value[name]) is not None else "?" for name in ("low", "high"))
    return f"{value['value']:,.{digits}f} ({low} to {high})"


def share(value: Estimate) -> str:
    """A share in percent with its interval."""
    if value is None or value.get("value") is None:
        return "–"
    low, high = (f"{100 * end:.0f}" if (end := value[name]) is not None else "?" for name in ("low", "high"))
    return f"{100 * value['value']:.0f}% ({low} to {high}%)"


def duration(hours: float | None) -> str:
    """Hours in words."""
    if hours is None or not math.isfinite(hours):
        return "?"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def ago(at: float | None, now: float) -> str:
    """How long ago a time is."""
    if at is None:
        return "never"
    seconds = max(0.0, now - at)
    if seconds < 90:
        return f"{seconds:.0f} s ago"
    return f"{duration(seconds / 3600)} ago"


def order(groups: Sequence[Sequence[int]] | None, q: float | None = None) -> str:
    """A preference as 1 > 2 = 3, responses numbered from 1."""
    if groups is None:
        return "–" if q is None else f"1 is better with {100 * q:.0f}%"
    if len(groups) == 1:
        return "equal"
    return " > ".join(" = ".join(str(i + 1) for i in group) for group in groups)


def stacked(parts: Sequence[tuple[str, int]], label: str) -> Markup:
    """One bar, divided in proportion. parts: a class name and a number for each."""
    total = sum(number for _, number in parts) or 1
    x, pieces = 0.0, []
    for name, number in parts:
        width = WIDTH * number / total
        pieces.append(
            Markup('<rect class="{}" x="{}" y="0" width="{}" height="14"/>').format(name, round(x, 1), round(width, 1))
        )
        x += width
    return _svg(14, label, pieces)


def bars(numbers: Sequence[int], label: str) -> Markup:
    """A bar for each number, the last one on the right."""
    top, count = max([*numbers, 1]), max(len(numbers), 1)
    step = WIDTH / max(count, 24)
    pieces = [
        Markup('<rect class="bar-part" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
            round(i * step, 1), round(80 - 78 * n / top, 1), round(step * 0.8, 1), round(78 * n / top, 1), n
        )
        for i, n in enumerate(numbers)
    ]
    return _svg(80, label, pieces)


def curve(points: Sequence[Mapping[str, Any]], label: str) -> Markup:
    """Held-out accuracy with its interval over the number of judgments. points: {"judgments", "accuracy": estimate}."""
    known = [point for point in points if point.get("accuracy") and point["accuracy"]["value"] is not None]
    most = max([point["judgments"] for point in known], default=1)
    pieces = [
        Markup('<line class="axis-line" x1="40" x2="{}" y1="{}" y2="{}"/><text x="0" y="{}">{}%</text>').format(
            WIDTH, _y(at), _y(at), _y(at) + 4, round(100 * at)
        )
        for at in (0.5, 0.75, 1.0)
    ]
    places = []
    for point in known:
        x, value = 48 + (WIDTH - 60) * point["judgments"] / most, point["accuracy"]
        low = value["low"] if value["low"] is not None else value["value"]
        high = value["high"] if value["high"] is not None else value["value"]
        places.append(f"{x:.1f},{_y(value['value']):.1f}")
        pieces.append(
            Markup(
                '<line class="interval" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<circle class="point" cx="{0}" cy="{3}" r="4"><title>{4} judgments: {5}</title></circle>'
            ).format(round(x, 1), _y(low), _y(high), _y(value["value"]), point["judgments"], share(value))
        )
    for number in sorted({point["judgments"] for point in (*known[:1], *known[-1:])}):
        x = 48 + (WIDTH - 60) * number / most
        if number < most and x > WIDTH - 80:
            continue  # the last one's number is there
        pieces.append(Markup('<text x="{}" y="168" text-anchor="end">{:,}</text>').format(round(x + 12, 1), number))
    if len(places) > 1:
        pieces.append(Markup('<polyline class="curve" points="{}"/>').format(" ".join(places)))
    return _svg(174, label, pieces)


def _y(value: float) -> float:
    """Where an accuracy from 0.3 to 1 is drawn."""
    return round(10 + 150 * (1.0 - max(0.3, min(1.0, value))) / 0.7, 1)


def _svg(height: int, label: str, pieces: Sequence[Markup]) -> Markup:
    return Markup('<svg class="figure" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        label, WIDTH, height, Markup("").join(pieces)
    )
