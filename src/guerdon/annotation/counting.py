"""Counts that are kept in the transaction of what they count, so that no page has to scan a project.

Keys of a project: `items:PURPOSE:STATUS`, `hour:N` (judgments of tasks in the N-th hour since 1970, first revisions),
`judgments` (their sum), `needed` (those that open tasks still need, the ones in progress included), `all_bad` (how many judgments
call all responses bad, by their last revision), `revisions`, `late`, `adaptive` and `skips:REASON`. On PostgreSQL, processes count
in rows of their own (`shard`), so that they do not wait for each other; `project_counts` adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal
from guerdon.store.database import Database, insert_of
from guerdon.store.direct import Statement, Transaction

SHARDS: Final = 32
_TABLE: Final = annotation_tables.project_counts
OPEN_TO_ALL: Final = ("task", "calibration")  # purposes whose items count toward `need`; the others come in between
_COLUMNS: Final = ("project", "key", "shard", "n")


def _added(insert: Any) -> Any:
    statement = insert(_TABLE)
    return statement.on_conflict_do_update(
        index_elements=["project", "key", "shard"], set_={"n": _TABLE.c.n + statement.excluded.n}
    )


_COUNT: Final = Statement(_added, _COLUMNS)


def _shard(dialect_name: str) -> int:
    return 0 if dialect_name == "sqlite" else os.getpid() % SHARDS


def count(transaction: Transaction, project: str, changes: Mapping[str, int]) -> None:
    """Add to counts, the last thing that a transaction does: in the order of keys, so that two never wait in a circle."""
    shared = {"project": project, "shard": _shard(transaction.dialect.name)}
    for key, number in sorted(changes.items()):
        if number:
            transaction.run(_COUNT, **shared, key=key, n=number)


def count_in(connection: sa.Connection, project: str, changes: Mapping[str, int]) -> None:
    """The same through SQLAlchemy's connection."""
    statement = _added(insert_of(connection.dialect))
    for key in sorted(changes):
        row = {"project": project, "key": key, "shard": _shard(connection.dialect.name), "n": changes[key]}
        connection.execute(statement, row)


def count_needed(connection: sa.Connection, project: str) -> int:
    """What `needed` of a project has to be, from all its open items and their judgments."""
    items, presentations = tables.items.c, tables.presentations.c
    is_open = (items.project == project, items.purpose.in_(OPEN_TO_ALL), items.status == literal("open"))
    submitted = (
        sa.select(presentations.item_id, items.need, sa.func.count().label("number"))
        .join_from(tables.items, tables.presentations, presentations.item_id == items.id)
        .where(*is_open, presentations.state == literal("submitted"))
        .group_by(presentations.item_id, items.need)
        .subquery()
    )
    number, need = submitted.c.number, submitted.c.need
    useful = sa.select(sa.func.sum(sa.case((number < need, number), else_=need)))
    total = connection.scalar(sa.select(sa.func.sum(items.need)).where(*is_open))
    return int(total or 0) - int(connection.scalar(useful) or 0)


def project_counts(database: Database, project: str) -> dict[str, int]:
    """All counts of a project by key."""
    columns = _TABLE.c
    query = (
        sa.select(columns.key, sa.func.sum(columns.n))
        .where(columns.project == project)
        .group_by(columns.key)
        .order_by(columns.key)
    )
    with database.reading() as connection:
        counts = {key: int(number) for key, number in connection.execute(query)}
    return {**counts, "judgments": sum(number for key, number in counts.items() if key.startswith("hour:"))}
