"""Estimates of every stage, and how they read in a sentence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from guerdon.contracts import Estimate
from guerdon.formulas.clustered import clustered_mean, clustered_share
from guerdon.formulas.estimation import clopper_pearson
from guerdon.models.estimates import (
    describe_intervals,
    estimate_difference,
    estimate_mean,
    estimate_share,
    number,
    percent,
)

VALUES, GROUPS = np.array([0.0, 1.0, 1.0, 1.0, 0.0, 1.0]), ["a", "a", "b", "b", "c", "c"]


def test_estimates_carry_the_intervals_of_their_kind():
    weight = np.array([1.0, 2.0, 1.0, 1.0, 3.0, 1.0])
    assert estimate_mean(VALUES, GROUPS, weight) == Estimate(*clustered_mean(VALUES, GROUPS, weight))
    assert estimate_share(VALUES, GROUPS, weight) == Estimate(*clustered_share(VALUES, GROUPS, weight))
    assert estimate_share(VALUES, GROUPS, None).low > 0 > estimate_mean(VALUES, GROUPS, None).low


def test_the_kinds_of_intervals_are_described_as_they_are():
    text = describe_intervals(500, 3, "prompt")
    assert text.startswith("95 %, by prompt: Student's for means and differences, Wilson's on the effective number")
    assert text.endswith("500 bootstrap draws (seed 3) for the rest")


def test_a_share_of_all_counts_groups_and_is_not_certain():
    estimate = estimate_share(np.ones(6), GROUPS, None)
    assert estimate == Estimate(*clopper_pearson(3, 3))
    assert estimate.low < 1


def test_a_difference_of_equals_is_zero_but_not_certain():
    estimate = estimate_difference(VALUES, VALUES, GROUPS, None)
    width = clopper_pearson(0, 3).high
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0, -width, width, 3)


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
