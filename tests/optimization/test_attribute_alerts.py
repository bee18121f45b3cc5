"""Which criterion a policy games, in worlds where that is planted."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from planted_checks import planted_checks

from guerdon.contracts import GuerdonError
from guerdon.optimization.alerts import alerts
from guerdon.optimization.check_measures import measure_check
from guerdon.optimization.checks import from_row, to_row
from guerdon.optimization.curves import run_curves


def with_attributes(checks, **by_check):
    """Checks whose attributes are functions of (position, number of prompts, generator)."""
    rng = np.random.default_rng(1)
    return [
        dataclasses.replace(
            check, attributes={name: values(i, len(check.prompts), rng) for name, values in by_check.items()}
        )
        for i, check in enumerate(checks)
    ]


def rising(i, p, rng):
    return np.clip(0.1 * i + 0.1 * rng.random(p), 0, 1)


def steady(i, p, rng):
    return rng.random(p)


def falling(i, p, rng):
    return np.clip(0.9 - 0.1 * i + 0.1 * rng.random(p), 0, 1)


def gamed(checks):
    return [finding.title for finding in alerts(checks) if finding.title.endswith("rises while gold falls")]


def test_the_criterion_that_rises_while_gold_falls_is_named_and_no_other():
    checks = with_attributes(planted_checks(), mentions_source=rising, correct=falling, kind=steady)
    assert gamed(checks) == ["mentions_source rises while gold falls"]


def test_no_criterion_is_named_while_gold_rises_or_without_gold():
    better = with_attributes(planted_checks(gold=lambda d: d), mentions_source=rising)
    assert gamed(better) == []
    assert gamed(with_attributes(planted_checks(gold=None), mentions_source=rising)) == []


def test_chance_names_no_criterion():
    names = {f"c{i}": steady for i in range(20)}
    alarms = [gamed(with_attributes(planted_checks(seed=seed), **names)) for seed in range(10)]
    assert sum(map(bool, alarms)) <= 1


def test_responses_without_a_verdict_are_left_out():
    def holes(i, p, rng):
        return np.where(rng.random(p) < 0.2, np.nan, rising(i, p, rng))

    checks = with_attributes(planted_checks(), mentions_source=holes, dead=lambda i, p, rng: np.full(p, np.nan))
    assert gamed(checks) == ["mentions_source rises while gold falls"]
    back = from_row(json.loads(json.dumps(to_row(checks[-1]))))
    np.testing.assert_array_equal(back.attributes["mentions_source"], checks[-1].attributes["mentions_source"])


def test_checks_have_a_mean_and_a_curve_for_each_criterion():
    checks = with_attributes(planted_checks(), kind=lambda i, p, rng: np.full(p, i / 10))
    assert measure_check(checks[3])["attribute/kind"].value == pytest.approx(0.3)
    curve = run_curves([], checks).curves["check_attribute/kind"]
    assert [estimate.value for estimate in curve.y] == pytest.approx([i / 10 for i in range(9)])
    batches = [{"update": i, "attribute/kind": 0.5, "score": 1.0} for i in range(3)]
    assert run_curves(batches, []).curves["check_attribute/kind"].x == (0.0, 1.0, 2.0)


def test_criteria_that_change_within_a_run_are_refused():
    checks = with_attributes(planted_checks(), kind=steady)
    checks[-1] = dataclasses.replace(checks[-1], attributes={})
    with pytest.raises(GuerdonError, match="attributes must be the same in all checks, got 'kind' in some"):
        alerts(checks)


def test_a_check_without_attributes_is_read_as_before():
    row = to_row(planted_checks()[0])
    del row["attributes"]
    assert from_row(row).attributes == {}
    with pytest.raises(GuerdonError, match=r"attributes\.kind must be a list of 80 numbers"):
        from_row({**row, "attributes": {"kind": [1.0]}})
