"""The row that counts a person's work in a project. A transaction of this person locks it first, so that of two tabs one waits."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.store import annotation_tables, tables
from guerdon.store.direct import Statement, Transaction

WORK: Final = annotation_tables.work_counts.c
_ACCOUNTS: Final = annotation_tables.accounts.c
_LOCK: Final = Statement(
    sa.select(
        annotation_tables.work_counts,
        sa.select(annotation_tables.projects.c.state)
        .where(annotation_tables.projects.c.name == bindparam("project"))
        .scalar_subquery()
        .label("project_state"),
        sa.select(_ACCOUNTS.state)
        .where(_ACCOUNTS.annotator_id == bindparam("annotator_id"))
        .scalar_subquery()
        .label("account_state"),
        sa.select(tables.annotators.c.name)
        .where(tables.annotators.c.id == bindparam("annotator_id"))
        .scalar_subquery()
        .label("annotator_name"),
    )
    .where(WORK.project == bindparam("project"), WORK.annotator_id == bindparam("annotator_id"))
    .with_for_update(key_share=True, of=annotation_tables.work_counts)
)
_KEYS: Final = ("project", "annotator_id")
_START: Final = Statement(
    lambda insert: insert(annotation_tables.work_counts).on_conflict_do_nothing(index_elements=[*_KEYS]), _KEYS
)


def lock_work(transaction: Transaction, project: str, annotator_id: str) -> Any:
    """The counts of this person, locked until the transaction ends, with the states of project and account and the name."""
    work = transaction.first(_LOCK, project=project, annotator_id=annotator_id)
    if work is None:
        transaction.run(_START, project=project, annotator_id=annotator_id)
        work = transaction.first(_LOCK, project=project, annotator_id=annotator_id)
    return work
