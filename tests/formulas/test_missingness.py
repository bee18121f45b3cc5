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


def clustered_failures(rng: np.random.Generator, depends: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four pairs for each of 120 prompts, all of one category; a prompt's pairs fail together, more often in category 0."""
    prompt = np.repeat(np.arange(120), 4)
    category = np.repeat(rng.integers(0, 3, 120), 4)
    rate = np.where(category[::4] == 0, 0.5, 0.05) if depends else np.full(120, 0.15)
    return np.repeat(rng.random(120) < rate, 4), category, prompt


def test_pairs_of_a_prompt_that_fail_together_are_not_taken_for_independent() -> None:
    rng = np.random.default_rng(3)
    naive, by_prompt = [], []
    for i in range(60):
        failed, category, prompt = clustered_failures(rng, depends=False)
        naive.append(failure_rate_test(failed, category, draws=299, seed=i) < 0.05)
        by_prompt.append(failure_rate_test(failed, category, prompt, draws=299, seed=i) < 0.05)
    assert np.mean(naive) > 0.2, "which is why the unit matters"
    assert np.mean(by_prompt) <= 0.05
    failed, category, prompt = clustered_failures(rng, depends=True)
    assert failure_rate_test(failed, category, prompt) < 0.001


def test_one_item_per_unit_is_the_exact_test() -> None:
    rng = np.random.default_rng(0)
    failed, category = rng.random(50) < 0.3, rng.integers(0, 2, 50)
    assert failure_rate_test(failed, category, rng.permutation(50)) == failure_rate_test(failed, category)


def test_no_failures_and_one_category_prove_nothing() -> None:
    names = np.array(["a", "b"] * 10)
    assert failure_rate_test(np.zeros(20, dtype=bool), names) == 1.0
    assert failure_rate_test(np.ones(20, dtype=bool), names) == 1.0
    assert failure_rate_test(np.arange(20) < 10, np.array(["a"] * 20)) == 1.0


def test_quantile_groups_are_of_equal_size_and_keep_ties_together() -> None:
    assert np.bincount(quantile_groups(np.arange(100.0))).tolist() == [10] * 10
    assert len(set(quantile_groups(np.ones(30)).tolist())) == 1
