"""One store into another: rows that are missing are added, so merging twice, or in another order, gives the same content.

A presentation that is held and a call that is pending belong to the process that waits for them, and are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from guerdon.contracts import GuerdonError
from guerdon.data.store import tables
from guerdon.data.store.database import Database
from guerdon.data.store.location import StoreLocation
from guerdon.data.store.rows import TABLES, Row
from guerdon.data.store.schema import require_schema
from guerdon.data.store.writer import insert_rows, metadata_table

ROWS_AT_ONCE: Final = 5000
Advance = Callable[[int], None]


def merge(database: Database, source: Database, advance: Advance = lambda number: None) -> dict[str, int]:
    """Add what `source` holds to `database`; returns how many rows of each table were read. Rows are written in batches.

    Raises GuerdonError, before anything is written, where both revised the same judgment in different ways.
    """
    if _is_same(database.location, source.location):
        raise GuerdonError(f"{source.location}: must be another store, got the one to merge into. Name another.")
    counts = dict.fromkeys((*TABLES, "events"), 0)
    with source.reading() as reading:
        require_schema(reading, source)
        _refuse_conflicts(database, source, reading)
        for name in counts:
            for rows in _rows(reading, metadata_table(name)):
                with database.writing() as writing:
                    insert_rows(writing, metadata_table(name), rows)
                counts[name] += len(rows)
                advance(len(rows))
    return counts


def _is_same(a: StoreLocation, b: StoreLocation) -> bool:
    """Whether both name one store; a link names the file that it leads to."""
    return a == b or (a.path is not None and b.path is not None and a.path.samefile(b.path))


def _rows(connection: sa.Connection, table: sa.Table) -> Iterator[list[Row]]:
    """The rows to be merged, in the order of their ids; counters are left to the triggers of the other store."""
    columns = [column for column in table.columns if column is not tables.items.c.taken]
    query = sa.select(*columns).order_by(*_order(table))
    if table is tables.presentations:
        query = query.where(table.c.state != "held")
    if table is tables.judge_calls:
        query = query.where(table.c.status != "pending")
    result = connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
    try:
        for rows in result.mappings().partitions():
            yield [dict(row) for row in rows]
    finally:
        result.close()


def _order(table: sa.Table) -> list[Any]:
    """Judgments by revision first: each revision names the one before it."""
    first = [table.c.revision] if table is tables.judgments else []
    return [*first, *table.primary_key]


def _refuse_conflicts(database: Database, source: Database, reading: sa.Connection) -> None:
    """Raise GuerdonError where the stores hold different judgments as the same revision of one presentation."""
    columns = tables.judgments.c
    query = (
        sa.select(columns.presentation_id, columns.revision, columns.id)
        .join(tables.presentations, tables.presentations.c.id == columns.presentation_id)
        .where(tables.presentations.c.origin == "claimed")
    )
    with database.reading() as connection:
        require_schema(connection, database)
        with reading.execute(query, execution_options={"yield_per": 500}) as result:
            conflict = next(filter(None, (_conflict(connection, rows) for rows in result.partitions())), None)
        if conflict:
            raise GuerdonError(
                f"{source.location}: revision {conflict[1]} of the judgment of presentation {conflict[0]} must be that of "
                f"{database.location}, got another one. Both stores were written after one was copied: keep one of them."
            )


def _conflict(connection: sa.Connection, rows: Sequence[Any]) -> tuple[str, int] | None:
    columns = tables.judgments.c
    query = sa.select(columns.presentation_id, columns.revision, columns.id)
    given = {(presentation, revision): key for presentation, revision, key in rows}
    query = query.where(columns.presentation_id.in_({presentation for presentation, _ in given}))
    for presentation, revision, key in connection.execute(query):
        if given.get((presentation, revision), key) != key:
            return presentation, revision
    return None
