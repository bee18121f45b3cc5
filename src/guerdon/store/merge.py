"""One store into another: rows that are missing are added, so merging twice, or in another order, gives the same content.

A presentation that is held and a call that is pending belong to the process that waits for them, and are left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from guerdon.contracts import GuerdonError
from guerdon.store import tables
from guerdon.store.database import Database
from guerdon.store.location import StoreLocation
from guerdon.store.rows import TABLES, Row
from guerdon.store.schema import require_schema
from guerdon.store.writer import insert_rows, metadata_table

ITEMS_AT_ONCE: Final = 1000
Advance = Callable[[int], None]


def merge(database: Database, source: Database, advance: Advance = lambda number: None) -> dict[str, int]:
    """Add what `source` holds to `database`; returns how many rows of each table were read.

    Items are written with all that belongs to them, some in each transaction, so a merge that is killed leaves whole items.
    Raises GuerdonError, before anything is written, where both revised the same judgment in different ways.
    """
    if _is_same(database.location, source.location):
        raise GuerdonError(f"{source.location}: must be another store, got the one to merge into. Name another.")
    counts = dict.fromkeys((*TABLES, "events"), 0)
    with source.reading() as reading:
        require_schema(reading, source)
        _refuse_conflicts(database, source, reading)
        for tables_of_some in _in_parts(reading):
            with database.writing() as writing:
                for name, rows in tables_of_some.items():
                    if rows:
                        insert_rows(writing, metadata_table(name), rows)
                        counts[name] += len(rows)
            advance(sum(map(len, tables_of_some.values())))
    return counts


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
    ids = connection.execute(sa.select(items.id).order_by(items.id), execution_options={"yield_per": ITEMS_AT_ONCE})
    with ids:
        for part in ids.scalars().partitions():
            is_prompt = items.id.between(part[0], part[-1])
            is_response = links.item_id.between(part[0], part[-1])
            belongs = {
                "prompts": tables.prompts.c.id.in_(sa.select(items.prompt_id).where(is_prompt)),
                "responses": tables.responses.c.id.in_(sa.select(links.response_id).where(is_response)),
                "items": is_prompt,
                "judge_calls": calls.id.in_(
                    sa.select(judgments.call_id).where(judgments.item_id.between(part[0], part[-1]))
                ),
            }
            rows = {}
            for name in TABLES:
                table = metadata_table(name)
                if table is not tables.annotators:
                    where = belongs[name] if name in belongs else table.c.item_id.between(part[0], part[-1])
                    rows[name] = _rows(connection, _mergeable(table).where(where))
            yield rows
    has_judgment = sa.exists().where(judgments.call_id == calls.id)
    query = _mergeable(tables.judge_calls).where(~has_judgment).order_by(calls.id)
    with connection.execute(query, execution_options={"yield_per": ITEMS_AT_ONCE}) as rest:
        for part in rest.mappings().partitions():
            yield {"judge_calls": [dict(row) for row in part]}
    yield {"events": _rows(connection, sa.select(tables.events))}


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _mergeable(table: sa.Table) -> sa.Select[Any]:
    """The rows that another store may take; counters are left to its triggers."""
    query = sa.select(*(column for column in table.columns if column is not tables.items.c.taken))
    if table is tables.presentations:
        return query.where(table.c.state != "held")
    return query.where(table.c.status != "pending") if table is tables.judge_calls else query


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
