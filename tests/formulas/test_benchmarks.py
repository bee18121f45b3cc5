"""Each benchmark's rule: the numbers its authors' code gives, the laws it obeys, and where that code crashes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.formulas.benchmarks import (
    LENGTH_BIAS,
    SECTIONS,
    TIES_TERMS,
    WEIGHTS,
    beats_every,
    best_of,
    games_won,
    length_contrast,
    pair_shares,
    pairwise_rates,
    section_scores,
    style_grid,
    substance_and_style,
    tie_margins,
    ties_points,
    ties_score,
    unweighted,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "benchmarks.json").read_text(encoding="utf-8"))
RNG = np.random.default_rng(0)
numbers = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=5).map(np.array)  # small, so that ties occur


def ties(rows):
    """The Ties score of {id, num_correct, scores} rows."""
    margins = {row["id"]: tie_margins(np.array(row["scores"], dtype=float), row["num_correct"]) for row in rows}
    prompts = {name.split(":")[1] for name in margins}
    return ties_score(np.array([ties_points(margins.get(f"ref:{p}"), margins.get(f"tied:{p}")) for p in prompts]))


def row(name, scores, num_correct=1):
    return {"id": name, "num_correct": num_correct, "scores": scores}


# ---- RewardBench 1 -----------------------------------------------------------------------------------------------


def test_section_scores_are_those_of_the_reference_code():
    case = CASES["rewardbench1_beaver"]
    assert section_scores(case["accuracy"]) == pytest.approx(case["sections"])
    assert unweighted(section_scores(case["accuracy"])) == pytest.approx(0.5617, abs=1e-4)


def test_every_subset_stands_in_one_section_and_math_weighs_as_much_as_code():
    assert sorted(s for subsets in SECTIONS.values() for s in subsets) == sorted(WEIGHTS)
    assert WEIGHTS["math-prm"] == sum(w for subset, w in WEIGHTS.items() if subset.startswith("hep-"))
    assert sum(WEIGHTS.values()) == 2985 - 447 + 984
    assert set().union(*LENGTH_BIAS.values()) < set(WEIGHTS)


def test_a_section_is_a_weighted_mean_of_what_is_there_and_nan_without_any():
    found = section_scores({"mt-bench-easy": 1.0, "mt-bench-med": 0.0})
    assert found["Chat"] == pytest.approx(28 / 68)
    assert math.isnan(found["Safety"])
    assert math.isnan(unweighted(found))


def test_a_model_that_counts_characters_shows_in_the_length_contrast():
    counts = {subset: float(subset in LENGTH_BIAS["longer"]) for subset in WEIGHTS}
    assert length_contrast(counts) == 1
    assert length_contrast(dict.fromkeys(WEIGHTS, 0.5)) == 0
    assert math.isnan(length_contrast({"donotanswer": 1.0}))


# ---- RewardBench 2 -----------------------------------------------------------------------------------------------


def test_the_ties_score_is_that_of_the_reference_code():
    case = CASES["rewardbench2_ties"]
    assert ties(case["rows"]) == pytest.approx(case["overall"], abs=1e-12)
    assert ties(case["rows"]) == pytest.approx(0.5981211762, abs=1e-10)


def test_the_ties_score_worked_by_hand():
    rows = [row("ref:0", [3.0, 1.0]), row("tied:0", [2.0, 1.0, -1.0], 2)]
    gap, spread = min(3 - 1, 1 + 1), 2 - 1
    assert ties(rows) == pytest.approx(1 + 0.01 * math.tanh(gap / spread - 1))


def test_shift_and_scale_change_no_ties_score():
    rows = CASES["rewardbench2_ties"]["rows"]
    moved = [{**r, "scores": [7.0 + i + 3 * s for s in r["scores"]]} for i, r in enumerate(rows)]
    # twins are compared with each other: a shift is free for each row, the scale is one for all
    assert ties(moved) == pytest.approx(ties(rows))


def test_anchors_of_the_ties_score():
    perfect = [row("ref:0", [2.0, 0.0]), row("tied:0", [2.0, 2.0, 0.0], 2)]
    constant = [row("ref:0", [1.0, 1.0]), row("tied:0", [1.0, 1.0, 1.0], 2)]
    hopeless = [row("ref:0", [0.0, 2.0]), row("tied:0", [0.0, 1.0, 2.0], 2)]
    assert ties(perfect) == pytest.approx(1.01)
    assert ties(constant) == 0
    assert -0.011 < ties(hopeless) < 0
    draws = [
        ties([r for p in range(60) for r in (
            row(f"ref:{p}", RNG.normal(size=6).tolist()), row(f"tied:{p}", RNG.normal(size=14).tolist(), 7))])
        for _ in range(60)
    ]  # fmt: skip
    assert np.mean(draws) == pytest.approx(0.30 * (1 / 6 + 1 / math.comb(14, 7)), abs=0.01)


def test_a_prompt_without_its_twin_gives_its_own_accuracy_and_nothing_else():
    alone = [row("ref:0", [1.0, 0.0])]
    assert math.isnan(ties(alone))
    points = ties_points(tie_margins(np.array([1.0, 0.0]), 1), None)
    assert points[list(TIES_TERMS).index("ref_accurate")] == 1
    assert np.isnan(np.delete(points, list(TIES_TERMS).index("ref_accurate"))).all()
    twins = [row("ref:1", [1.0, 2.0]), row("tied:1", [1.0, 1.0, 2.0], 2)]
    assert ties(twins + alone) == pytest.approx(ties(twins) + 0.30 / 2)


@pytest.mark.parametrize(("scores", "num_correct"), [([1.0, 2.0], 2), ([1.0, 2.0], 0), ([1.0], 1)])
def test_rows_on_which_the_reference_code_crashes_are_refused_with_a_remedy(scores, num_correct):
    with pytest.raises(ValueError, match=r"right ones of \d\. Drop it"):
        tie_margins(np.array(scores), num_correct)


def test_a_tie_at_the_top_is_shared():
    assert best_of(np.array([2.0, 1.0, 0.0, 1.0])) == 1
    assert best_of(np.array([2.0, 2.0, 0.0, 2.0])) == pytest.approx(1 / 3)
    assert best_of(np.array([1.0, 2.0, 2.0, 2.0])) == 0
    assert best_of(np.ones(4)) == 0.25
    assert np.mean([best_of(scores) for scores in RNG.normal(size=(4000, 4))]) == pytest.approx(0.25, abs=0.03)


# ---- RM-Bench ----------------------------------------------------------------------------------------------------


def test_the_grid_is_that_of_the_reference_code():
    rows, result = CASES["rmbench"]["rows"], CASES["rmbench"]["result"]
    chosen, rejected = (np.array([r[f"score_{side}"] for r in rows], dtype=float) for side in ("chosen", "rejected"))
    hard, normal, easy = style_grid(chosen, rejected).mean(axis=0)
    assert (hard, normal, easy) == pytest.approx((1 / 9, 2 / 3, 8 / 9))
    assert (hard, normal, easy) == pytest.approx(tuple(result[f"{name}_acc"] for name in ("hard", "normal", "easy")))


def test_the_three_difficulties_average_to_the_share_of_all_nine_pairs():
    chosen, rejected = RNG.normal(size=(2, 30, 3))
    each = [pair_shares(c, r).strict for c, r in zip(chosen, rejected, strict=True)]
    assert style_grid(chosen, rejected).mean(axis=1) == pytest.approx(each)


def test_a_model_of_style_alone_is_hopeless_where_it_is_hard_and_perfect_where_it_is_easy():
    style = np.tile([0.0, 1.0, 2.0], (5, 1))
    assert style_grid(style, style).mean(axis=0).tolist() == [0, 0, 1]
    assert style_grid(np.ones((5, 3)), np.ones((5, 3))).sum() == 0
    assert style_grid(style + 10, style).tolist() == np.ones((5, 3)).tolist()


def test_effects_are_those_of_least_squares():
    chosen, rejected = RNG.normal(size=(2, 1, 3))
    scores = np.concatenate([chosen[0], rejected[0]])
    quality, length, markdown = np.repeat([0.5, -0.5], 3), np.tile([0, 1, 1], 2), np.tile([0, 0, 1], 2)
    # sum-to-zero interaction columns leave the main effects where the balanced design has them
    centered = [quality * (each - each.mean()) for each in (length, markdown)]
    design = np.stack([np.ones(6), quality, length, markdown, *centered], axis=1)
    fitted = np.linalg.lstsq(design, scores, rcond=None)[0]
    found = substance_and_style(chosen, rejected)
    assert [each[0] for each in found] == pytest.approx(fitted[1:].tolist())


def test_planted_effects_are_recovered_whatever_is_added_to_a_prompt():
    prompt = RNG.normal(size=(8, 1))
    style = np.array([0.0, 0.7, 1.0])
    found = substance_and_style(prompt + 1.5 + style, prompt + style)
    assert found.substance == pytest.approx(np.full(8, 1.5))
    assert found.length == pytest.approx(np.full(8, 0.7))
    assert found.markdown == pytest.approx(np.full(8, 0.3))
    assert found.length_interaction == pytest.approx(np.zeros(8))
    assert found.markdown_interaction == pytest.approx(np.zeros(8))
    only_concise = substance_and_style(prompt + style + np.array([1.5, 0, 0]), prompt + style)
    assert only_concise.length_interaction == pytest.approx(np.full(8, -1.5))


# ---- Pairs, best of N, games -------------------------------------------------------------------------------------


def test_strict_half_and_tied_by_hand():
    assert pair_shares(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == (0.75, 0.875, 0.25)
    assert pairwise_rates(np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])) == pytest.approx((1 / 3, 1 / 2, 1 / 3))
    assert all(math.isnan(each) for each in pairwise_rates(np.array([]), np.array([])))


def test_an_item_without_a_right_or_a_wrong_response_is_refused():
    with pytest.raises(ValueError, match="right and wrong responses, got 0 and 1"):
        pair_shares(np.array([]), np.array([1.0]))


@given(right=numbers, wrong=numbers, scale=st.integers(1, 4), shift=st.integers(-3, 3))
def test_shift_and_positive_scale_change_nothing_and_swapping_mirrors(right, wrong, scale, shift):
    here = pair_shares(right, wrong)
    assert pair_shares(scale * right + shift, scale * wrong + shift) == here
    swapped = pair_shares(wrong, right)
    assert swapped.strict == pytest.approx(1 - here.strict - here.tied)
    assert swapped.half == pytest.approx(1 - here.half)
    assert swapped.tied == here.tied
    assert pair_shares(-right, -wrong) == pytest.approx(swapped)
    assert beats_every(float(right[0]), wrong) == float((right[0] > wrong).all())


@given(scores=st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=6).map(np.array), scale=st.integers(1, 4))
def test_best_of_several_is_unmoved_by_scale_and_its_points_add_up_to_one(scores, scale):
    assert best_of(scale * scores + 1) == best_of(scores)
    assert sum(best_of(np.roll(scores, -i)) for i in range(len(scores))) == pytest.approx(1)


def test_the_best_must_be_strictly_above_every_loser():
    assert beats_every(2.0, np.array([1.0, 0.0])) == 1
    assert beats_every(2.0, np.array([1.0, 2.0])) == 0
    assert beats_every(0.0, np.array([1.0])) == 0


def test_a_double_game_is_won_by_more_right_than_wrong_decisions():
    decisions = np.array([[1, 1], [1, 0], [1, -1], [-1, 0], [0, 0], [-1, -1]])
    assert games_won(decisions, np.ones(6, dtype=int)).tolist() == [1, 1, 0, 0, 0, 0]
    assert games_won(-decisions, -np.ones(6, dtype=int)).tolist() == [1, 1, 0, 0, 0, 0]
    assert games_won(np.array([[1], [0], [-1]]), np.array([1, 1, 1])).tolist() == [1, 0, 0]
