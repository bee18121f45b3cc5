"""A report as Markdown. Texts come from models and strangers: none can become markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from guerdon.contracts import Estimate, Example, Finding, Gate, Quantity, Report
from guerdon.errors import visible
from guerdon.reporting.charts import curve_rows, curve_title
from guerdon.reporting.decision import DecisionCard, decision_card, result_finding
from guerdon.reporting.words import (
    cost_phrase,
    headline,
    interval,
    labeled_responses,
    number,
    prompt_turns,
    rank,
    tables,
)

__all__ = ["decision_lines", "estimate_table", "inline", "table_row", "to_markdown"]

_TABLE_RULE = "|---|---:|---|---:|"


def to_markdown(report: Report, level: int = 1) -> str:
    """Headings from `level` down, tables, findings, figures as tables, and texts in fences that they cannot close."""
    result = result_finding(report)
    lines = [f"{'#' * level} {inline(report.title)}", "", inline(headline(report, result=result))]
    if card := decision_card(report):
        lines += ["", *decision_lines(card)]
    if report.gate is not None:
        lines += ["", *_gate_lines(report.gate)]
    for section, rows in tables(report):
        lines += ["", f"**{inline(section)}**", "", *estimate_table(rows)]
    for finding in sorted((finding for finding in report.findings if finding is not result), key=rank):
        lines += ["", *_finding_lines(finding)]
    for name, curve in report.curves.items():
        lines += ["", f"**{inline(curve_title(name, curve))}**", ""]
        lines += [f"| {inline(curve.x_label)} | {inline(curve.y_label)} | 95 % interval | n |", _TABLE_RULE]
        lines += [table_row(*cells) for cells in curve_rows(curve)]
    for example in report.examples:
        lines += _example_lines(example)
    for part in report.sections:
        lines += ["", to_markdown(part, level + 1).rstrip()]
    if report.about:
        lines += ["", *(f"* {inline(key)}: {inline(value)}" for key, value in report.about.items())]
    return visible("\n".join(lines) + "\n")


def inline(text: str) -> str:
    """Text that stays text in Markdown: no HTML, no table cell, no line break, no markup."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", escaped)


def estimate_table(rows: Iterable[tuple[Quantity, Estimate]]) -> list[str]:
    """One row per estimate: its label, value, interval and n."""
    return [
        "| | value | 95 % interval | n |",
        _TABLE_RULE,
        *(
            f"| {inline(known.label)} | {number(e.value, known.unit)} | {interval(e, known.unit)} | {e.n} |"
            for known, e in rows
        ),
    ]


def table_row(*cells: str) -> str:
    """A row of a table, from texts."""
    return f"| {' | '.join(inline(cell) for cell in cells)} |"


def decision_lines(card: DecisionCard) -> list[str]:
    """The decision with its reason, and a list of open rules, limits and advice."""
    points = [*card.rules, *(f"Limit: {limit}." for limit in card.limits), *([card.advice] if card.advice else [])]
    lines = [f"**{inline(card.headline)}**{': ' if card.reason else ''}{inline(card.reason)}"]
    return [*lines, *([""] if points else []), *(f"* {inline(point)}" for point in points)]


def _gate_lines(gate: Gate) -> list[str]:
    facts = {"expectation": gate.expectation, "published": gate.published, "hygiene": gate.hygiene}
    return [
        *(f"* {name}: {inline(fact)}" for name, fact in facts.items() if fact),
        "",
        "| Rule | State | Measured | Wanted |",
        "|---|---|---|---|",
        *(table_row(ruling.rule, ruling.state, ruling.measured, ruling.wanted) for ruling in gate.rulings),
    ]


def _finding_lines(finding: Finding) -> list[str]:
    remedy = f" Remedy: {inline(finding.remedy)}" if finding.remedy else ""
    cost = f" ({inline(cost_phrase(finding.cost))})" if finding.cost else ""
    lines = [
        f"* **{finding.severity}: {inline(finding.title)}.**{cost} {inline(finding.evidence.removesuffix('.'))}.{remedy}"
    ]
    for example in finding.examples:
        lines += _example_lines(example)
    return lines


def _example_lines(example: Example) -> list[str]:
    texts = prompt_turns(example.prompt)
    texts += [(f"{label} ({reward})" if reward else label, text) for label, reward, text in labeled_responses(example)]
    lines = ["", f"**{inline(example.title)}**"]
    for label, text in texts:
        lines += ["", inline(label), "", *_fenced(text)]
    return lines


def _fenced(text: str) -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return [f"{fence}text", text, fence]
