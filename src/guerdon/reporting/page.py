"""The report as a page to read and as Markdown. Texts come from models and strangers: everything is escaped."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guerdon.contracts import (
    Curve,
    Example,
    Finding,
    Gate,
    Quantity,
    Report,
    Unit,
)
from guerdon.reporting.charts import chart_svg, whisker_svg
from guerdon.reporting.words import (
    costs,
    headline,
    inner_findings,
    interval,
    number,
    quantity,
    rank,
    tables,
    visible,
)

if TYPE_CHECKING:
    from guerdon.contracts import Estimate

TEXT_BYTES = 350_000  # of all texts on a page together, so that the page stays below a megabyte
LONGEST_TEXT = 4000  # characters of one of them, where there are few
SHORTEST_TEXT = 160  # bytes: less tells a reader nothing
MOST_POINTS = 40  # of one figure on the page; report.json has them all
MOST_FIGURES = 40
EXPECTED = ("longer_wins", "accuracy", "ceiling_majority")  # the first screen's scale, from below


def to_html(report: Report) -> str:
    """One page that needs nothing from outside: no script, no font, no image. The same bytes for the same report."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("guerdon.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2")
    return visible(page.render(report=_Page(report).view(report, "report", outermost=True)))


def to_markdown(report: Report, level: int = 1) -> str:
    """Headings from `level` down, tables, findings, figures as tables, and texts in fences that they cannot close."""
    lines = [f"{'#' * level} {inline(report.title)}", "", inline(headline(report))]
    if report.gate is not None:
        lines += ["", *_gate_lines(report.gate)]
    for part, rows in tables(report):
        lines += ["", f"**{inline(part)}**", "", "| | value | 95 % interval | n |", "|---|---:|---|---:|"]
        lines += [
            f"| {inline(known.label)} | {number(e.value, known.unit)} | {interval(e, known.unit)} | {e.n} |"
            for known, e in rows
        ]
    for finding in sorted(report.findings, key=rank):
        lines += ["", *_finding_lines(finding)]
    for name, curve in report.curves.items():
        lines += ["", f"**{inline(_curve_title(name, curve))}**", ""]
        lines += [f"| {inline(curve.x_label)} | {inline(curve.y_label)} | 95 % interval | n |", "|---|---:|---|---:|"]
        lines += [f"| {' | '.join(inline(cell) for cell in row)} |" for row in _curve_rows(curve)]
    for example in report.examples:
        lines += _example_lines(example)
    for section in report.sections:
        lines += ["", to_markdown(section, level + 1).rstrip()]
    if report.about:
        lines += ["", *(f"* {inline(key)}: {inline(value)}" for key, value in report.about.items())]
    return visible("\n".join(lines) + "\n")


def _finding_lines(finding: Finding) -> list[str]:
    remedy = f" Remedy: {inline(finding.remedy)}" if finding.remedy else ""
    cost = f" ({inline(costs(finding.cost))})" if finding.cost else ""
    lines = [f"* **{finding.severity}: {inline(finding.title)}.**{cost} {inline(finding.evidence)}.{remedy}"]
    for example in finding.examples:
        lines += _example_lines(example)
    return lines


def _gate_lines(gate: Gate) -> list[str]:
    lines = [f"**Decision: {inline(gate.decision)}.** {inline(gate.reason)}.", ""]
    lines += [f"* Limit: {inline(limit)}" for limit in gate.limits]
    facts = {
        "data that would help most": gate.needed_data,
        "expectation": gate.expectation,
        "published": gate.published,
        "hygiene": gate.hygiene,
    }
    lines += [f"* {name}: {inline(fact)}" for name, fact in facts.items() if fact]
    lines += ["", "| Rule | State | Measured | Wanted |", "|---|---|---|---|"]
    rows = [(ruling.rule, ruling.state, ruling.measured, ruling.wanted) for ruling in gate.rulings]
    return lines + [f"| {' | '.join(inline(cell) for cell in row)} |" for row in rows]


def _example_lines(example: Example) -> list[str]:
    lines = ["", f"**{inline(example.title)}**"]
    for label, text in _texts(example):
        lines += ["", inline(label), "", *_fenced(text)]
    return lines


# ---- The page ----------------------------------------------------------------------------------------------------


class _Page:
    """What the template prints: strings, and drawings made of nothing but our own marks and escaped labels."""

    def __init__(self, report: Report) -> None:
        num = sum(len(example.prompt) + len(example.responses) for example in _all_examples(report))
        self.bytes_a_text = max(SHORTEST_TEXT, TEXT_BYTES // max(1, num))
        self.figures = 0

    def view(self, report: Report, place: str, *, outermost: bool = False, hoisted: bool = False) -> dict[str, Any]:
        """A report or a part. Where the outermost has a gate, all findings stand together on the first screen."""
        gate = report.gate if outermost else None
        if gate is not None:
            found = list(inner_findings(report))
        else:
            found = [] if hoisted else [(finding, "", "") for finding in report.findings]
        shown = [self._finding(*each) for each in sorted(found, key=lambda each: rank(each[0]))]
        loud = [f for f in shown if f["severity"] != "note" or f["cost"]]
        return {
            "title": report.title,
            "place": place.replace(", part ", "-").replace("report", "part"),
            "headline": headline(report, counted=not hoisted),
            "gate": None if gate is None else _gate_view(gate, report),
            "parts": [(part, [_row(known, e, rows) for known, e in rows]) for part, rows in tables(report)],
            "findings": loud if gate is not None else shown,
            "notes": [f for f in shown if f not in loud] if gate is not None else [],
            "figures": [self._figure(name, curve, place) for name, curve in report.curves.items() if curve.x],
            "examples": [self._example(example) for example in report.examples],
            "sections": [
                self.view(section, f"{place}, part {i}", hoisted=hoisted or gate is not None)
                for i, section in enumerate(report.sections, 1)
            ],
            "about": list(report.about.items()),
        }

    def _finding(self, finding: Finding, at: str, part: str) -> dict[str, Any]:
        return {
            "severity": finding.severity,
            "title": finding.title,
            "evidence": finding.evidence,
            "remedy": finding.remedy,
            "cost": costs(finding.cost) if finding.cost else "",
            "examples": [self._example(example) for example in finding.examples],
            "at": at,
            "part": part,
        }

    def _figure(self, name: str, curve: Curve, place: str) -> dict[str, Any]:
        """A drawing and its table; the table alone, where a page has very many."""
        from markupsafe import Markup

        self.figures += 1
        drawn, caption = _thinned(curve), curve.caption
        if len(drawn.x) < len(curve.x):
            caption = (
                f"{caption} {len(drawn.x)} of {len(curve.x):,} points are shown; report.json has them all.".strip()
            )
        title = _curve_title(name, curve)
        return {
            "title": title,
            "svg": Markup(chart_svg(drawn, f"{title} ({place})")) if self.figures <= MOST_FIGURES else "",
            "caption": caption,
            "head": (curve.x_label, curve.y_label, "95 % interval", "n"),
            "rows": _curve_rows(drawn),
        }

    def _example(self, example: Example) -> dict[str, Any]:
        shown = zip(example.labels, example.responses, example.rewards, strict=True)
        return {
            "title": example.title,
            "prompt": [(message.role, self._clip(message.content)) for message in example.prompt],
            "responses": [
                {
                    "label": label,
                    "text": self._clip(response.text),
                    "reward": f"{reward:+.2f}" if math.isfinite(reward) else "",
                }
                for label, response, reward in shown
            ],
        }

    def _clip(self, text: str) -> str:
        """The text, or its beginning, so that it takes no more than its share of the page once it is escaped."""
        kept, size = 0, 0
        for letter in text[:LONGEST_TEXT]:
            size += len(html.escape(letter).encode("utf-8", "backslashreplace"))
            if size > self.bytes_a_text:
                break
            kept += 1
        return text if kept == len(text) else f"{text[:kept]} … ({len(text) - kept:,} more characters)"


def _all_examples(report: Report) -> Iterator[Example]:
    yield from report.examples
    for finding in report.findings:
        yield from finding.examples
    for section in report.sections:
        yield from _all_examples(section)


def _gate_view(gate: Gate, report: Report) -> dict[str, Any]:
    rows = [(quantity(report, key), report.estimates[key]) for key in EXPECTED if key in report.estimates]
    spans = [v for _, e in rows for v in (e.value, e.low, e.high) if math.isfinite(v)]
    low = min([0.4, *spans])
    return {
        "decision": gate.decision.capitalize(),
        "tone": {"fit": "good", "fit with limits": "limited", "not fit": "bad"}.get(gate.decision, "open"),
        "reason": gate.reason,
        "limits": gate.limits,
        "needed_data": gate.needed_data,
        "published": gate.published,
        "hygiene": gate.hygiene,
        "expected": [_row(known, e, [(known, e)], scale=(low, 1.0, (0.5,))) for known, e in rows],
        "rulings": gate.rulings,
    }


def _row(
    known: Quantity,
    estimate: Estimate,
    rows: list[tuple[Quantity, Estimate]],
    scale: tuple[float, float, tuple[float, ...]] | None = None,
) -> dict[str, Any]:
    from markupsafe import Markup

    low, high, marks = scale or _scale(known, rows)
    return {
        "label": known.label,
        "meaning": known.meaning,
        "value": number(estimate.value, known.unit),
        "interval": interval(estimate, known.unit),
        "n": f"{estimate.n:,}",
        "whisker": Markup(whisker_svg(estimate, low, high, marks)),
    }


def _scale(known: Quantity, rows: list[tuple[Quantity, Estimate]]) -> tuple[float, float, tuple[float, ...]]:
    """From where to where the whiskers of a table's rows of one unit are drawn, and their mark."""
    spans = [v for other, e in rows if other.unit == known.unit for v in (e.value, e.low, e.high) if math.isfinite(v)]
    if known.unit != "share" or (spans and min(spans) < 0) or max(spans, default=1.0) < 0.5:
        return min([0.0, *spans]), max([0.0, *spans]) or 1.0, (0.0,)
    return 0.0, 1.0, (0.5,)


def _thinned(curve: Curve) -> Curve:
    """At most MOST_POINTS of its points: of names those with most behind them, else spread evenly."""
    num = len(curve.x)
    if num <= MOST_POINTS:
        return curve
    if curve.x_names:
        kept = sorted(sorted(range(num), key=lambda i: -curve.y[i].n)[:MOST_POINTS])
    else:
        kept = sorted({round(i * (num - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})
    return replace(
        curve,
        x=tuple(curve.x[i] for i in kept),
        y=tuple(curve.y[i] for i in kept),
        x_names=tuple(curve.x_names[i] for i in kept) if curve.x_names else (),
    )


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


def _curve_title(name: str, curve: Curve) -> str:
    return curve.title or name.replace("_", " ").capitalize()


def inline(text: str) -> str:
    """Text that stays text in Markdown: no HTML, no table cell, no line break, no markup."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def _fenced(text: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return [f"{fence}text", text, fence]
