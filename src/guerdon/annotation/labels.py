"""Labels of a project's items from the votes of its people, written into the store: what training reads.

A pair gets q = P(first is better), which may be soft; more responses are put in order by their mean q against the others. Items
that an adjudicator has decided keep that label, and items that wait for one get a label that is not accepted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import sqlalchemy as sa
from jaxtyping import Float

from guerdon.annotation.project import Project
from guerdon.annotation.votes import Votes, read_votes, restricted_to
from guerdon.contracts import Preference
from guerdon.errors import GuerdonError, did_you_mean, field_error
from guerdon.formulas.annotators import Ratings, dawid_skene, effective_votes, fit_abilities, majority
from guerdon.store import tables
from guerdon.store.items import ACCEPTED, ADJUDICATED, Label
from guerdon.store.rows import label_row
from guerdon.store.writer import insert_rows, record_event

__all__ = ["METHODS", "Labeled", "label_items", "probabilities"]

Method = Literal["ability", "majority", "dawid_skene"]
METHODS: Final[tuple[Method, ...]] = ("ability", "majority", "dawid_skene")
ROWS_AT_ONCE: Final = 2000
SAME: Final = 1e-9  # difference of two scores that is rounding


@dataclass(frozen=True, slots=True)
class Labeled:
    """What `label_items` wrote. soft: labels that are neither 0, 1 nor a whole tie. waiting: that an adjudicator has to accept."""

    method: str
    labels: int
    soft: int
    waiting: int
    adjudicated: int


def label_items(project: Project, now: float, method: str | None = None) -> Labeled:
    """Write the label of each item that people judged, in place of the labels of all methods written before.

    method: ability, majority or dawid_skene; by default ability where somebody else judged the same items, else majority.
    """
    if method is not None and method not in METHODS:
        raise field_error("--method", f"one of {', '.join(METHODS)}", method, did_you_mean(method, METHODS))
    votes = people_only(read_votes(project))
    if not len(votes.table.pair):
        raise GuerdonError(f"project {project.name!r} must have judgments to label, got none. Let people judge first.")
    ratings = votes.ratings()
    chosen = method or ("ability" if _has_overlap(ratings) else "majority")
    q, n_eff = probabilities(votes, chosen)
    params: dict[str, Any] = {} if chosen == "majority" else {"left_bias": True}
    counts = ratings.counts(votes.table.num_pairs)
    soft = waiting = written = 0
    with project.database.writing() as connection:
        undecided = _undecided(connection, project)
        decided = _replace_labels(connection, project)
        rows = []
        for item, label in _labels(votes, counts, q, n_eff, chosen, params):
            item_id = votes.items[item]
            if item_id in decided:
                continue
            is_waiting = item_id in undecided
            key, row = label_row(item_id, replace(label, status="adjudicate") if is_waiting else label)
            rows.append({"id": key, **row})
            written, waiting = written + 1, waiting + is_waiting
            soft += label.preference.q not in (None, 0.0, 0.5, 1.0)
            if len(rows) == ROWS_AT_ONCE:
                insert_rows(connection, tables.labels, rows)
                rows = []
        if rows:
            insert_rows(connection, tables.labels, rows)
        record_event(connection, "labels", project.name, {"method": chosen, "labels": written, "at": now}, now)
    return Labeled(chosen, written, soft, waiting, len(decided))


def people_only(votes: Votes) -> Votes:
    """The same pairs with the votes of people alone."""
    return replace(votes, table=restricted_to(votes.table, ~votes.is_judge[votes.table.annotator]))


def probabilities(votes: Votes, method: str) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """P(first is better) of each pair by a method, and how many equally able people its votes are worth."""
    ability = np.ones(votes.table.num_annotators)
    if method == "majority":
        q = majority(votes.table)
    elif method == "dawid_skene":
        posterior = dawid_skene(votes.table)
        q = posterior[:, 0] + posterior[:, 1] / 2
    else:
        fit = fit_abilities(votes.table)
        q, ability = fit.q, fit.ability
    return q, effective_votes(votes.table, ability)


def _has_overlap(ratings: Ratings) -> bool:
    return bool((np.bincount(ratings.pair) > 1).any())


def _labels(
    votes: Votes, counts: Any, q: Float[np.ndarray, " n"], n_eff: Float[np.ndarray, " n"], method: str, params: Any
) -> Iterator[tuple[int, Label]]:
    """Each item with its label. The pairs of an item need not stand together."""
    larger: dict[int, list[int]] = defaultdict(list)
    for pair, item in enumerate(votes.item.tolist()):
        if votes.size[item] > 2:
            larger[item].append(pair)
            continue
        number = counts[pair].tolist()
        if not sum(number):
            continue
        p = float(q[pair])
        preference = Preference(q=p, votes=(number[0], number[1], number[2]))
        yield item, Label(method, params, preference, sum(number), float(n_eff[pair]), _entropy(p))
    for item, pairs in larger.items():
        most = max(int(counts[pair].sum()) for pair in pairs)
        if not most:
            continue
        groups = _order(int(votes.size[item]), votes, pairs, q)
        yield item, Label(method, params, Preference(groups=groups), most, float(max(n_eff[pair] for pair in pairs)))


def _order(size: int, votes: Votes, pairs: Sequence[int], q: Float[np.ndarray, " n"]) -> tuple[tuple[int, ...], ...]:
    """Responses by their mean probability to be better than another one; equal ones together."""
    total, number = np.zeros(size), np.zeros(size)
    for pair in pairs:
        for position, p in ((votes.first[pair], q[pair]), (votes.second[pair], 1.0 - q[pair])):
            total[position] += p
            number[position] += 1
    score = np.divide(total, number, out=np.full(size, -1.0), where=number > 0)
    groups: list[list[int]] = []
    for position in np.argsort(-score, kind="stable").tolist():
        if groups and abs(score[groups[-1][0]] - score[position]) <= SAME:
            groups[-1].append(position)
        else:
            groups.append([position])
    return tuple(tuple(sorted(group)) for group in groups)


def _entropy(q: float) -> float:
    """Of a coin with this probability, in nats."""
    return -sum(p * math.log(p) for p in (q, 1.0 - q) if p > 0.0) + 0.0


# ---- The store -----------------------------------------------------------------------------------------------------


def _undecided(connection: sa.Connection, project: Project) -> set[str]:
    """The items that wait for an adjudicator."""
    items = tables.items.c
    return set(
        connection.scalars(sa.select(items.id).where(items.project == project.name, items.status == "adjudicate"))
    )


def _replace_labels(connection: sa.Connection, project: Project) -> set[str]:
    """Delete the labels of methods; returns the items that an adjudicator has decided."""
    labels, items = tables.labels.c, tables.items.c
    own = sa.select(items.id).where(items.project == project.name)
    connection.execute(sa.delete(tables.labels).where(labels.item_id.in_(own), labels.method.in_(METHODS)))
    decided = sa.select(labels.item_id).where(labels.item_id.in_(own), labels.method == ADJUDICATED)
    return set(connection.scalars(decided.where(labels.status == ACCEPTED)))
