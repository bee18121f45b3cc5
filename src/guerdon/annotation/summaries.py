"""What takes a reading of all votes to know: agreement, abilities, and where people disagree. Computed in the background.

Pages show the last summary with its time. Contents are JSON; an estimate is {"value", "low", "high", "n"}, null where unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from guerdon.annotation.labels import people_only
from guerdon.annotation.project import Project
from guerdon.annotation.votes import Votes, read_votes
from guerdon.formulas.agreement import cohen_kappa, leave_one_out, leave_one_out_votes, measure_reliability
from guerdon.formulas.annotators import Ratings, fit_abilities, most_shared
from guerdon.formulas.clustered import clustered_share
from guerdon.formulas.estimation import Interval
from guerdon.store import annotation_tables
from guerdon.store.database import Database, insert_of

__all__ = ["NAMES", "estimate_json", "read_summaries", "summarize", "write_summary"]

NAMES: Final = ("agreement", "abilities", "disagreements", "learning", "training")
FEWEST_SHARED: Final = 10  # pairs that two annotators must share for a kappa
MOST_PAIRS: Final = 200  # of annotators, those who share most
MOST_DISAGREEMENTS: Final = 500  # items that are listed, those with most votes and the evenest split first
MANY_GROUPS: Final = 20_000  # prompts from which fewer resamples are drawn


def summarize(project: Project, now: float) -> dict[str, Any]:
    """Compute all summaries from the votes as they are, and store them; returns them by name."""
    votes = read_votes(project)
    content: dict[str, Any] = {}
    if len(votes.table.pair):
        ratings = votes.ratings()
        content |= {
            "agreement": _agreement(votes, ratings),
            "abilities": _abilities(votes, ratings),
            "disagreements": _disagreements(votes),
        }
    for name, value in content.items():
        write_summary(project, name, value, now)
    return content


def write_summary(project: Project, name: str, content: Any, now: float) -> None:
    """Store a summary in place of the one before."""
    table = annotation_tables.summaries
    with project.database.writing() as connection:
        insert = insert_of(connection.dialect)(table).values(project=project.name, name=name, at=now, content=content)
        changes = {"at": insert.excluded.at, "content": insert.excluded.content}
        connection.execute(insert.on_conflict_do_update(index_elements=["project", "name"], set_=changes))


def read_summaries(database: Database, project: str) -> dict[str, dict[str, Any]]:
    """The stored summaries by name, each as {"at", "content"}."""
    table = annotation_tables.summaries.c
    query = sa.select(table.name, table.at, table.content).where(table.project == project)
    with database.reading() as connection:
        return {row.name: {"at": row.at, "content": row.content} for row in connection.execute(query)}


def estimate_json(interval: Interval) -> dict[str, Any]:
    """The interval as JSON, null where a number is unknown."""
    value, low, high, n = interval
    return {"value": _finite(value), "low": _finite(low), "high": _finite(high), "n": int(n)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


# ---- Agreement -----------------------------------------------------------------------------------------------------


def _agreement(votes: Votes, ratings: Ratings) -> dict[str, Any]:
    """Agreement of people with each other, and of each judge with people, which do not mix."""
    is_judge = votes.is_judge[ratings.annotator]
    people = ratings.of(~is_judge)
    counts = people.counts(votes.table.num_pairs)
    draws = 200 if len(counts) > MANY_GROUPS else 1000
    content: dict[str, Any] = {
        "judgments": len(people.pair),
        "pairs": int((counts.sum(axis=1) > 0).sum()),
        "pairs_with_overlap": int((counts.sum(axis=1) > 1).sum()),
        "people": {},
        "judges": [],
    }
    reliability = measure_reliability(counts, votes.group, draws)
    if reliability is not None:
        twice = counts.sum(axis=1) >= 2
        content["people"] = {
            "raw_agreement": estimate_json(reliability.raw),
            "one_vs_others": estimate_json(clustered_share(leave_one_out(counts[twice]), votes.group[twice])),
            "alpha_nominal": estimate_json(reliability.nominal_alpha),
            "alpha_ordinal": estimate_json(reliability.ordinal_alpha),
            "ac1": estimate_json(reliability.ac1),
        }
    content["kappas"] = [
        {"a": votes.who[a].name, "b": votes.who[b].name, "kappa": estimate_json(kappa)}
        for a, b, kappa in _kappas(votes, people, draws)
    ]
    for judge in np.unique(ratings.annotator[is_judge]).tolist():
        if (row := _judge_and_people(votes, ratings, people, judge, draws)) is not None:
            content["judges"].append(row)
    return content


def _kappas(votes: Votes, people: Ratings, draws: int) -> Iterator[tuple[int, int, Interval]]:
    """Cohen's kappa of the two people of each pair of people who share enough, those who share most first."""
    for a, b, of_a, of_b in most_shared(people, FEWEST_SHARED, MOST_PAIRS):
        groups = votes.group[people.pair[of_a]]
        yield a, b, cohen_kappa(people.vote[of_a], people.vote[of_b], groups, min(draws, 400))


def _judge_and_people(votes: Votes, ratings: Ratings, people: Ratings, judge: int, draws: int) -> dict[str, Any] | None:
    """How often a judge gives the vote of one person, and beyond chance."""
    own = ratings.of(ratings.annotator == judge)
    a, b = _meetings(own, people)
    if not len(a):
        return None
    groups = votes.group[own.pair[a]]
    same = (own.vote[a] == people.vote[b]).astype(np.float64)
    return {
        "judge": votes.who[judge].name,
        "kind": votes.who[judge].kind,
        "pairs": len(np.unique(own.pair[a])),
        "agrees_with_a_person": estimate_json(clustered_share(same, groups)),
        "kappa": estimate_json(cohen_kappa(own.vote[a], people.vote[b], groups, draws)),
    }


def _meetings(a: Ratings, b: Ratings) -> list[np.ndarray]:
    """Row numbers in a and in b of ratings of the same pair, in every combination. Both are sorted by pair."""
    start, end = np.searchsorted(b.pair, a.pair, "left"), np.searchsorted(b.pair, a.pair, "right")
    number = end - start
    in_a = np.repeat(np.arange(len(a.pair)), number)
    offset = np.arange(int(number.sum())) - np.repeat(np.cumsum(number) - number, number)
    return [in_a, np.repeat(start, number) + offset]


# ---- Abilities -----------------------------------------------------------------------------------------------------


def _abilities(votes: Votes, ratings: Ratings) -> list[dict[str, Any]]:
    """Each annotator's ability and left bias in nats. People are measured against people; judges too, without counting in it."""
    people = people_only(votes)
    fit = fit_abilities(people.table)
    both = fit if not votes.is_judge.any() else fit_abilities(votes.table, has_left_bias=True)
    is_judge = votes.is_judge[ratings.annotator]
    of_people = ratings.of(~is_judge)
    counts = of_people.counts(votes.table.num_pairs)
    agrees = leave_one_out_votes(counts, of_people.pair, of_people.vote)
    number = np.bincount(ratings.annotator, minlength=len(votes.who))
    rows = []
    for i, who in enumerate(votes.who):
        source = both if who.is_judge else fit
        own = agrees[of_people.annotator == i]
        own = own[~np.isnan(own)]
        is_known = len(own) > 0 or who.is_judge
        rows.append(
            {
                "annotator_id": who.id,
                "name": who.name,
                "kind": who.kind,
                "judgments": int(number[i]),
                "ability": _normal(source.ability[i], source.ability_se[i], int(number[i])) if is_known else None,
                "left_bias": _normal(source.left_bias[i], source.left_bias_se[i], int(number[i])),
                "agrees_with_others": _finite(float(own.mean())) if len(own) else None,
                "is_reversed": bool(source.is_reversed[i]) and is_known,
            }
        )
    return sorted(rows, key=lambda row: -row["judgments"])


def _normal(value: float, se: float, n: int) -> dict[str, Any]:
    return estimate_json(Interval(float(value), float(value - 1.96 * se), float(value + 1.96 * se), n))


# ---- Disagreements -------------------------------------------------------------------------------------------------


def _disagreements(votes: Votes) -> list[dict[str, Any]]:
    """Items on whose pairs people are split, the evenest split of the most votes first: those that a third vote would tell least of."""
    counts = people_only(votes).ratings().counts(votes.table.num_pairs)
    total, lead = counts.sum(axis=1), np.abs(counts[:, 0] - counts[:, 2])
    differs = (total >= 2) & (counts.max(axis=1) < total)
    evenness = np.where(differs, 1.0 - lead / np.maximum(1, total), -1.0)
    order = np.lexsort((-total, -evenness))
    rows: dict[str, dict[str, Any]] = {}
    for pair in order.tolist():
        if evenness[pair] < 0 or len(rows) >= MOST_DISAGREEMENTS:
            break
        item_id = votes.items[votes.item[pair]]
        rows.setdefault(item_id, {"item_id": item_id, "votes": counts[pair].tolist()})
    return [*rows.values()]
