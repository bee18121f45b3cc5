"""The bootstrap by group: laws, coverage, and what happens with too few groups."""

import math

import numpy as np
import pytest
import scipy.stats

from guerdon.formulas.estimation import clopper_pearson
from guerdon.formulas.resampling import (
    bootstrap,
    bootstrap_mean,
    bootstrap_share,
    bootstrap_sums,
    draw_counts,
    draw_groups,
    paired_difference,
)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Sixty values in twenty groups of uneven size, with a spread between the groups."""
    rng = np.random.default_rng(0)
    groups = np.sort(np.concatenate([np.arange(20), rng.integers(20, size=40)]))
    return rng.normal(size=20)[groups] + 0.3 * rng.normal(size=60), groups


def test_the_interval_is_around_the_mean_and_counts_groups(rows: tuple) -> None:
    values, groups = rows
    value, low, high, n = bootstrap_mean(values, groups)
    assert value == pytest.approx(values.mean())
    assert low < value < high
    assert n == 20


def test_repeating_rows_within_their_groups_does_not_narrow_the_interval(rows: tuple) -> None:
    values, groups = rows
    assert bootstrap_mean(np.tile(values, 3), np.tile(groups, 3)) == pytest.approx(bootstrap_mean(values, groups))


def test_treating_dependent_rows_as_independent_narrows_the_interval(rows: tuple) -> None:
    values, groups = rows
    _, low, high, _ = bootstrap_mean(values, groups)
    _, low_naive, high_naive, _ = bootstrap_mean(values, np.arange(60))
    assert high - low > 1.3 * (high_naive - low_naive)


def test_shift_and_scale_apply_to_the_interval(rows: tuple) -> None:
    values, groups = rows
    value, low, high, n = bootstrap_mean(values, groups)
    moved = (7 + 2 * value, 7 + 2 * low, 7 + 2 * high, n)
    assert bootstrap_mean(7 + 2 * values, groups) == pytest.approx(moved)


def test_group_names_may_be_strings_or_tuples(rows: tuple) -> None:
    values, groups = rows
    expected = bootstrap_mean(values, groups)
    assert bootstrap_mean(values, [f"prompt {group}" for group in groups]) == expected
    assert bootstrap_mean(values, [("prompt", int(group)) for group in groups]) == expected
    assert bootstrap_mean(values, np.array([f"prompt {group}" for group in groups])) == expected


def test_a_weight_counts_rows_and_weight_zero_removes_one(rows: tuple) -> None:
    values, groups = rows
    weight = (groups % 3).astype(int)
    repeated = bootstrap_mean(np.repeat(values, weight), np.repeat(groups, weight))
    assert bootstrap_mean(values, groups, weight.astype(float)) == pytest.approx(repeated)
    assert repeated.n == 13


def test_the_general_bootstrap_of_a_mean_is_the_bootstrap_mean(rows: tuple) -> None:
    values, groups = rows
    general = bootstrap(lambda index: float(values[index].mean()), groups, draws=200, seed=3)
    assert general == pytest.approx(bootstrap_mean(values, groups, draws=200, seed=3))


def test_the_block_size_does_not_change_the_result(rows: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = rows
    expected = bootstrap_mean(values, groups)
    monkeypatch.setattr("guerdon.formulas.resampling.CHUNK", 70)
    assert bootstrap_mean(values, groups) == expected


def test_the_interval_covers_the_truth_about_as_often_as_its_level() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(40), 3)
    covered = 0
    for trial in range(300):
        values = np.repeat(rng.normal(size=40), 3) + rng.normal(size=120)
        _, low, high, _ = bootstrap_mean(values, groups, draws=400, seed=trial)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.97


def test_a_skewed_bootstrap_gets_the_bca_interval() -> None:
    values = np.random.default_rng(2).exponential(size=12) ** 2
    interval = bootstrap(lambda index: float(1 / values[index].mean()), np.arange(12), draws=8000)

    def inverse_mean(sample: np.ndarray, axis: int) -> np.ndarray:
        return 1 / sample.mean(axis=axis)

    peer = {
        method: scipy.stats.bootstrap((values,), inverse_mean, n_resamples=8000, method=method, rng=0)
        for method in ("BCa", "percentile")
    }
    assert scipy.stats.skew(peer["percentile"].bootstrap_distribution) > 1.2
    assert interval[1:3] == pytest.approx(tuple(peer["BCa"].confidence_interval), rel=0.05)
    assert interval.high < 0.9 * peer["percentile"].confidence_interval.high


def test_groups_of_uneven_weight_can_skew_a_mean_into_bca() -> None:
    """Nearly all of the weight sits on two groups, so a resample without them is very different."""
    values, weight = np.array([0.0] * 8 + [1.0] * 2), np.array([50.0] * 2 + [1.0] * 8)
    value, low, high, n = bootstrap_mean(values, np.arange(10), weight)
    assert (value, n) == (pytest.approx(2 / 108), 10)
    assert 0 <= low < value < high < 1


def test_too_few_groups_give_no_interval() -> None:
    value, low, high, n = bootstrap_mean(np.array([1.0, 3.0]), ["a", "a"])
    assert (value, n) == (2.0, 1)
    assert math.isnan(low)
    assert math.isnan(high)
    assert bootstrap_mean(np.zeros(0), []).n == 0
    assert math.isnan(bootstrap_mean(np.zeros(0), []).value)
    assert bootstrap(lambda index: float(len(index)), ["a", "a"])[0] == 2.0
    assert math.isnan(bootstrap(lambda index: float(len(index)), ["a", "a"]).low)


def test_equal_values_give_an_interval_of_no_width() -> None:
    assert bootstrap_mean(np.full(9, 0.1), np.arange(9)) == pytest.approx((0.1, 0.1, 0.1, 9))


def test_draws_that_are_nan_are_dropped() -> None:
    values = np.array([0.0, 0.0, 1.0])

    def share_of_varied(index: np.ndarray) -> float:
        return math.nan if np.ptp(values[index]) == 0 else float(values[index].mean())

    _, low, high, _ = bootstrap(share_of_varied, [0, 1, 2], draws=200)
    assert (low, high) == pytest.approx((1 / 3, 2 / 3))
    assert math.isnan(bootstrap(lambda index: math.nan, [0, 1], draws=5).low)


def test_a_row_without_a_group_is_refused() -> None:
    with pytest.raises(ValueError, match="got 2 values and 1 groups"):
        bootstrap_mean(np.zeros(2), ["a"])


def test_pairing_removes_what_two_models_share(rows: tuple) -> None:
    values, groups = rows
    better = values + 0.1 + 0.01 * np.cos(np.arange(60))
    value, low, high, _ = paired_difference(better, values, groups)
    assert 0 < low < value < high < 0.12
    backward = paired_difference(values, better, groups)
    assert backward[:3] == pytest.approx((-value, -high, -low), abs=1e-3)


def test_a_share_of_none_or_all_has_the_exact_interval_by_group() -> None:
    groups = [0, 0, 1, 1, 2, 2]
    assert bootstrap_share(np.ones(6), groups) == clopper_pearson(3, 3)
    assert bootstrap_share(np.zeros(6), groups) == clopper_pearson(0, 3)
    mixed = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    assert bootstrap_share(mixed, groups, draws=200) == bootstrap_mean(mixed, groups, draws=200)


@pytest.mark.parametrize("stream", ["integers", "multinomial"])
def test_every_draw_holds_as_many_groups_as_there_are(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.concatenate(list(draw_counts(7, 50, 3, stream)))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    monkeypatch.setattr("guerdon.formulas.resampling.CHUNK", 20)
    assert np.array_equal(np.concatenate(list(draw_counts(7, 50, 3, stream))), counts)


def test_counts_of_integers_count_the_groups_drawn() -> None:
    chosen = np.concatenate(list(draw_groups(5, 30, 1)))
    counts = np.concatenate(list(draw_counts(5, 30, 1)))
    assert np.array_equal(counts, [np.bincount(row, minlength=5) for row in chosen])


def test_sums_give_the_bootstrap_of_a_mean():
    rng = np.random.default_rng(8)
    values, groups = rng.normal(size=90), np.repeat([str(i) for i in range(30)], 3)
    columns = np.column_stack([values, np.ones(90)])
    interval = bootstrap_sums(columns, groups, lambda sums: sums[:, 0] / sums[:, 1])
    direct = bootstrap_mean(values, groups)
    assert interval.value == pytest.approx(direct.value)
    assert (interval.low, interval.high) == pytest.approx((direct.low, direct.high), abs=0.03)
    assert math.isnan(bootstrap_sums(columns[:0], groups[:0], lambda sums: sums[:, 0]).value)
