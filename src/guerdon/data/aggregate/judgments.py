"""Comparisons in, their votes as columns out: a few dozen bytes per judgment, and no text.

A pair is a prompt and two responses, whichever was shown first. Its first response is the one with the smaller hash, so
which one is first carries no meaning. A ranking of more than two responses is a judgment of each of its pairs.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from guerdon.contracts import Comparison, GuerdonError, prompt_digest, response_digest
from guerdon.formulas.annotators import LEFT, RIGHT, TIE, Ratings, VoteTable, one_vote_each
from guerdon.progress import ProgressBar

SAME_ID, SAME_ROW, NO_COMMON_ID = 0, 1, 2
__all__ = ["Judgments", "ShownPair", "collect", "common_id", "shown_pairs"]


class ShownPair(NamedTuple):
    """Two responses of a comparison: their numbers as shown, the pair's key, and whether its first response was shown second."""

    left: int
    right: int
    key: bytes
    is_swapped: bool


@dataclass(frozen=True, slots=True)
class Judgments:
    """The votes on n pairs.

    table: every vote. Several by one annotator on one pair share the weight of one. names: of the annotators, by number; votes without
    a name have the number behind the last name. ratings: the same with one vote per named annotator and pair, a tie where their votes
    cancel. counts[n, 3]: people who chose (first, tie, second). group[n]: a number for each prompt group. weight[n]: the mean
    weight of the pair's comparisons. grade: signed strength of each vote for the pair's first response, NaN where unknown.
    number_of: the pair of each key. id_kind[n]: what the judgments of a pair have in common, see `common_id`.
    first_seen[n]: the position of the comparison that first held the pair.
    """

    table: VoteTable
    names: tuple[str, ...]
    ratings: Ratings
    counts: Int[np.ndarray, "n 3"]
    group: Int[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    grade: Float[np.ndarray, " v"]
    number_of: dict[bytes, int]
    id_kind: Int[np.ndarray, " n"]
    first_seen: Int[np.ndarray, " n"]
    num_judgments: int

    @property
    def num_pairs(self) -> int:
        """How many pairs were judged."""
        return len(self.counts)

    @property
    def has_overlap(self) -> bool:
        """Whether some pair was judged by two named annotators."""
        return bool((np.bincount(self.ratings.pair, minlength=1) > 1).any())


def common_id(comparison: Comparison, kind: int, key: bytes) -> str:
    """The id of a pair: that of its judgments, that of the row that held all of them, or else the pair's key."""
    return {SAME_ID: comparison.id, SAME_ROW: _row_and_number(comparison.id)[0]}.get(kind, key.hex())


def _row_and_number(name: str) -> tuple[str, int]:
    """The id of the row that a judgment is from, and its number there: ROW/1 is the first of several. "" and 0 for other ids."""
    row, _, number = name.rpartition("/")
    return (row, int(number)) if re.fullmatch(r"[1-9][0-9]{0,8}", number) else ("", 0)


def shown_pairs(comparison: Comparison) -> Iterator[ShownPair]:
    """The pairs of responses of which the comparison says something, in the order in which they are shown."""
    digests = [response_digest(response) for response in comparison.responses]
    prompt, ranks = prompt_digest(comparison.prompt), comparison.ranks
    for left, right in combinations(range(len(digests)), 2):
        if len(digests) > 2 and ranks[left] == ranks[right] == -1:
            continue
        is_swapped = digests[left] > digests[right]
        names = (digests[right], digests[left]) if is_swapped else (digests[left], digests[right])
        yield ShownPair(left, right, hashlib.sha256("\0".join((prompt, *names)).encode()).digest()[:16], is_swapped)


def collect(comparisons: Iterable[Comparison]) -> Judgments:
    """The votes of the comparisons. A GuerdonError where there are none."""
    columns = _Columns()
    with ProgressBar(None, "reading judgments", "rows") as bar:
        for comparison in comparisons:
            columns.add(comparison)
            bar.advance()
    if not columns.number_of:
        raise GuerdonError("aggregate: the data must hold at least one judgment of two responses, got none. Add some.")
    return columns.joined()


class _Columns:
    """Votes as growing columns."""

    def __init__(self) -> None:
        self.number_of: dict[bytes, int] = {}
        self.name_of: dict[str, int] = {}
        self.group_of: dict[str, int] = {}
        self.group, self.num_rows, self.total_weight = array("i"), array("i"), array("d")
        self.first_id, self.first_row, self.id_kind = array("q"), array("q"), array("b")
        self.highest, self.sum = array("q"), array("q")  # of the numbers of a pair's judgments in their row
        # one entry per vote; people: how many people the vote stands for, 0 for the lesser part of a soft judgment
        self.pair, self.annotator, self.vote, self.is_swapped = array("i"), array("i"), array("b"), array("b")
        self.weight, self.people, self.grade = array("d"), array("i"), array("f")
        self.first_seen = array("q")
        self.num_comparisons = self.num_judgments = 0

    def add(self, comparison: Comparison) -> None:
        """The votes of one comparison."""
        is_pair = len(comparison.responses) == 2
        votes = comparison.preference.votes
        is_collective = votes is not None and sum(votes) > 1
        name = None if is_collective else comparison.annotator
        annotator = -1 if name is None else self.name_of.setdefault(name, len(self.name_of))
        self.num_judgments += sum(votes) if votes is not None and is_collective else 1
        for shown in shown_pairs(comparison):
            pair = self._pair(shown.key, comparison, is_pair)
            if votes is not None and is_collective:
                shares = [(vote, float(num), num) for vote, num in enumerate(votes) if num]
            else:
                shares = _shares(comparison.q if is_pair else _q(comparison, shown))
            strength = math.nan if comparison.preference.strength is None else comparison.preference.strength
            for vote, weight, people in shares:
                lead = 0.0 if vote == TIE else strength * (RIGHT - vote - 1) * (-1 if shown.is_swapped else 1)
                self.grade.append(lead if is_pair else math.nan)
                self.pair.append(pair)
                self.annotator.append(annotator)
                self.vote.append(vote)
                self.is_swapped.append(shown.is_swapped)
                self.weight.append(weight)
                self.people.append(people)
        self.num_comparisons += 1

    def _pair(self, key: bytes, comparison: Comparison, is_pair: bool) -> int:
        """The number of the pair, a new one where it is new."""
        row, number = _row_and_number(comparison.id)
        pair, new = self.number_of.setdefault(key, len(self.number_of)), len(self.group)
        if pair == new:
            self.group.append(self.group_of.setdefault(comparison.group, len(self.group_of)))
            self.first_seen.append(self.num_comparisons)
            self.first_id.append(hash(comparison.id))
            self.first_row.append(hash(row) if row else 0)
            self.id_kind.append(SAME_ID if is_pair else NO_COMMON_ID)
            self.num_rows.append(0)
            self.total_weight.append(0.0)
            self.highest.append(0)
            self.sum.append(0)
        elif hash(comparison.id) != self.first_id[pair]:
            is_same_row = row and hash(row) == self.first_row[pair] and self.id_kind[pair] != NO_COMMON_ID
            self.id_kind[pair] = SAME_ROW if is_same_row else NO_COMMON_ID
        elif self.id_kind[pair] == SAME_ROW:
            self.id_kind[pair] = NO_COMMON_ID
        self.num_rows[pair] += 1
        self.highest[pair] = max(self.highest[pair], number)
        self.sum[pair] += number
        self.total_weight[pair] += comparison.weight
        return pair

    def joined(self) -> Judgments:
        """The columns as arrays, each annotator's votes on a pair as one."""
        pair, annotator = np.array(self.pair, np.int64), np.array(self.annotator, np.int64)
        vote, is_swapped = np.array(self.vote, np.int64), np.array(self.is_swapped, bool)
        people, weight = np.array(self.people, np.int64), np.array(self.weight, np.float64)
        num_pairs, num_names = len(self.number_of), len(self.name_of)
        annotator = np.where(annotator < 0, num_names, annotator)
        is_named = annotator < num_names
        canonical = np.where(is_swapped, 2 - vote, vote)
        ratings, rating_of_vote = one_vote_each(
            pair[is_named], annotator[is_named], canonical[is_named], people[is_named], num_names
        )
        weight[is_named] /= np.bincount(rating_of_vote, weights=people[is_named])[rating_of_vote]
        counts = np.zeros((num_pairs, 3), np.int64)
        np.add.at(counts, (ratings.pair, ratings.vote), 1)
        np.add.at(counts, (pair[~is_named], canonical[~is_named]), people[~is_named])
        num_annotators = num_names + bool((~is_named).any())
        table = VoteTable(pair, annotator, vote, is_swapped, weight, num_pairs, num_annotators)
        return Judgments(
            table=table,
            names=tuple(self.name_of),
            ratings=ratings,
            counts=counts,
            group=np.array(self.group, np.int64),
            weight=np.array(self.total_weight) / np.array(self.num_rows),
            grade=np.array(self.grade, np.float64),
            number_of=self.number_of,
            id_kind=self._id_kinds(),
            first_seen=np.array(self.first_seen, np.int64),
            num_judgments=self.num_judgments,
        )

    def _id_kinds(self) -> Int[np.ndarray, " n"]:
        """What the ids of each pair's judgments have in common; those of one row are numbered from 1, none twice."""
        kind, num = np.array(self.id_kind, np.int64), np.array(self.num_rows, np.int64)
        is_whole = (np.array(self.highest) == num) & (np.array(self.sum) == num * (num + 1) // 2)
        return np.where((kind == SAME_ROW) & ~is_whole, NO_COMMON_ID, kind)


def _shares(q: float | None) -> list[tuple[int, float, int]]:
    """The votes of one judgment as shown, with their weights and the people they stand for: a soft one is two votes."""
    assert q is not None
    if q == 0.5:
        return [(TIE, 1.0, 1)]
    both = [(LEFT, q, int(q > 0.5)), (RIGHT, 1.0 - q, int(q < 0.5))]
    return [share for share in both if share[1] > 0.0]


def _q(comparison: Comparison, shown: ShownPair) -> float:
    """What a ranking says of two of its responses; those that were not ranked are below all others."""
    left, right = (rank if rank >= 0 else math.inf for rank in (comparison.ranks[i] for i in (shown.left, shown.right)))
    return 0.5 if left == right else float(left < right)
