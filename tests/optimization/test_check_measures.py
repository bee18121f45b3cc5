"""What is measured of a check has an interval by prompt, and the share of length is found."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from planted_checks import hump, planted_checks

from guerdon.optimization.check_measures import length_correlation, length_share, measure_check


def test_a_gain_in_length_has_share_one_and_a_gain_in_quality_share_zero():
    by_length = length_share(planted_checks(by_length=0.1, by_quality=0.0, longer=8.0))
    assert by_length.low < 1 < by_length.high
    assert by_length.high - by_length.low < 0.3
    by_quality = length_share(planted_checks(by_length=0.0, by_quality=0.5, longer=8.0))
    assert by_quality.low < 0 < by_quality.high
    assert by_quality.high - by_quality.low < 0.3
    assert length_correlation(planted_checks(by_length=0.1, by_quality=0.0)).low > 0.5


def test_without_a_gain_there_is_no_length_share():
    assert length_share(planted_checks(by_quality=0.0)) is None
    assert length_share(planted_checks(length=lambda i, p, rng: np.full(p, 32.0))) is None


def test_estimates_have_intervals_and_leave_out_what_was_not_measured():
    checks = planted_checks(shift_p=lambda i, p, rng: rng.random(p), std=lambda i, p, rng: np.full(p, 0.2))
    found = measure_check(checks[4], checks[0])
    assert set(found) == {
        "proxy", "gold", "kl", "sqrt_kl", "length", "finished", "shifted", "spread", "repetition", "distinct_1",
        "distinct_2", "unique_replies", "proxy_gain", "gold_gain", "length_gain",
    }  # fmt: skip
    assert all(e.low <= e.value <= e.high for e in found.values())
    assert found["sqrt_kl"].value == pytest.approx(math.sqrt(found["kl"].value))
    assert found["gold_gain"].low < hump(2) < found["gold_gain"].high
    assert found["unique_replies"].value == 1
    assert found["unique_replies"].low < 1
    assert not {"gold", "spread", "shifted"} & set(measure_check(planted_checks(None)[0]))


def test_unknown_numbers_are_left_out_of_a_mean():
    proxy = np.array([1.0, math.nan, 3.0, 5.0])
    found = measure_check(dataclasses.replace(planted_checks(p=4)[0], proxy=proxy))["proxy"]
    assert found.value == 3
    assert found.n == 3
