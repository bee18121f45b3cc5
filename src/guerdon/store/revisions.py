"""Judgments of two stores as one chain of revisions, which only grows.

Both stores may have corrected the same judgment, or read the same judge call in different ways. What the other store says is then
added as later revisions, and the preferred judgment is the last one. Nothing that a store holds is changed or lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, Literal

import sqlalchemy as sa

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.store import tables
from guerdon.store.canonical import canonical
from guerdon.store.lines import DETAILS
from guerdon.store.rows import Row, judgment_id_of

Side = Literal["ours", "theirs"]
Chains = dict[tuple[Any, ...], list[Row]]  # the revisions of each judgment, by what it rests on

SAYS: Final = (
    "groups", "q", "strength", "votes", *DETAILS, "rationale", "source", "group_id", "weight", "comparison_id"
)  # fmt: skip
ROWS_AT_ONCE: Final = 1000
_ADDRESS: Final = ("item_id", "presentation_id", "call_id", "annotator_id")


def as_side(value: str | None) -> Side | None:
    """The side that is preferred, if any; GuerdonError for another word."""
    sides: dict[str | None, Side | None] = {None: None, "ours": "ours", "theirs": "theirs"}
    if value not in sides:
        raise field_error("--prefer", "ours or theirs", value, "Choose one of these.")
    return sides[value]


def revisions_to_add(connection: sa.Connection, theirs: Sequence[Row], prefer: Side | None) -> list[Row]:
    """The rows to insert for the judgments of another store, with those that both revised renumbered.

    theirs: whole judgments, all revisions of each. Raises GuerdonError where both revised one in different ways, neither
    knows all that the other says, and `prefer` is None.
    """
    given = _chains(theirs)
    joined = {key: _joined(ours, given[key], prefer) for key, ours in _diverged(connection, given).items()}
    return [row for chain in (given | joined).values() for row in chain]


def _chains(rows: Sequence[Any]) -> Chains:
    chains: Chains = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["revision"])):
        chains[tuple(row[name] for name in _ADDRESS)].append(dict(row))
    return chains


def _diverged(connection: sa.Connection, given: Chains) -> Chains:
    """Our revisions of those judgments of which both stores hold the same revision with different content."""
    if not given:
        return {}
    columns = tables.judgments.c
    of_these_items = columns.item_id.between(min(key[0] for key in given), max(key[0] for key in given))
    query = sa.select(columns.id, columns.revision, *(columns[name] for name in _ADDRESS)).where(of_these_items)
    diverged: dict[str, None] = {}
    with connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}) as rows:
        for key, revision, *address in rows:
            chain = given.get(tuple(address), ())
            if revision <= len(chain) and chain[revision - 1]["id"] != key:
                diverged[address[0]] = None
    ours: Chains = {}
    for item_id in diverged:
        rows_of_item = connection.execute(sa.select(tables.judgments).where(columns.item_id == item_id)).mappings()
        chains = _chains(rows_of_item.all())
        ours |= {key: chain for key, chain in chains.items() if _is_diverged(chain, given.get(key, ()))}
    return ours


def _is_diverged(ours: Sequence[Row], theirs: Sequence[Row]) -> bool:
    return any(a["id"] != b["id"] for a, b in zip(ours, theirs, strict=False))


def _joined(ours: Sequence[Row], theirs: Sequence[Row], prefer: Side | None) -> list[Row]:
    """What follows our revisions: what they say and we do not, and the preferred judgment last."""
    known, given = ({_says(row): row for row in rows} for rows in (ours, theirs))
    if prefer is None:  # a store that holds all that the other says was merged with it, and has decided
        prefer = "ours" if given.keys() <= known.keys() else "theirs" if known.keys() <= given.keys() else None
    if prefer is None:
        raise GuerdonError(
            f"{_name(ours[-1])} must be the same in both stores, or the newer one in one of them, got two that differ. "
            "Say whose is the newest revision: --prefer ours or theirs."
        )
    new = [row for says, row in given.items() if says not in known]
    last = (ours if prefer == "ours" else theirs)[-1]
    if _says((new or ours)[-1]) != _says(last):
        new.append(last)
    return [_renumbered(row, revision) for revision, row in enumerate(new, start=len(ours) + 1)]


def _says(row: Row) -> str:
    return canonical([row[name] for name in SAYS])


def _renumbered(row: Row, revision: int) -> Row:
    key = judgment_id_of(row["item_id"], row, revision, {name: row[name] for name in SAYS})
    return {**row, "id": key, "revision": revision, "supersedes_revision": revision - 1}


def _name(row: Row) -> str:
    if row["presentation_id"] is not None:
        return f"the judgment of presentation {row['presentation_id']}"
    return f"the judgment of item {row['item_id']} by call {row['call_id']}"
