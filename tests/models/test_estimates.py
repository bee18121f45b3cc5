"""Estimates of every stage, and how they read in a sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from guerdon.config import AuditOptions
from guerdon.contracts import Estimate
from guerdon.formulas.estimation import clopper_pearson
from guerdon.formulas.resampling import bootstrap_mean
from guerdon.models.estimates import estimate_difference, estimate_mean, estimate_share, number, percent

OPTIONS = AuditOptions(draws=200, seed=3)
VALUES, GROUPS = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0]), ["a", "a", "b", "b", "c", "c"]


def test_a_mean_is_resampled_with_the_options_of_the_stage():
    weight = np.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    assert estimate_mean(VALUES, GROUPS, weight, OPTIONS) == Estimate(*bootstrap_mean(VALUES, GROUPS, weight, 200, 3))
    assert estimate_share(VALUES, GROUPS, None, OPTIONS) == estimate_mean(VALUES, GROUPS, None, OPTIONS)


def test_a_share_of_all_counts_groups_and_is_not_certain():
    estimate = estimate_share(np.ones(6), GROUPS, None, OPTIONS)
    assert estimate == Estimate(*clopper_pearson(3, 3))
    assert estimate.low < 1


def test_a_difference_of_equals_is_zero():
    estimate = estimate_difference(VALUES, VALUES, GROUPS, None, OPTIONS)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0, 0, 0, 3)
    forth, back = (
        estimate_difference(VALUES, np.zeros(6), GROUPS, None, OPTIONS),
        estimate_mean(VALUES, GROUPS, None, OPTIONS),
    )
    assert forth == back


@pytest.mark.parametrize(
    ("estimate", "as_percent", "as_number"),
    [
        (Estimate(0.7172, 0.68, 0.7551, 401), "71.7\N{NO-BREAK SPACE}% [68.0, 75.5]", "0.717 [0.68, 0.755]"),
        (Estimate(0.5, math.nan, math.nan, 1), "50.0\N{NO-BREAK SPACE}% (no interval)", "0.5 (no interval)"),
    ],
)
def test_an_estimate_reads_as_a_value_with_its_interval(estimate, as_percent, as_number):
    assert percent(estimate) == as_percent
    assert number(estimate) == as_number
