"""A report for the terminal: its headline, its numbers, its findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

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
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from guerdon.contracts import Finding, Gate, Report

COLORS = {"error": "bold red", "warning": "yellow", "note": "dim"}
TONES = {"fit": "bold green", "fit with limits": "bold yellow", "not fit": "bold red"}
STATES = {"passed": "green", "failed": "red", "not shown": "yellow", "unknown": "dim"}


def _line(text: str, style: str = "") -> Text:
    """A text that is neither read as markup nor steers the terminal."""
    from rich.text import Text

    return Text(visible(text), style)


def brief(report: Report, keys: Sequence[str], facts: Sequence[str] = ()) -> RenderableType:
    """The headline, the chosen estimates and facts in one table, and the titles of what was found: a first screen."""
    from rich.console import Group

    table = _table()
    for key in keys:
        if key in report.estimates:
            known, e = quantity(report, key), report.estimates[key]
            table.add_row(
                _line(known.label), _line(number(e.value, known.unit)), _line(interval(e, known.unit), "dim"), str(e.n)
            )
    for fact in facts:
        if fact in report.about:
            table.add_row(_line(fact), _line(report.about[fact]))
    lines: list[RenderableType] = [
        _line(report.title, style="bold"),
        _line(headline(report)),
        *_gate(report.gate),
        _line(""),
    ]
    lines += [table, _line("")]
    for finding in _findings(report):
        if finding.severity != "note" or finding.cost:
            cost = f" ({costs(finding.cost)})" if finding.cost else ""
            lines.append(_line(f"{finding.severity}: {finding.title}{cost}", style=COLORS[finding.severity]))
    return Group(*lines)


def examples(report: Report, width: int = 100) -> RenderableType:
    """Each example's texts with their rewards, a line each, cut to the width."""
    from rich.console import Group

    lines: list[RenderableType] = []
    for example in report.examples:
        lines.append(_line(f"\n{example.title}", style="bold"))
        for label, response, reward in zip(example.labels, example.responses, example.rewards, strict=True):
            said = " ".join(response.text.split())[:width]
            lines.append(_line(f"  {label:<13} {reward:+6.2f}  {said}"))
    return Group(*lines)


def summary(report: Report, *, hoisted: bool = False) -> RenderableType:
    """What rich prints. Texts are never read as markup. `hoisted` says that the findings stand further up already."""
    from rich.console import Group
    from rich.padding import Padding

    rows: list[RenderableType] = [_line(report.title, style="bold")]
    rows += [_line(headline(report, counted=not hoisted)), *_gate(report.gate)]
    if report.gate is not None:
        rows.append(Padding(_rules(report.gate), (1, 0, 0, 0)))
    for finding in [] if hoisted else _findings(report):
        line = _line(f"{finding.severity}: ", COLORS[finding.severity]).append_text(_line(finding.title, "bold"))
        said = [costs(finding.cost)] if finding.cost else []
        said += [finding.evidence, *([finding.remedy] if finding.remedy else [])]
        rows.append(Padding(Group(line, Padding(_line("\n".join(said)), (0, 0, 0, 2))), (1, 0, 0, 0)))
    for part, estimates in tables(report):
        table = _table(part)
        for known, e in estimates:
            table.add_row(
                _line(known.label), _line(number(e.value, known.unit)), _line(interval(e, known.unit), "dim"), str(e.n)
            )
        rows.append(Padding(table, (1, 0, 0, 0)))
    hoisted = hoisted or report.gate is not None
    rows += [Padding(summary(section, hoisted=hoisted), (1, 0, 0, 2)) for section in report.sections]
    return Group(*rows)


def _findings(report: Report) -> list[Finding]:
    """Ranked; with those of its sections where the report has a gate, which judges all of them."""
    found = [finding for finding, *_ in inner_findings(report)] if report.gate else report.findings
    return sorted(found, key=rank)


def _gate(gate: Gate | None) -> Iterator[RenderableType]:
    """The decision, the reason, the limits, and what would help."""
    if gate is None:
        return
    head = _line(f"\n{gate.decision.capitalize()}", TONES.get(gate.decision, "bold"))
    yield head.append_text(_line(f": {gate.reason}"))
    yield from (_line(f"  limit: {limit}") for limit in gate.limits)
    if gate.needed_data:
        yield _line(f"  data that would help most: {gate.needed_data}")


def _rules(gate: Gate) -> Table:
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
    for heading, side in (("", "left"), ("value", "right"), ("95 % interval", "left"), ("n", "right")):
        table.add_column(heading, justify="right" if side == "right" else "left", header_style="dim")
    return table
