"""Read, write, check, inspect, split and aggregate comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import (
    AggregateOptions,
    CheckOptions,
    ImportOptions,
    InspectOptions,
    ModelOptions,
    SplitOptions,
    make,
)
from guerdon.contracts import (
    Comparison,
    Prompt,
    Report,
)
from guerdon.io import writers
from guerdon.progress import note

if TYPE_CHECKING:
    from guerdon.data.files import Rejects

PARTS = ("train", "calibrate", "audit")


def read(source: str | Path | Sequence[str | Path], **options: Any) -> list[Comparison]:
    """Comparisons from a file in any known format, from several, or from a hub data set.

    A bad row raises GuerdonError with its place. Keywords are ImportOptions: format, columns, label_means, hub_split,
    source.
    """
    chosen = make(ImportOptions, {"strict": True, **options})
    return list(stream_comparisons([source] if isinstance(source, str | Path) else source, chosen))


def stream_comparisons(
    sources: Sequence[str | Path], options: ImportOptions, rejects: Rejects | None = None
) -> Iterator[Comparison]:
    """The comparisons of files in any known format, in constant memory: what commands read.

    Bad rows are set aside and counted in `rejects`, or else in a note on stderr; with options.strict, and if no row is
    usable, the first one raises GuerdonError with its place.
    """
    from guerdon.data.files import Rejects, count_rejects, import_files, require_usable

    def say(line: str) -> None:
        if "format: native" not in line:  # the usual case, which needs no line
            note(line)

    is_reported = rejects is None
    rejects = rejects or Rejects()
    rows = count_rejects(import_files(sources, options, say), rejects)
    yield from require_usable((row for row in rows if isinstance(row, Comparison)), rejects)
    if rejects.count and is_reported:
        note(f"{', '.join(map(str, sources))}: {rejects.number} set aside; the first is {rejects.first_reason}")


def write(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons as JSONL or Parquet, by the path's extension; returns their number."""
    return writers.write_comparisons(path, comparisons)


def check(
    comparisons: Iterable[Comparison],
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    evaluations: Mapping[str, Sequence[Prompt]] | None = None,
    tokens: Any = None,
    rejects: Rejects | None = None,
    **options: Any,
) -> Report:
    """What is wrong with these comparisons, and which of them are in `against` too. Keywords are CheckOptions.

    evaluations: prompts that must not be trained on, by the name of their set, from `read_prompts`. tokens: a function from
    prompt and response to what a model would read, from `token_counter`. rejects: rows that could not be read, from
    `stream_comparisons`.
    """
    from guerdon.data.checks import check as run_check

    chosen = make(CheckOptions, options)
    return run_check(
        comparisons, chosen, against=against or {}, evaluations=evaluations, tokens=tokens, rejects=rejects
    )


@dataclass(frozen=True, slots=True)
class Fixed:
    """What `fix` did.

    report: on the files as they were. kept, dropped, merged: how many rows. remaining_errors: titles of errors that no row's
    change repairs.
    """

    report: Report
    kept: int
    dropped: int
    merged: int
    remaining_errors: tuple[str, ...] = ()


def fix(
    sources: Sequence[str | Path],
    out: str | Path,
    imports: ImportOptions | None = None,
    *,
    against: Mapping[str, Iterable[Comparison]] | None = None,
    evaluations: Mapping[str, Sequence[Prompt]] | None = None,
    tokens: Any = None,
    **options: Any,
) -> Fixed:
    """Write the comparisons of files without their faults to `out`, and what was done to which row to `fixes_path(out)`.

    Keywords are CheckOptions; the others are as in `check`.
    """
    from guerdon.data.checks.contract import Data
    from guerdon.data.files import Rejects, count_rejects, import_files
    from guerdon.data.fixes import Fixer

    rejects, is_first = Rejects(), True

    def read_rows() -> Iterator[Any]:
        nonlocal is_first
        rows = import_files(sources, imports or ImportOptions(), note if is_first else lambda line: None)
        counted = count_rejects(rows, rejects) if is_first else rows
        is_first = False
        return counted

    data = Data(make(CheckOptions, options), tokens, rejects, tuple(against or ()), evaluations)
    fixer = Fixer(read_rows, data, against)
    counts = writers.write_fixed(out, fixer.rows())
    return Fixed(fixer.report, **counts, remaining_errors=tuple(fixer.remaining_errors))


class ComparisonFiles:
    """The comparisons of files, read anew each time they are iterated, in constant memory.

    rejects: the bad rows of the first time. formats: what the files were taken for, once they have been read.
    """

    def __init__(self, sources: Sequence[str | Path], options: ImportOptions) -> None:
        from guerdon.data.files import Rejects

        self.sources, self.options = sources, options
        self.rejects, self.formats = Rejects(), list[str]()
        self._is_first = True

    def __iter__(self) -> Iterator[Comparison]:
        """Each row that can be used; what is noted about the files is noted once."""
        from guerdon.data.files import Rejects, count_rejects, import_files, require_usable

        is_first, self._is_first = self._is_first, False
        rejects = self.rejects if is_first else Rejects()
        rows = count_rejects(
            import_files(self.sources, self.options, self._note if is_first else lambda line: None), rejects
        )
        yield from require_usable((row for row in rows if isinstance(row, Comparison)), rejects)

    def _note(self, line: str) -> None:
        if "format: " in line:
            self.formats.append(line)
        else:
            note(line)


def inspect(
    comparisons: Iterable[Comparison],
    html: str | Path | None = None,
    *,
    check: Mapping[str, Any] | None = None,
    tokens: Any = None,
    **options: Any,
) -> Report:
    """What the comparisons are and what is wrong with them, with texts to read; the page `html` lets you browse a sample.

    comparisons: iterated twice: a list, or ComparisonFiles. check: options of the checks. tokens: as in `check`. Keywords
    are InspectOptions: sample, seed.
    """
    from guerdon.data.inspection import inspect as run_inspection
    from guerdon.reporting import to_html

    files = comparisons if isinstance(comparisons, ComparisonFiles) else None
    inspection = run_inspection(
        comparisons,
        make(InspectOptions, options),
        make(CheckOptions, dict(check or {})),
        formats=files.formats if files else (),
        tokens=tokens,
        rejects=files.rejects if files else None,
    )
    if html is not None:
        writers.write_text(html, to_html(inspection.report, inspection.sample))
    return inspection.report


def token_counter(options: ModelOptions) -> Any:
    """A function from a prompt and a response to the token ids [t] that a model reads, and whether they were truncated.

    It loads the tokenizer only.
    """
    from guerdon.models.directory.loading import load_text

    text = load_text(options.model_copy(update={"truncation": "left"}))
    return lambda prompt, response: text.encode([prompt], [response])[0]


def split(comparisons: Iterable[Comparison], **options: Any) -> dict[str, list[Comparison]]:
    """Train, calibrate and audit parts, split by prompt group and the same on any machine. Keywords are SplitOptions."""
    from guerdon.data.split import split as split_comparisons

    parts: dict[str, list[Comparison]] = {name: [] for name in PARTS}
    for part, comparison in split_comparisons(list(comparisons), make(SplitOptions, options), note):
        parts[part].append(comparison)
    return parts


def aggregate(comparisons: Iterable[Comparison], **options: Any) -> tuple[list[Comparison], Report]:
    """One comparison per pair, with a soft label from all judgments of it, and a report on the annotators.

    comparisons: one per judgment, with its annotator. Keywords are AggregateOptions. `guerdon.data.aggregate` has the same for
    more judgments than fit in memory, with the table of annotators.
    """
    from guerdon.data.aggregate import aggregate as run_aggregation

    held = list(comparisons)
    result = run_aggregation(lambda: held, make(AggregateOptions, options))
    return list(result.labels()), result.report
