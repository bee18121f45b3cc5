"""Ensembles: worked cases, laws, what error correlation can and cannot say, and when which rule helps."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from guerdon.formulas import best_of_n
from guerdon.formulas.ensemble import (
    RULES,
    common_scale,
    disagreement,
    error_correlation,
    error_correlations,
    error_left,
    most_suspect,
    soft_min,
)
from guerdon.formulas.resampling import bootstrap

CASES = json.loads((Path(__file__).parents[1] / "cases" / "ensemble.json").read_text(encoding="utf-8"))
MEMBERS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-20, 20))
laws = settings(max_examples=40)


def numbers(values) -> np.ndarray:
    """JSON's null as NaN."""
    return np.array(values, dtype=np.float64)


# ---- Rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["rules"], ids=lambda case: case["says"][:40])
@pytest.mark.parametrize("rule", RULES)
def test_rules_by_hand(case, rule):
    np.testing.assert_allclose(RULES[rule](numbers(case["members"])), case[rule], atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@laws
@given(member=arrays(np.float64, 4, elements=st.floats(-1e6, 1e6)), k=st.integers(1, 5))
def test_identical_members_give_the_member(rule, member, k):
    np.testing.assert_allclose(RULES[rule](np.stack([member] * k)), member, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@laws
@given(members=MEMBERS, seed=st.integers(0, 9))
def test_the_order_of_members_changes_nothing(rule, members, seed):
    shuffled = np.random.default_rng(seed).permutation(members)
    np.testing.assert_allclose(RULES[rule](shuffled), RULES[rule](members), rtol=1e-9, atol=1e-9)


@laws
@given(members=MEMBERS)
def test_soft_min_is_the_minimum_and_the_mean_in_its_limits(members):
    np.testing.assert_allclose(soft_min(members, 1e-6), members.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(soft_min(members, 1e8), members.mean(axis=0), atol=1e-4)


def test_extreme_members_do_not_overflow():
    far = np.array([[1e300], [-1e300]])
    assert soft_min(far)[0] == -1e300
    assert RULES["min"](far)[0] == -1e300


def test_the_smallest_p_value_is_corrected_for_how_many_looked():
    assert most_suspect(numbers([[0.01, 0.5], [0.4, 0.9]])).tolist() == [0.02, 1.0]


# ---- One scale ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["common_scale"], ids=lambda case: case["says"][:40])
def test_scales_by_hand(case):
    mean, spread = common_scale(numbers(case["members"]), case["groups"])
    np.testing.assert_allclose(mean, case["mean"], rtol=1e-6)
    np.testing.assert_allclose(spread, numbers(case["spread"]), rtol=1e-6)


@laws
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_on_one_scale_a_stretched_and_shifted_member_is_the_member(seed, scale, shift):
    rng = np.random.default_rng(seed)
    member, groups = rng.normal(size=12), np.repeat(np.arange(4), 3)
    rows = np.stack([member, scale * member + shift])
    mean, spread = common_scale(rows, groups)
    one, other = (rows - mean[:, None]) / spread[:, None]
    np.testing.assert_allclose(other, one, rtol=1e-7, atol=1e-7 * (1 + abs(shift) / scale))


def test_what_a_member_adds_to_all_replies_of_a_prompt_changes_no_spread():
    rng = np.random.default_rng(0)
    rows, groups = rng.normal(size=(2, 40)), np.repeat(np.arange(10), 4)
    _, spread = common_scale(rows, groups)
    _, moved = common_scale(rows + 30 * rng.normal(size=(2, 10))[:, groups], groups)
    np.testing.assert_allclose(moved, spread)


# ---- Whose errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES["error_correlations"], ids=lambda case: case["says"][:40])
def test_correlations_by_hand(case):
    truth = None if case["truth"] is None else numbers(case["truth"])
    margins = numbers(case["margins"])
    found = error_correlations(margins, truth, reliability=case["reliability"])
    np.testing.assert_allclose(found, numbers(case["table"]), atol=1e-6)
    mean = math.nan if case["mean"] is None else case["mean"]
    np.testing.assert_allclose(error_correlation(margins, truth, reliability=case["reliability"]), mean, atol=1e-6)


def pairs(n=4000, k=5, rho=0.0, noise=1.0, seed=0):
    """Gold margins, and members' that add errors of which rho of the variance is shared."""
    rng = np.random.default_rng(seed)
    own, shared = rng.normal(size=(k, n)), rng.normal(size=n)
    gold = rng.normal(size=n)
    return gold, gold + noise * (math.sqrt(rho) * shared + math.sqrt(1 - rho) * own)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_shared_part_of_the_error_is_recovered_where_gold_is_known(rho):
    gold, members = pairs(rho=rho)
    assert error_correlation(members, gold) == pytest.approx(rho, abs=0.03)
    assert error_correlation(members * np.arange(1, 6)[:, None], 7 * gold) == pytest.approx(rho, abs=0.03)


def test_its_interval_by_group_covers_the_planted_value():
    gold, members = pairs(n=600, rho=0.5)
    groups = np.arange(600) // 3
    found = bootstrap(lambda rows: error_correlation(members[:, rows], gold[rows]), groups, draws=200)
    assert found.low < 0.5 < found.high
    assert found.n == 200


def test_noisy_verdicts_pass_for_shared_error_unless_their_reliability_is_told():
    gold, members = pairs(n=20000)
    rng = np.random.default_rng(1)
    first, second = (np.sign(1 / (1 + np.exp(-gold)) - rng.random(len(gold))) for _ in range(2))
    reliability = float(np.mean(first * second))  # 2 x agreement - 1
    assert error_correlation(members, first) > 0.4
    assert error_correlation(members, first, reliability=reliability) == pytest.approx(0, abs=0.1)


def test_without_a_truth_it_is_an_upper_bound():
    for rho in (0.0, 0.5, 0.9):
        gold, members = pairs(rho=rho)
        assert error_correlation(members) >= error_correlation(members, gold) - 0.02


@laws
@given(seed=st.integers(0, 99))
def test_neither_swapping_a_pairs_replies_nor_a_members_scale_changes_a_correlation(seed):
    gold, members = pairs(n=30, seed=seed)
    rng = np.random.default_rng(seed)
    swap, scale, weight = rng.choice([-1.0, 1.0], 30), rng.uniform(0.1, 10, size=(5, 1)), rng.uniform(0.5, 2, size=30)
    found = error_correlations(members, gold, weight)
    np.testing.assert_allclose(error_correlations(members * swap * scale, gold * swap, weight), found, atol=1e-9)


def test_identical_members_share_every_error():
    gold, members = pairs(k=1)
    assert error_correlation(np.repeat(members, 3, axis=0), gold) == pytest.approx(1)
    assert error_left(1.0, 5) == 1
    assert error_left(0.0, 5) == pytest.approx(0.2)


@pytest.mark.parametrize("case", CASES["disagreement"], ids=lambda case: case["says"][:40])
def test_disagreement_by_hand(case):
    np.testing.assert_allclose(disagreement(numbers(case["margins"])), case["share"], atol=1e-6)
    assert disagreement(numbers(case["margins"])[:1]).tolist() == [0.0] * 4


# ---- Against optimization ----------------------------------------------------------------------------------------


def world(rho, prompts=80, pool=2048, k=5, seed=0):
    """Candidates' gold and k members' rewards: 3 % lie out of distribution, with gold about -1 and errors of 2.5 nats."""
    rng = np.random.default_rng(seed)
    odd = rng.random((prompts, pool)) < 0.03
    gold = rng.normal(size=odd.shape) - odd
    error = math.sqrt(rho) * rng.normal(size=odd.shape) + math.sqrt(1 - rho) * rng.normal(size=(k, *odd.shape))
    return gold, gold + error * np.where(odd, 2.5, 0.5)


def gold_reached(rho, rule, n):
    """Mean gold of the best of n by one member, or by a rule over all."""
    gold, members = world(rho)
    flat = members.reshape(len(members), -1)
    proxy = flat[0] if rule == "single" else RULES[rule](flat)
    return float(best_of_n.curve(proxy.reshape(gold.shape), gold, [n]).mean())


def test_averaging_suffices_where_members_err_apart():
    assert gold_reached(0.0, "single", 64) > 1.4
    assert gold_reached(0.0, "single", 2048) < 0.7  # over-optimized
    assert gold_reached(0.0, "mean", 2048) > 2.8
    assert gold_reached(0.0, "min", 2048) == pytest.approx(gold_reached(0.0, "mean", 2048), abs=0.3)


def test_caution_is_needed_where_members_err_in_part_together():
    mean, least, penalized = (gold_reached(0.5, rule, 2048) for rule in ("mean", "min", "uncertainty"))
    assert mean < 2.0
    assert least > mean + 0.6
    assert penalized > mean + 0.3


def test_nothing_helps_against_an_error_that_all_share():
    single = gold_reached(0.9, "single", 2048)
    for rule in RULES:
        assert gold_reached(0.9, rule, 64) > gold_reached(0.9, rule, 2048) + 0.3  # falls under every rule
        assert gold_reached(0.9, rule, 2048) < single + 1.2


def test_gold_follows_the_ensembles_choice_and_no_members():
    """Sorting gold by one member's order, whatever the rule chose, would give every ensemble that member's curve."""
    gold, members = world(0.5, prompts=4, pool=64)
    chosen = RULES["min"](members.reshape(5, -1)).reshape(gold.shape)
    told = best_of_n.curve(chosen, gold, [64])[:, 0]
    assert told.tolist() == gold[np.arange(4), chosen.argmax(axis=1)].tolist()
    shuffle = np.random.default_rng(0).permutation(64)
    np.testing.assert_allclose(
        best_of_n.curve(chosen[:, shuffle], gold[:, shuffle], [8]), best_of_n.curve(chosen, gold, [8])
    )
    by_first = best_of_n.curve(members[0], gold, [64])[:, 0]
    assert told.tolist() != by_first.tolist()
