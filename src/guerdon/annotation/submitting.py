"""Answers into the store: each counted once, whatever is sent twice, late or again; no judgment is ever changed or dropped.

The same key with the same answer gives what is stored. An answer that differs is a new revision, as long as it is among the
person's newest. An answer that comes after its lease has expired is stored as late, also where somebody else has the item by now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation import quality
from guerdon.annotation.answers import Answer, answer_of, payload_hash, read_answer
from guerdon.annotation.assignments import PRESENTATIONS, Assignment, assignment, contents
from guerdon.annotation.claiming import (
    END,
    SUBMITTED,
    NothingLeft,
    claim,
    claim_within,
    lock_presented,
    presented,
    set_status,
)
from guerdon.annotation.counting import OPEN_TO_ALL, count
from guerdon.annotation.errors import Conflict, NotNow, NotYours
from guerdon.annotation.project import Project
from guerdon.annotation.quality import Feedback
from guerdon.contracts import Preference, Prompt
from guerdon.store import tables
from guerdon.store.columns import literal
from guerdon.store.direct import Statement, Transaction
from guerdon.store.items import Annotator, Judgment, oriented
from guerdon.store.rows import judgment_id_of, judgment_row, preference_of

__all__ = ["HistoryEntry", "Submission", "history", "reopen", "submit", "submit_and_claim"]

MOST_KEY_CHARACTERS: Final = 200
ADDED_AT_ONCE: Final = 2  # judgments of an item on which people disagree


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of an answer. repeated: it was stored before. feedback: of a training item, what is right."""

    judgment_id: str
    revision: int
    late: bool
    repeated: bool
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One of a person's own judgments, with the prompt it is about. can_change: whether it can be reopened."""

    judgment_id: str
    revision: int
    submitted_at: float
    prompt: Prompt
    answer: dict[str, Any]
    can_change: bool


_JUDGMENTS: Final = tables.judgments.c
_ITEMS: Final = tables.items.c
_COLUMNS: Final = tuple(column.name for column in tables.judgments.columns)
_SAYS: Final = (
    "groups", "q", "strength", "votes", "all_bad", "acceptable_upto", "axes", "flags", "reasons", "rationale",
)  # fmt: skip
REVISIONS: Final = Statement(
    sa.select(*(_JUDGMENTS[name] for name in ("id", "revision", "late", "idem_key", "payload_hash", "submitted_at")))
    .add_columns(*(_JUDGMENTS[name] for name in _SAYS))
    .where(_JUDGMENTS.presentation_id == bindparam("presentation_id"))
    .order_by(_JUDGMENTS.revision)
)
INSERT: Final = Statement(sa.insert(tables.judgments), _COLUMNS)
VOTES: Final = Statement(
    sa.select(PRESENTATIONS.shown, *(_JUDGMENTS[name] for name in ("presentation_id", "revision", *_SAYS)))
    .join_from(tables.judgments, tables.presentations, PRESENTATIONS.id == _JUDGMENTS.presentation_id)
    .where(_JUDGMENTS.item_id == bindparam("item_id"))
    .order_by(_JUDGMENTS.presentation_id, _JUDGMENTS.revision)
)
SAME_ITEM: Final = Statement(
    sa.select(PRESENTATIONS.id, PRESENTATIONS.state).where(
        PRESENTATIONS.item_id == bindparam("item_id"),
        PRESENTATIONS.annotator_id == bindparam("annotator_id"),
        PRESENTATIONS.id != bindparam("key"),
        sa.or_(*(PRESENTATIONS.state == literal(word) for word in ("held", "submitted"))),
    )
)
SET_NEED: Final = Statement(
    sa.update(tables.items).where(_ITEMS.id == bindparam("key")).values(need=bindparam("new_need"))
)
NEWEST: Final = Statement(
    sa.select(PRESENTATIONS.id, PRESENTATIONS.item_id, PRESENTATIONS.handles, _ITEMS.purpose)
    .join(tables.items, _ITEMS.id == PRESENTATIONS.item_id)
    .where(
        PRESENTATIONS.annotator_id == bindparam("annotator_id"),
        PRESENTATIONS.issued.isnot(None),
        PRESENTATIONS.state == literal("submitted"),
        _ITEMS.project == bindparam("project"),
    )
    .order_by(PRESENTATIONS.issued.desc(), PRESENTATIONS.id)
    .limit(bindparam("most"))
)
OF_JUDGMENT: Final = Statement(sa.select(_JUDGMENTS.presentation_id).where(_JUDGMENTS.id == bindparam("judgment_id")))


def submit(
    project: Project, annotator_id: str, presentation_id: str, answer: Answer, idem_key: str | None, now: float
) -> Submission:
    """Store an answer. AnswerError where the project does not take it, NotYours for another person's item.

    Conflict where the key came with another answer before, and where an answer that stands may no longer be changed.
    """
    changes: Counter[str] = Counter()
    with project.writer.transaction() as transaction:
        submission = _submit(transaction, project, annotator_id, presentation_id, answer, idem_key, now, changes)
        count(transaction, project.name, changes)
    return submission


def submit_and_claim(
    project: Project, annotator_id: str, presentation_id: str, answer: Answer, idem_key: str | None, now: float
) -> tuple[Submission, Assignment | NothingLeft | NotNow]:
    """Store an answer and give out the next item, in one transaction. NotNow in its place: why there is none for now."""
    changes: Counter[str] = Counter()
    following: Assignment | NothingLeft | NotNow
    with project.writer.transaction() as transaction:
        submission = _submit(transaction, project, annotator_id, presentation_id, answer, idem_key, now, changes)
        try:
            is_alone = transaction.is_sqlite  # nobody else writes, so nobody can wait for what this locks
            following = claim_within(transaction, project, annotator_id, now, changes, takes_back=is_alone)
        except NotNow as reason:
            following = reason
        count(transaction, project.name, changes)
    if isinstance(following, NothingLeft):  # but for what others hold: a claim of its own waits for it and takes back
        try:
            following = claim(project, annotator_id, now)
        except NotNow as reason:
            following = reason
    return submission, following


def _submit(
    transaction: Transaction,
    project: Project,
    annotator_id: str,
    presentation_id: str,
    answer: Answer,
    idem_key: str | None,
    now: float,
    changes: Counter[str],
) -> Submission:
    work, row = lock_presented(transaction, project, annotator_id, presentation_id)
    payload = payload_hash(answer)
    revisions = transaction.all(REVISIONS, presentation_id=row.id) if row.state == "submitted" else []
    if (stored := _repeated(revisions, idem_key, payload)) is not None:
        feedback = quality.feedback(transaction, project, row, preference_of(stored._asdict()))
        return Submission(stored.id, stored.revision, bool(stored.late), True, feedback)
    preference, details = read_answer(answer, project.options, row.handles)
    details |= {"idem_key": idem_key and idem_key[:MOST_KEY_CHARACTERS], "payload_hash": payload, "submitted_at": now}
    if revisions:
        _require_changeable(transaction, project, row, annotator_id)
        late = False
        changes["revisions"] += 1
    else:
        late = _take(transaction, row)
        if late:
            details["late"] = True
    if row.purpose in OPEN_TO_ALL:
        was_bad = bool(revisions and revisions[-1].all_bad)
        changes["all_bad"] += bool(details.get("all_bad")) - was_bad
    revision = len(revisions) + 1
    judgment_id = _insert(transaction, row, revision, preference, details)
    feedback = quality.feedback(transaction, project, row, preference)
    if not revisions:
        _count_first(transaction, project, row, changes, late, now)
        quality.count_judgment(transaction, project, annotator_id, work, row, preference, answer, late, now)
    if answer.active_ms is not None:
        project.pace.add(answer.active_ms / 1000)
    return Submission(judgment_id, revision, late, False, feedback)


def _repeated(revisions: Sequence[Any], idem_key: str | None, payload: str) -> Any:
    """The stored revision that this answer is; Conflict where its key came with another one."""
    for row in revisions:
        if idem_key is not None and row.idem_key == idem_key[:MOST_KEY_CHARACTERS]:
            if row.payload_hash != payload:
                raise Conflict("Idempotency-Key must be new for another answer, got one that is used. Send a new key.")
            return row
    return revisions[-1] if revisions and revisions[-1].payload_hash == payload else None


def _take(transaction: Transaction, row: Any) -> bool:
    """Turn the presentation into one that is submitted; returns whether that is late."""
    if row.state == "skipped":
        raise Conflict("an item that you have skipped cannot be judged. Go on with the next one.")
    if row.state != "held":
        others = transaction.all(SAME_ITEM, item_id=row.item_id, annotator_id=row.annotator_id, key=row.id)
        for other in others:  # the same item came again after the lease had expired
            if other.state == "submitted":
                raise Conflict("you have judged this item already, when it came again. Change that answer instead.")
            transaction.run(END, key=other.id, new_state="released", reason=None)
    transaction.run(END, key=row.id, new_state="submitted", reason=None)
    return bool(row.state != "held")


def _insert(
    transaction: Transaction, row: Any, revision: int, preference: Preference, details: Mapping[str, Any]
) -> str:
    others = {name: value for name, value in details.items() if name != "rationale"}
    judgment = Judgment(Annotator(), tuple(row.shown), preference, details.get("rationale"), details=others)
    says = judgment_row(judgment)
    basis = {"presentation_id": row.id, "call_id": None, "annotator_id": None}
    key = judgment_id_of(row.item_id, basis, revision, says)
    transaction.run(
        INSERT,
        id=key, item_id=row.item_id, **basis, presentation_state="submitted", call_status=None, shown=None,
        revision=revision, supersedes_revision=revision - 1 or None, **says,
    )  # fmt: skip
    return key


def _count_first(
    transaction: Transaction, project: Project, row: Any, changes: Counter[str], late: bool, now: float
) -> None:
    """Count a judgment, and close its item where it has all that it needs."""
    changes["late"] += late
    if row.purpose not in OPEN_TO_ALL:
        return
    changes[f"hour:{int(now // 3600)}"] += 1
    number = 1 if row.need <= 1 else transaction.first(SUBMITTED, item_id=row.item_id).number
    if row.status != "open":
        return
    changes["needed"] -= number <= row.need
    if number < row.need:
        return
    options = project.options
    if number >= 3 and len(row.shown) == 2 and _is_ambiguous(transaction, project, row.item_id):
        if row.need < options.adaptive_max:
            more = min(options.adaptive_max, row.need + ADDED_AT_ONCE)
            transaction.run(SET_NEED, key=row.item_id, new_need=more)
            changes["adaptive"] += 1
            changes["needed"] += more - number
            return
        if options.unresolved == "adjudicate":
            set_status(transaction, row, "adjudicate", changes, missing=0)
            return
    set_status(transaction, row, "complete", changes, missing=0)


def _is_ambiguous(transaction: Transaction, project: Project, item_id: str) -> bool:
    """Whether people disagree about a pair, by the share of current votes for the first response of the item."""
    current = {vote.presentation_id: vote for vote in transaction.all(VOTES, item_id=item_id)}
    shares = []
    for vote in current.values():
        preference = oriented(preference_of(vote._asdict()), vote.shown)
        groups = preference.groups or ()
        shares.append(
            preference.q if preference.q is not None else 0.5 if len(groups) == 1 else float(groups[0] == (0,))
        )
    q = sum(shares) / len(shares)
    low, high = project.options.ambiguous
    return low < q < high


# ---- History -------------------------------------------------------------------------------------------------------


def history(project: Project, annotator_id: str, limit: int = 20) -> list[HistoryEntry]:
    """A person's own judgments in their current form, the newest first."""
    entries = []
    with project.writer.transaction() as transaction:
        who = {"project": project.name, "annotator_id": annotator_id}
        for i, row in enumerate(transaction.all(NEWEST, **who, most=limit)):
            last = transaction.all(REVISIONS, presentation_id=row.id)[-1]
            answer = answer_of(last._asdict(), project.options, row.handles)
            can_change = i < project.options.edit_window and not quality.shows_answer(project, row.purpose)
            prompt = contents(transaction, row.item_id).prompt
            entries.append(HistoryEntry(last.id, last.revision, last.submitted_at, prompt, answer, can_change))
    return entries


def reopen(project: Project, annotator_id: str, judgment_id: str) -> Assignment:
    """The item of an own judgment with the answer that stands, to be submitted again. Conflict where it may not be changed."""
    with project.writer.transaction() as transaction:
        of_judgment = transaction.first(OF_JUDGMENT, judgment_id=judgment_id)
        if of_judgment is None or of_judgment.presentation_id is None:
            raise NotYours(f"judgment must be one of your own, got {judgment_id[:40]!r}. Load the page again.")
        row = presented(transaction, project, annotator_id, of_judgment.presentation_id)
        _require_changeable(transaction, project, row, annotator_id)
        last = transaction.all(REVISIONS, presentation_id=row.id)[-1]
        answer = answer_of(last._asdict(), project.options, row.handles)
        return assignment(row, row.purpose, contents(transaction, row.item_id), answer)


def _require_changeable(transaction: Transaction, project: Project, row: Any, annotator_id: str) -> None:
    if quality.shows_answer(project, row.purpose):
        raise Conflict("an answer cannot be changed after the right one was shown. Go on with the next item.")
    who = {"project": project.name, "annotator_id": annotator_id}
    window = project.options.edit_window
    if row.id not in {newest.id for newest in transaction.all(NEWEST, **who, most=window)}:
        raise Conflict(f"only your newest {window} answers can be changed, and this one is older. Ask a manager.")
