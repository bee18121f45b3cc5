"""One store into another: rows that are missing are added, so merging twice, or in another order, gives the same content.

A presentation that is held and a call that is pending belong to the process that waits for them, and are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import sqlalchemy as sa

from guerdon.contracts import GuerdonError
from guerdon.store import tables
from guerdon.store.database import Database
from guerdon.store.location import StoreLocation
from guerdon.store.revisions import Side, revisions_to_add
from guerdon.store.rows import TABLES, Row
from guerdon.store.schema import require_schema
from guerdon.store.writer import insert_rows, metadata_table, one_content_per_id

ITEMS_AT_ONCE: Final = 1000
Advance = Callable[[int], None]


def merge(
    database: Database, source: Database, advance: Advance = lambda number: None, prefer: Side | None = None
) -> dict[str, int]:
    """Add what `source` holds to `database`; returns how many rows of each table were read.

    Items are written with all that belongs to them, some in each transaction, so a merge that is killed leaves whole items.
    prefer: whose judgment is the newest revision where both revised one in different ways: "ours" of `database`, or "theirs".
    Where it is None, such a judgment raises GuerdonError before anything is written.
    """
    if _is_same(database.location, source.location):
        raise GuerdonError(f"{source.location}: must be another store, got the one to merge into. Name another.")
    counts = dict.fromkeys((*TABLES, "events"), 0)
    with source.reading() as reading:
        require_schema(reading, source)
        if prefer is None:
            _refuse_conflicts(database, source, reading)
        for tables_of_some in _in_parts(reading):
            with one_content_per_id(database), database.writing() as writing:
                _write(writing, tables_of_some, source, prefer)
            for name, rows in tables_of_some.items():
                counts[name] += len(rows)
            advance(sum(map(len, tables_of_some.values())))
    return counts


def _write(connection: sa.Connection, rows_of: dict[str, list[Row]], source: Database, prefer: Side | None) -> None:
    for name, rows in rows_of.items():
        table = metadata_table(name)
        if table is tables.judgments:
            rows = _revisions(connection, rows, source, prefer)
        if rows:
            insert_rows(connection, table, rows, prefer)


def _revisions(connection: sa.Connection, rows: list[Row], source: Database, prefer: Side | None) -> list[Row]:
    try:
        return revisions_to_add(connection, rows, prefer)
    except GuerdonError as error:
        raise GuerdonError(f"{source.location}: {error}") from None


def _is_same(a: StoreLocation, b: StoreLocation) -> bool:
    """Whether both name one store; a link names the file that it leads to."""
    return a == b or (a.path is not None and b.path is not None and a.path.samefile(b.path))


def _in_parts(connection: sa.Connection) -> Iterator[dict[str, list[Row]]]:
    """The rows to be written together: the annotators, then items in the order of their ids with all their rows, then calls
    without a judgment, then the log."""
    yield {"annotators": _rows(connection, sa.select(tables.annotators))}
    items, links, calls, judgments = (
        tables.items.c, tables.item_responses.c, tables.judge_calls.c, tables.judgments.c,
    )  # fmt: skip
    for first, last in _ranges(connection):
        is_prompt = items.id.between(first, last)
        is_response = links.item_id.between(first, last)
        belongs = {
            "prompts": tables.prompts.c.id.in_(sa.select(items.prompt_id).where(is_prompt)),
            "responses": tables.responses.c.id.in_(sa.select(links.response_id).where(is_response)),
            "items": is_prompt,
            "judge_calls": calls.id.in_(sa.select(judgments.call_id).where(judgments.item_id.between(first, last))),
        }
        rows = {}
        for name in TABLES:
            table = metadata_table(name)
            if table is not tables.annotators:
                where = belongs[name] if name in belongs else table.c.item_id.between(first, last)
                rows[name] = _rows(connection, _mergeable(table).where(where))
        yield rows
    has_judgment = sa.exists().where(judgments.call_id == calls.id)
    query = _mergeable(tables.judge_calls).where(~has_judgment).order_by(calls.id)
    with connection.execute(query, execution_options={"yield_per": ITEMS_AT_ONCE}) as rest:
        for part in rest.mappings().partitions():
            yield {"judge_calls": [dict(row) for row in part]}
    yield {"events": _rows(connection, sa.select(tables.events))}


def _ranges(connection: sa.Connection) -> Iterator[tuple[str, str]]:
    """The first and last id of some items at a time, by rising id."""
    query = sa.select(tables.items.c.id).order_by(tables.items.c.id)
    with connection.execute(query, execution_options={"yield_per": ITEMS_AT_ONCE}) as ids:
        for part in ids.scalars().partitions():
            yield part[0], part[-1]


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _mergeable(table: sa.Table) -> sa.Select[Any]:
    """The rows that another store may take; counters are left to its triggers."""
    query = sa.select(*(column for column in table.columns if column is not tables.items.c.taken))
    if table is tables.presentations:
        return query.where(table.c.state != "held")
    return query.where(table.c.status != "pending") if table is tables.judge_calls else query


def _refuse_conflicts(database: Database, source: Database, reading: sa.Connection) -> None:
    """Raise GuerdonError where both stores revised one judgment. The id of an imported one covers all its revisions."""
    judgments, presentations = tables.judgments, tables.presentations
    query = (
        sa.select(judgments)
        .join_from(judgments, presentations, presentations.c.id == judgments.c.presentation_id, isouter=True)
        .where(sa.or_(judgments.c.call_id.is_not(None), presentations.c.origin == "claimed"))
    )
    with database.reading() as connection:
        require_schema(connection, database)
        for first, last in _ranges(reading):
            _revisions(connection, _rows(reading, query.where(judgments.c.item_id.between(first, last))), source, None)
