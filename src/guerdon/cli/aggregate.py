"""guerdon aggregate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import FILE
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    RowOptions,
    data_argument,
    given_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import note, print_json, print_report, show
from guerdon.errors import counted

if TYPE_CHECKING:
    from guerdon.contracts import Estimate
    from guerdon.data.aggregate import Aggregation

MOST_ROWS = 12  # annotators, and pairs of annotators, on a terminal; --annotators and --html have more


@app.command()
@with_option_groups
def aggregate(
    data: Annotated[
        list[str],
        data_argument("Judgments,", "aggregate.weight=n_eff"),
    ],
    rows: RowOptions,
    out: Annotated[
        Path, typer.Option("--out", help="Where the labels go, one per pair: .jsonl, .jsonl.gz or .parquet."), FILE
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="majority, dawid_skene or ability; by default ability where named annotators judged the same pairs, else majority.",
            show_default=False,
        ),
    ] = None,
    annotators: Annotated[
        Path | None,
        typer.Option("--annotators", help="Table of all annotators: .json or .csv.", show_default=False),
        FILE,
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="The report as one self-contained page.", show_default=False), FILE
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Turn many judgments of each pair into one label.

    Each pair gets a soft label from all of its votes. Agreement with intervals, ability and left bias of each annotator, and the
    best accuracy that any model can reach are reported. docs/aggregate.md describes the methods.

    Example: guerdon aggregate judgments.jsonl --out labels.jsonl --annotators annotators.csv
    """
    from guerdon.api.data import ComparisonFiles
    from guerdon.data.aggregate import aggregate as run_aggregation

    files, overrides = split_words(data)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "aggregate"],
        presets={"imports": {"judgments": "each"}},
        imports=rows.given(),
        aggregate=given_options(method=method),
    )
    judgments = ComparisonFiles(files, settings.imports)
    with _outputs(out, annotators, html) as write:
        result = run_aggregation(lambda: judgments, settings.aggregate)
        for line in judgments.formats:
            note(line)
        labels = write(result)
    rejects = judgments.rejects
    if rejects.count:
        note(f"{', '.join(files)}: {rejects.number} set aside; the first is {rejects.first_reason}")
    if json:
        from guerdon.io.reports import to_json

        print_json({"labels": labels, "out": str(out), "report": to_json(result.report)})
        return
    print_report(result.report, False)
    print_annotators(result)
    print_written(labels, out, annotators, html)


def print_annotators(result: Aggregation) -> None:
    """Print the annotators with the most judgments, and the kappas of those who share pairs."""
    from rich.table import Table
    from rich.text import Text

    def number(estimate: Estimate) -> str:
        return f"{estimate.value:+.2f} \N{PLUS-MINUS SIGN} {(estimate.high - estimate.low) / 2:.2f}"

    def table_of(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in headings:
            table.add_column(heading, header_style="dim")
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    shown = result.annotators[:MOST_ROWS]
    if shown:
        rows = (
            (
                a.name,
                f"{a.judgments:,}",
                number(a.ability),
                number(a.left_bias),
                "no others" if math.isnan(a.with_others) else f"{a.with_others:.0%}",
                ", ".join(a.flags),
            )
            for a in shown
        )
        show("", table_of(("annotator", "judgments", "ability", "left bias", "with others", "flags"), rows))
    if len(result.annotators) > len(shown):
        show(Text(f"and {len(result.annotators) - len(shown):,} more", "dim"))
    kappas = result.report.curves.get("cohen_kappa")
    if kappas is not None:
        pairs = zip(kappas.x_names[:MOST_ROWS], kappas.y, strict=False)
        show("", table_of(("Cohen's kappa", "", "prompts"), ((n, number(e), f"{e.n:,}") for n, e in pairs)))


def print_written(labels: int, out: Path, annotators: Path | None, html: Path | None) -> None:
    """Print what was written, on stderr."""
    note(f"{counted(labels, 'label')} in {out}")
    for name, path in (("annotators", annotators), ("report", html)):
        if path is not None:
            note(f"{name} in {path}")


@contextmanager
def _outputs(out: Path, annotators: Path | None, html: Path | None) -> Iterator[Callable[[Aggregation], int]]:
    """A function that writes the labels and what else was asked for, and returns the number of labels.

    Names that cannot be written are refused at once; all files get their names together, at the end of the block.
    """
    from guerdon.io import writers
    from guerdon.reporting import to_html

    if annotators is not None:
        writers.require_table_ending(annotators)
    with writers.renamed_together() as renames, writers.comparison_writer(out, renames) as write_label:

        def write(result: Aggregation) -> int:
            count = 0
            for label in result.labels():
                write_label(label)
                count += 1
            if annotators is not None:
                writers.write_table(annotators, [annotator.row() for annotator in result.annotators], renames)
            if html is not None:
                with writers.atomic_write(html, "w", renames) as file:
                    file.write(to_html(result.report))
            return count

        yield write
