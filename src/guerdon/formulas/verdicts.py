"""What a judge's answers say about responses: from log-probabilities, votes and scores to one probability.

Axes: n comparisons, s scores on a scale, k responses of one prompt. Log-odds are nats.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit, logit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Combination = Literal["prob_mean", "logit_mean"]

MAX_LOG_ODDS = 8.0  # of one answer: a judge that gives a token all the mass is not that sure of anything


def q_from_orders(
    forward: Float[np.ndarray, " n"], backward: Float[np.ndarray, " n"], combine: Combination = "prob_mean"
) -> Float[np.ndarray, " n"]:
    """P(a is better) from the log-odds that the response shown first is better, in the orders (a, b) and (b, a).

    prob_mean: (p1 + 1 - p2) / 2 (Lee et al. 2023, arXiv 2309.00267, section 3.1). logit_mean: sigmoid((l1 - l2) / 2), in
    which a bias that adds to the log-odds cancels exactly. A judge that always prefers the first gets 1/2 from both.
    """
    if combine == "logit_mean":
        q: np.ndarray = expit((clip_log_odds(forward) - clip_log_odds(backward)) / 2)
    else:
        q = (expit(forward) + 1.0 - expit(backward)) / 2
    return q


def position_bias(forward: Float[np.ndarray, " n"], backward: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Nats that being shown first adds, half the sum of the log-odds in both orders; each is clipped at +-8 nats."""
    bias: np.ndarray = (clip_log_odds(forward) + clip_log_odds(backward)) / 2
    return bias


def smoothed_share(wins: int, ties: int, votes: int) -> float:
    """P(the first is better) from repeated answers: (wins + ties / 2 + 1/2) / (votes + 1). 1/2 without votes."""
    return (wins + ties / 2 + 0.5) / (votes + 1)


def expected_score(scores: Float[np.ndarray, " s"], log_probs: Float[np.ndarray, " s"]) -> tuple[float, float]:
    """The mean score under a judge's own probabilities, and the mass that it gives to the scale (Liu et al. 2023, arXiv
    2303.16634, eq. 1, which does not divide by the mass). NaN where the mass is 0."""
    weight = np.exp(log_probs)
    mass = float(weight.sum())
    return (float((weight * scores).sum() / mass) if mass > 0 else float("nan")), min(mass, 1.0)


def clip_log_odds(log_odds: Float[np.ndarray, " n"], limit: float = MAX_LOG_ODDS) -> Float[np.ndarray, " n"]:
    """Log-odds kept within +-limit nats."""
    clipped: np.ndarray = np.clip(log_odds, -limit, limit)
    return clipped


def log_odds_from_q(q: Float[np.ndarray, " n"], limit: float = MAX_LOG_ODDS) -> Float[np.ndarray, " n"]:
    """Log-odds of probabilities, kept within +-limit nats; NaN stays NaN."""
    with np.errstate(divide="ignore"):
        return clip_log_odds(logit(q), limit)


def bradley_terry_rewards(
    first: np.ndarray, second: np.ndarray, q: Float[np.ndarray, " n"], num_responses: int, prior_std: float = 3.0
) -> Float[np.ndarray, " k"]:
    """Rewards of the k responses to one prompt that explain P(first is better) of n compared pairs best; their mean is 0.

    The maximum of sum q log s(d) + (1 - q) log s(-d) - sum r^2 / (2 prior_std^2), by Newton's method. The prior keeps a
    response that wins every comparison finite. A response that no chain of comparisons connects with the most others gets NaN.
    """
    if not len(q):
        return np.full(num_responses, np.nan)
    compared = _largest_connected(first, second, num_responses)
    inside = compared[first]
    first, second, q = first[inside], second[inside], q[inside]
    rewards = np.zeros(num_responses)
    design = np.zeros((len(q), num_responses))
    design[np.arange(len(q)), first] += 1.0
    design[np.arange(len(q)), second] -= 1.0
    for _ in range(100):
        p = expit(design @ rewards)
        gradient = design.T @ (q - p) - rewards / prior_std**2
        hessian = (design.T * (p * (1 - p))) @ design + np.eye(num_responses) / prior_std**2
        step = np.linalg.solve(hessian, gradient)
        rewards += step * min(1.0, 5.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    rewards[compared] -= rewards[compared].mean()
    rewards[~compared] = np.nan
    return rewards


def _largest_connected(first: np.ndarray, second: np.ndarray, num: int) -> Bool[np.ndarray, " k"]:
    """True for the members of the largest set that edges connect; of several as large, the one with the lowest member."""
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(num, num))
    _, label = connected_components(graph, directed=False)
    largest: np.ndarray = label == np.argmax(np.bincount(label))
    return largest
