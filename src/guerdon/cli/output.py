"""How commands print: tables, JSON, notes on stderr, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import typer.core

if TYPE_CHECKING:
    from guerdon.contracts import Report


def print_report(report: Report, as_json: bool) -> None:
    if as_json:
        import json

        from guerdon.io.reports import to_json

        print(json.dumps(to_json(report), ensure_ascii=False))
        return
    from rich.console import Console

    from guerdon.reporting.console import summary

    Console(highlight=False).print(summary(report))


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(facts, ensure_ascii=False))
        return
    print_rows((k.replace("_", " "), f"{v:,}" if isinstance(v, int) else str(v)) for k, v in facts.items())


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console(highlight=False).print(table)


def print_subsets(report: Report) -> None:
    """A line for each section of a benchmark: its score, and what the longer answer and equal scores would get."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from guerdon.reporting.words import interval, number

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("subset", "score", "95 % interval", "longer wins", "a constant", "n"):
        table.add_column(heading, justify="left" if heading in ("subset", "95 % interval") else "right")
    for section in report.sections:
        score, *anchors = (section.estimates[key] for key in ("score", "score_longer", "score_constant"))
        cells = (number(score.value, "share"), interval(score, "share"), *(number(a.value, "share") for a in anchors))
        table.add_row(*map(Text, (section.title, *cells, str(score.n))))
    if report.sections:
        Console(highlight=False).print("", table)


def exit_on_errors(report: Report) -> None:
    if any(finding.severity == "error" for finding in all_findings(report)):
        raise typer.Exit(1)


def exit_on_broken(report: Report, demands: list[Any]) -> None:
    """Exit 1 with a line on stderr for each rule of --fail-on that holds."""
    from guerdon.auditing.demands import broken

    if lines := broken(report, demands):
        print("\n".join(f"failed: {line}" for line in lines), file=sys.stderr)
        raise typer.Exit(1)


def write_card(report: Report, folder: Path) -> None:
    """The model's README, unless it is somebody's own or cannot be written: the audit stands without it."""
    from guerdon.api import auditing
    from guerdon.contracts import GuerdonError

    try:
        if not auditing.write_card(report, folder):
            note(f"{folder / 'README.md'}: left as it is, since it was not written by Guerdon")
    except GuerdonError as error:
        note(f"no model card: {error}")


def all_findings(report: Report) -> Iterator[Any]:
    yield from report.findings
    for section in report.sections:
        yield from all_findings(section)


def note(line: str) -> None:
    print(line, file=sys.stderr)


def last_metrics(path: Path) -> dict[str, Any]:
    """The last known value of each quantity worth showing."""
    import json

    shown: dict[str, Any] = {}
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        shown |= {k: row[k] for k in ("step", "loss", "held_out_loss", "held_out_accuracy") if k in row}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in shown.items()}
