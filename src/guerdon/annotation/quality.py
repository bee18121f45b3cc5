"""Whether a person's work can be relied on, counted with each judgment: known answers, repeats, speed, sides and runs.

A person whose accuracy on known answers is below the project's limit with a probability above 0.9, under a Beta(2, 1) prior, is
paused after `pause_after` of them; a manager decides what follows. Their judgments stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam

from guerdon.annotation.answers import Answer
from guerdon.annotation.assignments import PRESENTATIONS
from guerdon.annotation.project import Project
from guerdon.annotation.work import WORK
from guerdon.contracts import Preference
from guerdon.store import annotation_tables, tables
from guerdon.store.canonical import content_id
from guerdon.store.columns import literal
from guerdon.store.direct import Statement, Transaction
from guerdon.store.items import oriented
from guerdon.store.rows import preference_of

__all__ = ["Feedback", "count_judgment", "feedback", "is_unreliable", "shows_answer"]

WORDS_PER_SECOND: Final = 20.0  # faster than anybody reads
SURE: Final = 0.9
CHECKED: Final = ("gold", "attention", "training")


@dataclass(frozen=True, slots=True)
class Feedback:
    """The known answer to a training item: handles of the responses, best group first, and whether the person gave it."""

    ranking: tuple[tuple[str, ...], ...]
    passed: bool


_GOLD: Final = Statement(
    sa.select(annotation_tables.gold_answers.c.groups, annotation_tables.gold_answers.c.strength).where(
        annotation_tables.gold_answers.c.item_id == bindparam("item_id")
    )
)
_COUNTED: Final = (
    "submitted", "late", "gold_seen", "gold_passed", "attention_seen", "attention_passed", "repeats_seen",
    "repeats_agreed", "fast", "first_side", "decided", "active_ms_total",
)  # fmt: skip
_COUNT: Final = Statement(
    sa.update(annotation_tables.work_counts)
    .where(WORK.project == bindparam("in_project"), WORK.annotator_id == bindparam("by"))
    .values(
        **{name: WORK[name] + bindparam(f"more_{name}") for name in _COUNTED},
        run_length=bindparam("run"),
        longest_run=bindparam("longest"),
        last_side=bindparam("side"),
        last_at=bindparam("at"),
    )
)
_OWN_JUDGMENT: Final = Statement(
    sa.select(
        PRESENTATIONS.shown,
        *(tables.judgments.c[name] for name in ("groups", "q", "strength", "votes", "all_bad", "revision")),
    )
    .join_from(tables.presentations, tables.judgments, tables.judgments.c.presentation_id == PRESENTATIONS.id)
    .where(PRESENTATIONS.annotator_id == bindparam("annotator_id"), PRESENTATIONS.item_id == bindparam("item_id"))
    .order_by(tables.judgments.c.revision.desc())
    .limit(1)
)
_PARTS: Final = Statement(
    sa.select(tables.items.c.prompt_id, tables.item_responses.c.response_id)
    .join(tables.item_responses, tables.item_responses.c.item_id == tables.items.c.id)
    .where(tables.items.c.id == bindparam("item_id"))
    .order_by(tables.item_responses.c.position)
)
_PAUSE: Final = Statement(
    sa.update(annotation_tables.accounts)
    .where(
        annotation_tables.accounts.c.annotator_id == bindparam("by"),
        annotation_tables.accounts.c.state == literal("active"),
    )
    .values(state="paused")
)


def shows_answer(project: Project, purpose: str) -> bool:
    """Whether the right answer to an item of this purpose is shown when it was judged."""
    return purpose == "training" and project.options.feedback


def feedback(transaction: Transaction, project: Project, row: Any, preference: Preference) -> Feedback | None:
    """The known answer to an item that was judged, where people may see it. row: of the presentation."""
    if not shows_answer(project, row.purpose):
        return None
    gold = transaction.first(_GOLD, item_id=row.item_id)
    if gold is None:
        return None
    handle_of = dict(zip(row.shown, row.handles, strict=True))
    ranking = tuple(tuple(handle_of[i] for i in group) for group in gold.groups)
    return Feedback(ranking, _passes(project, row, preference, gold))


def count_judgment(
    transaction: Transaction,
    project: Project,
    annotator_id: str,
    work: Any,
    row: Any,
    preference: Preference,
    answer: Answer,
    late: bool,
    now: float,
) -> None:
    """Count a first judgment in the person's work, and pause the account where known answers say so. work: the counts before."""
    more = dict.fromkeys(_COUNTED, 0.0)
    more |= {"submitted": 1, "late": late, "active_ms_total": answer.active_ms or 0.0}
    if answer.active_ms is not None and row.words:
        more["fast"] = answer.active_ms / 1000 < row.words / WORDS_PER_SECOND
    side = first_shown_wins(preference)
    if side is not None:
        more |= {"decided": 1, "first_side": side}
    if row.purpose in CHECKED and (gold := transaction.first(_GOLD, item_id=row.item_id)) is not None:
        kind = "attention" if row.purpose == "attention" else "gold"
        more |= {f"{kind}_seen": 1, f"{kind}_passed": _passes(project, row, preference, gold)}
    elif row.purpose == "repeat":
        more |= {"repeats_seen": 1, "repeats_agreed": _agrees(transaction, project, row, preference)}
    number = None if side is None else int(side)
    run = work.run_length + 1 if number == work.last_side and number is not None else 1
    transaction.run(
        _COUNT,
        in_project=project.name, by=annotator_id, run=run, longest=max(run, work.longest_run), side=number, at=now,
        **{f"more_{name}": value if name == "active_ms_total" else int(value) for name, value in more.items()},
    )  # fmt: skip
    seen = work.gold_seen + work.attention_seen + more.get("gold_seen", 0) + more.get("attention_seen", 0)
    passed = work.gold_passed + work.attention_passed + more.get("gold_passed", 0) + more.get("attention_passed", 0)
    is_checked = bool(more.get("gold_seen") or more.get("attention_seen"))
    if is_checked and seen >= project.options.pause_after:
        if is_unreliable(int(passed), int(seen), project.options.pause_below):
            transaction.run(_PAUSE, by=annotator_id)


def is_unreliable(passed: int, seen: int, limit: float) -> bool:
    """Whether an accuracy below the limit is more probable than SURE, after so many known answers of which so many were given."""
    if limit <= 0:
        return False
    from scipy.special import betainc

    return bool(betainc(2 + passed, 1 + seen - passed, limit) > SURE)


def first_shown_wins(preference: Preference) -> bool | None:
    """Whether the response shown first is the best; None for a tie at the top."""
    top = (preference.groups or ((),))[0]
    return None if len(top) != 1 else top[0] == 0


def _passes(project: Project, row: Any, preference: Preference, gold: Any) -> bool:
    """Whether a judgment has the known winner, and a strength close to the known one if there is one."""
    given = oriented(preference, row.shown)
    known = [sorted(group) for group in gold.groups]
    if not given.groups or sorted(given.groups[0]) != known[0]:
        return False
    if gold.strength is None or preference.strength is None:
        return True
    return bool(abs(gold.strength - preference.strength) <= project.options.gold_within)


def _agrees(transaction: Transaction, project: Project, row: Any, preference: Preference) -> bool:
    """Whether a person gave the same winner as the first time, when the pair came in the opposite order."""
    parts = transaction.all(_PARTS, item_id=row.item_id)
    response_ids = [part.response_id for part in parts]
    task_id = content_id("item", project.name, "task", parts[0].prompt_id, response_ids)  # the same pair the first time
    first = transaction.first(_OWN_JUDGMENT, annotator_id=row.annotator_id, item_id=task_id)
    if first is None:
        return False
    before = oriented(preference_of(first._asdict()), first.shown)
    now = oriented(preference, row.shown)
    return bool(before.groups and now.groups and before.groups[0] == now.groups[0])
