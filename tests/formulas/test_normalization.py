"""Scales that prompts share: each keeps the order within a prompt, and removes what it is said to remove."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.formulas.normalization import (
    SHRINKAGE,
    centered,
    icc,
    icc_interval,
    logsigmoid_centered,
    quantile,
    within_prompt_std,
    zscore_global,
    zscore_prompt,
)

CASES = json.loads((Path(__file__).parents[1] / "cases" / "isotonic.json").read_text(encoding="utf-8"))
BANK = np.array([1.0, 2.0, 3.0, 6.0])
RULES = {
    "centered": centered,
    "zscore": lambda r, bank: zscore_prompt(r, bank, 2.0),
    "quantile": quantile,
    "logsigmoid": logsigmoid_centered,
}
rewards = st.lists(st.floats(-20, 20), min_size=2, max_size=12)


def rows(n, bank=BANK):
    return np.tile(bank, (n, 1))


@pytest.mark.parametrize("case", CASES["icc"], ids=lambda case: case["says"])
def test_the_icc_matches_the_worked_cases(case):
    assert icc(np.array(case["reward"], float), case["prompt"]) == pytest.approx(case["icc"], abs=1e-6)


def test_each_rule_by_hand():
    reward = np.array([3.0, 7.0])
    assert centered(reward, rows(2)).tolist() == [0.0, 4.0]
    assert zscore_global(reward, 1.0, 2.0).tolist() == [1.0, 3.0]
    spread = math.sqrt((4 * 2.0**2 + 4 * 3.5) / 8)  # variance 3.5 of four samples, shrunk half way to 4
    assert zscore_prompt(reward, rows(2), 2.0) == pytest.approx([0.0, 4.0 / spread])
    assert quantile(reward, rows(2)) == pytest.approx([(2 + 0.5 + 0.5) / 5, 4.5 / 5])
    assert logsigmoid_centered(reward, rows(2)) == pytest.approx([math.log(0.5), -math.log1p(math.exp(-4.0))])


@pytest.mark.parametrize("rule", RULES)
@given(rewards)
def test_no_rule_changes_the_order_within_a_prompt(rule, values):
    reward = np.sort(np.array(values))
    assert (np.diff(RULES[rule](reward, rows(len(reward)))) >= -1e-12).all()


@pytest.mark.parametrize("rule", RULES)
@given(rewards, st.floats(-50, 50))
def test_the_level_of_a_prompt_is_removed(rule, values, level):
    reward = np.array(values).round(3)
    np.testing.assert_allclose(
        RULES[rule](reward + round(level), rows(len(reward), BANK + round(level))),
        RULES[rule](reward, rows(len(reward))),
        atol=1e-9,
    )


def test_nan_is_a_missing_sample():
    holes = np.array([[1.0, np.nan, 3.0, np.nan]])
    full = np.array([[1.0, 3.0]])
    for rule in RULES.values():
        assert rule(np.array([2.5]), holes) == pytest.approx(rule(np.array([2.5]), full))


def test_the_variance_of_few_samples_is_shrunk_and_that_of_many_is_not():
    rng = np.random.default_rng(0)
    for k, weight in ((4, 0.5), (400, 400 / (400 + SHRINKAGE))):
        bank = rng.normal(scale=3.0, size=(1, k))
        expected = math.sqrt((1 - weight) * 1.0 + weight * bank.var())
        assert 1 / zscore_prompt(bank.mean(axis=1) + 1.0, bank, 1.0)[0] == pytest.approx(expected)


def test_the_quantile_of_another_sample_is_uniform():
    rng = np.random.default_rng(1)
    place = quantile(rng.normal(size=20_000), rng.normal(size=(20_000, 4)))
    assert np.unique(place).tolist() == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert np.bincount((place * 5).astype(int)) / 20_000 == pytest.approx(np.full(5, 0.2), abs=0.015)


def test_logsigmoid_is_bounded_and_has_the_right_slope():
    bank = np.zeros((3, 2))
    far = logsigmoid_centered(np.array([50.0, 100.0, -100.0]), bank)
    assert far == pytest.approx([0.0, 0.0, -100.0], abs=1e-12)
    step = 1e-6
    slope = (
        logsigmoid_centered(np.array([0.3 + step]), bank[:1]) - logsigmoid_centered(np.array([0.3 - step]), bank[:1])
    ) / (2 * step)
    assert slope[0] == pytest.approx(1 / (1 + math.exp(0.3)), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_icc_recovers_the_planted_share_and_observed_means_do_not(share):
    rng = np.random.default_rng(2)
    prompts = np.repeat(np.arange(1500), rng.integers(2, 6, 1500))
    level = math.sqrt(share) * rng.normal(size=1500)
    reward = level[prompts] + math.sqrt(1 - share) * rng.normal(size=len(prompts))
    assert icc(reward, prompts.tolist()) == pytest.approx(share, abs=0.03)
    assert within_prompt_std(reward, prompts.tolist()) == pytest.approx(math.sqrt(1 - share), rel=0.03)
    means = np.bincount(prompts, weights=reward) / np.bincount(prompts)
    assert means[prompts].var() / reward.var() > share + 0.02


def test_the_interval_of_the_icc_covers_the_truth():
    """Were a prompt drawn twice counted once, it would have twice the samples of the same mean: far too high."""
    rng, held = np.random.default_rng(4), 0
    for seed in range(60):
        prompts = np.repeat(np.arange(80), 3)
        reward = math.sqrt(0.3) * rng.normal(size=80)[prompts] + math.sqrt(0.7) * rng.normal(size=240)
        found = icc_interval(reward, prompts.tolist(), 200, seed)
        held += found.low <= 0.3 <= found.high
        assert (found.value, found.n) == (icc(reward, prompts.tolist()), 80)
    assert held >= 51


def test_the_icc_does_not_depend_on_unit_or_origin():
    rng = np.random.default_rng(3)
    reward, prompts = rng.normal(size=40), [i // 4 for i in range(40)]
    assert icc(7 * reward - 100, prompts) == pytest.approx(icc(reward, prompts))


@pytest.mark.parametrize(
    ("reward", "prompts"), [([1.0, 2.0], ["a", "a"]), ([1.0, 2.0], ["a", "b"]), ([1.0] * 4, list("aabb")), ([], [])]
)
def test_an_icc_that_is_not_determined_is_nan(reward, prompts):
    assert math.isnan(icc(np.array(reward), prompts))


def test_one_sample_per_prompt_has_no_deviation_within():
    assert within_prompt_std(np.array([1.0, 5.0]), ["a", "b"]) == 0.0
