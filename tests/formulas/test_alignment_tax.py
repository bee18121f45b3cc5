"""Paired differences on one scale: worked cases, the laws they obey, how often their intervals hold the truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from guerdon.formulas import drift
from guerdon.formulas.alignment_tax import (
    linearized,
    mean_and_worst,
    task_correlation,
    tax_of_mean,
    tax_of_share,
    vocabulary_entropy,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "tax.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["shares"], ids=lambda case: case["says"])
def test_the_tax_of_a_share_matches_the_worked_cases(case):
    tax = tax_of_share(np.array(case["before"], float), np.array(case["after"], float))
    found = (*tax.difference[:3], tax.error, tax.p)
    assert found == pytest.approx([case[k] for k in ("difference", "low", "high", "error", "p")], abs=1e-5)


@pytest.mark.parametrize("case", CASES["entropy"], ids=lambda case: case["says"])
def test_the_entropy_of_words_matches_the_worked_cases(case):
    assert vocabulary_entropy(case["texts"]) == pytest.approx(case["nats"], abs=1e-6)


def test_swapping_before_and_after_flips_the_sign_only():
    rng = np.random.default_rng(0)
    right = (rng.random((2, 60)) < 0.6).astype(float)
    scores = rng.normal(size=(2, 60))
    for tax, pair in ((tax_of_share, right), (tax_of_mean, scores)):
        there, back = tax(pair[0], pair[1]), tax(pair[1], pair[0])
        assert back.difference.value == -there.difference.value
        assert (back.error, back.p) == pytest.approx((there.error, there.p))
        assert (back.difference.low, back.difference.high) == pytest.approx(
            (-there.difference.high, -there.difference.low), abs=0.02
        )


@pytest.mark.parametrize(("lost", "won", "n"), [(0.0, 0.0, 40), (0.02, 0.02, 100), (0.2, 0.05, 40), (0.4, 0.1, 100)])
def test_the_interval_of_a_share_has_its_nominal_coverage(lost, won, n):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        moved = rng.choice([1.0, -1.0, 0.0], size=n, p=[lost, won, 1 - lost - won])
        low, high = tax_of_share((moved > 0) * 1.0, (moved < 0) * 1.0).difference[1:3]
        held += low <= lost - won <= high
    assert held >= 276


def test_a_model_that_lost_nothing_is_rarely_called_taxed():
    rng = np.random.default_rng(2)
    called = 0
    for _ in range(200):
        before = rng.normal(size=50)
        called += tax_of_mean(before, before + 0.3 * rng.normal(size=50)).p < 0.05
    assert 2 <= called <= 20


def test_scores_that_do_not_change_have_no_tax_and_no_evidence():
    tax = tax_of_mean(np.arange(5.0), np.arange(5.0))
    assert tax.difference == (0.0, 0.0, 0.0, 5)
    assert (tax.standardized, tax.p) == (0.0, 1.0)


def test_items_that_all_lose_the_same_are_strong_but_finite_evidence():
    for n in (2, 10, 100):
        tax = tax_of_mean(np.ones(n), np.zeros(n))
        assert tax.standardized == pytest.approx(math.sqrt(n * (n + 1)))


def test_a_standardized_tax_does_not_depend_on_the_unit():
    before, after = np.random.default_rng(3).normal(size=(2, 30))
    one, thousand = tax_of_mean(before, after), tax_of_mean(1000 * before, 1000 * after)
    assert thousand.standardized == pytest.approx(one.standardized)
    assert thousand.difference.value == pytest.approx(1000 * one.difference.value)


def test_the_mean_of_independent_taxes_is_more_certain_and_that_of_equal_ones_is_not():
    z = np.array([1.0, 2.0, 3.0, 2.0])
    apart, _ = mean_and_worst(z, np.eye(4))
    alike, _ = mean_and_worst(z, np.ones((4, 4)))
    alone, worst = mean_and_worst(z[:1], np.eye(1))
    assert apart == pytest.approx((2.0, 2 - 1.959964 / 2, 2 + 1.959964 / 2, 4))
    assert alike == pytest.approx((2.0, 2 - 1.959964, 2 + 1.959964, 4))
    assert alone == worst == pytest.approx((1.0, 1 - 1.959964, 1 + 1.959964, 1))


def test_the_worst_of_many_noisy_tasks_is_not_called_a_tax():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(1500, 12))
    above = [mean_and_worst(row, np.eye(12))[1].low > 0 for row in z]
    assert np.mean(above) == pytest.approx(0.025, abs=0.012)  # the band's upper side
    assert np.mean(z.max(axis=1) > norm.ppf(0.975)) > 0.2  # what an interval that forgot the choice would say


def test_tasks_of_one_bank_are_correlated_and_those_of_different_banks_are_not():
    a = np.array([1.0, 2.0, 3.0, 4.0])
    found = task_correlation([a, -2 * a, a, np.zeros(4)], ["x", "x", "y", "x"])
    assert found == pytest.approx(np.array([[1, -1, 0, 1], [-1, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 1]]))


def test_influence_values_of_a_mean_are_the_values():
    rows = [1.0, 5.0, 2.0]
    assert linearized(rows, lambda some: sum(some) / len(some)) == pytest.approx(rows)
    assert linearized(["only"], len).tolist() == [1.0]
    assert linearized([], lambda some: 7.0).tolist() == []


def test_influence_values_have_the_mean_of_the_statistic_and_the_spread_of_its_jackknife():
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(list("abcdefghijklmnop"), size=12)) for _ in range(20)]
    values = linearized(texts, lambda some: drift.distinct(some, 2).value)
    known = drift.distinct(texts, 2)
    assert values.mean() == pytest.approx(known.value)
    half = 1.959964 * values.std(ddof=1) / math.sqrt(len(texts))
    assert half == pytest.approx((known.high - known.low) / 2, rel=1e-6)
