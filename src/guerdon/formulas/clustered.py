"""Means, shares and paired differences of rows that come in groups: their intervals, and a test of no difference.

Axes: n rows, g groups. A group holds the rows that are not independent of each other (all comparisons on one prompt, say);
groups are what is sampled and counted. Nothing is drawn at random: the variance is that of the jackknife by group, and the quantile is
Student's. benchmarks/coverage.py measures how often each interval covers, next to those that were tried instead.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import stdtrit

from guerdon.formulas.estimation import Interval, clopper_pearson

__all__ = [
    "Groups",
    "clustered_difference",
    "clustered_mean",
    "clustered_share",
    "difference_interval",
    "group_codes",
    "share_interval",
    "sign_flip_p_value",
]

Groups = Sequence[Hashable] | Shaped[np.ndarray, " n"]

_LATTICE = 20_000  # steps into which the sum of the differences is divided where they have no common unit


class _GroupMean(NamedTuple):
    """A weighted mean of rows, and what its variance is made of.

    influence[g]: what each group adds to the mean's error; the squares sum to the variance. inverse_df: 1 over the degrees of
    freedom of that variance for equal spread in all groups, which depends on their sizes alone.
    """

    value: float
    influence: Float[np.ndarray, " g"]
    inverse_df: float

    @property
    def num_groups(self) -> int:
        """Groups of positive weight."""
        return len(self.influence)


def clustered_mean(
    values: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """The (weighted) mean of values, with its interval over groups, cut to the values that are possible at all.

    Student's interval with the variance of the jackknife by group and the degrees of freedom that follow from the groups'
    sizes (Bell & McCaffrey 2002, for a regression on a constant). Where a few groups make most of the variance they are fewer:
    1/df adds half the relative variance of the variance, estimated from the groups. low and high are NaN with fewer than
    two groups of positive weight; value is NaN with none.
    """
    mean = _group_mean(values, groups, weight)
    if mean.num_groups < 2:
        return _without_interval(mean)
    half = _quantile(mean.inverse_df + _uncertainty_of_variance(mean.influence) / 2, level) * _error(mean)
    low, high = max(within[0], mean.value - half), min(within[1], mean.value + half)
    return Interval(mean.value, low, high, mean.num_groups)


def clustered_share(
    values: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> Interval:
    """The (weighted) mean of values in [0, 1], with its interval over groups: see `share_interval`."""
    values = np.asarray(values, dtype=np.float64)
    mean = _group_mean(values, groups, weight)
    is_constant = len(values) > 0 and (not values.any() or bool((values == 1.0).all()))
    if is_constant:
        return clopper_pearson(mean.num_groups if values.any() else 0, mean.num_groups, level)
    if mean.num_groups < 2:
        return _without_interval(mean)
    return share_interval(mean.value, mean.influence, mean.inverse_df, level)


def clustered_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> Interval:
    """The mean of a - b, two models' values in [0, 1] on the same rows, with its interval over groups: see `difference_interval`."""
    mean = _group_mean(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64), groups, weight)
    if mean.num_groups < 2:
        return _without_interval(mean)
    return difference_interval(mean.value, mean.influence, mean.inverse_df, level)


# ---- Intervals from what each group adds to the error --------------------------------------------------------------


def share_interval(
    value: float, influence: Float[np.ndarray, " g"], inverse_df: float, level: float = 0.95
) -> Interval:
    """The interval of a share, from what each group adds to its error; squares sum to the variance, which is above 0.

    Wilson's score interval on the number of independent trials that would give this variance, v = p(1 - p)/n (as Korn &
    Graubard 1998), with Student's quantile. Degrees of freedom: as in `clustered_mean`, for the ratio v / p(1 - p), which does
    not vary where groups are single rows. A share that never varies gives an interval of no width.
    """
    num_groups, variance = len(influence), float((influence**2).sum())
    spread = value * (1.0 - value)
    if variance <= 0.0 or spread <= 0.0:
        return Interval(value, value, value, num_groups)
    unsettled = _uncertainty_of_variance(influence, (1.0 - 2.0 * value) / spread)
    z2, n = _quantile(inverse_df + unsettled / 2, level) ** 2, spread / variance
    center = (value + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (variance + z2 / (4 * n * n))) / (1 + z2 / n)
    return Interval(value, max(0.0, center - half), min(1.0, center + half), num_groups)


def difference_interval(
    value: float, influence: Float[np.ndarray, " g"], inverse_df: float, level: float = 0.95
) -> Interval:
    """The interval of a difference of two shares, from what each group adds to its error.

    Student's, within [-1, 1]. If all groups show the same difference, nothing is known but that other groups are rare: the
    exact limit on their share of all groups (Clopper & Pearson 1934) is the half-width.
    """
    num_groups, error = len(influence), math.sqrt(float((influence**2).sum()))
    half = _quantile(inverse_df, level) * error
    if error <= 1e-12:
        half = clopper_pearson(0, num_groups, level).high
    return Interval(value, max(-1.0, value - half), min(1.0, value + half), num_groups)


# ---- Test ----------------------------------------------------------------------------------------------------------


def sign_flip_p_value(
    difference: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None = None
) -> float:
    """Two-sided mid-p-value of no difference, from differences of two models on the same rows; 1.0 where none differ.

    If the models are alike, each group's sum is as likely to have the other sign (Fisher 1935; by cluster, as the wild
    bootstrap of Cameron, Gelbach & Miller 2008): the distribution over all flips is computed, not drawn. With one pair per
    group it is McNemar's mid-p test (Fagerland, Lydersen & Laake 2013). Sums without a common unit, which unequal weights
    give, are rounded to 1/20,000 of the sum of their sizes.
    """
    difference = np.asarray(difference, dtype=np.float64)
    code = group_codes(groups, len(difference))
    weight = np.ones_like(difference) if weight is None else np.asarray(weight, dtype=np.float64)
    total = np.bincount(code, weights=weight * difference)
    steps = _whole_steps(total[total != 0.0])
    if not len(steps):
        return 1.0
    reach = int(np.abs(steps).sum())
    chance = np.zeros(2 * reach + 1)  # of each sum, -reach to reach
    chance[reach] = 1.0
    for step in np.abs(steps).tolist():
        chance = (
            np.roll(chance, step) + np.roll(chance, -step)
        ) / 2  # never beyond the ends: reach is the sum of all steps
    observed = reach + abs(int(steps.sum()))
    return float(min(1.0, 2.0 * (chance[observed + 1 :].sum() + chance[observed] / 2)))


def _whole_steps(total: Float[np.ndarray, " g"]) -> Shaped[np.ndarray, " g"]:
    """The sums as whole multiples of the smallest half of one, or of 1/20,000 of the sum of their sizes if it is no unit."""
    if not len(total):
        return np.zeros(0, dtype=np.int64)
    size = np.abs(total)
    unit = float(size.min())
    for divisor in (1, 2):
        steps = size / (unit / divisor)
        if np.abs(steps - np.round(steps)).max() < 1e-6 and steps.sum() <= _LATTICE * 10:
            break
    else:
        steps = size / (size.sum() / _LATTICE)
    rounded: np.ndarray = np.sign(total).astype(np.int64) * np.maximum(1, np.round(steps)).astype(np.int64)
    return rounded


# ---- Parts ---------------------------------------------------------------------------------------------------------


def group_codes(groups: Groups, num_rows: int) -> np.ndarray:
    """The group of each row as a number 0, 1, ... in order of first appearance."""
    names = groups.tolist() if isinstance(groups, np.ndarray) else groups
    if len(names) != num_rows:
        raise ValueError(f"every row must have a group, got {num_rows} values and {len(names)} groups")
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)


def _group_mean(values: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None) -> _GroupMean:
    """The mean, each group's influence by the jackknife (Efron & Stein 1981), and 1 over the degrees of freedom."""
    values = np.asarray(values, dtype=np.float64)
    weight = np.ones_like(values) if weight is None else np.asarray(weight, dtype=np.float64)
    code = group_codes(groups, len(values))
    mass = np.bincount(code, weights=weight)
    total = np.bincount(code, weights=weight * values)
    total, mass = total[mass > 0], mass[mass > 0]
    if len(mass) < 2:
        return _GroupMean(float(total[0] / mass[0]) if len(mass) else math.nan, np.zeros(len(mass)), math.inf)
    value = float(total.sum() / mass.sum())
    leverage = mass / mass.sum()
    influence = (total - value * mass) / (mass.sum() - mass) * math.sqrt((len(mass) - 1) / len(mass))
    shared = leverage**2 / (1.0 - leverage)
    inverse_df = float((leverage**2).sum() + shared.sum() ** 2 - (shared**2).sum())
    return _GroupMean(value, influence, inverse_df)


def _uncertainty_of_variance(influence: Float[np.ndarray, " g"], per_unit: float = 0.0) -> float:
    """The relative variance of the sum of squared influences, less `per_unit` times the error of the mean itself."""
    variance = float((influence**2).sum())
    if variance <= 0.0:
        return 0.0
    deviation = influence**2 / variance - 1.0 / len(influence) - per_unit * influence
    return float((deviation**2).sum())


def _quantile(inverse_df: float, level: float) -> float:
    """Half the width of a central interval in standard errors; never fewer than one degree of freedom."""
    return float(stdtrit(max(1.0, 1.0 / inverse_df), (1.0 + level) / 2.0))


def _error(mean: _GroupMean) -> float:
    return math.sqrt(float((mean.influence**2).sum()))


def _without_interval(mean: _GroupMean) -> Interval:
    return Interval(mean.value, math.nan, math.nan, mean.num_groups)
