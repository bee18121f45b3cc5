"""Items on which people disagree, or that they skip, and how somebody decides them.

A decision is a judgment of its own, in the store as any other, and a label with the method "adjudicated", which goes before the
labels of all methods. It completes the item.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import HOLD, PRESENTATIONS, Shown, contents, handles_of
from guerdon.annotation.claiming import set_status
from guerdon.annotation.counting import OPEN_TO_ALL, count
from guerdon.annotation.errors import NotYours
from guerdon.annotation.project import Project
from guerdon.annotation.sides import token
from guerdon.annotation.submitting import submit
from guerdon.annotation.summaries import read_summaries
from guerdon.contracts import Preference
from guerdon.store import tables
from guerdon.store.direct import Statement, Transaction
from guerdon.store.items import ADJUDICATED, Label, oriented
from guerdon.store.rows import label_row, preference_of
from guerdon.store.writer import record_event

__all__ = ["Case", "Opinion", "Waiting", "case", "decide", "handles_for", "queue", "queue_size"]

LEASE_SECONDS: Final = 60.0  # between the two transactions of a decision
_ITEMS: Final = tables.items.c
_JUDGMENTS: Final = tables.judgments.c


@dataclass(frozen=True, slots=True)
class Waiting:
    """An item that waits. reason: "adjudicate" where it needs a decision, "split" where people disagree and it has a soft label."""

    item_id: str
    reason: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one person says of an item. preference: numbers responses as the item does; None for a skip, which has a reason."""

    name: str
    preference: Preference | None
    rationale: str | None = None
    all_bad: bool = False
    skip_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """An item with all that people said of it, and the decision if there is one. decided_bad: it calls all responses bad."""

    item_id: str
    status: str
    shown: Shown
    opinions: tuple[Opinion, ...]
    decided: Preference | None
    decided_bad: bool = False


def _is_state(*words: str) -> Any:
    return sa.or_(*(PRESENTATIONS.state == sa.literal_column(f"'{word}'") for word in words))


# ---- The queue -----------------------------------------------------------------------------------------------------


def queue_size(project: Project) -> int:
    """How many items need a decision."""
    query = sa.select(sa.func.count()).where(_ITEMS.project == project.name, _ITEMS.status == "adjudicate")
    with project.database.reading() as connection:
        return int(connection.scalar(query) or 0)


def queue(project: Project, limit: int = 50) -> list[Waiting]:
    """Items that need a decision, then those on which people are split by the last summary and nobody has decided."""
    first = sa.select(_ITEMS.id).where(
        _ITEMS.project == project.name, _ITEMS.status == sa.literal_column("'adjudicate'")
    )
    labels = tables.labels.c
    with project.database.reading() as connection:
        ids = [*connection.scalars(first.order_by(_ITEMS.priority, _ITEMS.ord).limit(limit))]
        waiting = dict.fromkeys(ids, "adjudicate")
        split = read_summaries(project.database, project.name).get("disagreements", {"content": []})["content"]
        others = [row["item_id"] for row in split if row["item_id"] not in waiting][: 2 * limit]
        is_decided = sa.and_(labels.item_id.in_(others), labels.method == ADJUDICATED)
        decided = set(connection.scalars(sa.select(labels.item_id).where(is_decided)))
        waiting |= {item_id: "split" for item_id in others if item_id not in decided}
        chosen = [*waiting][:limit]
        prompts = _prompts(connection, chosen)
    return [Waiting(item_id, waiting[item_id], prompts.get(item_id, "")) for item_id in chosen]


def _prompts(connection: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    """The last turn of each item's prompt."""
    query = (
        sa.select(_ITEMS.id, tables.prompts.c.content)
        .join(tables.prompts, tables.prompts.c.id == _ITEMS.prompt_id)
        .where(_ITEMS.id.in_(ids))
    )
    texts = {}
    for item_id, content in connection.execute(query):
        turns = content["prompt"]
        texts[item_id] = turns if isinstance(turns, str) else str(turns[-1].get("content") or "") if turns else ""
    return texts


# ---- One item ------------------------------------------------------------------------------------------------------

_CASE: Final = Statement(
    sa.select(_ITEMS.id.label("item_id"), _ITEMS.purpose, _ITEMS.status, _ITEMS.need).where(
        _ITEMS.id == bindparam("item_id"), _ITEMS.project == bindparam("project")
    )
)
_OPINIONS: Final = Statement(
    sa.select(
        PRESENTATIONS.id.label("presentation_id"),
        PRESENTATIONS.shown,
        PRESENTATIONS.state,
        PRESENTATIONS.skip_reason,
        tables.annotators.c.name,
        *(_JUDGMENTS[name] for name in ("revision", "groups", "q", "strength", "votes", "all_bad", "rationale")),
    )
    .join_from(tables.presentations, tables.annotators, tables.annotators.c.id == PRESENTATIONS.annotator_id)
    .join(tables.judgments, _JUDGMENTS.presentation_id == PRESENTATIONS.id, isouter=True)
    .where(PRESENTATIONS.item_id == bindparam("item_id"), _is_state("submitted", "skipped"))
    .order_by(PRESENTATIONS.issued, PRESENTATIONS.id, _JUDGMENTS.revision)
)
_DECISION: Final = Statement(
    sa.select(*(tables.labels.c[name] for name in ("groups", "q", "strength", "votes", "params"))).where(
        tables.labels.c.item_id == bindparam("item_id"), tables.labels.c.method == ADJUDICATED
    )
)


def case(project: Project, item_id: str) -> Case:
    """An item for an adjudicator; NotYours for one that is no task of this project."""
    with project.writer.transaction() as transaction:
        row = _task(transaction, project, item_id)
        shown = contents(transaction, item_id)
        decision = transaction.first(_DECISION, item_id=item_id)
        opinions = _opinions(transaction, item_id)
    if decision is None:
        return Case(item_id, row.status, shown, opinions, None)
    is_bad = bool((decision.params or {}).get("all_bad"))
    return Case(item_id, row.status, shown, opinions, preference_of(decision._asdict()), is_bad)


def _opinions(transaction: Transaction, item_id: str) -> tuple[Opinion, ...]:
    latest = {row.presentation_id: row for row in transaction.all(_OPINIONS, item_id=item_id)}
    return tuple(
        Opinion(row.name or "unnamed", None, skip_reason=row.skip_reason)
        if row.state == "skipped"
        else Opinion(
            row.name or "unnamed",
            oriented(preference_of(row._asdict()), row.shown),
            row.rationale,
            bool(row.all_bad),
        )
        for row in latest.values()
        if row.state == "skipped" or row.revision is not None
    )


def _task(transaction: Transaction, project: Project, item_id: str) -> Any:
    row = transaction.first(_CASE, item_id=item_id, project=project.name)
    if row is None or row.purpose not in OPEN_TO_ALL:
        raise NotYours(f"item must be a task of this project, got {item_id[:40]!r}. Choose one that is listed.")
    return row


# ---- Decision ------------------------------------------------------------------------------------------------------

_OWN: Final = Statement(
    sa.select(PRESENTATIONS.id, PRESENTATIONS.handles, PRESENTATIONS.shown)
    .where(
        PRESENTATIONS.item_id == bindparam("item_id"),
        PRESENTATIONS.annotator_id == bindparam("annotator_id"),
        _is_state("held", "submitted"),
        PRESENTATIONS.handles.isnot(None),
    )
    .order_by(PRESENTATIONS.state, PRESENTATIONS.id)
    .limit(1)
)
_LAST: Final = Statement(
    sa.select(PRESENTATIONS.shown, *(_JUDGMENTS[name] for name in ("groups", "q", "strength", "votes", "all_bad")))
    .join_from(tables.judgments, tables.presentations, PRESENTATIONS.id == _JUDGMENTS.presentation_id)
    .where(_JUDGMENTS.presentation_id == bindparam("presentation_id"))
    .order_by(_JUDGMENTS.revision.desc())
    .limit(1)
)
_DELETE: Final = Statement(
    sa.delete(tables.labels).where(
        tables.labels.c.item_id == bindparam("item_id"), tables.labels.c.method == ADJUDICATED
    )
)
_LABEL_COLUMNS: Final = tuple(column.name for column in tables.labels.columns)
_INSERT: Final = Statement(sa.insert(tables.labels), _LABEL_COLUMNS)


def handles_for(project: Project, annotator_id: str, item_id: str, k: int) -> tuple[str, ...]:
    """The handles by which an answer of this person names the responses, in the order of the item."""
    with project.writer.transaction() as transaction:
        own = transaction.first(_OWN, item_id=item_id, annotator_id=annotator_id)
    if own is None:
        return handles_of(project, _presentation_id(project, annotator_id, item_id), range(k))
    return tuple(own.handles[tuple(own.shown).index(i)] for i in range(k))


def decide(project: Project, annotator_id: str, item_id: str, answer: Answer, now: float) -> Preference:
    """Store an adjudicator's answer about an item, label the item with it, and complete the item; returns the label.

    Positions and handles of the answer are in the order of the item. The same answer again changes nothing.
    """
    presentation_id, shown = _presentation(project, annotator_id, item_id, now)
    if tuple(shown) == (1, 0) and answer.verdict is not None:
        answer = answer.model_copy(update={"verdict": -answer.verdict})
    if tuple(shown) == (1, 0) and answer.axes:
        answer = answer.model_copy(update={"axes": {name: -value for name, value in answer.axes.items()}})
    submit(project, annotator_id, presentation_id, answer, None, now)
    with project.writer.transaction() as transaction:
        row = _task(transaction, project, item_id)
        last = transaction.first(_LAST, presentation_id=presentation_id)
        preference = oriented(preference_of(last._asdict()), last.shown)
        transaction.run(_DELETE, item_id=item_id)
        key, columns = label_row(item_id, Label(ADJUDICATED, {"all_bad": True} if last.all_bad else {}, preference, 1))
        transaction.run(_INSERT, id=key, **columns)
        changes: Counter[str] = Counter()
        if row.status != "complete":
            set_status(transaction, row, "complete", changes)
        count(transaction, project.name, changes)
    with project.database.writing() as connection:
        record_event(connection, "adjudicate", item_id, {"by": annotator_id, "at": now}, now)
    return preference


def _presentation(project: Project, annotator_id: str, item_id: str, now: float) -> tuple[str, Sequence[int]]:
    """The presentation that the answer is of: the one that the person has of this item, or a new one in the item's order."""
    with project.writer.transaction() as transaction:
        _task(transaction, project, item_id)
        if (own := transaction.first(_OWN, item_id=item_id, annotator_id=annotator_id)) is not None:
            return own.id, own.shown
        key = _presentation_id(project, annotator_id, item_id)
        content = contents(transaction, item_id)
        shown = list(range(len(content.responses)))
        transaction.run(  # held again, where a decision stopped half way
            HOLD,
            id=key, item_id=item_id, annotator_id=annotator_id, shown=shown, origin="claimed", state="held", slot=None,
            handles=list(handles_of(project, key, shown)), issued=now, expires=now + LEASE_SECONDS,
            guidelines_version=project.guidelines_version or None, words=content.words,
        )  # fmt: skip
        return key, shown


def _presentation_id(project: Project, annotator_id: str, item_id: str) -> str:
    return token(project.secret, "adjudication", item_id, annotator_id)
