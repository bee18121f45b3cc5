"""The single-file form of a store, prefs.v1.jsonl: a header, then an item with its judgments and labels per row."""

from __future__ import annotations

from collections.abc import Sequence

from guerdon.contracts import Comparison
from guerdon.data.importers.columns import Row
from guerdon.data.importers.reading import Reading
from guerdon.store.items import comparisons_of
from guerdon.store.lines import from_cells, header_of, is_header, is_item, item_from_row


def from_prefs(row: Row, reading: Reading) -> Sequence[Comparison]:
    """{id, prompt, responses, judgments, labels?}: an item's label, or else its judgments together, or each; nothing for the header."""
    if is_header(row):
        header_of(row)
        return []
    own = {name: value for name, value in row.items() if name != "source"}  # which --source adds to each row
    comparisons = list(comparisons_of(item_from_row(from_cells(own)), each=reading.options.judgments == "each"))
    if not comparisons:
        reading.note("items left out because they have no judgment, or their label is not accepted")
    return comparisons


def is_prefs(row: Row) -> bool:
    """Whether a row is a header or an item."""
    return is_header(row) or is_item(row)
