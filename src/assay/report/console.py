"""A report for the terminal: its verdict, its numbers, its findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from assay.report.words import by_severity, interval, number, parts, quantity, verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.contracts import Report

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def brief(report: Report, keys: Sequence[str], facts: Sequence[str] = ()) -> RenderableType:
    """The verdict, the chosen estimates and facts in one table, and the titles of what was found: a first screen."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading, side in (("", "left"), ("value", "right"), ("95 % interval", "left"), ("n", "right")):
        table.add_column(heading, justify="right" if side == "right" else "left", header_style="dim")
    for key in keys:
        if key in report.estimates:
            known, e = quantity(key), report.estimates[key]
            table.add_row(
                Text(known.label), Text(number(e.value, known.unit)), Text(interval(e, known.unit), "dim"), str(e.n)
            )
    for fact in facts:
        if fact in report.about:
            table.add_row(Text(fact), Text(report.about[fact]))
    lines: list[RenderableType] = [Text(report.title, style="bold"), Text(verdict(report)), Text(""), table]
    for finding in by_severity(report):
        lines.append(
            Text.assemble(
                ("\n" if finding is by_severity(report)[0] else "") + f"{finding.severity}: ",
                finding.title,
                style=COLOURS[finding.severity],
            )
        )
    return Group(*lines)


def examples(report: Report, width: int = 100) -> RenderableType:
    """Each example's texts with their rewards, a line each, cut to the width."""
    from rich.console import Group
    from rich.text import Text

    lines: list[RenderableType] = []
    for example in report.examples:
        lines.append(Text(f"\n{example.title}", style="bold"))
        for label, response, reward in zip(example.labels, example.responses, example.rewards, strict=True):
            lines.append(Text(f"  {label:<13} {reward:+6.2f}  {' '.join(response.text.split())[:width]}"))
    return Group(*lines)


def summary(report: Report) -> RenderableType:
    """What rich prints. Texts are never read as markup."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    rows: list[RenderableType] = [Text(report.title, style="bold"), Text(verdict(report))]
    for part, estimates in parts(report):
        table = Table(title=Text(part, style="dim"), title_justify="left", box=None, padding=(0, 2, 0, 0))
        for heading, side in (("", "left"), ("value", "right"), ("95 % interval", "left"), ("n", "right")):
            table.add_column(heading, justify="right" if side == "right" else "left", header_style="dim")
        for known, e in estimates:
            table.add_row(
                Text(known.label), Text(number(e.value, known.unit)), Text(interval(e, known.unit), "dim"), str(e.n)
            )
        rows.append(Padding(table, (1, 0, 0, 0)))
    for finding in by_severity(report):
        line = Text.assemble((f"{finding.severity}: ", COLOURS[finding.severity]), (finding.title, "bold"))
        remedy = f"\n{finding.remedy}" if finding.remedy else ""
        rows.append(Padding(Group(line, Padding(Text(finding.evidence + remedy), (0, 0, 0, 2))), (1, 0, 0, 0)))
    rows += [Padding(summary(section), (1, 0, 0, 2)) for section in report.sections]
    return Group(*rows)
