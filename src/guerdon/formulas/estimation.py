"""Numbers with their doubt: bootstrap by group, shares, paired tests, many tests at once.

Axes: n rows, m resampled rows, k tests. A group holds the rows that are not independent of each other (all comparisons
on one prompt, say); groups are the units that are resampled and counted.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binomtest

__all__ = [
    "Interval",
    "benjamini_hochberg",
    "bootstrap",
    "bootstrap_mean",
    "clopper_pearson",
    "mcnemar",
    "paired_difference",
    "wilson",
]

Groups = Sequence[Hashable] | Shaped[np.ndarray, " n"]

_CHUNK = 2_000_000  # group numbers drawn at once: 16 MB, whatever the number of groups is


class Interval(NamedTuple):
    """An estimate, its confidence interval, and n independent units. low and high are NaN where n < 2 allows none."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(
    values: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Values and the group of each row in; their (weighted) mean and its interval under resampling of groups out.

    Percentile interval (Efron 1979; by cluster, Field & Welsh 2007), or BCa (Efron 1987) where the resampled means are
    skewed beyond +-1, to which only groups of uneven weight can bring a mean. low and high are NaN with fewer than two
    groups of positive weight; value too with none.
    """
    values = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(values) if weight is None else np.asarray(weight, dtype=np.float64)
    code = _codes(groups, len(values))
    mass = np.bincount(code, weights=weight)
    total = np.bincount(code, weights=weight * values)
    total, mass = total[mass > 0], mass[mass > 0]
    num_groups = len(mass)
    if num_groups == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(total.sum() / mass.sum())
    if num_groups == 1:
        return Interval(value, math.nan, math.nan, 1)

    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    chunk = max(1, _CHUNK // num_groups)
    for start in range(0, draws, chunk):
        chosen = rng.integers(num_groups, size=(min(chunk, draws - start), num_groups))
        means[start : start + chunk] = total[chosen].sum(axis=1) / mass[chosen].sum(axis=1)
    low, high = _limits(value, means, lambda: (total.sum() - total) / (mass.sum() - mass), level)
    return Interval(value, low, high, num_groups)


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " m"]], float],
    groups: Groups,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A function of row numbers and the group of each row in; its value on all rows and its interval out.

    As `bootstrap_mean`, for any statistic. Resamples on which it is NaN (a correlation of a constant) are left out.
    """
    code = _codes(groups, len(groups))
    size = np.bincount(code)
    rows = np.argsort(code, kind="stable")
    starts = np.cumsum(size) - size
    num_groups = len(size)
    value = float(statistic(np.arange(len(code)))) if num_groups else math.nan
    if num_groups < 2:
        return Interval(value, math.nan, math.nan, num_groups)

    def on(chosen: np.ndarray) -> float:
        """The statistic on the rows of the chosen groups, a group as often as it was chosen."""
        length = size[chosen]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return float(statistic(rows[np.repeat(starts[chosen], length) + within]))

    def without_each() -> np.ndarray:
        everyone = np.arange(num_groups)
        return np.array([on(np.delete(everyone, group)) for group in everyone])

    rng = np.random.default_rng(seed)
    replicates = np.array([on(rng.integers(num_groups, size=num_groups)) for _ in range(draws)])
    low, high = _limits(value, replicates, without_each, level)
    return Interval(value, low, high, num_groups)


def paired_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None = None,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Two models' values on the same rows in; the mean of a - b and its interval under resampling of groups out."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return bootstrap_mean(difference, groups, weight, draws, seed, level)


def wilson(successes: int | float, n: int, level: float = 0.95) -> Interval:
    """Successes among n independent trials in, their share and its score interval (Wilson 1927) out.

    Successes need not be whole (a tie may count half). With no trials: NaN, between 0 and 1.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    share, z2 = successes / n, _z(level) ** 2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(share, max(0.0, center - half), min(1.0, center + half), n)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Successes among n independent trials in, their share and its exact interval (Clopper & Pearson 1934) out.

    Covers at least as often as it says, so it is wider than Wilson's. With no trials: NaN, between 0 and 1.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0, 0)
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(beta.ppf(1 - tail, successes + 1, n - successes))
    return Interval(successes / n, low, high, n)


def mcnemar(only_a: int, only_b: int) -> float:
    """Items only model a, and only model b, got right in; exact two-sided p of equal accuracy out (McNemar 1947)."""
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def benjamini_hochberg(p: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """p-values in, q-values in the same order out: the least false discovery rate at which each would be called.

    Benjamini & Hochberg 1995, for tests that are independent or positively dependent.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)[::-1]
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1))
    return q


def _limits(
    value: float, replicates: np.ndarray, without_each: Callable[[], np.ndarray], level: float
) -> tuple[float, float]:
    """Percentile limits of the replicates, BCa limits where they are skewed. `without_each` gives the jackknife."""
    replicates = replicates[~np.isnan(replicates)]
    if len(replicates) == 0:
        return math.nan, math.nan
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if abs(_skewness(replicates)) > 1:
        tails = _bca_tails(value, replicates, without_each(), tails)
    low, high = np.quantile(replicates, tails)
    return float(low), float(high)


def _bca_tails(value: float, replicates: np.ndarray, jackknife: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Tails corrected for bias and acceleration (Efron 1987, eq. 2.3 and 6.6)."""
    below = np.mean(replicates < value) + np.mean(replicates == value) / 2
    bias = ndtri(np.clip(below, 0.5 / len(replicates), 1 - 0.5 / len(replicates)))
    jackknife = jackknife[~np.isnan(jackknife)]
    # Eq. 6.6 is sum(d^3) / 6 sum(d^2)^1.5 for jackknife deviations d, that is, their skewness over 6 sqrt(n).
    acceleration = _skewness(-jackknife) / (6 * math.sqrt(max(1, len(jackknife))))
    z = bias + ndtri(tails)
    corrected: np.ndarray = ndtr(bias + z / np.maximum(1 - acceleration * z, 1e-6))
    return corrected


def _skewness(values: np.ndarray) -> float:
    """Third standardized moment; 0.0 where the values are all equal or there are none."""
    if len(values) == 0:
        return 0.0
    deviation = values - values.mean()
    spread = math.sqrt(np.mean(deviation**2))
    return float(np.mean((deviation / spread) ** 3)) if spread > 0 else 0.0


def _codes(groups: Groups, num_rows: int) -> np.ndarray:
    """The group of each row in, numbers 0, 1, ... in order of first appearance out."""
    names = groups.tolist() if isinstance(groups, np.ndarray) else groups
    if len(names) != num_rows:
        raise ValueError(f"{num_rows} values but {len(names)} groups: name the group of every row")
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)


def _z(level: float) -> float:
    """Half-width of a central normal interval in standard deviations."""
    return float(ndtri((1 + level) / 2))
