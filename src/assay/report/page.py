"""The report as a page to read and as Markdown. Texts come from models and strangers: everything is escaped."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING, Any

from assay.contracts import Curve, Example, Report
from assay.report.charts import chart_svg, whisker_svg
from assay.report.words import Quantity, Unit, by_severity, interval, number, parts, verdict

if TYPE_CHECKING:
    from assay.contracts import Estimate

CURVE_TITLES = {
    "reliability": "Do the odds mean what they say?",
    "margins": "How far apart are the rewards?",
    "accuracy_by_length": "Accuracy by difference of length",
    "accuracy_by_source": "Accuracy by source",
    "proxy_by_kl": "The optimised reward, the further the policy goes",
    "gold_by_kl": "The second judge, the further the policy goes",
    "length_by_kl": "Length of replies",
    "gold_by_proxy": "Gold, for the proxy that was gained",
    "gold_by_proxy_forecast": "Forecast from the pool",
    "gold_by_proxy_best_of_n": "Best of n, for the proxy that was gained",
}
LONGEST_TEXT = 4000  # characters of one text on the page, so that a page stays below a megabyte


def to_html(report: Report) -> str:
    """One page that needs nothing from outside: no script, no font, no image. The same bytes for the same report."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("assay.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(report=_view(report, "report"))


def to_markdown(report: Report, level: int = 1) -> str:
    """Headings from `level` down, tables, findings, figures as tables, and texts in fences that they cannot close."""
    lines = [f"{'#' * level} {_inline(report.title)}", "", _inline(verdict(report))]
    for part, rows in parts(report):
        lines += ["", f"**{part}**", "", "| | value | 95 % interval | n |", "|---|---:|---|---:|"]
        lines += [
            f"| {_inline(known.label)} | {number(e.value, known.unit)} | {interval(e, known.unit)} | {e.n} |"
            for known, e in rows
        ]
    for finding in by_severity(report):
        remedy = f" Remedy: {_inline(finding.remedy)}" if finding.remedy else ""
        lines += ["", f"* **{finding.severity}: {_inline(finding.title)}.** {_inline(finding.evidence)}.{remedy}"]
    for name, curve in report.curves.items():
        lines += ["", f"**{_inline(_curve_title(name))}**", ""]
        lines += [f"| {_inline(curve.x_label)} | {_inline(curve.y_label)} | 95 % interval | n |", "|---|---:|---|---:|"]
        lines += [f"| {' | '.join(_inline(cell) for cell in row)} |" for row in _curve_rows(curve)]
    for example in report.examples:
        lines += ["", f"**{_inline(example.title)}**"]
        for label, text in _texts(example):
            lines += ["", _inline(label), "", *_fenced(text)]
    for section in report.sections:
        lines += ["", to_markdown(section, level + 1).rstrip()]
    if report.about:
        lines += ["", *(f"* {_inline(key)}: {_inline(value)}" for key, value in report.about.items())]
    return "\n".join(lines) + "\n"


def _view(report: Report, place: str) -> dict[str, Any]:
    """What the template prints: strings, and drawings made of nothing but our own marks and escaped labels."""
    from markupsafe import Markup

    return {
        "title": report.title,
        "verdict": verdict(report),
        "parts": [(part, [_row(known, e, rows) for known, e in rows]) for part, rows in parts(report)],
        "findings": by_severity(report),
        "figures": [
            {
                "title": _curve_title(name),
                "svg": Markup(chart_svg(curve, f"{_curve_title(name)} ({place})")),
                "caption": curve.caption,
                "head": (curve.x_label, curve.y_label, "95 % interval", "n"),
                "rows": _curve_rows(curve),
            }
            for name, curve in report.curves.items()
            if curve.x
        ],
        "examples": [_example_view(example) for example in report.examples],
        "sections": [_view(section, f"{place}, part {i}") for i, section in enumerate(report.sections, 1)],
        "about": list(report.about.items()),
    }


def _row(known: Quantity, estimate: Estimate, rows: list[tuple[Quantity, Estimate]]) -> dict[str, Any]:
    from markupsafe import Markup

    low, high, marks = 0.0, 1.0, (0.5,)
    spans = [v for other, e in rows if other.unit == known.unit for v in (e.value, e.low, e.high) if math.isfinite(v)]
    if known.unit != "share" or (spans and min(spans) < 0) or max(spans, default=1.0) < 0.5:
        low, high, marks = min([0.0, *spans]), max([0.0, *spans]) or 1.0, (0.0,)
    return {
        "label": known.label,
        "meaning": known.meaning,
        "value": number(estimate.value, known.unit),
        "interval": interval(estimate, known.unit),
        "n": f"{estimate.n:,}",
        "whisker": Markup(whisker_svg(estimate, low, high, marks)),
    }


def _example_view(example: Example) -> dict[str, Any]:
    shown = zip(example.labels, example.responses, example.rewards, strict=True)
    return {
        "title": example.title,
        "prompt": [(message.role, _clip(message.content)) for message in example.prompt],
        "responses": [
            {"label": label, "text": _clip(response.text), "reward": f"{reward:+.2f}" if math.isfinite(reward) else ""}
            for label, response, reward in shown
        ],
    }


def _texts(example: Example) -> list[tuple[str, str]]:
    asked = [(message.role, message.content) for message in example.prompt]
    shown = zip(example.labels, example.responses, example.rewards, strict=True)
    return asked + [
        (f"{label} ({reward:+.2f})" if math.isfinite(reward) else label, r.text) for label, r, reward in shown
    ]


def _curve_rows(curve: Curve) -> list[tuple[str, ...]]:
    unit: Unit = "share" if curve.y_label.startswith(("share", "accuracy")) else "number"
    names = curve.x_names or tuple(f"{x:.4g}" for x in curve.x)
    return [
        (name, number(e.value, unit), interval(e, unit), f"{e.n:,}") for name, e in zip(names, curve.y, strict=True)
    ]


def _curve_title(name: str) -> str:
    plain = name.removeprefix("update_").removeprefix("check_")
    return CURVE_TITLES.get(name, plain.replace("_", " ").capitalize())


def _clip(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} … ({len(text) - LONGEST_TEXT:,} more characters)"


def _inline(text: str) -> str:
    """Text that stays text in Markdown: no HTML, no table cell, no line break, no markup."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def _fenced(text: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return [f"{fence}text", text, fence]
