"""The check of a store when a server starts: counters that do not match what they count are set right.

Transactions keep them right while Guerdon writes. An import or a merge, a restored backup or a hand on the database may not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from guerdon.annotation.counting import count_in, count_needed
from guerdon.annotation.project import Project
from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal

__all__ = ["repair"]

_log = logging.getLogger("guerdon.annotation")

REPAIR_LOCK: Final = 0x677566  # of PostgreSQL
TRIES: Final = 5
CHANGED_MEANWHILE: Final = ("40001", "40P01")  # a serialization failure, a deadlock


def repair(project: Project) -> int:
    """Set counters right; returns how many were wrong: `taken` of items, and the project's counts of items and needed judgments.

    On PostgreSQL, servers that start at once do it one after the other, and people may judge meanwhile: what they change between
    the count and its correction makes it start again; after a few times, a warning says that nothing was corrected.
    """
    with _one_at_a_time(project):
        for _ in range(TRIES):
            try:
                with project.database.writing(one_snapshot=True) as connection:
                    return _repair_taken(connection, project) + _repair_counts(connection, project)
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in CHANGED_MEANWHILE:
                    raise
    _log.warning(
        "%s: counters were not checked, because people judged meanwhile; the next server to start checks them",
        project.name,
    )
    return 0


@contextmanager
def _one_at_a_time(project: Project) -> Iterator[None]:
    """Waits for other servers. The lock is taken before the count begins, in a transaction of its own: a snapshot is as old as it."""
    if project.database.is_sqlite:  # has one writer at a time anyway
        yield
        return
    with project.database.writing() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(REPAIR_LOCK)))
        yield


def _repair_taken(connection: sa.Connection, project: Project) -> int:
    items, presentations = tables.items.c, tables.presentations.c
    counted = (
        sa.select(sa.func.count())
        .where(
            presentations.item_id == items.id,
            sa.or_(presentations.state == literal("held"), presentations.state == literal("submitted")),
        )
        .scalar_subquery()
    )
    wrong = sa.update(tables.items).where(items.project == project.name, items.taken != counted).values(taken=counted)
    return int(connection.execute(wrong).rowcount)


def _repair_counts(connection: sa.Connection, project: Project) -> int:
    items, counts = tables.items.c, annotation_tables.project_counts
    query = sa.select(items.purpose, items.status, sa.func.count()).where(items.project == project.name)
    grouped = connection.execute(query.group_by(items.purpose, items.status))
    actual = {f"items:{purpose}:{status}": number for purpose, status, number in grouped}
    actual["needed"] = count_needed(connection, project.name)
    stored: dict[str, int] = {
        key: int(number)
        for key, number in connection.execute(
            sa.select(counts.c.key, sa.func.sum(counts.c.n))
            .where(counts.c.project == project.name, sa.or_(counts.c.key.like("items:%"), counts.c.key == "needed"))
            .group_by(counts.c.key)
        )
    }
    changes = {key: actual.get(key, 0) - stored.get(key, 0) for key in sorted({*actual, *stored})}
    changes = {key: change for key, change in changes.items() if change}
    count_in(connection, project.name, changes)
    return len(changes)
