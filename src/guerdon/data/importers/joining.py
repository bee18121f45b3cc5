"""Rows that are read together: those of one prompt, as neighbors or anywhere in a file."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.data.importers.columns import Row
from guerdon.data.importers.layout import Join
from guerdon.errors import field_error
from guerdon.io.fields import is_nan
from guerdon.io.schema import Rejected

__all__ = ["Unit", "units_of"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read at once: usually one row of the file.

    members: (location, row as it is in the file) pairs. row: what the importer reads, under our names of the columns.
    """

    members: tuple[tuple[str, Any], ...]
    row: Row

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows under our names of the columns."""
        return tuple(self.row["rows"]) if len(self.members) > 1 or "rows" in self.row else (self.row,)

    def rejected(self, reason: str) -> Iterator[Rejected]:
        """Every row of the file with this reason."""
        return (Rejected(place, reason, row) for place, row in self.members)


def units_of(
    rows: Iterable[tuple[str, Any]], rename: Callable[[Row], dict[str, Any]], join: Join | None
) -> Iterator[Unit | Rejected]:
    """(location, row) pairs in; the units that are read, and the rows that cannot be, out.

    In the order of the file; a unit of several rows stands where its first row does, or where its last row does if they are
    neighbors.
    """
    units = (_unit(place, row, rename) for place, row in rows)
    if join is None:
        yield from units
    elif join.scattered:
        yield from _gathered(units, join)
    else:
        for _, neighbors in groupby(_with_key(units, join), key=lambda pair: pair[0]):
            yield from _joined([unit for _, unit in neighbors])


def _unit(place: str, row: Any, rename: Callable[[Row], dict[str, Any]]) -> Unit | Rejected:
    if isinstance(row, Rejected):
        return row
    try:
        if not isinstance(row, Mapping):
            raise field_error("row", "an object with named fields", row)
        renamed = {key: value for key, value in rename(row).items() if not is_nan(value)}
    except GuerdonError as error:
        return Rejected(place, str(error), row)
    return Unit(((place, row),), renamed)


def _with_key(units: Iterable[Unit | Rejected], join: Join) -> Iterator[tuple[Hashable, Unit | Rejected]]:
    """A row that cannot be used has the key of the row before it: it does not separate that row's neighbors."""
    key: Hashable = None
    for unit in units:
        if isinstance(unit, Rejected):
            yield key, unit
            continue
        try:
            key = join.key(unit.row)
        except GuerdonError as error:
            yield from ((key, rejected) for rejected in unit.rejected(str(error)))
        else:
            yield key, unit


def _gathered(units: Iterable[Unit | Rejected], join: Join) -> Iterator[Unit | Rejected]:
    groups: dict[Hashable, list[Unit | Rejected]] = {}
    for key, unit in _with_key(units, join):
        if isinstance(unit, Rejected):
            yield unit
        else:
            groups.setdefault(key, []).append(unit)
    for group in groups.values():
        yield from _joined(group)


def _joined(group: Iterable[Unit | Rejected]) -> Iterator[Unit | Rejected]:
    """The rejected ones, and the others as one."""
    usable: list[Unit] = []
    for unit in group:
        if isinstance(unit, Rejected):
            yield unit
        else:
            usable.append(unit)
    if usable:
        members = tuple(member for unit in usable for member in unit.members)
        yield Unit(members, {"rows": [unit.row for unit in usable]})
