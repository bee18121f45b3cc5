"""Odds that are bent, not only scaled: the best monotone curve from margins to probabilities that knows no first and second.

Axes: n comparisons, k points of the curve. A margin is r(first) - r(second); q is the share of people, in [0, 1], who say
that the first is better. Everything is float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

__all__ = ["IsotonicCurve", "fit_isotonic", "isotonic_log_odds"]


class IsotonicCurve(NamedTuple):
    """Margins in rising order, symmetric about 0, and the log-odds at each [k]. Between two the probability is a straight
    line, beyond them the outermost holds."""

    margin: Float[np.ndarray, " k"]
    log_odds: Float[np.ndarray, " k"]


def fit_isotonic(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> IsotonicCurve:
    """Margins and labels of n >= 1 comparisons in, the monotone curve of least squared error of the probability out.

    Pool adjacent violators (Ayer et al. 1955; Zadrozny & Elkan 2002) on the doubled data (m, q) and (-m, 1 - q), so that
    f(-m) = 1 - f(m) and f(0) = 1/2. A pooled block becomes the two points at its ends. No probability is nearer to 0 or 1
    than 1 / (n + 2): n comparisons cannot show more (Laplace's rule).
    """
    margin, q = np.asarray(margin, dtype=np.float64), np.asarray(q, dtype=np.float64)
    weight = np.ones_like(margin) if weight is None else np.asarray(weight, dtype=np.float64)
    both = np.concatenate([margin, -margin])
    at, place = np.unique(both, return_inverse=True)
    mass: np.ndarray = np.bincount(place, weights=np.concatenate([weight, weight]))
    first: np.ndarray = np.bincount(place, weights=np.concatenate([weight * q, weight * (1.0 - q)]))
    at, first, mass = at[mass > 0], first[mass > 0], mass[mass > 0]
    fitted = isotonic_regression(first / mass, weights=mass)
    ends = np.unique(np.concatenate([fitted.blocks[:-1], fitted.blocks[1:] - 1]))
    sure = 1.0 / (len(margin) + 2)
    odds = logit(np.clip(fitted.x[ends], sure, 1.0 - sure))
    at = at[ends]
    return IsotonicCurve((at - at[::-1]) / 2, (odds - odds[::-1]) / 2)  # rounding must not prefer a side


def isotonic_log_odds(margin: Float[np.ndarray, " n"], curve: IsotonicCurve) -> Float[np.ndarray, " n"]:
    """Margins in, log-odds of the first by the curve out."""
    p = np.interp(np.asarray(margin, dtype=np.float64), curve.margin, expit(curve.log_odds))
    odds: np.ndarray = logit(p)
    return odds
