"""From the criteria of a rubric to one reward, and what each criterion adds to a decision.

Axes: n responses or pairs, c criteria. p is the probability that a criterion is met. A criterion with a negative weight is a
fault: meeting it lowers the reward. NaN where a criterion could not be judged.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import expit

from guerdon.formulas.verdicts import MAX_LOG_ODDS, log_odds_from_q

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Rule = Literal["weighted_mean", "weighted_sum", "log_odds"]

__all__ = ["Rule", "combine_criteria", "decisions_that_need", "fit_scale", "lowest_reward", "toward_reward"]


def combine_criteria(
    p: Float[np.ndarray, "n c"],
    weight: Float[np.ndarray, " c"],
    required: Bool[np.ndarray, " c"],
    rule: Rule = "weighted_mean",
) -> Float[np.ndarray, " n"]:
    """One number per response; NaN where any criterion has none.

    weighted_mean: sum w p / sum |w|, from -1 to 1. weighted_sum: sum w p. log_odds: sum w logit(p) / sum |w|. A response that
    fails a required criterion (p < 1/2, or p >= 1/2 for a fault) gets the lowest number that the rule can give.
    """
    size = float(np.abs(weight).sum())
    if rule == "log_odds":
        combined = log_odds_from_q(p) @ weight / size
    else:
        combined = p @ weight / (size if rule == "weighted_mean" else 1.0)
    is_met = np.where(weight < 0, p < 0.5, p >= 0.5) | ~required
    combined = np.where(is_met.all(axis=1), combined, lowest_reward(weight, rule))
    gated: np.ndarray = np.where(np.isnan(p).any(axis=1), math.nan, combined)
    return gated


def lowest_reward(weight: Float[np.ndarray, " c"], rule: Rule) -> float:
    """What a response gets that meets every fault and nothing else."""
    if rule == "log_odds":
        return -MAX_LOG_ODDS
    faults = float(weight[weight < 0].sum())
    return faults / float(np.abs(weight).sum()) if rule == "weighted_mean" else faults


def toward_reward(p: Float[np.ndarray, "n c"], weight: Float[np.ndarray, " c"]) -> Float[np.ndarray, "n c"]:
    """The probability that the response does right by each criterion: p, or 1 - p for a fault. Higher is more reward."""
    turned: np.ndarray = np.where(weight < 0, 1.0 - p, p)
    return turned


def decisions_that_need(
    first: Float[np.ndarray, "n c"],
    second: Float[np.ndarray, "n c"],
    weight: Float[np.ndarray, " c"],
    required: Bool[np.ndarray, " c"],
    rule: Rule = "weighted_mean",
) -> Float[np.ndarray, "n c"]:
    """How far the decision about each pair changes without each criterion: 1 where the other response wins, 1/2 where a tie
    appears or goes away, 0 where nothing changes. The only weighted criterion of a rubric decides all that is not a tie."""

    def decision(kept: Bool[np.ndarray, " c"]) -> Float[np.ndarray, " n"]:
        if not np.any(weight[kept]):
            return np.zeros(len(first))
        a, b = (combine_criteria(p[:, kept], weight[kept], required[kept], rule) for p in (first, second))
        margin = a - b
        return np.where(np.abs(margin) < 1e-12, 0.0, np.sign(margin))

    everything = np.ones(len(weight), dtype=bool)
    whole = decision(everything)
    changed = np.zeros((len(first), len(weight)))
    for i in range(len(weight)):
        kept = everything.copy()
        kept[i] = False
        changed[:, i] = np.abs(whole - decision(kept)) / 2
    return changed


def fit_scale(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"]) -> float:
    """The number s for which sigmoid(s * margin) fits P(first is better) best: nats that a point of margin is worth.

    Maximum likelihood without an intercept, by Newton's method, with a normal prior of standard deviation 100 / max |margin|, so
    that margins that order all pairs give a finite number. NaN where all margins are 0.
    """
    size = float(np.abs(margin).max(initial=0.0))
    if size == 0.0:
        return math.nan
    x, s = margin / size, 0.0
    for _ in range(200):
        p = expit(s * x)
        gradient = float((weight * x * (q - p)).sum()) - s / 1e4
        curvature = float((weight * x * x * p * (1 - p)).sum()) + 1e-4
        step = gradient / curvature
        s += max(-2.0, min(2.0, step))
        if abs(step) < 1e-10:
            break
    return s / size
