"""Effects of edits: worked cases, laws, coverage, and what happens with too little data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from guerdon.formulas import uncertainty
from guerdon.formulas.cues import (
    MeanTest,
    at_length,
    effects,
    length_logit,
    mean_tests,
    naive_rate,
    pair_correlation,
    rate,
    ratio,
    smallest_effect,
    within_spread,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "cues.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)
ALONE = np.array([str(i) for i in range(200)])


def cases(name):
    return pytest.mark.parametrize("case", CASES[name], ids=lambda case: case["says"][:40])


@cases("within_spread")
def test_the_spread_by_hand(case):
    assert within_spread(np.array(case["margin"])) == pytest.approx(case["spread"])


def test_the_spread_is_that_of_rewards_within_prompts_whatever_their_level():
    rng = np.random.default_rng(0)
    rewards = 100 * rng.normal(size=(5000, 1)) + 2.5 * rng.normal(size=(5000, 2))
    assert within_spread(rewards[:, 0] - rewards[:, 1]) == pytest.approx(2.5, rel=0.03)
    assert within_spread(rewards[:, 0] - rewards[:, 1]) == pytest.approx(math.sqrt(rewards.var(axis=1, ddof=1).mean()))
    assert math.isnan(within_spread(np.array([])))


@cases("at_length")
def test_neutral_text_by_hand(case):
    longer, gain = (np.array([case[key]], dtype=np.float64) for key in ("longer", "gain"))
    assert at_length(longer, gain, np.array([float(case["length"])]))[0] == pytest.approx(case["found"])


@laws
@given(st.floats(-300, 300), st.floats(-3, 3))
def test_for_a_line_it_is_the_line(length, slope):
    longer = np.array([[19.0, 61.0, 155.0, 320.0]])
    assert at_length(longer, slope * longer, np.array([length]))[0] == pytest.approx(slope * length, abs=1e-9)


def test_unknown_levels_give_unknown_text():
    assert np.isnan(at_length(np.full((2, 3), np.nan), np.full((2, 3), np.nan), np.array([5.0, 7.0]))).all()


def auroc(high, low):
    return uncertainty.auroc(np.concatenate([high, low]), np.repeat([1.0, 0.0], [len(high), len(low)]))


@cases("auroc")
def test_auroc_by_hand(case):
    assert auroc(np.array(case["high"]), np.array(case["low"])) == pytest.approx(case["auroc"])


def test_auroc_mirrors_and_ignores_what_keeps_the_order():
    rng = np.random.default_rng(1)
    a, b = rng.integers(8, size=30) * 1.0, rng.integers(6, size=40) * 1.0
    assert auroc(a, b) == pytest.approx(1 - auroc(b, a))
    assert auroc(np.exp(a), np.exp(b)) == auroc(a, b)
    assert auroc(a, b) == pytest.approx(np.mean((a[:, None] > b) + 0.5 * (a[:, None] == b)))
    assert math.isnan(auroc(a, b[:0]))


@cases("mean_tests")
def test_a_test_by_hand(case):
    found = mean_tests(np.array(case["values"])[:, None], np.array(case["groups"]))[0]
    assert found == pytest.approx((case["p"], case["error"], case["df"]), rel=1e-5)


def test_with_groups_of_one_it_is_the_textbook_test_column_by_column():
    rng = np.random.default_rng(2)
    values = rng.normal(0.3, 1, size=(50, 3))
    values[rng.random((50, 3)) < 0.3] = np.nan
    for found, column in zip(mean_tests(values, ALONE[:50]), values.T, strict=True):
        column = column[~np.isnan(column)]
        assert found.p == pytest.approx(scipy.stats.ttest_1samp(column, 0).pvalue)
        assert found.error == pytest.approx(scipy.stats.sem(column))
        assert found.df == len(column) - 1


def test_repeating_rows_within_their_groups_changes_no_test():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(20, 1))
    once, thrice = mean_tests(values, ALONE[:20])[0], mean_tests(np.tile(values, (3, 1)), np.tile(ALONE[:20], 3))[0]
    assert once == pytest.approx(thrice)


def test_one_group_and_none_are_no_test():
    assert math.isnan(mean_tests(np.array([[1.0], [2.0]]), np.array(["a", "a"]))[0].p)
    assert math.isnan(mean_tests(np.full((3, 1), np.nan), ALONE[:3])[0].p)


def test_the_test_rejects_as_often_as_it_says():
    rng = np.random.default_rng(4)
    p = [test.p for test in mean_tests(rng.normal(size=(60, 2000)), np.repeat(ALONE[:30], 2))]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_the_smallest_effect_is_found_four_times_in_five():
    rng = np.random.default_rng(5)
    n, unit = 80, 2.0
    test = MeanTest(math.nan, 1.0 / math.sqrt(n), n - 1)  # of normal values of spread 1
    least = smallest_effect(test, unit)
    assert least.low < least.value < least.high
    assert least.value == pytest.approx(2.80 * test.error / unit, rel=0.01)
    p = [found.p for found in mean_tests(rng.normal(least.value * unit, 1, size=(n, 1500)), ALONE[:n])]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.04)
    assert smallest_effect(test, unit, tests=30).value > least.value
    assert math.isnan(smallest_effect(test, 0.0).value)


def test_an_effect_is_a_mean_over_a_spread_and_the_interval_is_of_both():
    rng = np.random.default_rng(6)
    margin = rng.normal(size=200)
    found = effects(np.column_stack([np.full(200, 0.5), rng.normal(0.2, 1, 200)]), margin, ALONE)
    assert found[0].value == pytest.approx(0.5 / within_spread(margin))
    assert found[0].low < found[0].value < found[0].high  # the gain is certain, the spread is not
    assert found[1].n == 200


@laws
@given(st.floats(0.01, 1000), st.integers(0, 50))
def test_no_change_of_scale_moves_an_effect(scale, seed):
    rng = np.random.default_rng(seed)
    gain, margin = rng.normal(0.3, 1, size=(40, 2)), rng.normal(size=40)
    one = effects(gain, margin, ALONE[:40], draws=50)
    other = effects(scale * gain, scale * margin, ALONE[:40], draws=50)
    assert np.array(one) == pytest.approx(np.array(other))


def test_an_edit_is_averaged_over_the_answers_it_applies_to():
    gain = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    some, none = effects(gain, np.array([math.sqrt(2)] * 3), np.array(["a", "a", "b"]))
    assert (some.value, some.n) == (2.0, 1)
    assert math.isnan(some.low)
    assert math.isnan(none.value)
    assert none.n == 0
    assert math.isnan(effects(gain[:0], np.array([]), ALONE[:0])[0].value)
    assert math.isnan(effects(np.ones((3, 1)), np.zeros(3), ALONE[:3])[0].value)  # no unit


def test_the_interval_of_an_effect_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    held = []
    for _ in range(300):
        margin, gain = math.sqrt(2) * rng.normal(size=60), rng.normal(0.5, 1, size=(60, 1))
        found = effects(gain, margin, ALONE[:60], draws=200)[0]
        held.append(found.low <= 0.5 <= found.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_a_ratio_is_of_means_and_only_where_its_foot_stands():
    rng = np.random.default_rng(9)
    above, below = rng.normal(2, 1, 100), rng.normal(4, 1, 100)
    above[:20], below[50:] = np.nan, np.nan
    found = ratio(above, below, ALONE[:100])
    assert found.value == pytest.approx(np.nanmean(above) / np.nanmean(below))
    assert found.low < 0.5 < found.high
    assert found.n == 100
    assert math.isnan(ratio(above, below - 4, ALONE[:100]).low)
    assert math.isnan(ratio(above, np.full(100, np.nan), ALONE[:100]).value)


@cases("pair_correlation")
def test_a_correlation_by_hand(case):
    x, y = np.array(case["x"]), np.array(case["y"])
    third = None if case["given"] is None else np.array(case["given"])
    found = pair_correlation(x, y, np.ones(len(x)), ALONE[: len(x)], third, draws=50)
    assert found.value == pytest.approx(case["found"])


def test_it_is_the_correlation_once_each_prompts_mean_is_taken_off():
    rng = np.random.default_rng(10)
    level = 10 * rng.normal(size=(150, 1))
    x = level + rng.normal(size=(150, 2))
    y = -level + 0.5 * x + rng.normal(size=(150, 2))
    within = np.corrcoef((x - x.mean(1, keepdims=True)).ravel(), (y - y.mean(1, keepdims=True)).ravel())[0, 1]
    found = pair_correlation(x[:, 0] - x[:, 1], y[:, 0] - y[:, 1], np.ones(150), ALONE[:150])
    assert found.value == pytest.approx(within)
    assert found.low < found.value < found.high
    flipped = np.where(rng.random(150) < 0.5, -1.0, 1.0)
    swapped = pair_correlation(flipped * (x[:, 0] - x[:, 1]), flipped * (y[:, 0] - y[:, 1]), np.ones(150), ALONE[:150])
    assert swapped == pytest.approx(found)
    assert math.isnan(pair_correlation(np.zeros(5), y[:5, 0], np.ones(5), ALONE[:5]).value)


def test_what_a_third_quantity_explains_is_not_left():
    rng = np.random.default_rng(11)
    z = rng.normal(size=200)
    x, y = z + 0.5 * rng.normal(size=200), z + 0.5 * rng.normal(size=200)
    plain = pair_correlation(x, y, np.ones(200), ALONE)
    left = pair_correlation(x, y, np.ones(200), ALONE, z)
    assert plain.low > 0.6
    assert left.low < 0 < left.high
    same = pair_correlation(x, y, np.ones(200), ALONE, np.zeros(200))
    assert same.value == pytest.approx(plain.value)


def voted(n, slope, length, seed):
    """Margins, differences of length, and verdicts drawn from the model's own form."""
    rng = np.random.default_rng(seed)
    margin, longer = 1.5 * rng.normal(size=n), np.round(200 * rng.normal(size=n)).astype(np.int64)
    spread = math.sqrt(np.mean(np.square(longer)))
    q = (rng.random(n) < expit(slope * margin + length * np.tanh(longer / spread))).astype(np.float64)
    return margin, longer, q


@pytest.mark.parametrize(("slope", "length"), [(1.0, 0.0), (0.5, 1.0), (2.0, -1.0)])
def test_the_logit_recovers_what_it_was_drawn_from(slope, length):
    held = []
    for seed in range(30):
        margin, longer, q = voted(400, slope, length, seed)
        groups = np.array([str(i // 2) for i in range(400)])
        found = length_logit(margin, longer, q, np.ones(400), groups, draws=200)
        held.append(
            (
                found.slope.low <= slope <= found.slope.high,
                found.per_margin.low <= length / slope <= found.per_margin.high,
            )
        )
        assert found.slope.n == 200
    assert np.mean(held, axis=0).min() >= 0.85


def test_the_logit_is_the_least_of_its_own_loss():
    margin, longer, q = voted(500, 0.8, 0.7, seed=3)
    found = length_logit(margin, longer, q, np.ones(500), np.array([str(i) for i in range(500)]), draws=50)
    x = np.tanh(longer / math.sqrt(np.mean(np.square(longer))))

    def loss(slope, length):
        z = slope * margin + length * x
        return float(np.mean(np.logaddexp(0, z) - q * z))

    slope, length = found.slope.value, found.slope.value * found.per_margin.value
    least = loss(slope, length)
    for step in ((0.03, 0), (-0.03, 0), (0, 0.03), (0, -0.03)):
        assert loss(slope + step[0], length + step[1]) > least - 1e-5


def test_swapping_pairs_or_scaling_margins_moves_the_logit_as_it_must():
    margin, longer, q = voted(300, 1.0, 0.5, seed=4)
    groups = np.array([str(i) for i in range(300)])
    one = length_logit(margin, longer, q, np.ones(300), groups, draws=100)
    swapped = length_logit(-margin, -longer, 1 - q, np.ones(300), groups, draws=100)
    assert np.array(one) == pytest.approx(np.array(swapped))
    scaled = length_logit(4 * margin, longer, q, np.ones(300), groups, draws=100)
    assert scaled.slope.value == pytest.approx(one.slope.value / 4)
    assert scaled.per_margin.value == pytest.approx(4 * one.per_margin.value)


def test_a_perfect_model_a_constant_one_and_equal_lengths_are_survived():
    margin, longer, _ = voted(100, 1.0, 0.0, seed=5)
    perfect = length_logit(margin, longer, (margin > 0).astype(float), np.ones(100), ALONE[:100])
    assert math.isfinite(perfect.slope.value)
    assert perfect.per_margin.low < 0 < perfect.per_margin.high
    for m, size in ((np.zeros(100), longer), (margin, np.zeros(100, dtype=np.int64))):
        assert math.isnan(length_logit(m, size, np.ones(100), np.ones(100), ALONE[:100]).slope.value)
    wrong = length_logit(-margin, longer, (margin > 0).astype(float), np.ones(100), ALONE[:100])
    assert math.isnan(wrong.per_margin.low)  # a slope below 0 buys nothing


@cases("rate")
def test_rate_by_hand(case):
    once, twice = np.array(case["once"]), np.array(case["twice"])
    found = rate(once, twice, np.array(case["has"]), ALONE[: len(once)])
    assert [part.value for part in found] == pytest.approx([case["att"], case["atu"], case["ate"]])


def test_the_average_is_weighted_by_who_has_it():
    rng = np.random.default_rng(12)
    once, twice, has = rng.normal(size=80), rng.normal(size=80), rng.random(80) < 0.3
    found = rate(once, twice, has, ALONE[:80])
    assert found.ate.value == pytest.approx(has.mean() * found.att.value + (~has).mean() * found.atu.value)
    assert (found.att.n, found.atu.n, found.ate.n) == (has.sum(), (~has).sum(), 80)


def test_a_rewriters_own_taste_cancels_in_two_rewrites_and_not_in_one():
    """Rewards: 1 for the attribute, and a gain of 0.7 from any rewrite at all."""
    rng = np.random.default_rng(13)
    has = rng.random(150) < 0.5
    quality = rng.normal(size=150)
    original, once, twice = quality + has, quality + 0.7 + ~has, quality + 0.7 + has
    found, naive = (rate(once, twice, has, ALONE[:150]), naive_rate(original, once, has, ALONE[:150]))
    assert [part.value for part in found] == pytest.approx([1, 1, 1])
    assert naive.att.value == pytest.approx(0.3)
    assert naive.atu.value == pytest.approx(1.7)


def test_paired_answers_give_a_narrower_interval_than_two_means_apart():
    rng = np.random.default_rng(14)
    quality = 5 * rng.normal(size=100)
    once, twice = quality, quality + 0.5 + 0.1 * rng.normal(size=100)
    found = rate(once, twice, np.ones(100, dtype=bool), ALONE[:100]).att
    apart = 1.96 * math.sqrt((once.var(ddof=1) + twice.var(ddof=1)) / 100)
    assert found.high - found.low < 0.1 * 2 * apart
    assert found.low < 0.5 < found.high + 0.02
