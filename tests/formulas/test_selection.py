"""D-optimal picks against determinants by brute force, and draws whose probabilities are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guerdon.formulas.selection import cap_groups, d_optimal, group_share, random_projection

CASES = json.loads((Path(__file__).parents[1] / "cases" / "selection.json").read_text("utf-8"))


def alone(num: int) -> np.ndarray:
    """Each pair in a group of its own."""
    return np.arange(num)


def random_design(seed: int, num: int = 12, dimension: int = 3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, dimension)), rng.uniform(0.01, 0.25, size=num), np.eye(dimension)


@pytest.mark.parametrize("case", CASES["d_optimal"], ids=lambda case: case["name"])
def test_picks_worked_by_hand(case):
    x, w = np.array(case["difference"], dtype=float), np.array(case["weight"], dtype=float)
    result = d_optimal(x, w, np.array(case["information"], dtype=float), case["num"], np.array(case["group"]), 1)
    assert result.picked.tolist() == case["picked"]
    assert result.gain == pytest.approx(case["gain"])


@given(st.integers(0, 10_000))
def test_each_pick_has_the_largest_log_determinant(seed):
    x, w, information = random_design(seed)
    result = d_optimal(x, w, information, 6, alone(len(x)), 1)
    picked: list[int] = []
    for pick, gain in zip(result.picked, result.gain, strict=True):
        before = np.linalg.slogdet(information)[1]
        logs = np.array([np.linalg.slogdet(information + w[i] * np.outer(x[i], x[i]))[1] for i in range(len(x))])
        logs[picked] = -np.inf
        assert logs[pick] == pytest.approx(logs.max())
        assert np.log1p(gain) == pytest.approx(logs[pick] - before)
        information = information + w[pick] * np.outer(x[pick], x[pick])
        picked.append(pick)


def test_the_sign_of_a_difference_and_a_rotation_of_the_features_change_no_pick():
    x, w, information = random_design(3)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    picks = [d_optimal(y, w, information, 8, alone(12), 1).picked.tolist() for y in (x, -x, x @ turned)]
    assert picks[0] == picks[1] == picks[2]


def test_a_copy_of_a_pair_is_worth_less_than_something_new():
    x = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    result = d_optimal(x, np.full(3, 0.25), 0.1 * np.eye(2), 2, alone(3), 1)
    assert sorted(x[result.picked].tolist()) == [[0.0, 1.0], [2.0, 0.0]]


def test_of_one_group_no_more_are_picked_than_the_cap():
    x, w, information = random_design(5)
    group = np.arange(12) % 4
    for cap in (1, 2):
        picked = d_optimal(x, w, information, 12, group, cap).picked
        assert np.bincount(group[picked]).tolist() == [cap] * 4
        assert len(set(picked.tolist())) == len(picked)


def test_more_picks_than_pairs_pick_each_once():
    x, w, information = random_design(7)
    assert sorted(d_optimal(x, w, information, 99, alone(12), 1).picked) == list(range(12))
    assert len(d_optimal(x[:0], w[:0], information, 3, alone(0), 1).picked) == 0


def test_hundreds_of_updates_stay_exact():
    x, w, information = random_design(2, num=600, dimension=20)
    result = d_optimal(x, w, information, 500, alone(600), 1)
    last = result.picked[-1]
    before = result.picked[:-1]
    whole = information + (x[before] * w[before, None]).T @ x[before]
    assert result.gain[-1] == pytest.approx(w[last] * x[last] @ np.linalg.solve(whole, x[last]), rel=1e-9)


def test_the_cap_keeps_each_pair_of_a_group_with_the_probability_that_it_states():
    group = np.array([4, 1, 4, 4, 2, 1, 4])
    share = group_share(group, 2)
    assert share.tolist() == [0.5, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5]
    draws = np.array([cap_groups(group, 2, np.random.default_rng(seed)) for seed in range(4000)])
    assert set(draws[:, group == 4].sum(axis=1)) == {2}
    assert draws.mean(axis=0) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 4000))


def test_a_projection_keeps_squared_lengths_on_average():
    x = np.random.default_rng(0).normal(size=(200, 900))
    projected = x @ random_projection(900, 256, seed=1)
    ratio = (projected**2).sum(axis=1) / (x**2).sum(axis=1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert ratio.std() == pytest.approx(np.sqrt(2 / 256), rel=0.25)
