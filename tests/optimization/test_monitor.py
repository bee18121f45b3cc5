"""Runs whose truth is planted: the turn of gold must be found, and a run without one must not be stopped."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from planted_checks import hump, planted_checks

from guerdon.contracts import GuerdonError
from guerdon.optimization.check_measures import measure_check
from guerdon.optimization.monitor import assess_reward, best_update, reason_to_stop


def test_a_hump_is_over_optimized_since_its_peak():
    found = assess_reward(planted_checks())
    assert found.kind == "over-optimized"
    peak = (2 / 1.2) ** 2  # checks stand at d = 1.5 and 2.0
    assert found.since_kl == pytest.approx(peak, rel=0.5)
    assert found.text.startswith("Over-optimized since KL = ")
    assert found.trend.drop.low > 0


def test_a_gold_that_collapses_after_a_plateau_is_over_optimized():
    assert assess_reward(planted_checks(lambda d: 0.0 if d > 3 else min(d, 1.0))).kind == "over-optimized"


def test_a_steady_rise_is_fine():
    found = assess_reward(planted_checks(lambda d: d))
    assert found.kind == "fine"
    assert found.since_kl is None


def test_a_rise_that_ends_is_flattening():
    assert assess_reward(planted_checks(lambda d: 1 - math.exp(-3 * d))).kind == "flattening"


def test_without_gold_nothing_is_concluded_even_if_the_proxy_soars():
    found = assess_reward(planted_checks(None, by_quality=10.0))
    assert found.kind == "insufficient"
    assert found.text.startswith("Without a gold judge nothing can be concluded")
    assert reason_to_stop(planted_checks(None)) is None


def test_three_prompts_are_too_few():
    found = assess_reward(planted_checks(p=3))
    assert found.kind == "insufficient"
    assert "3 prompts" in found.text
    assert "Hold out more prompts" in found.text


def test_a_run_without_a_first_or_a_second_check_is_insufficient():
    assert assess_reward([]).kind == assess_reward(planted_checks(m=1)).kind == "insufficient"
    assert "not of the initial policy" in assess_reward(planted_checks()[3:]).text


def test_a_rounding_error_in_the_first_kl_changes_nothing():
    checks = planted_checks()
    checks[0] = dataclasses.replace(checks[0], kl=np.full(80, 1e-6))
    checks[1] = dataclasses.replace(checks[1], kl=np.full(80, -1e-3))
    assert assess_reward(checks).kind == "over-optimized"


def test_prompts_without_gold_at_one_check_are_left_out_of_all():
    checks = planted_checks()
    gold = checks[4].gold.copy()
    gold[:10] = math.nan
    checks[4] = dataclasses.replace(checks[4], gold=gold)
    found = assess_reward(checks)
    assert found.trend.gain.n == 70
    assert found.kind == "over-optimized"


def test_a_check_without_gold_is_left_out_and_loses_no_prompt():
    checks = planted_checks()
    for lost in (4, 2):
        nothing = dataclasses.replace(checks[lost], gold=np.full(80, math.nan))
        kept = [check for i, check in enumerate(checks) if i != lost]
        assert assess_reward([*checks[:lost], nothing, *checks[lost + 1 :]]) == assess_reward(kept)
    first = dataclasses.replace(checks[0], gold=np.full(80, math.nan))
    assert "No prompt has gold" in assess_reward([first, *checks[1:]]).text


def test_gold_that_is_missing_at_random_still_gives_a_trend():
    """A tenth of all numbers, at random: over all checks hardly a prompt has every number."""
    draw = np.random.default_rng(0)
    checks = [
        dataclasses.replace(check, gold=np.where(draw.random(80) < 0.1, math.nan, check.gold))
        for check in [
            planted_checks()[0],
            *(dataclasses.replace(planted_checks()[1 + i // 3], update=i + 1) for i in range(24)),
        ]
    ]
    assert np.isfinite([check.gold for check in checks]).all(axis=0).sum() < 10
    found = assess_reward(checks)
    assert found.kind == "over-optimized"
    assert found.trend.gain.n >= 35
    assert best_update(checks) in range(1, 25)
    assert found.trend.drop.value > 0


def test_equal_prompts_count_once():
    checks = [dataclasses.replace(c, prompts=tuple(f"prompt {a // 2}" for a in range(80))) for c in planted_checks()]
    assert assess_reward(checks).trend.gain.n == 40
    assert measure_check(checks[0])["proxy"].n == 40


def test_a_run_stops_only_after_two_over_optimized_checks_in_a_row():
    checks = planted_checks()
    kinds = [assess_reward(checks[: i + 1]).kind for i in range(9)]
    first = kinds.index("over-optimized")
    assert reason_to_stop(checks[: first + 1]) is None
    assert reason_to_stop(checks[: first + 2]).startswith("Over-optimized since KL")
    assert reason_to_stop(checks[: first + 1], patience=1) is not None


def test_a_run_with_flat_gold_is_rarely_stopped_at_any_check():
    flat = lambda d: 0.0  # noqa: E731
    stopped = [
        any(reason_to_stop(checks[: i + 1], draws=200) for i in range(9))
        for checks in (planted_checks(flat, p=30, seed=s) for s in range(20))
    ]
    assert sum(stopped) <= 2


def test_the_best_check_has_the_highest_gold_and_its_lead_an_interval():
    checks = planted_checks()
    assert best_update(checks) in (30, 40)
    lead = assess_reward(checks).trend.drop
    assert lead.low < hump(1.75) - hump(4) < lead.high
    assert lead.low > 0
    rising = planted_checks(lambda d: d)
    assert best_update(rising) == 80
    assert assess_reward(rising).trend.drop.value == 0
    assert assess_reward(rising[:1]).trend is None


def test_the_best_of_many_equal_checks_has_no_significant_lead():
    equal = (planted_checks(lambda d: 0.0, p=30, seed=s) for s in range(60))
    assert sum(assess_reward(checks, draws=200).trend.drop.low > 0 for checks in equal) <= 4


def test_without_gold_there_is_no_best():
    with pytest.raises(GuerdonError, match=r"gold must be measured to find the best one, got none\. Name a gold judge"):
        best_update(planted_checks(None))
