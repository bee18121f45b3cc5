"""What is measured of a check has an interval by prompt."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from planted_checks import hump, planted_checks

from guerdon.optimization.check_measures import measure_check


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
