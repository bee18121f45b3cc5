"""Intervals and tests of rows in groups: laws, worked cases, coverage, and what happens with too few groups."""

import math

import numpy as np
import pytest
import scipy.stats

from guerdon.formulas.clustered import (
    clustered_difference,
    clustered_mean,
    clustered_share,
    share_interval,
    sign_flip_p_value,
)
from guerdon.formulas.estimation import clopper_pearson, wilson


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Sixty values in twenty groups of uneven size, with a spread between the groups."""
    rng = np.random.default_rng(0)
    groups = np.sort(np.concatenate([np.arange(20), rng.integers(20, size=40)]))
    return rng.normal(size=20)[groups] + 0.3 * rng.normal(size=60), groups


# ---- Means -------------------------------------------------------------------------------------------------------


def test_the_interval_is_around_the_mean_and_counts_groups(rows: tuple) -> None:
    values, groups = rows
    value, low, high, n = clustered_mean(values, groups)
    assert value == pytest.approx(values.mean())
    assert low < value < high
    assert n == 20


def test_single_rows_have_students_standard_error_and_no_more_than_its_degrees_of_freedom() -> None:
    values = np.random.default_rng(3).normal(size=25)
    mean = clustered_mean(values, range(25))
    error = values.std(ddof=1) / 5
    assert scipy.stats.t.ppf(0.975, 24) < (mean.high - mean.value) / error < scipy.stats.t.ppf(0.975, 8)


def test_repeating_rows_within_their_groups_does_not_narrow_the_interval(rows: tuple) -> None:
    values, groups = rows
    assert clustered_mean(np.tile(values, 3), np.tile(groups, 3)) == pytest.approx(clustered_mean(values, groups))


def test_treating_dependent_rows_as_independent_narrows_the_interval(rows: tuple) -> None:
    values, groups = rows
    _, low, high, _ = clustered_mean(values, groups)
    _, low_naive, high_naive, _ = clustered_mean(values, np.arange(60))
    assert high - low > 1.3 * (high_naive - low_naive)


def test_a_group_of_most_of_the_weight_leaves_few_degrees_of_freedom(rows: tuple) -> None:
    values, groups = rows
    even = clustered_mean(values, groups)
    heavy = clustered_mean(values, groups, np.where(groups == 0, 200.0, 1.0))
    assert heavy.high - heavy.low > 2 * (even.high - even.low)


def test_shift_and_scale_apply_to_the_interval(rows: tuple) -> None:
    values, groups = rows
    value, low, high, n = clustered_mean(values, groups)
    moved = (7 + 2 * value, 7 + 2 * low, 7 + 2 * high, n)
    assert clustered_mean(7 + 2 * values, groups) == pytest.approx(moved)


def test_group_names_may_be_strings_or_tuples(rows: tuple) -> None:
    values, groups = rows
    expected = clustered_mean(values, groups)
    assert clustered_mean(values, [f"prompt {group}" for group in groups]) == expected
    assert clustered_mean(values, [("prompt", int(group)) for group in groups]) == expected
    assert clustered_mean(values, np.array([f"prompt {group}" for group in groups])) == expected


def test_a_weight_counts_rows_and_weight_zero_removes_one(rows: tuple) -> None:
    values, groups = rows
    weight = (groups % 3).astype(int)
    repeated = clustered_mean(np.repeat(values, weight), np.repeat(groups, weight))
    assert clustered_mean(values, groups, weight.astype(float)) == pytest.approx(repeated)
    assert repeated.n == 13


def test_too_few_groups_give_no_interval() -> None:
    for interval in (clustered_mean, clustered_share):
        value, low, high, n = interval(np.array([0.25, 0.75]), ["a", "a"])
        assert (value, n) == (0.5, 1)
        assert math.isnan(low)
        assert math.isnan(high)
        assert interval(np.zeros(0), []).n == 0
        assert math.isnan(interval(np.zeros(0), []).value)
    assert math.isnan(clustered_difference(np.ones(2), np.zeros(2), ["a", "a"]).low)


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert clustered_mean(np.full(9, 0.1), np.arange(9)) == pytest.approx((0.1, 0.1, 0.1, 9))
    assert clustered_share(np.full(9, 0.5), np.arange(9)) == (0.5, 0.5, 0.5, 9)


def test_a_row_without_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 values and 1 groups"):
        clustered_mean(np.zeros(2), ["a"])


# ---- Shares ------------------------------------------------------------------------------------------------------


def test_single_rows_have_wilsons_interval_with_students_quantile() -> None:
    values = np.array([1.0] * 34 + [0.0] * 6)
    share = clustered_share(values, range(40))
    level = 1 - 2 * float(scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, 39)))
    # The variance over n - 1 makes 39 independent trials of 40.
    expected = wilson(34 / 40 * 39, 39, level)
    assert share == pytest.approx((expected.value, expected.low, expected.high, 40), rel=1e-4)


def test_a_share_stays_within_0_and_1_and_mirrors() -> None:
    groups = np.repeat(np.arange(15), 4)
    values = np.ones(60)
    values[[3, 30]] = 0.0
    share, mirror = clustered_share(values, groups), clustered_share(1 - values, groups)
    assert 0.8 < share.low < share.value < share.high < 1
    assert (mirror.low, mirror.high) == pytest.approx((1 - share.high, 1 - share.low))
    assert share.value - share.low > share.high - share.value


def test_a_share_of_none_or_all_has_the_exact_interval_by_group() -> None:
    groups = [0, 0, 1, 1, 2, 2]
    assert clustered_share(np.ones(6), groups) == clopper_pearson(3, 3)
    assert clustered_share(np.zeros(6), groups) == clopper_pearson(0, 3)
    assert share_interval(0.5, np.zeros(4), 0.3) == (0.5, 0.5, 0.5, 4)


# ---- Differences -------------------------------------------------------------------------------------------------


def test_pairing_removes_what_two_models_share(rows: tuple) -> None:
    _, groups = rows
    values = 0.4 + 0.3 * np.cos(groups)
    better = values + 0.1 + 0.01 * np.cos(np.arange(60))
    value, low, high, _ = clustered_difference(better, values, groups)
    assert 0 < low < value < high < 0.12
    backward = clustered_difference(values, better, groups)
    assert backward[:3] == pytest.approx((-value, -high, -low))


def test_no_difference_on_a_few_prompts_is_not_shown_on_all() -> None:
    none = clustered_difference(np.ones(15), np.ones(15), range(15))
    assert none == pytest.approx((0.0, -clopper_pearson(0, 15).high, clopper_pearson(0, 15).high, 15))
    half = clustered_difference(np.ones(15), np.full(15, 0.5), range(15))
    assert half.low > 0.2
    assert half.high < 0.8


def test_the_sign_flip_is_mcnemars_mid_p_for_single_pairs() -> None:
    difference = np.array([1.0] * 8 + [-1.0] * 2 + [0.0] * 5)
    expected = 2 * (scipy.stats.binom.sf(8, 10, 0.5) + scipy.stats.binom.pmf(8, 10, 0.5) / 2)
    assert sign_flip_p_value(difference, range(15)) == pytest.approx(expected)
    assert sign_flip_p_value(-difference, range(15)) == pytest.approx(expected)
    assert sign_flip_p_value(difference, range(15), np.full(15, 0.3)) == pytest.approx(expected)


def test_flipped_groups_are_enumerated_as_by_hand() -> None:
    """Sums 3, 1 and -1: of the eight flips two reach 5 and two (3 + 1 - 1, three ways less one) lie at 3 by half."""
    difference, groups = np.array([1.0, 1.0, 1.0, 1.0, -1.0]), [0, 0, 0, 1, 2]
    sums = [abs(3 * a + b - c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    expected = np.mean([1.0 * (s > 3) + 0.5 * (s == 3) for s in sums])
    assert sign_flip_p_value(difference, groups) == pytest.approx(expected)


def test_weights_without_a_common_unit_give_the_share_of_drawn_flips() -> None:
    rng = np.random.default_rng(6)
    groups, weight = np.repeat(np.arange(40), 3), 0.5 + rng.random(120)
    difference = rng.choice([-1.0, 0.0, 1.0], size=120, p=[0.2, 0.5, 0.3])
    total = np.bincount(groups, weights=weight * difference)
    flipped = rng.choice([-1.0, 1.0], size=(40_000, 40)) @ total
    share = np.mean(np.abs(flipped) > abs(total.sum()))
    assert 0.005 < share < 0.5
    assert sign_flip_p_value(difference, groups, weight) == pytest.approx(share, abs=4 * math.sqrt(share / 40_000))


def test_no_difference_has_a_p_value_of_1() -> None:
    assert sign_flip_p_value(np.zeros(4), range(4)) == 1.0
    assert sign_flip_p_value(np.array([1.0, -1.0]), [0, 0]) == 1.0
    assert sign_flip_p_value(np.array([1.0, -1.0]), [0, 1]) == 1.0


# ---- Coverage: benchmarks/coverage.py has the whole grid ---------------------------------------------------------


@pytest.mark.parametrize(("accuracy", "num_groups"), [(0.7, 15), (0.9, 30), (0.7, 60), (0.95, 60)])
def test_intervals_of_accuracy_cover_the_truth_with_few_prompts(accuracy: float, num_groups: int) -> None:
    """800 simulations: the count of a coverage of .95 has a standard deviation of .0077."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 8, size=(800, num_groups))
    odds = 0.7 / 0.3  # correlation of 0.3 within a prompt
    chances = rng.beta(accuracy * odds, (1 - accuracy) * odds, size=sizes.shape)
    covered = 0
    for size, chance in zip(sizes, chances, strict=True):
        interval = clustered_share(rng.binomial(size, chance) / size, np.arange(num_groups), size.astype(float))
        covered += interval.low <= accuracy <= interval.high
    assert 0.93 <= covered / 800 <= 0.98


def test_the_sign_flip_has_its_size_with_sixty_clustered_prompts() -> None:
    rng = np.random.default_rng(2)
    rejected = contained = 0
    for _ in range(800):
        size = rng.integers(1, 10, size=60)
        chance = rng.dirichlet([0.35, 0.35, 1.63], size=60)  # correlation of 0.3
        won = np.array([rng.multinomial(n, p) for n, p in zip(size, chance, strict=True)])
        mean, weight = (won[:, 0] - won[:, 1]) / size, size.astype(float)
        rejected += sign_flip_p_value(mean, np.arange(60), weight) <= 0.05
        interval = clustered_difference(mean, np.zeros(60), np.arange(60), weight)
        contained += interval.low <= 0 <= interval.high
    assert 0.035 <= rejected / 800 <= 0.065
    assert 0.93 <= contained / 800 <= 0.97
