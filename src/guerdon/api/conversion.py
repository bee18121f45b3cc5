"""Write comparisons in the formats of other tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import ExportOptions, make
from guerdon.contracts import Comparison, GuerdonError

if TYPE_CHECKING:
    from guerdon.data.exporters import Job
    from guerdon.data.files import Rejects
    from guerdon.io.schema import Rejected

__all__ = ["Conversion", "convert", "convert_rows"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion wrote.

    rows: rows of the output. comparisons: those that were to be written. lost: what the format cannot hold -> how many comparisons
    lost it. losses: the same in a sentence; "" where nothing is lost. usage: how the tool reads the file. entry: what LLaMA-Factory's
    dataset_info.json must say of it.
    """

    rows: int
    comparisons: int
    lost: Mapping[str, int]
    losses: str = ""
    usage: str = ""
    entry: Mapping[str, Any] | None = None


def convert(comparisons: Iterable[Comparison], out: str | Path, **options: Any) -> Conversion:
    """Write comparisons as rows of another tool: .jsonl, .jsonl.gz or .parquet, by the ending of `out`.

    A comparison that the format cannot hold raises GuerdonError with its place. Keywords are ExportOptions: format, ties, pairs,
    margin_scale, extras.
    """
    return convert_rows(comparisons, out, make(ExportOptions, options))


def convert_rows(
    rows: Iterable[Comparison | Rejected],
    out: str | Path,
    options: ExportOptions,
    rejected_file: str | Path | None = None,
    rejects: Rejects | None = None,
) -> Conversion:
    """The same for rows that may be rejected: they and what the format cannot hold go to the file, and are counted in `rejects`.

    Without a file, the first of them raises GuerdonError. Nothing is written where no row is left.
    """
    from guerdon.data.exporters import EXPORTERS, exported_lines, prepare
    from guerdon.data.exporters.native import kept
    from guerdon.data.files import Rejects, count_rejects, require_usable
    from guerdon.io import line_files, writers

    job, rejects = prepare(options, out), rejects or Rejects()
    is_native = job.options.format == "native"
    converted = kept(rows, job) if is_native else exported_lines(rows, job)
    counted = count_rejects(converted, rejects)
    advice = "" if rejected_file is None else f" Read the reasons in {rejected_file}."
    with writers.renamed_together() as renames:
        usable = _strict(counted) if rejected_file is None else writers.set_aside(counted, rejected_file, renames)
        usable = _refuse_ties_only(require_usable(usable, rejects, advice), job)
        write = writers.write_comparisons if is_native else line_files.write_lines
        written = write(out, usable, renames)
    exporter, losses = EXPORTERS[job.options.format], job.losses
    entry = exporter.entry(Path(out)) if exporter.entry else None
    return Conversion(written, losses.comparisons, dict(losses.counts), losses.describe(), exporter.usage, entry)


def _strict(rows: Iterable[Any]) -> Iterator[Any]:
    from guerdon.io.schema import Rejected

    for row in rows:
        if isinstance(row, Rejected):
            raise GuerdonError(f"{row.place}: {row.reason}")
        yield row


def _refuse_ties_only(rows: Iterable[Any], job: Job) -> Iterator[Any]:
    """The same rows; an error where there are none because all comparisons are ties."""
    from guerdon.data.exporters import EXPORTERS

    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty and job.losses.comparisons:
        ties, name = job.losses.counts["ties"], job.options.format
        advice = "--ties soft" if "soft" in EXPORTERS[name].ties else "--to trl --ties soft"
        raise GuerdonError(
            f"rows must remain to be written, got ties only ({ties:,}), which {name} drops. Write {advice}."
        )
