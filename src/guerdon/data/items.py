"""The items that the rows of an annotation tool name by id only, put into these rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error, show_value
from guerdon.io.readers import read_rows
from guerdon.io.schema import Rejected

__all__ = ["RowsWithItems"]

IDS = ("instance_id", "item_id", "id")


@dataclass(frozen=True, slots=True)
class RowsWithItems:
    """(location, row) pairs with the columns of the row's item in front of its own; the items are held in memory.

    An item and its rows share their `instance_id`, `item_id` or `id`. A row whose item is not in the file is a Rejected.
    """

    rows: Iterable[tuple[str, Any]]
    items: str | Path

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        items = _read_items(self.items)
        for place, row in self.rows:
            item = items.get(_id_of(row)) if isinstance(row, Mapping) else {}
            if item is None:
                known = ", ".join(show_value(name, 20) for name in list(items)[:3])
                error = field_error("the id", f"that of an item of {self.items} ({known}, …)", _id_of(row))
                yield place, Rejected(place, str(error), row)
            else:
                yield place, {**item, **row} if item else row


def _read_items(path: str | Path) -> dict[str, Mapping[str, Any]]:
    items: dict[str, Mapping[str, Any]] = {}
    for place, row in read_rows(path):
        if isinstance(row, Rejected):
            raise GuerdonError(f"{row.place}: {row.reason}")
        name = _id_of(row) if isinstance(row, Mapping) else ""
        if not name or name in items:
            advice = "Give each item its own id."
            raise field_error(f"{place}: the id of an item", "its own", name or row, advice)
        items[name] = row
    return items


def _id_of(row: Mapping[str, Any]) -> str:
    return next((str(row[name]) for name in IDS if row.get(name) not in (None, "")), "")
