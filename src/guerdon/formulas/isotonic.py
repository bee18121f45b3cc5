"""Isotonic calibration: the best monotone curve from margins to probabilities that treats first and second alike.

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
    """Margins in increasing order, symmetric about 0, and the log-odds at each [k].

    Between two points the probability is interpolated linearly; beyond them it is that of the outermost point.
    """

    margin: Float[np.ndarray, " k"]
    log_odds: Float[np.ndarray, " k"]


def fit_isotonic(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> IsotonicCurve:
    """Margins and labels of n >= 1 comparisons in, the monotone curve of least squared error of the probability out.

    Pool adjacent violators (Ayer et al. 1955; Zadrozny & Elkan 2002) on the doubled data (m, q) and (-m, 1 - q), so that
    f(-m) = 1 - f(m) and f(0) = 1/2. A pooled block becomes the two points at its ends. No probability is closer to 0 or 1
    than 1 / (n + 2): n comparisons cannot show more (Laplace's rule of succession).
    """
    margin, q = np.asarray(margin, dtype=np.float64), np.asarray(q, dtype=np.float64)
    weight = np.ones_like(margin) if weight is None else np.asarray(weight, dtype=np.float64)
    both = np.concatenate([margin, -margin])
    points, code = np.unique(both, return_inverse=True)
    mass: np.ndarray = np.bincount(code, weights=np.concatenate([weight, weight]))
    first: np.ndarray = np.bincount(code, weights=np.concatenate([weight * q, weight * (1.0 - q)]))
    points, first, mass = points[mass > 0], first[mass > 0], mass[mass > 0]
    fitted = isotonic_regression(first / mass, weights=mass)
    ends = np.unique(np.concatenate([fitted.blocks[:-1], fitted.blocks[1:] - 1]))
    smallest = 1.0 / (len(margin) + 2)
    log_odds = logit(np.clip(fitted.x[ends], smallest, 1.0 - smallest))
    points = points[ends]
    return IsotonicCurve((points - points[::-1]) / 2, (log_odds - log_odds[::-1]) / 2)  # exactly symmetric


def isotonic_log_odds(margin: Float[np.ndarray, " n"], curve: IsotonicCurve) -> Float[np.ndarray, " n"]:
    """Margins in, log-odds [n] of the first by the curve out."""
    p = np.interp(np.asarray(margin, dtype=np.float64), curve.margin, expit(curve.log_odds))
    log_odds: np.ndarray = logit(p)
    return log_odds
