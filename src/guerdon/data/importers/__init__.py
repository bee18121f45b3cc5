"""Rows of other formats in, comparisons out; a row that cannot be used comes out with its reason.

One file per format. A new format is a file with a function from a row to a Comparison, and one line in IMPORTERS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.columns import COLUMNS, Row
from guerdon.data.importers.native import from_native, is_native
from guerdon.data.importers.scores import from_scores
from guerdon.data.importers.table import from_csv
from guerdon.data.importers.transcript import from_hh, is_hh
from guerdon.data.importers.trl import from_trl
from guerdon.data.importers.votes import from_votes
from guerdon.errors import did_you_mean, field_error, show_value
from guerdon.io.fields import is_nan
from guerdon.io.schema import Rejected, at_location

__all__ = ["IMPORTERS", "Importer", "Rejected", "detect_format", "import_rows"]

DETECTION_ROWS = 20  # the first rows, which decide the format


@dataclass(frozen=True, slots=True)
class Importer:
    """A format.

    read: a row in, its Comparison out; raises GuerdonError with the reason where there is none. columns: what each row of
    the format has. matches: what else tells the format of a row that has them.
    """

    read: Callable[[Row], Comparison]
    columns: tuple[str, ...]
    matches: Callable[[Row], bool] = lambda row: True


# Of the formats that a row fits, the first is taken.
IMPORTERS: Mapping[str, Importer] = {
    "hh": Importer(from_hh, ("chosen", "rejected"), is_hh),
    "native": Importer(from_native, ("responses",), is_native),
    "scores": Importer(from_scores, ("responses", "scores")),
    "votes": Importer(from_votes, ("response_a", "response_b", "votes")),
    "csv": Importer(from_csv, ("first", "second", "label")),
    "trl": Importer(from_trl, ("chosen", "rejected")),
}


def import_rows(
    rows: Iterable[tuple[str, Any]], options: ImportOptions, report_format: Callable[[str], None] = lambda line: None
) -> Iterator[Comparison | Rejected]:
    """(place, row) pairs in; for each row a Comparison or a Rejected out, in order.

    `report_format` is called once, with a line that names the format. With options.strict the first bad row raises
    GuerdonError with its place.
    """
    if options.format not in ("auto", *IMPORTERS):
        formats = ("auto", *IMPORTERS)
        raise field_error("format", "a known format", options.format, did_you_mean(options.format, formats))
    rows = iter(rows)
    head = list(islice(rows, DETECTION_ROWS))
    _refuse_wrong_columns(options.columns, head)
    name = detect_format(head, options.columns) if options.format == "auto" else options.format
    report_format(f"format: {name}" + (" (detected)" if options.format == "auto" else ""))
    for place, row in chain(head, rows):
        result = _import_row(place, row, IMPORTERS[name], options)
        if isinstance(result, Rejected) and options.strict:
            raise GuerdonError(f"{result.place}: {result.reason}")
        yield result


def detect_format(rows: Iterable[tuple[str, Any]], columns: Mapping[str, str] | None = None) -> str:
    """The format that most of these rows fit, by the names of their columns."""
    counts: Counter[str] = Counter()
    first: tuple[str, Any] | None = None
    for place, row in rows:
        if isinstance(row, Mapping):
            first = first or (place, row)
            counts.update(islice(_fitting_formats({**row, **_rename(row, columns or {}, strict=False)}), 1))
    if counts:
        return counts.most_common(1)[0][0]
    if first is None:
        return "native"  # nothing could be read: each row has its reason
    names = ", ".join(show_value(str(name), 30) for name in islice(first[1], 12))
    raise GuerdonError(
        f"{first[0]}: columns must fit a known format, got {names}. "
        "Say which is which with columns, such as prompt=question chosen=good rejected=bad."
    )


def _fitting_formats(row: Row) -> Iterator[str]:
    present = {key for key, value in row.items() if value is not None}
    for name, importer in IMPORTERS.items():
        if present.issuperset(importer.columns) and importer.matches(row):
            yield name


def _import_row(place: str, row: Any, importer: Importer, options: ImportOptions) -> Comparison | Rejected:
    if isinstance(row, Rejected):
        return row
    try:
        if not isinstance(row, Mapping):
            raise field_error("row", "an object with named fields", row)
        cells = {**_with_source(row, options.source), **_rename(row, options.columns)}
        return at_location(place, importer.read({key: value for key, value in cells.items() if not is_nan(value)}))
    except GuerdonError as error:
        return Rejected(place, str(error), row)


def _refuse_wrong_columns(columns: Mapping[str, str], head: list[tuple[str, Any]]) -> None:
    for ours, theirs in columns.items():
        if ours not in COLUMNS:
            raise GuerdonError(f"columns: {ours} is not one of our columns. {did_you_mean(ours, COLUMNS)}")
        names = {str(name): None for _, row in head if isinstance(row, Mapping) for name in row}
        if names and theirs not in names:
            raise GuerdonError(f"columns: {ours}={theirs}: no row has {theirs}. {did_you_mean(theirs, names)}")


def _rename(row: Row, columns: Mapping[str, str], strict: bool = True) -> dict[str, Any]:
    """The row with our names of the columns; strict requires every one of them."""
    missing = [theirs for theirs in columns.values() if theirs not in row]
    if missing and strict:
        raise GuerdonError(f"{missing[0]} is missing. Add it or drop the row.")
    others = {key: value for key, value in row.items() if key not in columns.values()}
    return others | {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}


def _with_source(row: Row, source: str | None) -> dict[str, Any]:
    return {} if source is None or row.get("source") is not None else {"source": source}
