"""Comparisons become pairs: every comparable one once, weights kept, each response scored once."""

from __future__ import annotations

import numpy as np
import pytest
from toys import Good, as_scores

from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Preference,
    Response,
    as_prompt,
    as_response,
)
from guerdon.models.scored_pairs import comparable_pairs, score_comparisons


def compared(groups, num, **more):
    texts = tuple(Response("good " * i) for i in range(num))
    return Comparison(as_prompt("p"), texts, Preference(groups=groups), **more)


@pytest.mark.parametrize(
    ("groups", "num", "expected"),
    [
        (((1,), (0,)), 2, [(0, 1, 0.0)]),
        (((0, 1),), 2, [(0, 1, 0.5)]),
        (((2,), (0,), (1,)), 3, [(0, 1, 1.0), (0, 2, 0.0), (1, 2, 0.0)]),
        (((2,), (0, 1)), 3, [(0, 1, 0.5), (0, 2, 0.0), (1, 2, 0.0)]),
        (((1,),), 3, [(0, 1, 0.0), (1, 2, 1.0)]),  # two unranked responses are not comparable
    ],
)
def test_a_preference_gives_its_comparable_pairs(groups, num, expected):
    assert list(comparable_pairs(compared(groups, num))) == expected


def test_the_pairs_of_a_comparison_share_its_weight():
    pairs = score_comparisons(Good(), [compared(((2,), (0,), (1,)), 3, weight=6.0), compared(((0,), (1,)), 2)])
    assert pairs.weight.tolist() == [2.0, 2.0, 2.0, 1.0]
    assert pairs.index.tolist() == [0, 0, 0, 1]
    assert pairs.margin.tolist() == [-1.0, -2.0, -1.0, -1.0]
    assert (pairs.second_length - pairs.first_length).tolist() == [5, 10, 5, 5]


def test_each_response_of_the_pairs_is_listed_once_with_a_row_that_holds_it():
    pairs = score_comparisons(Good(), [compared(((2,), (0,), (1,)), 3), compared(((0,), (1,)), 2)])
    responses, rows = pairs.each_response()
    assert responses.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]]
    rewards = np.concatenate([pairs.first_reward, pairs.second_reward])[rows]
    assert rewards.tolist() == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_each_response_is_scored_once_and_progress_is_reported():
    seen, told = [], []

    class Counting(Good):
        def score(self, prompts, responses):
            seen.extend(as_response(r).text for r in responses)
            return super().score(prompts, responses)

    score_comparisons(Counting(), [compared(((0,), (1,), (2,)), 3)] * 5, chunk=2, progress=lambda *at: told.append(at))
    assert len(seen) == 15
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_a_judge_is_asked_once_per_pair():
    class Judge:
        def log_odds(self, prompts, first, second):
            return np.array([len(a.text) - len(b.text) for a, b in zip(first, second, strict=True)], dtype=np.float64)

    pairs = score_comparisons(Judge(), [compared(((0,), (1,), (2,)), 3)])
    assert pairs.margin.tolist() == [-5.0, -10.0, -5.0]
    assert np.isnan(pairs.first_reward).all()


def test_a_margin_that_is_not_finite_is_refused_with_its_comparison():
    class Broken:
        def score(self, prompts, responses):
            return as_scores([np.nan] * len(prompts))

    with pytest.raises(GuerdonError, match="comparison row-7: the margin must be finite, got nan"):
        score_comparisons(Broken(), [compared(((0,), (1,)), 2, id="row-7")])


def test_missing_votes_are_minus_one():
    counted = Comparison(as_prompt("p"), (Response("a"), Response("b")), Preference(q=0.75, votes=(3, 0, 1)))
    pairs = score_comparisons(Good(), [counted, compared(((0,), (1,)), 2)])
    assert pairs.votes.tolist() == [[3, 0, 1], [-1, -1, -1]]
    assert pairs.is_tie.tolist() == [False, False]
