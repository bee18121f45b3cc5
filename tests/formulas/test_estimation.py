"""Intervals and tests: worked cases, laws, coverage, and what happens with too little data."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.formulas.estimation import (
    benjamini_hochberg,
    clopper_pearson,
    mcnemar,
    wilson,
)
from guerdon.formulas.resampling import bootstrap, bootstrap_mean, paired_difference

CASES = json.loads((Path(__file__).parents[1] / "cases" / "estimation.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)


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


def test_taking_dependent_rows_for_independent_narrows_it_wrongly(rows: tuple) -> None:
    values, groups = rows
    _, low, high, _ = bootstrap_mean(values, groups)
    _, low_naive, high_naive, _ = bootstrap_mean(values, np.arange(60))
    assert high - low > 1.3 * (high_naive - low_naive)


def test_shift_and_scale_carry_over_to_the_interval(rows: tuple) -> None:
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


def test_a_weight_is_a_number_of_rows_and_weight_zero_is_absence(rows: tuple) -> None:
    values, groups = rows
    weight = (groups % 3).astype(int)
    repeated = bootstrap_mean(np.repeat(values, weight), np.repeat(groups, weight))
    assert bootstrap_mean(values, groups, weight.astype(float)) == pytest.approx(repeated)
    assert repeated.n == 13


def test_the_general_bootstrap_of_a_mean_is_the_bootstrap_mean(rows: tuple) -> None:
    values, groups = rows
    general = bootstrap(lambda index: float(values[index].mean()), groups, draws=200, seed=3)
    assert general == pytest.approx(bootstrap_mean(values, groups, draws=200, seed=3))


def test_chunks_do_not_show_in_the_result(rows: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = rows
    expected = bootstrap_mean(values, groups)
    monkeypatch.setattr("guerdon.formulas.resampling.CHUNK", 70)
    assert bootstrap_mean(values, groups) == expected


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
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
    """Nearly all of the weight sits on two groups, so that a resample without them is another world."""
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


def test_values_that_are_all_equal_leave_no_doubt() -> None:
    assert bootstrap_mean(np.full(9, 0.1), np.arange(9)) == pytest.approx((0.1, 0.1, 0.1, 9))


def test_resamples_without_an_answer_are_left_out() -> None:
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


@pytest.mark.parametrize("case", CASES["shares"], ids=lambda case: case["says"])
def test_shares_match_the_worked_cases(case: dict) -> None:
    for interval, name in [(wilson, "wilson"), (clopper_pearson, "clopper_pearson")]:
        value, low, high, n = interval(case["successes"], case["n"])
        assert (value, n) == (case["successes"] / case["n"], case["n"])
        assert [low, high] == pytest.approx(case[name], abs=1e-6)


@laws
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_intervals_mirror_and_hold_the_share(counts: tuple[int, int]) -> None:
    successes, n = counts
    for interval in (wilson, clopper_pearson):
        value, low, high, _ = interval(successes, n)
        assert 0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1
        mirrored = interval(n - successes, n)
        assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((low, high), abs=1e-9)


def test_no_trials_leave_every_share_possible() -> None:
    for interval in (wilson(0, 0), clopper_pearson(0, 0)):
        assert math.isnan(interval.value)
        assert interval[1:] == (0.0, 1.0, 0)


@pytest.mark.parametrize("case", CASES["mcnemar"], ids=lambda case: case["says"])
def test_mcnemar_matches_the_worked_cases(case: dict) -> None:
    assert mcnemar(case["only_a"], case["only_b"]) == pytest.approx(case["p"])
    assert mcnemar(case["only_b"], case["only_a"]) == pytest.approx(case["p"])


@pytest.mark.parametrize("case", CASES["benjamini_hochberg"], ids=lambda case: case["says"])
def test_benjamini_hochberg_matches_the_worked_cases(case: dict) -> None:
    assert benjamini_hochberg(np.array(case["p"])) == pytest.approx(case["q"])


@laws
@given(st.lists(st.floats(0.0, 1.0), max_size=20))
def test_benjamini_hochberg_agrees_with_scipy(p: list[float]) -> None:
    expected = scipy.stats.false_discovery_control(p) if p else []
    assert benjamini_hochberg(np.array(p)) == pytest.approx(expected)
