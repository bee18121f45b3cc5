"""How commands print: reports, tables, JSON, notes on stderr, and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from guerdon.contracts import Report


def print_report(report: Report, as_json: bool, folder: Path | None = None) -> None:
    """Print the report to stdout, as tables or as one JSON object; below the tables, its page in the folder, if any."""
    if as_json:
        import json

        from guerdon.io.reports import to_json

        print(json.dumps(to_json(report), ensure_ascii=False))
        return
    from rich.console import Console

    from guerdon.reporting.console import summary

    Console(highlight=False).print(summary(report))
    if folder:
        print_page_path(folder)


def print_page_path(folder: Path) -> None:
    """Print where the folder's report.html is."""
    print(f"\nreport  {(folder / 'report.html').resolve()}")


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print name and value of each fact, as a table or as one JSON object."""
    if as_json:
        import json

        print(json.dumps(facts, ensure_ascii=False))
        return
    print_rows(
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in facts.items()
    )


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of two columns without a heading."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console(highlight=False).print(table)


def note(line: str) -> None:
    """Print one line to stderr, where it does not mix with results."""
    print(line, file=sys.stderr)


def exit_on_errors(report: Report) -> None:
    """Exit 1 if the report or one of its sections has a finding of severity error."""
    if any(finding.severity == "error" for part in report.walk() for finding in part.findings):
        raise typer.Exit(1)
