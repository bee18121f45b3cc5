"""Files in any known format in, comparisons out: the one way in which every command reads comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers import COLUMNS_READ, DETECTION_ROWS, IMPORTERS, Rejected, import_rows
from guerdon.data.importers.layout import PAIRS, own_format, refuse_wrong_columns
from guerdon.data.importers.potato import RowsOfStates
from guerdon.data.items import RowsWithItems
from guerdon.data.unlabeled import Columns, require_two_responses, unlabeled_columns, unlabeled_rows
from guerdon.errors import counted
from guerdon.io.readers import RowFile, read_rows
from guerdon.io.saved_dataset import saved_splits
from guerdon.io.schema import comparison_to_row, conversation_from_row
from guerdon.io.sources import matching_files
from guerdon.store.location import is_store
from guerdon.store.prefs_file import WholeRows

__all__ = ["Rejects", "count_rejects", "import_files", "require_usable", "scorable_rows"]

_COMPARISONS = frozenset(
    ("chosen", "first", "rejected", *(pair[0] for pair in PAIRS))
)  # a column of each format of two responses
Row = TypeVar("Row")
Say = Callable[[str], None]


@dataclass(slots=True)
class Rejects:
    """How many rows cannot be used, and the first of them."""

    count: int = 0
    first: Rejected | None = None

    def add(self, row: Rejected) -> None:
        """Count a row."""
        self.count += 1
        self.first = self.first or row

    @property
    def number(self) -> str:
        """Such as "1 row" or "2,000 rows"."""
        return counted(self.count, "row")

    @property
    def first_reason(self) -> str:
        """The location of the first row and its reason."""
        return f"{self.first.place}: {self.first.reason}" if self.first else ""


def import_files(
    sources: Sequence[str | Path],
    options: ImportOptions,
    say: Say = lambda line: None,
    *,
    for_evaluation: bool = False,
) -> Iterator[Comparison | Rejected]:
    """For each row of each file or store a Comparison or a Rejected, in order and in constant memory.

    A format is detected per file; a store (store:PATH, or a URL of PostgreSQL) has none. `say` is called with a line about each file. The
    options hold for all files. A public benchmark is refused unless its rows are `for_evaluation`.
    """
    files = matching_files(sources)
    for source in files:
        report = say if len(files) == 1 else lambda line, source=source: say(f"{source}: {line}")
        if is_store(source):
            from guerdon.store.comparisons import read_store

            yield from read_store(source, options.judgments == "each", report)
            continue
        if len(splits := saved_splits(source)) > 1:
            report(f"split: {options.hub_split} of {', '.join(splits)}; imports.hub_split=NAME chooses another")
        rows: Iterable[tuple[str, Any]] = RowsOfStates(
            WholeRows(source, RowFile(source, options, COLUMNS_READ.union(options.columns.values())))
        )
        rows = rows if options.items is None else RowsWithItems(rows, options.items)
        yield from import_rows(rows, options, report, for_evaluation=for_evaluation)


def count_rejects(rows: Iterable[Row | Rejected], rejects: Rejects) -> Iterator[Row | Rejected]:
    """The same rows; those that are rejected are counted in `rejects`."""
    for row in rows:
        if isinstance(row, Rejected):
            rejects.add(row)
        yield row


def scorable_rows(
    sources: Sequence[str | Path],
    options: ImportOptions,
    rejects: Rejects,
    say: Say = lambda line: None,
    *,
    two_responses: bool = False,
) -> Iterator[tuple[str, Any]]:
    """The (location, row) pairs that `score` can take, in order and in constant memory; the others are counted.

    Rows of prompt and response(s), or of messages, keep all their columns, under our names. Comparisons in another format
    become Guerdon's own rows, so that what is scored is what `import` would give. two_responses: whether a file whose columns
    hold only one response, or none that is known, is an error at once.
    """
    for source in matching_files(sources):
        if is_store(source):
            yield from _imported(source, options, say)
            continue
        rows = read_rows(source, options)
        head = list(islice(rows, DETECTION_ROWS))
        if two_responses and options.format == "auto":
            _require_two_responses(head, options)
        if (columns := _unlabeled(head, options)) is not None:
            pairs = unlabeled_rows(chain(head, rows), columns)
        elif options.format in ("auto", "native") and _has_responses(head, options):
            pairs = _renamed(chain(head, rows), options)
        else:
            pairs = _imported(source, options, say)
        yield from _readable(pairs, options, rejects)


def _readable(rows: Iterable[tuple[str, Any]], options: ImportOptions, rejects: Rejects) -> Iterator[tuple[str, Any]]:
    """The rows that hold a prompt and responses; the others are counted, or with options.strict an error."""
    for location, row in rows:
        try:
            conversation_from_row(location, row)
        except GuerdonError as error:
            if options.strict:
                raise
            rejects.add(Rejected(location, str(error).removeprefix(f"{location}: "), row))
        else:
            yield location, row


def _unlabeled(head: Sequence[tuple[str, Any]], options: ImportOptions) -> Columns | None:
    """The columns of a table of pairs without labels; None for any other file."""
    first = next((row for _, row in head if isinstance(row, Mapping)), {})
    return unlabeled_columns([*map(str, first)], options.columns) if options.format == "auto" else None


def _require_two_responses(head: Sequence[tuple[str, Any]], options: ImportOptions) -> None:
    """Raise GuerdonError where the columns fit no format with names of its own and hold no two responses."""
    rows = [(location, row) for location, row in head if isinstance(row, Mapping)]
    if rows and own_format(rows, IMPORTERS, options) is None:
        names: dict[str, None] = dict.fromkeys(str(name) for _, row in rows for name in row)
        refuse_wrong_columns(options.columns, names)
        require_two_responses(rows[0][0], [*names], options.columns)


def _renamed(rows: Iterable[tuple[str, Any]], options: ImportOptions) -> Iterator[tuple[str, Any]]:
    ours = {theirs: ours for ours, theirs in options.columns.items()}
    for location, row in rows:
        yield location, {ours.get(key, key): row[key] for key in row} if isinstance(row, Mapping) else row


def _imported(source: str | Path, options: ImportOptions, say: Say) -> Iterator[tuple[str, Any]]:
    for row in import_files([source], options, say, for_evaluation=True):
        if isinstance(row, Rejected):
            yield row.place, row
        else:
            yield row.prompt.location, comparison_to_row(row)


def _has_responses(head: Sequence[tuple[str, Any]], options: ImportOptions) -> bool:
    """Whether the rows are to be scored as they are: no format of comparisons fits the first one better."""
    columns = options.columns
    first = next((row for _, row in head if isinstance(row, Mapping)), {})
    names = {*first, *(ours for ours, theirs in columns.items() if theirs in first)}
    has_one = bool({"messages", "response"} & names)
    own = own_format([(place, row) for place, row in head if isinstance(row, Mapping)], IMPORTERS, options)
    if own is not None and not (own == "unpaired" and has_one):
        return False
    return has_one or "responses" in names or not _COMPARISONS & names


def require_usable(rows: Iterable[Row], rejects: Rejects, advice: str = "") -> Iterator[Row]:
    """The same rows; where there are none, GuerdonError with the reason of the first rejected row."""
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty and rejects.count:
        others = f" None of {rejects.count:,} rows can be used." if rejects.count > 1 else ""
        raise GuerdonError(f"{rejects.first_reason}{others}{advice}")
