"""From a judge's answers to one probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import expit

from guerdon.formulas.verdicts import (
    bradley_terry_rewards,
    expected_score,
    log_odds_from_q,
    position_bias,
    q_from_orders,
    smoothed_share,
)


def test_two_orders_by_hand() -> None:
    """p1 = 0.8 for a in front, p2 = 0.4 for b in front: q = (0.8 + 0.6) / 2."""
    forward, backward = np.log([0.8 / 0.2]), np.log([0.4 / 0.6])
    np.testing.assert_allclose(q_from_orders(forward, backward), [0.7])
    np.testing.assert_allclose(q_from_orders(forward, backward, "logit_mean"), expit((math.log(4) + math.log(1.5)) / 2))
    np.testing.assert_allclose(position_bias(forward, backward), [(math.log(4) - math.log(1.5)) / 2])


@pytest.mark.parametrize("combine", ["prob_mean", "logit_mean"])
def test_swapping_the_responses_swaps_q(combine: str) -> None:
    forward, backward = np.array([0.3, -2.0, 7.0]), np.array([1.0, 0.1, -40.0])
    q = q_from_orders(forward, backward, combine)  # type: ignore[arg-type]
    np.testing.assert_allclose(q, 1 - q_from_orders(backward, forward, combine))  # type: ignore[arg-type]


def test_one_certain_answer_does_not_outweigh_the_other_order() -> None:
    """Clipped at 8 nats: an infinite answer and one of -8 nats cancel."""
    np.testing.assert_allclose(q_from_orders(np.array([np.inf]), np.array([8.0]), "logit_mean"), [0.5])


def test_shares_are_smoothed() -> None:
    assert smoothed_share(3, 0, 3) == 3.5 / 4
    assert smoothed_share(0, 1, 1) == 0.5
    assert smoothed_share(0, 0, 0) == 0.5


def test_the_expected_score_is_under_the_scale_only() -> None:
    score, mass = expected_score(np.array([1.0, 5.0]), np.log([0.2, 0.6]))
    assert score == pytest.approx(4.0)
    assert mass == pytest.approx(0.8)
    assert math.isnan(expected_score(np.array([1.0]), np.array([-np.inf]))[0])


def test_log_odds_are_clipped_and_nan_stays() -> None:
    np.testing.assert_array_equal(log_odds_from_q(np.array([0.0, 0.5, 1.0, np.nan])), [-8.0, 0.0, 8.0, np.nan])


def test_tournament_rewards_reproduce_consistent_odds() -> None:
    """With a weak prior, rewards from q = sigmoid(r_i - r_j) are r itself, up to their mean."""
    true = np.array([1.0, 0.2, -1.2])
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    rewards = bradley_terry_rewards(first, second, expit(true[first] - true[second]), 3, prior_std=1e4)
    np.testing.assert_allclose(rewards, true, atol=1e-4)


def test_a_clean_sweep_stays_finite_and_who_never_played_has_no_reward() -> None:
    rewards = bradley_terry_rewards(np.array([0, 0]), np.array([1, 1]), np.array([1.0, 1.0]), 3)
    assert rewards[0] == -rewards[1] > 0.5
    assert math.isnan(rewards[2])
    assert np.isnan(bradley_terry_rewards(np.array([], int), np.array([], int), np.array([]), 2)).all()
