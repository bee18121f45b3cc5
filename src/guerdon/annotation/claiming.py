"""Who judges which item next, and for how long an item is held for a person.

A claim is one transaction: what the person holds already; else an item with a known answer that is due; else the first open item
that nobody else has taken and that the person has not seen. `items.taken` counts who holds or judged an item, so no query counts
rows. Leases that have expired are taken back in the claims of others, so that nothing runs in the background.

The search for the next item starts where the person's last one ended (`Project.hints`), for at the head of the order are the
items that this person has judged and others still have to. From time to time, and before giving up, it starts at the front.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation import injecting
from guerdon.annotation.assignments import (
    HOLD,
    PRESENTATIONS,
    Assignment,
    Presented,
    Shown,
    assignment,
    contents,
    handles_of,
)
from guerdon.annotation.counting import count
from guerdon.annotation.errors import AnswerError, Conflict, NotNow, NotYours
from guerdon.annotation.project import Project
from guerdon.annotation.sides import order_shown, token
from guerdon.annotation.work import WORK, lock_work
from guerdon.store import annotation_tables, tables
from guerdon.store.columns import literal
from guerdon.store.direct import Statement, Transaction

__all__ = ["NothingLeft", "claim", "claim_within", "heartbeat", "release", "skip"]

HINT_SECONDS: Final = 60.0
TRIES: Final = 8  # of a claim that found nothing but items that other transactions have locked
REAPED_AT_ONCE: Final = 50
OWN_WORK: Final = "wrote a response"  # why a person is passed over


@dataclass(frozen=True, slots=True)
class NothingLeft:
    """There is nothing to judge for now. next_expiry: when the first of the items held by others may come back."""

    held_by_others: int
    next_expiry: float | None


_ITEMS: Final = tables.items.c
_IS_HELD: Final = PRESENTATIONS.state == literal("held")
_IS_CLAIMABLE: Final = sa.and_(
    _ITEMS.project == bindparam("project"),
    _ITEMS.taken < _ITEMS.need,
    _ITEMS.status == literal("open"),
)
_WAS_SEEN: Final = sa.exists().where(
    PRESENTATIONS.item_id == _ITEMS.id,
    PRESENTATIONS.annotator_id == bindparam("annotator_id"),
    sa.or_(*(PRESENTATIONS.state == literal(word) for word in ("held", "submitted", "skipped"))),
)
_NEXT_ITEM: Final = (
    sa.select(_ITEMS.id, _ITEMS.purpose, _ITEMS.taken, _ITEMS.priority, _ITEMS.ord)
    .where(_IS_CLAIMABLE, ~_WAS_SEEN)
    .order_by(_ITEMS.priority, _ITEMS.ord)
    .limit(1)
)
_AFTER_HINT: Final = sa.tuple_(_ITEMS.priority, _ITEMS.ord) > sa.tuple_(bindparam("priority"), bindparam("order"))
_LOCKED: Final[dict[str, Any]] = {"key_share": True, "skip_locked": True, "of": tables.items}
FIRST_ITEM: Final = Statement(_NEXT_ITEM.with_for_update(**_LOCKED))
ITEM_AFTER: Final = Statement(_NEXT_ITEM.where(_AFTER_HINT).with_for_update(**_LOCKED))
ANY_ITEM: Final = Statement(_NEXT_ITEM)
HELD: Final = Statement(
    sa.select(*(PRESENTATIONS[name] for name in ("id", "item_id", "shown", "handles", "issued", "expires")))
    .add_columns(_ITEMS.purpose)
    .join(tables.items, _ITEMS.id == PRESENTATIONS.item_id)
    .where(PRESENTATIONS.annotator_id == bindparam("annotator_id"), _IS_HELD, _ITEMS.project == bindparam("project"))
    .limit(1)
)
HELD_BY_OTHERS: Final = Statement(
    sa.select(sa.func.count().label("number"), sa.func.min(PRESENTATIONS.expires).label("expiry"))
    .select_from(tables.presentations)
    .join(tables.items, _ITEMS.id == PRESENTATIONS.item_id)
    .where(_IS_HELD, _ITEMS.project == bindparam("project"), PRESENTATIONS.annotator_id != bindparam("annotator_id"))
)
EXPIRED: Final = Statement(
    sa.select(PRESENTATIONS.id, PRESENTATIONS.item_id)
    .where(_IS_HELD, PRESENTATIONS.expires < bindparam("now"))
    .order_by(PRESENTATIONS.expires)
    .limit(REAPED_AT_ONCE)
    .with_for_update(key_share=True, skip_locked=True)
)
SLOTS: Final = Statement(
    sa.select(PRESENTATIONS.slot).where(
        PRESENTATIONS.item_id == bindparam("item_id"),
        PRESENTATIONS.slot.isnot(None),
        sa.or_(_IS_HELD, PRESENTATIONS.state == literal("submitted")),
    )
)
EXTEND: Final = Statement(
    sa.update(tables.presentations).where(PRESENTATIONS.id == bindparam("key")).values(expires=bindparam("until"))
)
END: Final = Statement(
    sa.update(tables.presentations)
    .where(PRESENTATIONS.id == bindparam("key"))
    .values(state=bindparam("new_state"), skip_reason=bindparam("reason"))
)
PRESENTED: Final = Statement(
    sa.select(
        *(PRESENTATIONS[name] for name in ("id", "item_id", "annotator_id", "state", "shown", "handles")),
        *(PRESENTATIONS[name] for name in ("issued", "expires", "words", "skip_reason")),
        _ITEMS.purpose,
        _ITEMS.status,
        _ITEMS.need,
    )
    .join(tables.items, _ITEMS.id == PRESENTATIONS.item_id)
    .where(PRESENTATIONS.id == bindparam("key"), _ITEMS.project == bindparam("project"))
)
SKIPS: Final = Statement(
    sa.select(sa.func.count().label("number")).where(
        PRESENTATIONS.item_id == bindparam("item_id"),
        PRESENTATIONS.state == literal("skipped"),
        PRESENTATIONS.skip_reason != OWN_WORK,
    )
)
SUBMITTED: Final = Statement(
    sa.select(sa.func.count().label("number")).where(
        PRESENTATIONS.item_id == bindparam("item_id"), PRESENTATIONS.state == literal("submitted")
    )
)
SET_STATUS: Final = Statement(
    sa.update(tables.items).where(_ITEMS.id == bindparam("key")).values(status=bindparam("new_status"))
)
CLAIMED: Final = Statement(
    sa.update(annotation_tables.work_counts)
    .where(WORK.project == bindparam("in_project"), WORK.annotator_id == bindparam("by"))
    .values(claimed=WORK.claimed + 1)
)
SKIPPED: Final = Statement(
    sa.update(annotation_tables.work_counts)
    .where(WORK.project == bindparam("in_project"), WORK.annotator_id == bindparam("by"))
    .values(skipped=WORK.skipped + 1)
)


# ---- Claim ---------------------------------------------------------------------------------------------------------


def claim(project: Project, annotator_id: str, now: float) -> Assignment | NothingLeft:
    """The next item for this person: again the one that the person holds, if any, in the same order.

    NotNow where the project is not open or the account is paused.
    """
    for attempt in range(TRIES):
        with project.writer.transaction() as transaction:
            changes: Counter[str] = Counter()
            claimed = claim_within(transaction, project, annotator_id, now, changes)
            count(transaction, project.name, changes)
            who = {"project": project.name, "annotator_id": annotator_id}
            if isinstance(claimed, Assignment) or transaction.is_sqlite or not transaction.all(ANY_ITEM, **who):
                return claimed
        time.sleep(0.002 * 2**attempt)  # the items that are left are locked by transactions that are about to end
    return claimed


def claim_within(
    transaction: Transaction,
    project: Project,
    annotator_id: str,
    now: float,
    changes: Counter[str],
    takes_back: bool = True,
) -> Assignment | NothingLeft:
    """A claim in a transaction that may do more. changes: the counts that it changes, for the end of the transaction.

    takes_back: whether expired leases are taken back. That locks the items of others, which a transaction that has locked an
    item already may not do, or two could wait for each other.
    """
    who = {"project": project.name, "annotator_id": annotator_id}
    work, held = lock_work(transaction, project.name, annotator_id, HELD, who)
    _require_open(work)
    if held is not None:
        until = now + project.pace.lease_seconds(project.options)
        if until > held.expires:
            transaction.run(EXTEND, key=held.id, until=until)
        held = held._replace(expires=max(until, held.expires))
        return assignment(held, held.purpose, contents(transaction, held.item_id))
    if (due := injecting.due(transaction, project, annotator_id, work, changes)) is not None:
        content = contents(transaction, due.item_id)
        return _present(transaction, project, annotator_id, due.item_id, due.purpose, content, now, due.shown)
    if takes_back and work.first_expiry is not None and work.first_expiry < now:
        _take_back_expired(transaction, now)
    while (item := _next_item(transaction, project, annotator_id, now)) is not None:
        content = contents(transaction, item.id)
        if work.annotator_name is None or all(each.author != work.annotator_name for each in content.responses):
            return _present(transaction, project, annotator_id, item.id, item.purpose, content, now, taken=item.taken)
        _pass_over(transaction, project, annotator_id, item.id, now)
    others = transaction.first(HELD_BY_OTHERS, **who)
    return NothingLeft(others.number, others.expiry)


def _require_open(work: Any) -> None:
    if work.project_state != "open":
        raise NotNow(
            f"the project must be open to give out items, got one that is {work.project_state}. Ask its manager."
        )
    if work.account_state not in (None, "active"):
        raise NotNow(f"the account must be active to get items, got one that is {work.account_state}. Ask a manager.")


def _pass_over(transaction: Transaction, project: Project, annotator_id: str, item_id: str, now: float) -> None:
    """Leave an item with a response that this person wrote to others, for good."""
    transaction.run(
        HOLD,
        id=token(project.secret, "author", item_id, annotator_id), item_id=item_id, annotator_id=annotator_id, shown=[],
        origin="claimed", state="released", slot=None, handles=[], issued=now, expires=now, guidelines_version=None, words=None,
    )  # fmt: skip
    key = token(project.secret, "author", item_id, annotator_id)
    transaction.run(END, key=key, new_state="skipped", reason=OWN_WORK)


def _take_back_expired(transaction: Transaction, now: float) -> None:
    rows = transaction.all(EXPIRED, now=now)
    for row in sorted(rows, key=lambda row: row.item_id):  # one order for all who lock several items
        transaction.run(END, key=row.id, new_state="expired", reason=None)


def _next_item(transaction: Transaction, project: Project, annotator_id: str, now: float) -> Any:
    """The first claimable item in order, from the hint on and else from the front."""
    who = {"project": project.name, "annotator_id": annotator_id}
    since, priority, order = project.hints.get(annotator_id, (-HINT_SECONDS, 0, 0))
    item = None
    if 0 <= now - since < HINT_SECONDS:
        item = transaction.first(ITEM_AFTER, **who, priority=priority, order=order)
    if item is None:
        since = now
        item = transaction.first(FIRST_ITEM, **who)
    if item is None:
        project.hints.pop(annotator_id, None)
    else:
        project.hints[annotator_id] = since, item.priority, item.ord
    return item


def _present(
    transaction: Transaction,
    project: Project,
    annotator_id: str,
    item_id: str,
    purpose: str,
    content: Shown,
    now: float,
    shown: tuple[int, ...] | None = None,
    taken: int = 1,
) -> Assignment:
    """Hold the item for this person, in the first slot that is free.

    shown: an order that does not follow from the slot. taken: how many have the item; with 0, no slot is looked up.
    """
    slot = None
    if shown is None:
        used = {row.slot for row in transaction.all(SLOTS, item_id=item_id)} if taken else set()
        slot = next(i for i in range(len(used) + 1) if i not in used)
        shown = order_shown(project.secret, item_id, slot, len(content.responses))
    key = token(project.secret, "presentation", item_id, annotator_id, slot)
    until = now + project.pace.lease_seconds(project.options)
    handles = handles_of(project, key, shown)
    row = Presented(key, item_id, shown, handles, now, until)
    transaction.run(
        HOLD,
        id=key, item_id=item_id, annotator_id=annotator_id, shown=list(shown), origin="claimed", state="held", slot=slot,
        handles=list(handles), issued=now, expires=until, guidelines_version=project.guidelines_version or None,
        words=content.words,
    )  # fmt: skip
    transaction.run(CLAIMED, in_project=project.name, by=annotator_id)
    return assignment(row, purpose, content)


# ---- While an item is held -----------------------------------------------------------------------------------------


def heartbeat(project: Project, annotator_id: str, presentation_id: str, now: float) -> float:
    """Extend a lease; returns its new end. Conflict where the item is no longer held for this person."""
    with project.writer.transaction() as transaction:
        row = presented(transaction, project, annotator_id, presentation_id)
        if row.state != "held":
            raise Conflict(f"the item must still be held for you, got one that is {row.state}. Load the page again.")
        until = max(row.expires, now + project.pace.lease_seconds(project.options))
        transaction.run(EXTEND, key=row.id, until=until)
        return float(until)


def release(project: Project, annotator_id: str, presentation_id: str) -> None:
    """Give an item back, for anybody to take. Nothing happens where it is not held any more."""
    with project.writer.transaction() as transaction:
        row = presented(transaction, project, annotator_id, presentation_id)
        if row.state == "held":
            transaction.run(END, key=row.id, new_state="released", reason=None)
    project.hints.pop(annotator_id, None)


def skip(project: Project, annotator_id: str, presentation_id: str, reason: str, now: float) -> None:
    """Give an item back for good. After `max_skips` of these, by different people, an adjudicator gets it."""
    if reason not in project.options.skip_reasons:
        known = ", ".join(project.options.skip_reasons)
        raise AnswerError(f"reason must be one of {known}, got {reason[:80]!r}. Choose one of these.")
    with project.writer.transaction() as transaction:
        _, row = lock_presented(transaction, project, annotator_id, presentation_id)
        if row.state == "skipped":
            return
        if row.state == "submitted":
            raise Conflict("an item that you have judged cannot be skipped. Change your answer instead.")
        changes = Counter({f"skips:{reason}": 1})
        transaction.run(END, key=row.id, new_state="skipped", reason=reason)
        is_open = row.status == "open" and row.need > 0
        if is_open and transaction.first(SKIPS, item_id=row.item_id).number >= project.options.max_skips:
            set_status(transaction, row, "adjudicate", changes)
        transaction.run(SKIPPED, in_project=project.name, by=annotator_id)
        count(transaction, project.name, changes)


def set_status(
    transaction: Transaction, row: Any, status: str, changes: Counter[str], missing: int | None = None
) -> None:
    """Change the status of an item, and what counts it.

    row: with item_id, purpose, status and need as they are. missing: judgments that it has too few; looked up unless given.
    """
    if row.status == "open":
        if missing is None:
            missing = max(0, row.need - transaction.first(SUBMITTED, item_id=row.item_id).number)
        changes["needed"] -= missing
    transaction.run(SET_STATUS, key=row.item_id, new_status=status)
    changes[f"items:{row.purpose}:{row.status}"] -= 1
    changes[f"items:{row.purpose}:{status}"] += 1


def presented(transaction: Transaction, project: Project, annotator_id: str, presentation_id: str) -> Any:
    """The presentation with its item; NotYours for another person's, and for one that is not there."""
    return _own(transaction.first(PRESENTED, key=presentation_id, project=project.name), annotator_id, presentation_id)


def lock_presented(
    transaction: Transaction, project: Project, annotator_id: str, presentation_id: str
) -> tuple[Any, Any]:
    """The person's counts, locked, and the presentation as it is then."""
    key = {"key": presentation_id, "project": project.name}
    work, row = lock_work(transaction, project.name, annotator_id, PRESENTED, key)
    return work, _own(row, annotator_id, presentation_id)


def _own(row: Any, annotator_id: str, presentation_id: str) -> Any:
    if row is None or row.annotator_id != annotator_id:
        raise NotYours(f"presentation must be one of your own, got {presentation_id[:40]!r}. Load the page again.")
    return row
