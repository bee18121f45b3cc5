"""Each response is scored once, and a judge sees each pair in both orders."""

from __future__ import annotations

import math

import pytest
from published import OPTIONS, RMB, FirstJudge, items_of, on, values
from toys import Good, as_scores

from guerdon.benchmarks.run import benchmark
from guerdon.benchmarks.scoring import score_items
from guerdon.contracts import GuerdonError, as_response


def test_a_response_is_scored_once_and_beside_those_of_its_item():
    calls = []

    class Counting(Good):
        def score(self, prompts, responses):
            calls.append([(p[-1].content, as_response(r).text) for p, r in zip(prompts, responses, strict=True)])
            return super().score(prompts, responses)

    told = []
    items = items_of("rmb", [*RMB, {**RMB[0], "pair_uid": "9", "reject": {"answer": "other"}}])
    score_items(Counting(), items, chunk=100, progress=lambda done, total: told.append((done, total)))
    (call,) = calls
    assert len(set(call)) == len(call) == 8
    assert call[:2] == [("hi", "good"), ("hi", "no")]
    assert told == [(5, 5)]
    apart = [s.tolist() for s in score_items(Good(), items, chunk=1).scores]
    assert apart == [s.tolist() for s in score_items(Good(), items).scores]


def test_a_score_that_is_not_finite_names_its_item():
    class Broken(Good):
        def score(self, prompts, responses):
            return as_scores([math.nan] * len(prompts))

    with pytest.raises(GuerdonError, match="item a: scores must be finite, got"):
        benchmark(Broken(), items_of("pairs"), "pairs", OPTIONS, hygiene=())


def test_a_judge_sees_each_pair_in_both_orders():
    fair, leaning = (on("judgebench", FirstJudge(lean)) for lean in (0.1, 5.0))
    assert values(fair)["score"] == pytest.approx(2 / 3)
    assert values(fair)["position_consistency"] == 1
    assert values(leaning)["score"] == 0  # right once and wrong once is not won
    assert values(leaning)["score_single"] == pytest.approx(2 / 3)  # what stands first is right in two of three
    assert values(leaning)["position_consistency"] == 0
    assert "position_consistency" not in values(on("judgebench"))
    with pytest.raises(GuerdonError, match="responses must be 2 for a judge, got 4"):
        on("rewardbench2", FirstJudge(0.1))
