"""What an edit of an answer does to its reward: effects in the model's own spread, tests, doses, length, RATE.

Axes: n answers in groups that are not independent, k edits, m levels of a control. A gain is r(edited) - r(before), nats,
NaN where the edit does not apply. A margin is r(better) - r(worse) of two unedited answers to one prompt, nats.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import chdtri, expit, ndtri, stdtr

from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import bootstrap_sums, percentile_limits, resampled_sums, sums_by_group

__all__ = [
    "LengthLogit",
    "MeanTest",
    "Rate",
    "at_length",
    "effects",
    "length_logit",
    "mean_tests",
    "naive_rate",
    "pair_correlation",
    "rate",
    "ratio",
    "smallest_effect",
    "within_spread",
]

POWER = 0.8
RIDGE = 1e-4  # of the rows' weight, on standardized columns: keeps a perfect model's slope finite


class MeanTest(NamedTuple):
    """A two-sided test of a mean of 0: p-value, standard error, degrees of freedom (groups minus one)."""

    p: float
    error: float
    df: int


class LengthLogit(NamedTuple):
    """P(first is better) = sigmoid(slope x margin + length x tanh(difference of lengths / its spread)).

    slope: nats of people's log-odds per nat of margin. per_margin: length / slope, the nats of margin that people give a much
    longer answer beyond what the model gives it; below 0 the model values length more than they do. Its interval is NaN where
    the slope is not shown to be positive.
    """

    slope: Interval
    per_margin: Interval


class Rate(NamedTuple):
    """Average effect of an attribute on the reward: on answers that have it, on those that do not, and on all; nats."""

    att: Interval
    atu: Interval
    ate: Interval


def within_spread(margin: Float[np.ndarray, " n"]) -> float:
    """The pooled standard deviation of rewards within a prompt, nats, from margins of pairs of answers to one prompt.

    For two answers the variance is half the squared margin. A constant added to a prompt's rewards leaves it unchanged.
    """
    return math.sqrt(float(np.mean(np.square(margin))) / 2.0) if len(margin) else math.nan


def effects(
    gain: Float[np.ndarray, "n k"],
    margin: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> list[Interval]:
    """The mean gain of each edit, over the answers to which it applies, in units of `within_spread`.

    The unit is the model's own, so a change of its scale moves no effect. Groups are resampled (percentile interval), the
    spread and all edits on the same draws. A unit of 0 gives NaN. n counts the groups to which an edit applies.
    """
    known = ~np.isnan(gain)
    columns = np.column_stack([np.where(known, gain, 0.0), known, np.square(margin), np.ones(len(margin))])
    total = sums_by_group(columns, groups)
    k = gain.shape[1]
    num = [int(np.count_nonzero(total[:, k + j])) for j in range(k)]
    if not len(total):
        return [Interval(math.nan, math.nan, math.nan, 0)] * k

    def effects_of(sums: Float[np.ndarray, "d c"]) -> Float[np.ndarray, "d k"]:
        unit = np.sqrt(sums[:, -2] / (2.0 * sums[:, -1]))[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            effect: np.ndarray = np.where(unit > 0, sums[:, :k] / sums[:, k : 2 * k] / unit, np.nan)
        return effect

    value = effects_of(total.sum(axis=0, keepdims=True))[0]
    drawn = effects_of(resampled_sums(total, draws, seed))
    low, high = percentile_limits(drawn, level)
    return [
        Interval(float(v), *((float(a), float(b)) if n >= 2 else (math.nan, math.nan)), n)
        for v, a, b, n in zip(value, low, high, num, strict=True)
    ]


def mean_tests(values: Float[np.ndarray, "n k"], groups: Shaped[np.ndarray, " n"]) -> list[MeanTest]:
    """A t-test of a mean of 0 for each column of values; NaN values are left out.

    Standard errors are by group (Liang & Zeger 1986). If all values of a column are equal the p-value is 0, or 1 if they are
    all 0. NaN with fewer than two groups.
    """
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    total = sums_by_group(np.where(known, values - mean, 0.0), groups)
    num_groups = (sums_by_group(known.astype(np.float64), groups) > 0).sum(axis=0)
    tests = []
    for m, n, g, squares in zip(mean, count, num_groups, np.square(total).sum(axis=0), strict=True):
        if g < 2:
            tests.append(MeanTest(math.nan, math.nan, max(0, int(g) - 1)))
            continue
        error = math.sqrt(g / (g - 1) * squares) / int(n)
        if error <= 1e-12 * abs(m):
            tests.append(MeanTest(float(m == 0.0), error, int(g) - 1))
        else:
            tests.append(MeanTest(float(2.0 * stdtr(g - 1, -abs(m) / error)), error, int(g) - 1))
    return tests


def smallest_effect(test: MeanTest, unit: float, tests: int = 1) -> Interval:
    """The smallest effect, in units, that `tests` tests at a joint 5 % would detect four times in five, from a test's error.

    The interval is that of the error itself (chi-square, as for normal values).
    """
    if not (unit > 0 and test.df > 0):
        return Interval(math.nan, math.nan, math.nan, test.df + 1)
    value = float(ndtri(1.0 - 0.025 / tests) + ndtri(POWER)) * test.error / unit
    low, high = (value * math.sqrt(test.df / float(chdtri(test.df, tail))) for tail in (0.025, 0.975))
    return Interval(value, low, high, test.df + 1)


def at_length(
    longer: Float[np.ndarray, "n m"], gain: Float[np.ndarray, "n m"], length: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """What neutral text of a given length would have gained: piecewise linear through (0, 0) and the measured levels.

    longer, gain: the characters that each level of neutral text adds to an answer, increasing, and what it gains. length: the
    characters to interpolate at; beyond the last level the last slope continues, and below 0 the mirror image is used.
    """
    n = len(length)
    x = np.column_stack([np.zeros(n), longer])
    y = np.column_stack([np.zeros(n), gain])
    size = np.abs(length)
    level = np.clip((x <= size[:, None]).sum(axis=1), 1, x.shape[1] - 1)
    row = np.arange(n)
    left, right = x[row, level - 1], x[row, level]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (y[row, level] - y[row, level - 1]) / (right - left)
        gained: np.ndarray = np.sign(length) * (y[row, level - 1] + slope * (size - left))
    return np.where(length == 0, 0.0, gained)


def ratio(
    numerator: Float[np.ndarray, " n"],
    denominator: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    draws: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The mean of `numerator` over that of `denominator`, each over its rows that are not NaN.

    The limits are NaN where the denominator is not shown to be above 0.
    """
    known = [~np.isnan(x) for x in (numerator, denominator)]
    columns = np.column_stack(
        [*(np.where(k, x, 0.0) for k, x in zip(known, (numerator, denominator), strict=True)), *known]
    )

    def mean_denominator(sums: Float[np.ndarray, "d 4"]) -> Float[np.ndarray, " d"]:
        mean: np.ndarray = sums[:, 1] / sums[:, 3]
        return mean

    def quotient(sums: Float[np.ndarray, "d 4"]) -> Float[np.ndarray, " d"]:
        ratios: np.ndarray = sums[:, 0] / sums[:, 2] / mean_denominator(sums)
        return ratios

    used = known[0] | known[1]
    interval = bootstrap_sums(columns[used], groups[used], quotient, draws, seed, level)
    below = bootstrap_sums(columns[used], groups[used], mean_denominator, draws, seed, level)
    return interval if below.low > 0 else interval._replace(low=math.nan, high=math.nan)


def pair_correlation(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    given: Float[np.ndarray, " n"] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The correlation of two quantities within prompts, from their differences over pairs; no mean is subtracted.

    Equal to the correlation after subtracting each prompt's mean; swapping a pair changes nothing. With `given`, a third
    difference, the partial correlation given it. NaN where either quantity never differs.
    """
    z = np.zeros(len(x)) if given is None else given
    columns = np.column_stack([weight * a * b for a, b in ((x, y), (x, x), (y, y), (x, z), (y, z), (z, z))])

    def statistic(sums: Float[np.ndarray, "d 6"]) -> Float[np.ndarray, " d"]:
        xy, xx, yy, xz, yz, zz = sums.T
        r: np.ndarray = xy / np.sqrt(xx * yy)
        if given is None:
            return r
        rx, ry = (np.where(zz > 0, c / np.sqrt(v * np.where(zz > 0, zz, 1.0)), 0.0) for c, v in ((xz, xx), (yz, yy)))
        left = np.clip((1.0 - rx**2) * (1.0 - ry**2), 0.0, None)
        partial: np.ndarray = np.where(left > 1e-12, (r - rx * ry) / np.sqrt(left), np.nan)
        return partial

    return bootstrap_sums(columns, groups, statistic, draws, seed)


def length_logit(
    margin: Float[np.ndarray, " n"],
    longer: Int[np.ndarray, " n"],
    q: Float[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    draws: int = 2000,
    seed: int = 0,
) -> LengthLogit:
    """People's preference as a function of margin and length together (Dubois 2024, arXiv 2404.04475, without its model terms).

    margin: first minus second, nats. longer: characters, first minus second. q: P(first is better). No intercept: swapping a
    pair changes nothing. Groups are resampled; each draw is one Newton step from the fit on all.
    """
    num_groups = len(np.unique(groups))
    scale = math.sqrt(float(np.mean(np.square(margin)))) if len(margin) else 0.0
    spread = math.sqrt(float(np.mean(np.square(longer)))) if len(margin) else 0.0
    if scale == 0 or spread == 0 or num_groups < 2:
        unknown = Interval(math.nan, math.nan, math.nan, num_groups)
        return LengthLogit(unknown, unknown)
    x = np.column_stack([margin / scale, np.tanh(longer / spread)])
    ridge = RIDGE * float(weight.sum())
    b = np.zeros(2)
    for _ in range(100):
        score, curve = _logit_terms(x, q, weight, b)
        step = np.linalg.solve(_matrix(curve.sum(axis=0)) + ridge * np.eye(2), score.sum(axis=0) - ridge * b)
        step *= min(1.0, 2.0 / max(1e-300, float(np.abs(step).max())))
        b = b + step
        if float(np.abs(step).max()) < 1e-10:
            break
    score, curve = _logit_terms(x, q, weight, b)
    drawn = resampled_sums(sums_by_group(np.column_stack([score, curve]), groups), draws, seed)
    hessian = np.stack([_matrix(row[2:]) for row in drawn]) + ridge * np.eye(2)
    fits = b + np.linalg.solve(hessian, (drawn[:, :2] - ridge * b)[..., None])[..., 0]
    low, high = percentile_limits(fits[:, 0] / scale, 0.95)
    slope = Interval(float(b[0]) / scale, float(low), float(high), num_groups)
    with np.errstate(divide="ignore"):
        per_margin = scale * fits[:, 1] / fits[:, 0]
    low, high = percentile_limits(per_margin, 0.95) if slope.low > 0 else (math.nan, math.nan)
    return LengthLogit(slope, Interval(scale * float(b[1] / b[0]), float(low), float(high), num_groups))


def rate(
    once: Float[np.ndarray, " n"],
    twice: Float[np.ndarray, " n"],
    has: Bool[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
) -> Rate:
    """Effect of an attribute from rewrites of rewrites (Reber 2024, arXiv 2410.11348).

    once: reward of the answer rewritten to the other value of the attribute. twice: reward of that, rewritten back. has:
    whether the original has the attribute. Both are rewrites, so what a rewriter changes besides the attribute cancels.
    Differences are per answer, with intervals by group; the authors' code takes the two means as independent.
    """
    return _effect_of_having(twice, once, has, groups)


def naive_rate(
    original: Float[np.ndarray, " n"],
    once: Float[np.ndarray, " n"],
    has: Bool[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
) -> Rate:
    """The same from one rewrite, which attributes everything that a rewriter changes to the attribute."""
    return _effect_of_having(original, once, has, groups)


def _effect_of_having(
    same: Float[np.ndarray, " n"],
    other: Float[np.ndarray, " n"],
    has: Bool[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
) -> Rate:
    """From the rewards of each answer with its own value of the attribute, and with the other value."""
    effect = np.where(has, same - other, other - same)
    parts = (clustered_mean(effect[rows], groups[rows]) for rows in (has, ~has, has | ~has))
    return Rate(*parts)


def _logit_terms(
    x: Float[np.ndarray, "n 2"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], b: Float[np.ndarray, " 2"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 3"]]:
    """Each row's gradient and curvature (xx, xy, yy) of the log-likelihood."""
    p = expit(x @ b)
    weighted = weight * p * (1.0 - p)
    curve = np.column_stack([weighted * x[:, 0] ** 2, weighted * x[:, 0] * x[:, 1], weighted * x[:, 1] ** 2])
    return (weight * (q - p))[:, None] * x, curve


def _matrix(curve: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "2 2"]:
    return np.array([[curve[0], curve[1]], [curve[1], curve[2]]])
