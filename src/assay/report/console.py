"""A report for the terminal: its verdict, its numbers, its findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.report.words import by_severity, interval, number, parts, verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

    from assay.contracts import Report

COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}


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
