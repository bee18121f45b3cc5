"""Rows of other formats in, comparisons out; a row that cannot be used comes out with its reason.

One file per format. A new format is a file with a function from a row to a Comparison, and one line in IMPORTERS.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers.columns import Row
from guerdon.data.importers.labeled import from_labeled, labels_of
from guerdon.data.importers.labels import LabelReader, label_reader
from guerdon.data.importers.layout import Importer, Layout, Remarks, find_layout
from guerdon.data.importers.native import from_native, is_native
from guerdon.data.importers.scores import from_scores
from guerdon.data.importers.transcript import from_hh, is_hh
from guerdon.data.importers.trl import cuts_prompt, from_trl
from guerdon.data.importers.votes import from_votes, labels_of_votes
from guerdon.errors import LabelError, did_you_mean, field_error, show_value
from guerdon.io.fields import is_nan
from guerdon.io.schema import Rejected, at_location

__all__ = ["IMPORTERS", "Importer", "Rejected", "import_rows"]

DETECTION_ROWS = 20  # the first rows, which decide the format
FORMER_NAMES = {"csv": "labeled"}

Report = Callable[[str], None]


def _unlabeled(read: Callable[[Row], Comparison]) -> Callable[[Row, LabelReader], Comparison]:
    """The reader of a format whose rows need no label."""

    @functools.wraps(read)
    def read_row(row: Row, read_label: LabelReader) -> Comparison:
        return read(row)

    return read_row


# Of the formats that a row fits, the first is taken.
IMPORTERS: Mapping[str, Importer] = {
    "hh": Importer(_unlabeled(from_hh), ("chosen", "rejected"), ("margin",), is_hh),
    "native": Importer(_unlabeled(from_native), ("responses",), matches=is_native, refuses_others=True),
    "scores": Importer(_unlabeled(from_scores), ("responses", "scores")),
    "votes": Importer(from_votes, ("response_a", "response_b", "votes"), labels=labels_of_votes, has_soft_labels=False),
    "labeled": Importer(from_labeled, ("first", "second", "label"), ("chosen", "rejected", "margin"), labels=labels_of),
    "trl": Importer(_unlabeled(from_trl), ("chosen", "rejected"), ("margin",), cuts_prompt=cuts_prompt),
}


def import_rows(
    rows: Iterable[tuple[str, Any]], options: ImportOptions, report: Report = lambda line: None
) -> Iterator[Comparison | Rejected]:
    """(place, row) pairs of one file in; for each row a Comparison or a Rejected out, in order.

    `report` is called with a line about the format, about numbers as labels, about prompts that are cut from texts, and about
    what is not used. With
    options.strict the first bad row raises GuerdonError with its place; a label that cannot be read always does, for all
    labels of a file are read before its first row. Rows that can be iterated only once are then held in memory.
    """
    options = options.model_copy(update={"format": FORMER_NAMES.get(options.format, options.format)})
    if options.format not in ("auto", *IMPORTERS):
        formats = ("auto", *IMPORTERS)
        raise field_error("format", "a known format", options.format, did_you_mean(options.format, formats))
    iterator = iter(rows)
    head = list(islice(iterator, DETECTION_ROWS))
    layout = find_layout(head, IMPORTERS, options)
    importer = IMPORTERS[layout.name]
    if any(isinstance(row, Mapping) for _, row in head):
        report(f"format: {layout.name}{layout.describe()}" + (" (detected)" if options.format == "auto" else ""))
    remaining: Iterable[tuple[str, Any]] = chain(head, iterator)
    read_label = LabelReader()
    if importer.labels is not None:
        remaining = list(remaining) if iterator is rows else remaining
        read_label = _reader_of(importer.labels, remaining, layout, options)
        if read_label.scale is not None:
            report(f"labels: {read_label.scale.meaning}")
        remaining = remaining if iterator is rows else rows
    remarks = Remarks.of(importer)
    for place, row in remaining:
        result = _import_row(place, row, layout, options, read_label, remarks)
        if isinstance(result, Rejected) and options.strict:
            raise GuerdonError(f"{result.place}: {result.reason}")
        yield result
    if remarks.cut_prompt:
        report(f"prompts: taken from what both answers begin with, such as {show_value(remarks.cut_prompt)}")
    if remarks.unused:
        report(f"columns not used: {remarks.unused_names()}")


def _reader_of(
    labels: Callable[[Row], list[object]], rows: Iterable[tuple[str, Any]], layout: Layout, options: ImportOptions
) -> LabelReader:
    """The reader of the labels of a file, from all of its rows."""

    def places_and_labels() -> Iterator[tuple[str, object]]:
        for place, row in rows:
            try:
                given = labels(layout.rename(row)) if isinstance(row, Mapping) else []
            except GuerdonError:  # the row is rejected with this reason when it is read
                continue
            yield from ((place, label) for label in given)

    return label_reader(
        places_and_labels(),
        "the label of votes" if layout.name == "votes" else layout.columns.get("label", "label"),
        means=options.label_means,
        known=layout.scale,
        soft=IMPORTERS[layout.name].has_soft_labels,
    )


def _import_row(
    place: str, row: Any, layout: Layout, options: ImportOptions, read_label: LabelReader, remarks: Remarks
) -> Comparison | Rejected:
    if isinstance(row, Rejected):
        return row
    try:
        if not isinstance(row, Mapping):
            raise field_error("row", "an object with named fields", row)
        renamed = {key: value for key, value in layout.rename(row).items() if not is_nan(value)}
        comparison = IMPORTERS[layout.name].read({**renamed, **_source(renamed, options.source)}, read_label)
        comparison = at_location(place, comparison)
    except LabelError as error:
        raise GuerdonError(f"{place}: {error}") from None
    except GuerdonError as error:
        return Rejected(place, str(error), row)
    if not remarks.cut_prompt and IMPORTERS[layout.name].cuts_prompt(renamed):
        remarks.cut_prompt = comparison.prompt[-1].content
    if not IMPORTERS[layout.name].refuses_others:
        remarks.add_unused(renamed)
    return comparison


def _source(row: Row, source: str | None) -> dict[str, Any]:
    return {} if source is None or row.get("source") is not None else {"source": source}
