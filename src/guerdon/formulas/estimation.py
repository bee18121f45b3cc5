"""Numbers with their uncertainty: shares, paired tests, and many tests at once. Axis: k tests."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import bdtr, betaincinv, ndtri  # scipy.stats takes three times as long to load

__all__ = ["Interval", "benjamini_hochberg", "clopper_pearson", "holm", "mcnemar", "wilson"]


class Interval(NamedTuple):
    """An estimate, its confidence interval, and n independent units. low and high are NaN where n < 2 allows none."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int | float, n: int, level: float = 0.95) -> Interval:
    """The share of successes in n independent trials, with its score interval (Wilson 1927).

    Successes need not be whole (a tie may count half). With no trials: NaN, between 0 and 1.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    share, z2 = successes / n, _z(level) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, max(0.0, center - half), min(1.0, center + half), n)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The share of successes in n independent trials, with its exact interval (Clopper & Pearson 1934).

    It covers at least as often as its level, so it is wider than Wilson's. With no trials: NaN, between 0 and 1.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(successes / n, low, high, n)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value of equal accuracy (McNemar 1947), from how many items only model a, or only b, got right."""
    if only_a + only_b == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def benjamini_hochberg(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """q-values of p-values, in their order: the lowest false discovery rate at which each test is rejected.

    Benjamini & Hochberg 1995, for tests that are independent or positively dependent.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[::-1]
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return q


def holm(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Adjusted p-values of p-values, in their order: the lowest chance of any false rejection at which each is rejected.

    Holm 1979, for tests that depend on each other in any way. The smallest is multiplied by k, the next by k - 1, and so on.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _z(level: float) -> float:
    """Half-width of a central normal interval in standard deviations."""
    return float(ndtri((1 + level) / 2))
