"""The votes of a project as columns: of its people, and of judges on the same responses. No text is read.

A pair is two responses of an item, its first the one at the lower position there, which carries no meaning. A ranking is a vote on
each of its pairs. Gold, attention, training and repeated items are left out; so are revisions that were replaced.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any, Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from jaxtyping import Bool, Int

from guerdon.annotation.counting import OPEN_TO_ALL
from guerdon.annotation.project import Project
from guerdon.formulas.annotators import LEFT, RIGHT, TIE, Ratings, VoteTable, one_vote_each
from guerdon.store import tables

__all__ = ["JUDGE_KINDS", "Votes", "Who", "read_votes", "restricted_to"]

JUDGE_KINDS: Final = ("llm", "principle", "rule", "reward_model")
ROWS_AT_ONCE: Final = 5000


class Who(NamedTuple):
    """An annotator. kind: human, simulated or unknown for people, else one of JUDGE_KINDS."""

    id: str
    kind: str
    name: str

    @property
    def is_judge(self) -> bool:
        """Whether it is no person."""
        return self.kind in JUDGE_KINDS


@dataclass(frozen=True, slots=True)
class Votes:
    """The votes on n pairs of i items by j annotators.

    table: every vote; several by one annotator on one pair share the weight of one. items: their ids; item[n], first[n], second[n]:
    of each pair, and the positions of its responses there. size[i]: responses of each item. group[n]: a number for each prompt.
    """

    table: VoteTable
    who: tuple[Who, ...]
    items: tuple[str, ...]
    size: Int[np.ndarray, " i"]
    item: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    group: Int[np.ndarray, " n"]

    @property
    def is_judge(self) -> Bool[np.ndarray, " j"]:
        """Which annotators are judges."""
        return np.array([each.is_judge for each in self.who], dtype=bool)

    def ratings(self) -> Ratings:
        """One vote per annotator and pair, a tie where several cancel."""
        table = self.table
        pair = table.pair.astype(np.int64)
        return one_vote_each(pair, table.annotator, table.vote, table.weight, len(self.who))[0]


def read_votes(project: Project) -> Votes:
    """The current votes of people on the project's items, and of judges on the same responses."""
    columns = _Columns()
    with project.database.reading() as connection:
        for row in _stream(connection, _people(project)):
            columns.add(row.item_id, row.prompt_id, Who(row.id, row.kind, row.name or "unnamed"), row)
        if columns.item_number and connection.scalar(_any_judge()):
            same = _items_by_responses(connection, project)
            for row, key in _judged(connection):
                if (item_id := same.get(key)) in columns.item_number:
                    columns.add(str(item_id), row.prompt_id, Who(row.id, row.kind, row.name or "unnamed"), row)
    return columns.joined()


def restricted_to(table: VoteTable, keep: Bool[np.ndarray, " v"]) -> VoteTable:
    """The table with some of its votes; pairs and annotators keep their numbers."""
    pair, annotator, shown_vote, is_swapped, weight, num_pairs, num_annotators = table
    return VoteTable(
        pair[keep], annotator[keep], shown_vote[keep], is_swapped[keep], weight[keep], num_pairs, num_annotators
    )


# ---- What one judgment says ----------------------------------------------------------------------------------------


@lru_cache(maxsize=20_000)
def _votes_of(shown: str, groups: str | None, q: float | None) -> tuple[tuple[int, int, bool, int, float], ...]:
    """(first, second, is_swapped, vote as shown, weight) for each pair, from the JSON texts of a judgment's columns."""
    order: list[int] = json.loads(shown)
    if groups is None:
        assert q is not None, "a judgment has groups or q"
        shares = [(TIE, 1.0)] if q == 0.5 else [(LEFT, q), (RIGHT, 1.0 - q)]
        return tuple((*_pair(order, 0, 1), vote, weight) for vote, weight in shares if weight > 0)
    rank = {i: number for number, group in enumerate(json.loads(groups)) for i in group}
    last = len(rank) + 1
    votes = []
    for left, right in combinations(range(len(order)), 2):
        a, b = rank.get(left, last), rank.get(right, last)
        if a == b == last:
            continue
        votes.append((*_pair(order, left, right), TIE if a == b else LEFT if a < b else RIGHT, 1.0))
    return tuple(votes)


def _pair(order: list[int], left: int, right: int) -> tuple[int, int, bool]:
    a, b = order[left], order[right]
    return min(a, b), max(a, b), a > b


class _Columns:
    """Votes as growing columns."""

    def __init__(self) -> None:
        self.item_number: dict[str, int] = {}
        self.size = array("i")
        self.pair_number: dict[tuple[int, int, int], int] = {}
        self.group_number: dict[str, int] = {}
        self.group = array("i")
        self.who_number: dict[Who, int] = {}
        self.pair, self.annotator, self.vote = array("i"), array("i"), array("b")
        self.is_swapped, self.weight = array("b"), array("d")

    def add(self, item_id: str, prompt_id: str, who: Who, row: Any) -> None:
        """The votes of one judgment."""
        annotator = self.who_number.setdefault(who, len(self.who_number))
        item = self.item_number.setdefault(item_id, len(self.item_number))
        if item == len(self.size):
            self.size.append(row.shown.count(",") + 1)
        for first, second, is_swapped, vote, weight in _votes_of(row.shown, row.groups, row.q):
            key = (item, first, second)
            pair = self.pair_number.setdefault(key, len(self.pair_number))
            if pair == len(self.group):
                self.group.append(self.group_number.setdefault(prompt_id, len(self.group_number)))
            self.pair.append(pair)
            self.annotator.append(annotator)
            self.vote.append(vote)
            self.is_swapped.append(is_swapped)
            self.weight.append(weight)

    def joined(self) -> Votes:
        """The columns as arrays."""
        pair, annotator = np.array(self.pair, np.int64), np.array(self.annotator, np.int64)
        weight, num = np.array(self.weight, np.float64), max(1, len(self.who_number))
        _, code = np.unique(pair * num + annotator, return_inverse=True)
        weight = weight / np.maximum(1.0, np.bincount(code, weights=weight)[code]) if len(pair) else weight
        table = VoteTable(
            pair, annotator, np.array(self.vote, np.int64), np.array(self.is_swapped, bool), weight,
            len(self.pair_number), len(self.who_number),
        )  # fmt: skip
        keys = np.array([*self.pair_number], np.int64).reshape(-1, 3)
        return Votes(
            table=table,
            who=tuple(self.who_number),
            items=tuple(self.item_number),
            size=np.array(self.size, np.int64),
            item=keys[:, 0],
            first=keys[:, 1],
            second=keys[:, 2],
            group=np.array(self.group, np.int64),
        )


# ---- Queries -------------------------------------------------------------------------------------------------------

_JUDGMENTS: Final = tables.judgments.c
_SAYS: Final = (
    _JUDGMENTS.item_id,
    sa.type_coerce(_JUDGMENTS.groups, sa.Text).label("groups"),
    _JUDGMENTS.q,
    tables.annotators.c.id,
    tables.annotators.c.kind,
    tables.annotators.c.name,
)


def _is_current(*names: str) -> Any:
    """Whether no later revision rests on the same presentation, or call."""
    later = tables.judgments.alias("later").c
    same = [later[name] == _JUDGMENTS[name] for name in names]
    return ~sa.exists().where(*same, later.revision == _JUDGMENTS.revision + 1)


def _people(project: Project) -> Any:
    presentations, items, annotators = tables.presentations.c, tables.items.c, tables.annotators.c
    return (
        sa.select(*_SAYS, sa.type_coerce(presentations.shown, sa.Text).label("shown"), items.prompt_id)
        .join_from(tables.judgments, tables.presentations, presentations.id == _JUDGMENTS.presentation_id)
        .join(tables.items, items.id == _JUDGMENTS.item_id)
        .join(tables.annotators, annotators.id == presentations.annotator_id)
        .where(items.project == project.name, items.purpose.in_(OPEN_TO_ALL), annotators.kind.not_in(JUDGE_KINDS))
        .where(_is_current("presentation_id"))
    )


def _judges() -> Any:
    presentations, items, annotators = tables.presentations.c, tables.items.c, tables.annotators.c
    shown = sa.func.coalesce(
        sa.type_coerce(_JUDGMENTS.shown, sa.Text), sa.type_coerce(presentations.shown, sa.Text)
    ).label("shown")
    is_current = sa.or_(
        sa.and_(_JUDGMENTS.presentation_id.isnot(None), _is_current("presentation_id")),
        sa.and_(_JUDGMENTS.call_id.isnot(None), _is_current("call_id", "item_id", "annotator_id")),
    )
    return (
        sa.select(*_SAYS, shown, items.prompt_id)
        .join_from(tables.judgments, tables.items, items.id == _JUDGMENTS.item_id)
        .join(tables.presentations, presentations.id == _JUDGMENTS.presentation_id, isouter=True)
        .join(
            tables.annotators,
            annotators.id == sa.func.coalesce(presentations.annotator_id, _JUDGMENTS.annotator_id),
        )
        .where(annotators.kind.in_(JUDGE_KINDS), is_current)
        .order_by(_JUDGMENTS.item_id)
    )


def _any_judge() -> Any:
    return sa.select(sa.literal(1)).where(tables.annotators.c.kind.in_(JUDGE_KINDS)).limit(1)


def _stream(connection: sa.Connection, query: Any) -> Iterator[Any]:
    yield from connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})


def _items_by_responses(connection: sa.Connection, project: Project) -> dict[bytes, str]:
    """The item of the project with these responses, by the responses' ids: judges judge items of no project."""
    items, links = tables.items.c, tables.item_responses.c
    query = (
        sa.select(links.item_id, links.response_id)
        .join_from(tables.items, tables.item_responses, links.item_id == items.id)
        .where(items.project == project.name, items.purpose.in_(OPEN_TO_ALL))
        .order_by(links.item_id, links.position)
    )
    return {key: item_id for item_id, key in _keys(_stream(connection, query))}


def _keys(rows: Iterable[Any]) -> Iterator[tuple[str, bytes]]:
    """Each item with the ids of its responses in order. rows: sorted by item and position."""
    current, ids = None, list[str]()
    for item_id, response_id in rows:
        if item_id != current:
            if current is not None:
                yield current, _key(ids)
            current, ids = item_id, []
        ids.append(response_id)
    if current is not None:
        yield current, _key(ids)


def _key(ids: list[str]) -> bytes:
    return "".join(ids).encode()


def _judged(connection: sa.Connection) -> Iterator[tuple[Any, bytes]]:
    """The judgments of judges with the responses' ids of their items."""
    links = tables.item_responses.c
    result = connection.execute(_judges(), execution_options={"yield_per": ROWS_AT_ONCE})
    for rows in result.partitions(ROWS_AT_ONCE):
        span = rows[0].item_id, rows[-1].item_id
        query = (
            sa.select(links.item_id, links.response_id)
            .where(links.item_id.between(*span))
            .order_by(links.item_id, links.position)
        )
        keys = defaultdict(bytes, _keys(connection.execute(query)))
        for row in rows:
            yield row, keys[row.item_id]
