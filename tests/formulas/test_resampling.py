"""The bootstrap by group: laws, and what happens with too few groups."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from guerdon.formulas.resampling import (
    bootstrap,
    bootstrap_sums,
    draw_counts,
    draw_groups,
)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Sixty values in twenty groups of uneven size, with a spread between the groups."""
    rng = np.random.default_rng(0)
    groups = np.sort(np.concatenate([np.arange(20), rng.integers(20, size=40)]))
    return rng.normal(size=20)[groups] + 0.3 * rng.normal(size=60), groups


def mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda index: float(values[index].mean())


def test_the_interval_is_around_the_value_and_counts_groups(rows: tuple) -> None:
    values, groups = rows
    value, low, high, n = bootstrap(mean_of(values), groups)
    assert value == pytest.approx(values.mean())
    assert low < value < high
    assert n == 20


def test_the_block_size_does_not_change_the_result(rows: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = rows
    expected = bootstrap(mean_of(values), groups)
    monkeypatch.setattr("guerdon.formulas.resampling.CHUNK", 70)
    assert bootstrap(mean_of(values), groups) == expected


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


def test_too_few_groups_give_no_interval() -> None:
    assert bootstrap(lambda index: 0.0, []).n == 0
    assert math.isnan(bootstrap(lambda index: 0.0, []).value)
    assert bootstrap(lambda index: float(len(index)), ["a", "a"])[0] == 2.0
    assert math.isnan(bootstrap(lambda index: float(len(index)), ["a", "a"]).low)


def test_draws_that_are_nan_are_dropped() -> None:
    values = np.array([0.0, 0.0, 1.0])

    def share_of_varied(index: np.ndarray) -> float:
        return math.nan if np.ptp(values[index]) == 0 else float(values[index].mean())

    _, low, high, _ = bootstrap(share_of_varied, [0, 1, 2], draws=200)
    assert (low, high) == pytest.approx((1 / 3, 2 / 3))
    assert math.isnan(bootstrap(lambda index: math.nan, [0, 1], draws=5).low)


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
    direct = bootstrap(mean_of(values), groups)
    assert interval.value == pytest.approx(direct.value)
    assert (interval.low, interval.high) == pytest.approx((direct.low, direct.high), abs=0.03)
    assert math.isnan(bootstrap_sums(columns[:0], groups[:0], lambda sums: sums[:, 0]).value)
