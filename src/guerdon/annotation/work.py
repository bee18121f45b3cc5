"""The row that counts a person's work in a project. A transaction of this person locks it first, so that of two tabs one waits."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.dialects import postgresql, sqlite

from guerdon.store import annotation_tables
from guerdon.store.direct import Statement, Transaction

WORK: Final = annotation_tables.work_counts.c
_LOCK: Final = Statement(
    sa.select(annotation_tables.work_counts)
    .where(WORK.project == bindparam("project"), WORK.annotator_id == bindparam("annotator_id"))
    .with_for_update(key_share=True)
)
_START: Final = {
    name: Statement(
        dialect.insert(annotation_tables.work_counts).on_conflict_do_nothing(
            index_elements=["project", "annotator_id"]
        ),
        ("project", "annotator_id"),
    )
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def lock_work(transaction: Transaction, project: str, annotator_id: str) -> Any:
    """The counts of this person, locked until the transaction ends."""
    work = transaction.first(_LOCK, project=project, annotator_id=annotator_id)
    if work is None:
        transaction.run(_START[transaction.dialect.name], project=project, annotator_id=annotator_id)
        work = transaction.first(_LOCK, project=project, annotator_id=annotator_id)
    return work
