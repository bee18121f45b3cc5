"""The bootstrap by group: which groups each draw holds, and intervals of means, ratios and other statistics from it.

Axes: n rows, g groups, d draws, m resampled rows, c columns. A group holds the rows that are not independent of each other
(all comparisons on one prompt, say). Groups are what is resampled and counted. One seed gives one set of draws, so two
statistics of the same groups move together.
"""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import ndtr, ndtri

from guerdon.formulas.clustered import Groups, group_codes
from guerdon.formulas.estimation import Interval

__all__ = [
    "CHUNK",
    "bootstrap",
    "bootstrap_sums",
    "draw_counts",
    "draw_groups",
    "percentile_limits",
    "resampled_sums",
    "sums_by_group",
]

Stream = Literal["integers", "multinomial"]

CHUNK = 2_000_000  # group numbers held at once: 16 MB, whatever the number of groups


# ---- Intervals ---------------------------------------------------------------------------------------------------


def bootstrap(
    statistic: Callable[[Int[np.ndarray, " m"]], float],
    groups: Groups,
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Any statistic of row numbers, with its interval under resampling of groups.

    Percentile interval (Efron 1979; by cluster, Field & Welsh 2007), or BCa (Efron 1987) where the resampled values have a
    skewness beyond +-1, which takes groups of uneven weight. Draws on which it is NaN (a constant's correlation) are dropped.
    low and high are NaN with fewer than two groups. For means, shares and their differences `clustered` covers better.
    """
    code = group_codes(groups, len(groups))
    size = np.bincount(code)
    rows = np.argsort(code, kind="stable")
    starts = np.cumsum(size) - size
    num_groups = len(size)
    value = float(statistic(np.arange(len(code)))) if num_groups else math.nan
    if num_groups < 2:
        return Interval(value, math.nan, math.nan, num_groups)

    def on_groups(chosen: np.ndarray) -> float:
        """The statistic on the rows of the chosen groups, each group as often as it was chosen."""
        length = size[chosen]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return float(statistic(rows[np.repeat(starts[chosen], length) + within]))

    def jackknife() -> np.ndarray:
        every = np.arange(num_groups)
        return np.array([on_groups(np.delete(every, group)) for group in every])

    replicates = np.array([on_groups(row) for chosen in draw_groups(num_groups, draws, seed) for row in chosen])
    low, high = _limits(value, replicates, jackknife, level)
    return Interval(value, low, high, num_groups)


def bootstrap_sums(
    columns: Float[np.ndarray, "n c"],
    groups: Shaped[np.ndarray, " n"],
    statistic: Callable[[Float[np.ndarray, "d c"]], Float[np.ndarray, " d"]],
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """A statistic of the columns' sums alone (a mean, a ratio, a correlation), with its interval; all draws at once.

    `statistic` takes sums, one row per draw. Percentile interval; draws that are not finite are dropped.
    """
    total = sums_by_group(columns, groups)
    if not len(total):
        return Interval(math.nan, math.nan, math.nan, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(total.sum(axis=0, keepdims=True))[0])
        if len(total) == 1:
            return Interval(value, math.nan, math.nan, 1)
        low, high = percentile_limits(statistic(resampled_sums(total, draws, seed)), level)
        return Interval(value, float(low), float(high), len(total))


# ---- Draws -------------------------------------------------------------------------------------------------------


def draw_groups(num_groups: int, draws: int, seed: int) -> Iterator[Int[np.ndarray, "_ g"]]:
    """Which groups each draw holds: num_groups numbers per draw, drawn with replacement, in blocks of draws."""
    rng = np.random.default_rng(seed)
    for size in _blocks(num_groups, draws):
        yield rng.integers(num_groups, size=(size, num_groups))


def draw_counts(
    num_groups: int, draws: int, seed: int, stream: Stream = "integers"
) -> Iterator[Int[np.ndarray, "_ g"]]:
    """How often each draw holds each group, in blocks of draws.

    stream: "integers" counts the numbers of `draw_groups`. "multinomial" draws the counts themselves: the same distribution
    from another random stream, which the curves of over-optimization were published with.
    """
    if stream == "multinomial":
        rng = np.random.default_rng(seed)
        for size in _blocks(num_groups, draws):
            yield rng.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=size)
        return
    for chosen in draw_groups(num_groups, draws, seed):
        size = len(chosen)
        place = chosen + num_groups * np.arange(size)[:, None]
        yield np.bincount(place.ravel(), minlength=size * num_groups).reshape(size, num_groups)


def resampled_sums(
    total: Float[np.ndarray, "g c"], draws: int, seed: int, stream: Stream = "integers"
) -> Float[np.ndarray, "d c"]:
    """Sums of the rows of `total` over groups drawn with replacement, one row per draw."""
    return np.concatenate([count @ total for count in draw_counts(len(total), draws, seed, stream)])


def sums_by_group(columns: Float[np.ndarray, "n c"], groups: Shaped[np.ndarray, " n"]) -> Float[np.ndarray, "g c"]:
    """Sums over the rows of each group, groups in sorted order."""
    names, code = np.unique(groups, return_inverse=True)
    total = np.zeros((len(names), columns.shape[1]))
    np.add.at(total, code, columns)
    return total


def percentile_limits(drawn: Float[np.ndarray, "d *k"], level: float = 0.95) -> Float[np.ndarray, "2 *k"]:
    """Percentile limits of each column, lower first. Draws that are not finite are dropped; NaN where none is left."""
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    if drawn.ndim == 1:
        finite = drawn[np.isfinite(drawn)]
        return np.quantile(finite, tails) if len(finite) else np.full(2, np.nan)
    limits = np.full((2, *drawn.shape[1:]), np.nan)
    is_whole = np.isfinite(drawn).all(axis=0)
    limits[:, is_whole] = np.quantile(drawn[:, is_whole], tails, axis=0)
    for column in np.flatnonzero(~is_whole):
        limits[:, column] = percentile_limits(drawn[:, column], level)
    return limits


def _blocks(num_groups: int, draws: int) -> Iterator[int]:
    """How many draws to make at a time; the random stream is the same whatever the blocks."""
    size = max(1, CHUNK // num_groups)
    for start in range(0, draws, size):
        yield min(size, draws - start)


# ---- Limits ------------------------------------------------------------------------------------------------------


def _limits(
    value: float, replicates: np.ndarray, jackknife: Callable[[], np.ndarray], level: float
) -> tuple[float, float]:
    """Percentile limits of the replicates, BCa limits where they are skewed. `jackknife` leaves out each group in turn."""
    replicates = replicates[~np.isnan(replicates)]
    if len(replicates) == 0:
        return math.nan, math.nan
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if abs(_skewness(replicates)) > 1:
        tails = _bca_tails(value, replicates, jackknife(), tails)
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
    std = math.sqrt(np.mean(deviation**2))
    return float(np.mean((deviation / std) ** 3)) if std > 0 else 0.0
