"""Intervals and tests of shares: worked cases, laws, and what happens with too little data."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from guerdon.formulas.estimation import benjamini_hochberg, clopper_pearson, holm, mcnemar, wilson

CASES = json.loads((Path(__file__).parents[1] / "cases" / "estimation.json").read_text(encoding="utf-8"))
laws = settings(derandomize=True, deadline=None, max_examples=40)


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


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls() -> None:
    assert holm(np.array([0.04, 0.01, 0.03, 0.5])) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm(np.array([0.4, 0.6])) == pytest.approx([0.8, 0.8])
    assert holm(np.array([])).tolist() == []


def test_holm_rarely_finds_anything_where_nothing_is() -> None:
    p = np.random.default_rng(0).uniform(size=(4000, 6))
    assert np.mean([holm(row).min() < 0.05 for row in p]) == pytest.approx(0.05, abs=0.01)
