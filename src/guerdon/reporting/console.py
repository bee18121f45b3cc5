"""A report for the terminal: its headline, findings and numbers. Texts are never read as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from guerdon.errors import visible
from guerdon.reporting.words import (
    cost_phrase,
    headline,
    interval,
    labeled_responses,
    number,
    placed_findings,
    quantity,
    rank,
    tables,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from guerdon.contracts import Estimate, Finding, Gate, Quantity, Report

__all__ = ["brief", "examples", "summary"]

COLORS = {"error": "bold red", "warning": "yellow", "note": "dim"}
TONES = {"fit": "bold green", "fit with limits": "bold yellow", "not fit": "bold red"}
STATES = {"passed": "green", "failed": "red", "not shown": "yellow", "unknown": "dim"}


def summary(report: Report, *, is_hoisted: bool = False) -> RenderableType:
    """Headline, gate, findings, tables and sections. `is_hoisted`: the findings are printed further up already."""
    from rich.console import Group
    from rich.padding import Padding

    rows: list[RenderableType] = [
        _line(report.title, style="bold"),
        _line(headline(report, with_warnings=not is_hoisted)),
        *_gate_lines(report.gate),
    ]
    if report.gate is not None:
        rows.append(Padding(_rules_table(report.gate), (1, 0, 0, 0)))
    rows += [Padding(_finding_block(finding), (1, 0, 0, 0)) for finding in ([] if is_hoisted else _findings(report))]
    for section, estimates in tables(report):
        table = _table(section)
        for known, estimate in estimates:
            table.add_row(*_cells(known, estimate))
        rows.append(Padding(table, (1, 0, 0, 0)))
    is_hoisted = is_hoisted or report.gate is not None
    rows += [Padding(summary(section, is_hoisted=is_hoisted), (1, 0, 0, 2)) for section in report.sections]
    return Group(*rows)


def brief(report: Report, keys: Sequence[str], facts: Sequence[str] = ()) -> RenderableType:
    """A first screen: the headline, the gate, the chosen estimates and facts in one table, and the titles of findings."""
    from rich.console import Group

    table = _table()
    for key in keys:
        if key in report.estimates:
            table.add_row(*_cells(quantity(report, key), report.estimates[key]))
    for fact in facts:
        if fact in report.about:
            table.add_row(_line(fact), _line(report.about[fact]))
    lines: list[RenderableType] = [_line(report.title, style="bold"), _line(headline(report))]
    lines += [*_gate_lines(report.gate), _line(""), table, _line("")]
    for finding in _findings(report):
        if finding.severity != "note" or finding.cost:
            cost = f" ({cost_phrase(finding.cost)})" if finding.cost else ""
            lines.append(_line(f"{finding.severity}: {finding.title}{cost}", style=COLORS[finding.severity]))
    return Group(*lines)


def examples(report: Report, width: int = 100) -> RenderableType:
    """Each example's responses with their rewards, one line per response, cut to the width."""
    from rich.console import Group

    lines: list[RenderableType] = []
    for example in report.examples:
        lines.append(_line(f"\n{example.title}", style="bold"))
        for label, reward, text in labeled_responses(example):
            lines.append(_line(f"  {label:<13} {reward:>6}  {' '.join(text.split())[:width]}"))
    return Group(*lines)


def _line(text: str, style: str = "") -> Text:
    """Text that is not read as markup and does not steer the terminal."""
    from rich.text import Text

    return Text(visible(text), style)


def _cells(known: Quantity, estimate: Estimate) -> tuple[Text, Text, Text, str]:
    value, limits = number(estimate.value, known.unit), interval(estimate, known.unit)
    return _line(known.label), _line(value), _line(limits, "dim"), str(estimate.n)


def _findings(report: Report) -> list[Finding]:
    """Ranked; with those of all sections if the report has a gate, which judges them together."""
    findings = [finding for finding, *_ in placed_findings(report)] if report.gate else report.findings
    return sorted(findings, key=rank)


def _finding_block(finding: Finding) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding

    title = _line(f"{finding.severity}: ", COLORS[finding.severity]).append_text(_line(finding.title, "bold"))
    cost = cost_phrase(finding.cost) if finding.cost else ""
    details = "\n".join(filter(None, (cost, finding.evidence, finding.remedy)))
    return Group(title, Padding(_line(details), (0, 0, 0, 2)))


def _gate_lines(gate: Gate | None) -> Iterator[RenderableType]:
    """The decision, its reason, the limits, and which data would help."""
    if gate is None:
        return
    decision = _line(f"\n{gate.decision.capitalize()}", TONES.get(gate.decision, "bold"))
    yield decision.append_text(_line(f": {gate.reason}"))
    yield from (_line(f"  limit: {limit}") for limit in gate.limits)
    if gate.needed_data:
        yield _line(f"  data that would help most: {gate.needed_data}")


def _rules_table(gate: Gate) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("rule", "state", "measured"):
        table.add_column(heading, header_style="dim")
    for ruling in gate.rulings:
        table.add_row(_line(ruling.rule), _line(ruling.state, STATES.get(ruling.state, "")), _line(ruling.measured))
    return table


def _table(title: str = "") -> Table:
    from rich.table import Table

    table = Table(
        title=_line(title, style="dim") if title else None, title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("", "value", "95 % interval", "n"):
        table.add_column(heading, justify="right" if heading in ("value", "n") else "left", header_style="dim")
    return table
