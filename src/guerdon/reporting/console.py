"""A report for the terminal: its headline, findings and numbers. Texts are never read as markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from guerdon.errors import visible
from guerdon.reporting.decision import decision_card, result_finding
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
TONES = {"good": "bold green", "limited": "bold yellow", "bad": "bold red", "open": "bold"}
STATES = {"passed": "green", "failed": "red", "not shown": "yellow", "unknown": "dim"}
MAX_FINDINGS = 6  # of a first screen
MAX_ROWS, ROWS_PER_SECTION = 12, 3


def summary(report: Report, *, is_hoisted: bool = False) -> RenderableType:
    """Everything: decision, findings, rules, tables and sections. `is_hoisted`: the findings are printed further up already."""
    from rich.console import Group
    from rich.padding import Padding

    rows: list[RenderableType] = [*_opening(report, with_warnings=not is_hoisted)]
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


def brief(report: Report, keys: Sequence[str] = (), facts: Sequence[str] = ()) -> RenderableType:
    """What fits a screen: the decision, the costliest findings by title, some estimates and facts, and how much is left out.

    keys: the estimates to print; without any, the first of each section.
    """
    from rich.console import Group

    keys = [key for key in keys if key in report.estimates] or _first_keys(report)
    table = _table()
    for key in keys:
        table.add_row(*_cells(quantity(report, key), report.estimates[key]))
    for fact in facts:
        if fact in report.about:
            table.add_row(_line(fact), _line(report.about[fact]))
    lines: list[RenderableType] = [*_opening(report)]
    if table.row_count:
        lines += [_line(""), table]
    shown = [finding for finding in _findings(report) if finding.severity != "note" or finding.cost]
    lines += [_line("")] if shown else []
    for finding in shown[:MAX_FINDINGS]:
        cost = f" ({cost_phrase(finding.cost)})" if finding.cost else ""
        lines.append(_line(f"{finding.severity}: {finding.title}{cost}", style=COLORS[finding.severity]))
    return Group(*lines, *_left_out(report, len(keys), min(len(shown), MAX_FINDINGS)))


def _first_keys(report: Report) -> list[str]:
    """The first estimates of each section of the table; of a single section more of them."""
    by_section: dict[str, list[str]] = {}
    for key in report.estimates:
        by_section.setdefault(quantity(report, key).section, []).append(key)
    most = max(ROWS_PER_SECTION, MAX_ROWS // max(1, len(by_section)))
    return [key for keys in by_section.values() for key in keys[:most]][:MAX_ROWS]


def _left_out(report: Report, num_keys: int, num_findings: int) -> Iterator[RenderableType]:
    """How many findings, rules and numbers are not on this screen."""
    counts = {
        "finding": len(_findings(report)) - num_findings,
        "rule": len(report.gate.rulings) if report.gate else 0,
        "number": sum(len(part.estimates) for part in report.walk()) - num_keys,
    }
    parts = [f"{num} {name}{'s' * (num > 1)}" for name, num in counts.items() if num > 0]
    if parts:
        yield _line(f"\nLeft out: {', '.join(parts)}. Add --full to print everything.", "dim")


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
    """Ranked, without the one that the decision states; with those of all sections if the report has a gate."""
    findings = [finding for finding, *_ in placed_findings(report)] if report.gate else report.findings
    result = result_finding(report)
    return sorted((finding for finding in findings if finding is not result), key=rank)


def _finding_block(finding: Finding) -> RenderableType:
    from rich.console import Group
    from rich.padding import Padding

    title = _line(f"{finding.severity}: ", COLORS[finding.severity]).append_text(_line(finding.title, "bold"))
    cost = cost_phrase(finding.cost) if finding.cost else ""
    details = "\n".join(filter(None, (cost, finding.evidence, finding.remedy)))
    return Group(title, Padding(_line(details), (0, 0, 0, 2)))


def _opening(report: Report, *, with_warnings: bool = True) -> Iterator[RenderableType]:
    """Title, headline, and the decision with its reason, open rules, limits and advice."""
    card = decision_card(report)
    yield _line(report.title, style="bold")
    text = headline(report, with_warnings=with_warnings, result=result_finding(report))
    if text:
        yield _line(text)
    if card is None:
        return
    decision = _line(f"\n{card.headline}", TONES[card.tone])
    yield decision.append_text(_line(f": {card.reason}", "default not bold")) if card.reason else decision
    yield from (_line(f"  {rule}") for rule in card.rules)
    yield from (_line(f"  Limit: {limit}.") for limit in card.limits)
    if card.advice:
        yield _line(f"  {card.advice}")


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
