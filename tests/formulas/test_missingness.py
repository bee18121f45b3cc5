"""The test of failures that are not missing at random."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from guerdon.formulas.missingness import failure_rate_test, quantile_groups


@pytest.mark.parametrize("table", [((8, 2), (1, 9)), ((3, 17), (4, 16)), ((1, 30), (6, 5))])
def test_two_categories_give_the_p_value_of_fishers_exact_test(table: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """scipy's fisher_exact orders tables by probability, we by chi-squared: the same order in tables of equal rows."""
    failed = np.array([True] * table[0][0] + [False] * table[0][1] + [True] * table[1][0] + [False] * table[1][1])
    category = np.array(["a"] * sum(table[0]) + ["b"] * sum(table[1]))
    expected = fisher_exact(np.array(table)).pvalue
    assert failure_rate_test(failed, category, draws=40000) == pytest.approx(expected, rel=0.15, abs=0.005)


def test_p_values_are_uniform_where_failures_are_random() -> None:
    rng = np.random.default_rng(1)
    p = [failure_rate_test(rng.random(200) < 0.1, rng.integers(0, 5, 200), draws=499, seed=i) for i in range(200)]
    assert np.mean(np.array(p) < 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(p) == pytest.approx(0.5, abs=0.08)


def test_no_failures_and_one_category_prove_nothing() -> None:
    names = np.array(["a", "b"] * 10)
    assert failure_rate_test(np.zeros(20, dtype=bool), names) == 1.0
    assert failure_rate_test(np.ones(20, dtype=bool), names) == 1.0
    assert failure_rate_test(np.arange(20) < 10, np.array(["a"] * 20)) == 1.0


def test_quantile_groups_are_of_equal_size_and_keep_ties_together() -> None:
    assert np.bincount(quantile_groups(np.arange(100.0))).tolist() == [10] * 10
    assert len(set(quantile_groups(np.ones(30)).tolist())) == 1
