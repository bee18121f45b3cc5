"""The row that counts a person's work in a project. A transaction of this person locks it first, so that of two tabs one waits."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal
from guerdon.store.direct import Statement, Transaction

WORK: Final = annotation_tables.work_counts.c
_ACCOUNTS: Final = annotation_tables.accounts.c
_PRESENTATIONS: Final = tables.presentations.c
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
        sa.select(sa.func.min(_PRESENTATIONS.expires))
        .where(_PRESENTATIONS.state == literal("held"))
        .scalar_subquery()
        .label("first_expiry"),
    )
    .where(WORK.project == bindparam("project"), WORK.annotator_id == bindparam("annotator_id"))
    .with_for_update(key_share=True, of=annotation_tables.work_counts)
)
_KEYS: Final = ("project", "annotator_id")
_START: Final = Statement(
    lambda insert: insert(annotation_tables.work_counts).on_conflict_do_nothing(index_elements=[*_KEYS]), _KEYS
)


def lock_work(
    transaction: Transaction, project: str, annotator_id: str, then: Statement, values: dict[str, Any]
) -> tuple[Any, Any]:
    """The counts of this person, locked until the transaction ends, with the states of project and account, the name, and when the
    first lease of anybody ends; and the first row of another statement, which sees what others did before the lock was had."""
    who = {"project": project, "annotator_id": annotator_id}
    work, row = transaction.send(_LOCK, **who), transaction.send(then, **values)
    if (locked := work()) is not None:
        return locked, row()
    transaction.run(_START, **who)
    return lock_work(transaction, project, annotator_id, then, values)
