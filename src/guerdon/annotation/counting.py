"""Counts that are kept in the transaction of what they count, so that no page has to scan a project.

Keys of a project: `items:PURPOSE:STATUS`, `hour:N` (judgments of tasks in the N-th hour since 1970, first revisions),
`judgments` (their sum), `all_bad` (how many of them call all responses bad, by their last revision), `revisions`, `late`, `adaptive`
and `skips:REASON`. On PostgreSQL, processes count in rows of their own (`shard`), so that they do not wait for each other;
`project_counts` adds them up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from guerdon.store import annotation_tables
from guerdon.store.database import Database, insert_of
from guerdon.store.direct import Statement, Transaction

SHARDS: Final = 32
_TABLE: Final = annotation_tables.project_counts
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
    if rows := [{**shared, "key": key, "n": number} for key, number in sorted(changes.items()) if number]:
        transaction.run_each(_COUNT, rows)


def count_in(connection: sa.Connection, project: str, changes: Mapping[str, int]) -> None:
    """The same through SQLAlchemy's connection."""
    statement = _added(insert_of(connection.dialect))
    for key in sorted(changes):
        row = {"project": project, "key": key, "shard": _shard(connection.dialect.name), "n": changes[key]}
        connection.execute(statement, row)


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
