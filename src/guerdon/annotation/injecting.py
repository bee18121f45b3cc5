"""What comes in between: items with a known answer, and own pairs again in the opposite order. None counts toward `need`.

In each run of 1/share claims, one claim that a hash picks gets the item, so nobody can tell which will be next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation.assignments import PRESENTATIONS
from guerdon.annotation.project import Project
from guerdon.annotation.sides import hashed
from guerdon.store import tables
from guerdon.store.canonical import content_id
from guerdon.store.columns import literal
from guerdon.store.direct import Statement, Transaction

__all__ = ["Due", "due"]

REPEATABLE: Final = 20  # own judgments that one of which is repeated


@dataclass(frozen=True, slots=True)
class Due:
    """An item that comes in between. shown: the order; None where it follows from the slot."""

    item_id: str
    purpose: str
    shown: tuple[int, ...] | None = None


_ITEMS: Final = tables.items.c
_LINKS: Final = tables.item_responses.c
_UNSEEN: Final = Statement(
    sa.select(_ITEMS.id)
    .where(
        _ITEMS.project == bindparam("project"),
        _ITEMS.purpose != literal("task"),
        _ITEMS.purpose == bindparam("purpose"),
        _ITEMS.status == literal("open"),
        ~sa.exists().where(PRESENTATIONS.item_id == _ITEMS.id, PRESENTATIONS.annotator_id == bindparam("annotator_id")),
    )
    .order_by(_ITEMS.ord)
    .limit(1)
)
_JUDGED: Final = Statement(
    sa.select(PRESENTATIONS.item_id, PRESENTATIONS.shown, _ITEMS.prompt_id)
    .join(tables.items, _ITEMS.id == PRESENTATIONS.item_id)
    .where(
        PRESENTATIONS.annotator_id == bindparam("annotator_id"),
        PRESENTATIONS.issued.isnot(None),
        PRESENTATIONS.state == literal("submitted"),
        _ITEMS.project == bindparam("project"),
        _ITEMS.purpose == literal("task"),
    )
    .order_by(PRESENTATIONS.issued.desc())
    .limit(REPEATABLE)
    .offset(bindparam("newest"))
)
_LINKED: Final = Statement(
    sa.select(_LINKS.position, _LINKS.response_id)
    .where(_LINKS.item_id == bindparam("item_id"))
    .order_by(_LINKS.position)
)
_SEEN: Final = Statement(
    sa.select(PRESENTATIONS.id)
    .where(PRESENTATIONS.item_id == bindparam("item_id"), PRESENTATIONS.annotator_id == bindparam("annotator_id"))
    .limit(1)
)


def _added(table: sa.Table, columns: tuple[str, ...]) -> Statement:
    """An INSERT of a row that may be there; its keys come back where it is new."""
    keys = [*table.primary_key]

    def added(insert: Any) -> Any:
        return insert(table).on_conflict_do_nothing(index_elements=[key.name for key in keys]).returning(*keys)

    return Statement(added, columns)


_ADD_ITEM: Final = _added(tables.items, ("id", "project", "prompt_id", "purpose", "need"))
_ADD_LINK: Final = _added(tables.item_responses, ("item_id", "position", "response_id"))


def due(transaction: Transaction, project: Project, annotator_id: str, work: Any, changes: Counter[str]) -> Due | None:
    """What this person gets instead of the next item: training first, then attention, gold and repeats. None if nothing is.

    changes: gets the counts of an item that is new.
    """
    options, number = project.options, int(work.claimed)
    who = {"project": project.name, "annotator_id": annotator_id}
    purposes = ["training"] if number < options.training else []
    for purpose, share in (("attention", options.attention), ("gold", options.gold)):
        if _is_turn(project, annotator_id, purpose, share, number):
            purposes.append(purpose)
    for purpose in purposes:
        if (item := transaction.first(_UNSEEN, **who, purpose=purpose)) is not None:
            return Due(item.id, purpose)
    is_old_enough = work.submitted > options.repeat_after
    if is_old_enough and _is_turn(project, annotator_id, "repeat", options.repeat, number):
        return _repetition(transaction, project, annotator_id, number, changes)
    return None


def _is_turn(project: Project, annotator_id: str, purpose: str, share: float, number: int) -> bool:
    if not share:
        return False
    run = max(2, round(1 / share))
    return hashed(project.secret, purpose, annotator_id, number // run) % run == number % run


def _repetition(
    transaction: Transaction, project: Project, annotator_id: str, number: int, changes: Counter[str]
) -> Due | None:
    """One of the person's own pairs that has not been repeated, in the opposite order, as an item of its own."""
    who = {"project": project.name, "annotator_id": annotator_id}
    judged = transaction.all(_JUDGED, **who, newest=project.options.repeat_after)
    start = hashed(project.secret, "repeated", annotator_id, number) % max(1, len(judged))
    for row in (*judged[start:], *judged[:start]):
        links = transaction.all(_LINKED, item_id=row.item_id)
        response_ids = [link.response_id for link in links]
        key = content_id("item", project.name, "repeat", row.prompt_id, response_ids)
        if transaction.first(_SEEN, item_id=key, annotator_id=annotator_id) is not None:
            continue
        item = {"id": key, "project": project.name, "prompt_id": row.prompt_id, "purpose": "repeat", "need": 0}
        if transaction.first(_ADD_ITEM, **item) is not None:
            for link in links:
                transaction.run(_ADD_LINK, item_id=key, position=link.position, response_id=link.response_id)
            changes["items:repeat:open"] += 1
        return Due(key, "repeat", tuple(reversed(row.shown)))
    return None
