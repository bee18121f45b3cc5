"""How commands print: reports, tables, JSON, notes on stderr, and exit codes.

Names and texts come from files and servers, so whatever is printed passes `visible`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from guerdon.errors import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from guerdon.contracts import Report

UNRESOLVED = 3  # exit code where too many calls to a judge gave nothing, or where a judge gave up


def print_report(report: Report, as_json: bool, folder: Path | None = None, *, is_full: bool = True) -> None:
    """Print the report to stdout, whole, or what fits a screen, or as one JSON object; then its page in the folder, if any."""
    if as_json:
        from guerdon.io.reports import to_json

        print_json(to_json(report))
        return
    from guerdon.reporting.console import brief, summary

    show(summary(report) if is_full else brief(report))
    if folder:
        print_page_path(folder)


def print_page_path(folder: Path) -> None:
    """Print where the folder's report.html is."""
    print(visible(f"\nreport  {(folder / 'report.html').resolve()}"))


def print_facts(facts: dict[str, Any], as_json: bool) -> None:
    """Print name and value of each fact, as a table or as one JSON object."""
    if as_json:
        print_json(facts)
        return
    print_rows(
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in facts.items()
    )


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print a table of two columns without a heading."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    show(table)


def print_json(value: Any) -> None:
    """Print one JSON value on one line; characters that steer a terminal are escaped, so the value stays the same."""
    import json

    text = json.dumps(value, ensure_ascii=False)
    print(re.sub(r"[^\n]", lambda c: c[0] if visible(c[0]) == c[0] else f"\\u{ord(c[0]):04x}", text))


def show(*renderables: RenderableType) -> None:
    """Print what rich can draw to stdout."""
    from rich.console import Console

    Console(highlight=False).print(*map(_Visible, renderables))


class _Visible:
    """A renderable whose text is drawn without control characters."""

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for text, style, control in console.render(self.renderable, options):
            yield Segment(text if control else visible(text), style, control)


def note(line: str) -> None:
    """Print one line to stderr, where it does not mix with results."""
    print(visible(line), file=sys.stderr)


def exit_on_errors(report: Report) -> None:
    """Exit 1 if the report or one of its sections has a finding of severity error."""
    if any(finding.severity == "error" for part in report.walk() for finding in part.findings):
        raise typer.Exit(1)
