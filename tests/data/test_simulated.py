"""Simulated annotators do what their traits say, and the same on any machine."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_files import one_line

from guerdon.contracts import Comparison, Preference, Response
from guerdon.data.simulated import UTILITY, SimulatedAnnotator, simulate_judgments, simulate_pairs

PAIRS = simulate_pairs(1500, 5)


def judged(**traits) -> list[Comparison]:
    return list(simulate_judgments(PAIRS, [SimulatedAnnotator("w", **traits)], 1, seed=5))


def share(judgments: list[Comparison], vote: str) -> float:
    """Of votes for the "better", "left" or "longer" response, or of a "tie"."""

    def holds(judgment: Comparison) -> bool:
        left, right = judgment.responses
        q = judgment.q
        if vote == "tie" or q == 0.5:
            return vote == "tie" and q == 0.5
        chosen = left if q == 1.0 else right
        best = max(judgment.responses, key=lambda r: r.ratings[UTILITY] if vote == "better" else len(r.text))
        return chosen is (left if vote == "left" else best)

    return float(np.mean([holds(judgment) for judgment in judgments]))


def test_traits_do_what_they_say() -> None:
    sure = 1 / (1 + np.exp(-2.0))
    assert share(judged(ability=2.0), "better") == pytest.approx(sure, abs=0.03)
    assert share(judged(ability=2.0), "left") == pytest.approx(0.5, abs=0.04)
    assert share(judged(ability=-2.0), "better") == pytest.approx(1 - sure, abs=0.03)
    assert share(judged(ability=2.0, flips=0.25), "better") == pytest.approx(0.75 * sure + 0.25 * (1 - sure), abs=0.03)
    assert share(judged(ability=0.0, left_bias=2.0), "left") == pytest.approx(sure, abs=0.03)
    assert share(judged(ability=0.0, length_bias=3.0), "longer") > 0.7
    assert share(judged(ability=0.0, tie_threshold=1.0), "tie") == pytest.approx(np.tanh(0.5), abs=0.04)
    assert share(judged(laziness=1.0, habit="tie"), "tie") == 1.0
    assert share(judged(laziness=1.0, habit="first"), "left") == 1.0
    assert share(judged(laziness=1.0, habit="random"), "better") == pytest.approx(0.5, abs=0.04)


def test_drift_changes_the_ability_from_the_first_pair_to_the_last() -> None:
    tired = judged(ability=3.0, drift=-3.0)
    assert share(tired[:300], "better") > 0.9
    assert 0.4 < share(tired[-300:], "better") < 0.7


def test_judgments_depend_on_pair_and_annotator_alone() -> None:
    crowd = [SimulatedAnnotator(name) for name in "abc"]
    pairs = PAIRS[:40]
    by_name = {(j.group, j.annotator): j for j in simulate_judgments(pairs, crowd, 3, seed=1)}
    reordered = list(simulate_judgments(pairs[::-1], [*crowd[::-1], SimulatedAnnotator("d")], 4, seed=1))
    assert len(reordered) == 160
    for judgment in reordered:
        if judgment.annotator != "d":
            assert by_name[judgment.group, judgment.annotator] == judgment
    assert {j.id for j in simulate_judgments(pairs, crowd, 3, seed=2)} != {j.id for j in by_name.values()}


def test_each_pair_gets_its_votes_from_different_annotators_in_equal_parts() -> None:
    crowd = [SimulatedAnnotator(f"w{i}") for i in range(6)]
    judgments = list(simulate_judgments(PAIRS, crowd, 2, seed=3))
    assert len({(judgment.group, judgment.annotator) for judgment in judgments}) == 2 * len(PAIRS)
    counts = np.unique([judgment.annotator for judgment in judgments], return_counts=True)[1]
    assert counts.min() > 400


def test_utilities_have_the_spread_that_was_asked_for() -> None:
    utilities = [
        response.ratings[UTILITY] for pair in simulate_pairs(1500, 1, spread=2.0) for response in pair.responses
    ]
    assert np.std(utilities) == pytest.approx(2.0, rel=0.05)
    assert {abs(a.ratings[UTILITY] - b.ratings[UTILITY]) for a, b in (pair.responses for pair in PAIRS)} == {1.0}


def test_mistakes_are_one_line() -> None:
    crowd = [SimulatedAnnotator("w")]
    unrated = Comparison("Is it?", (Response("yes"), Response("no")), Preference(q=1.0))
    assert one_line(lambda: list(simulate_judgments([unrated], crowd, 1, seed=0))).startswith(
        "ratings must hold utility"
    )
    assert one_line(lambda: list(simulate_judgments(PAIRS, crowd, 2, seed=0))).startswith("votes must be from 1 to")
