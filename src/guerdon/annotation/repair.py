"""The check of a store when a server starts: counters that do not match what they count are set right.

Transactions keep them right while Guerdon writes. An import or a merge, a restored backup or a hand on the database may not.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from guerdon.annotation.counting import count_in
from guerdon.annotation.project import Project
from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal

__all__ = ["repair"]


def repair(project: Project) -> int:
    """Set counters right; returns how many were wrong: `taken` of items, and the project's counts of items and judgments."""
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
    with project.database.writing() as connection:
        number = int(connection.execute(wrong).rowcount)
    return number + _repair_counts(project)


def _repair_counts(project: Project) -> int:
    items, counts = tables.items.c, annotation_tables.project_counts
    query = sa.select(items.purpose, items.status, sa.func.count()).where(items.project == project.name)
    with project.database.writing() as connection:
        grouped = connection.execute(query.group_by(items.purpose, items.status))
        actual = {f"items:{purpose}:{status}": number for purpose, status, number in grouped}
        stored: dict[str, int] = {
            key: int(number)
            for key, number in connection.execute(
                sa.select(counts.c.key, sa.func.sum(counts.c.n))
                .where(counts.c.project == project.name, counts.c.key.like("items:%"))
                .group_by(counts.c.key)
            )
        }
        changes: dict[str, Any] = {key: actual.get(key, 0) - stored.get(key, 0) for key in sorted({*actual, *stored})}
        changes = {key: change for key, change in changes.items() if change}
        count_in(connection, project.name, changes)
    return len(changes)
