"""How far a person has come, of their own work alone."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

import sqlalchemy as sa

from guerdon.annotation.counting import OPEN_TO_ALL
from guerdon.annotation.project import Project
from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal

DAY: Final = 86_400.0
NEWEST: Final = 101  # judgments whose median time is shown


@dataclass(frozen=True, slots=True)
class OwnProgress:
    """done: all own judgments. today: since `day_start`. remaining: open items of the project, whoever judges them."""

    done: int
    today: int
    remaining: int
    median_seconds: float | None


def own_progress(project: Project, annotator_id: str, day_start: float) -> OwnProgress:
    """A person's own numbers. day_start: when their day began, in seconds since 1970."""
    presentations, judgments, items = tables.presentations.c, tables.judgments.c, tables.items.c
    own = (
        presentations.annotator_id == annotator_id,
        presentations.issued.isnot(None),
        presentations.state == literal("submitted"),
        items.project == project.name,
    )
    submitted = sa.select(sa.func.count()).join_from(
        tables.presentations, tables.items, items.id == presentations.item_id
    )
    times = (
        sa.select(judgments.active_ms)
        .join_from(tables.presentations, tables.items, items.id == presentations.item_id)
        .join(tables.judgments, sa.and_(judgments.presentation_id == presentations.id, judgments.revision == 1))
        .where(*own, judgments.active_ms.isnot(None))
        .order_by(presentations.issued.desc())
        .limit(NEWEST)
    )
    work, counts = annotation_tables.work_counts.c, annotation_tables.project_counts.c
    done = sa.select(work.submitted).where(work.project == project.name, work.annotator_id == annotator_id)
    remaining = sa.select(sa.func.sum(counts.n)).where(
        counts.project == project.name, counts.key.in_([f"items:{purpose}:open" for purpose in OPEN_TO_ALL])
    )
    with project.database.reading() as connection:
        seconds = [value / 1000 for value in connection.scalars(times)]
        return OwnProgress(
            int(connection.scalar(done) or 0),
            int(connection.scalar(submitted.where(*own, presentations.issued >= day_start)) or 0),
            int(connection.scalar(remaining) or 0),
            median(seconds) if seconds else None,
        )
