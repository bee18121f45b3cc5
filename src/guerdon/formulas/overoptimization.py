"""Reward against the distance from the reference policy: laws, peaks, and whether gold has turned.

Axes: p prompts, m points (values of n, or checkpoints of a run) in order of KL. d is the square root of the KL to the
reference policy, KL in nats per sequence. Gold is the quality that the proxy should measure, in any unit, higher is better. All float64;
every interval is at 95 % and resamples prompts.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import resampled_sums

__all__ = [
    "MIN_DISTANCE",
    "MIN_PROMPTS",
    "Fit",
    "FitWithIntervals",
    "GoldTrend",
    "aicc",
    "bon_law",
    "fit",
    "fit_with_intervals",
    "gold_trend",
    "rl_law",
]

Law = Literal["bon", "rl"]

MIN_DISTANCE = 0.1
"""Points nearer than this are left out of fits of the RL law, whose slope is infinite at 0."""

MIN_PROMPTS = 8
"""With fewer prompts than this, `gold_trend` is "insufficient" and `fit_with_intervals` reports no peak."""


def bon_law(d: Float[np.ndarray, " m"], alpha: float, beta: float) -> Float[np.ndarray, " m"]:
    """d (alpha - beta d): gold of best-of-n over the reference's (Gao et al. 2022, arXiv 2210.10760)."""
    return d * (alpha - beta * d)


def rl_law(d: Float[np.ndarray, " m"], alpha: float, beta: float) -> Float[np.ndarray, " m"]:
    """d (alpha - beta log d), 0 at d = 0: gold of RL over the reference's (Gao et al. 2022)."""
    return d * (alpha - beta * np.log(np.where(d > 0, d, 1.0)))


@dataclass(frozen=True, slots=True)
class Fit:
    """A law's coefficients, in units of gold per sqrt(nat), and the root mean squared residual of the fitted points.

    It holds for the fitted range only: a peak beyond it is an extrapolation. `fit_with_intervals` says which.
    """

    alpha: float
    beta: float
    law: Law
    rmse: float

    @property
    def peak(self) -> float:
        """Distance at which the law is highest: alpha / 2 beta, or exp(alpha / beta - 1); inf if it never turns.

        0.0 for a best-of-n law that only falls.
        """
        return float(_peak(np.array([self.alpha]), np.array([self.beta]), self.law)[0])

    @property
    def peak_kl(self) -> float:
        """KL at the peak, nats per sequence."""
        return self.peak * self.peak

    @property
    def height(self) -> float:
        """Gold at the peak over the reference's; inf if the law never turns."""
        return float(_height(np.array([self.alpha]), np.array([self.beta]), self.law)[0])

    def at(self, d: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """The law's gold over the reference's at these distances."""
        return bon_law(d, self.alpha, self.beta) if self.law == "bon" else rl_law(d, self.alpha, self.beta)


def fit(
    d: Float[np.ndarray, " m"],
    gold: Float[np.ndarray, " m"],
    law: Law = "bon",
    weight: Float[np.ndarray, " m"] | None = None,
) -> Fit:
    """The law's least-squares fit to gold over the reference's.

    Linear in both coefficients, without intercept: shift gold so that the reference's is 0. `weight` is 1 / variance of
    each point, if known. Points at d = 0, where every law is 0, are left out; for RL, those below MIN_DISTANCE.

    Raises:
        ValueError: fewer than two different distances above 0 are left, or a distance is negative or not finite.
    """
    d, gold, weight = _points(d, gold, weight, law)
    design = _design(d, law)
    alpha, beta = _least_squares(design, weight) @ gold
    residual = gold - design @ np.array([alpha, beta])
    return Fit(float(alpha), float(beta), law, math.sqrt(np.sum(weight * residual**2) / weight.sum()))


def aicc(
    d: Float[np.ndarray, " m"],
    gold: Float[np.ndarray, " m"],
    law: Law,
    weight: Float[np.ndarray, " m"] | None = None,
) -> float:
    """The law's corrected Akaike information criterion, to compare laws on the same points: lower is better.

    Hurvich & Tsai 1989, with three parameters (alpha, beta, the variance). Both laws are fitted to the points that the RL
    law allows, because criteria on different points cannot be compared. inf with fewer than five such points, which cannot
    tell the laws apart; -inf if the law is exact.
    """
    d, gold, weight = _points(d, gold, weight, "rl")
    num_points, parameters = len(d), 3
    if num_points < parameters + 2:
        return math.inf
    variance = fit(d, gold, law, weight).rmse ** 2
    if variance == 0:
        return -math.inf
    correction = 2 * parameters * (parameters + 1) / (num_points - parameters - 1)
    return num_points * math.log(variance) + 2 * parameters + correction


@dataclass(frozen=True, slots=True)
class FitWithIntervals:
    """A fit and the intervals of its coefficients and its peak. Limits of a peak are inf if resampled laws never turn.

    fit: the law fitted to the mean over prompts. drop: measured gold at the point nearest the peak minus that at the last
    point, prompt by prompt. largest_d: the distance of the last point. peak_observed: whether peak, peak_kl and height may
    be shown; if not, say "no peak observed up to KL = largest_d^2". It is True if the interval of the peak lies within the
    fitted points (it reaches inf if that of beta reaches 0), the interval of the drop, which no law has smoothed, is above
    0, and there are at least MIN_PROMPTS prompts: percentile intervals of fewer are too narrow.
    """

    fit: Fit
    alpha: Interval
    beta: Interval
    peak: Interval
    peak_kl: Interval
    height: Interval
    drop: Interval
    largest_d: float
    peak_observed: bool


def fit_with_intervals(
    d: Float[np.ndarray, " m"],
    gold_by_prompt: Float[np.ndarray, "p m"],
    law: Law = "bon",
    seed: int = 0,
    draws: int = 2000,
    weight: Float[np.ndarray, " m"] | None = None,
) -> FitWithIntervals:
    """The law fitted to the mean over prompts, with intervals, from distances and each prompt's gold there.

    The first column is the reference (n = 1, or the policy before training): gold is taken as the gain over it, prompt by
    prompt. Whole curves are resampled, and the law is fitted again to each draw; limits are percentiles of the fits (Efron
    1979), NaN with fewer than two prompts.

    Raises:
        ValueError: what `fit` refuses, gold that is not finite, or a first column that is not nearest to the reference.
    """
    gain = _gain(d, gold_by_prompt)
    point = fit(d, gain.mean(axis=0), law, weight)
    kept_d, _, kept_weight = _points(d, gain.mean(axis=0), weight, law)
    solve = _least_squares(_design(kept_d, law), kept_weight)

    nearest = int(np.argmin(np.abs(d - point.peak))) if math.isfinite(point.peak) else int(np.argmax(d))
    lost = gain[:, nearest] - gain[:, int(np.argmax(d))]
    means = _resampled_means(np.column_stack([gain, lost]), draws, seed)
    alphas, betas = solve @ means[:, :-1][:, _kept(d, law)].T
    peaks, num_prompts = _peak(alphas, betas, law), len(gain)

    peak = _percentiles(point.peak, peaks, num_prompts)
    drop = _percentiles(float(lost.mean()), means[:, -1], num_prompts)
    fitted = kept_d[kept_weight > 0]
    nearest_d = 0.0 if law == "bon" else float(fitted.min())  # the reference is a point of the best-of-n law
    inside = nearest_d <= peak.low and peak.high <= float(fitted.max())
    return FitWithIntervals(
        fit=point,
        alpha=_percentiles(point.alpha, alphas, num_prompts),
        beta=_percentiles(point.beta, betas, num_prompts),
        peak=peak,
        peak_kl=_percentiles(point.peak_kl, peaks * peaks, num_prompts),
        height=_percentiles(point.height, _height(alphas, betas, law), num_prompts),
        drop=drop,
        largest_d=float(d.max()),
        peak_observed=inside and drop.low > 0 and num_prompts >= MIN_PROMPTS,
    )


@dataclass(frozen=True, slots=True)
class GoldTrend:
    """Whether gold still rises with the proxy; see `gold_trend` for the rule.

    since_d: d of the best point, for "over-optimized" only. drop: gold of the best point minus that of the last. gain:
    gold of the last point minus that of the first. early and late: gold per unit of d over the first and the last third.
    """

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"]
    since_d: float | None
    drop: Interval
    gain: Interval
    early: Interval
    late: Interval

    @property
    def since_kl(self) -> float | None:
        """KL of the best point, nats per sequence, for "over-optimized" only."""
        return None if self.since_d is None else self.since_d * self.since_d


def gold_trend(
    d: Float[np.ndarray, " m"], gold_by_prompt: Float[np.ndarray, "p m"], seed: int = 0, draws: int = 2000
) -> GoldTrend:
    """Whether the proxy can still be trusted, from distances and each prompt's gold there.

    The first column is the reference; points are sorted by d. Everything is measured prompt by prompt as a gain over the
    first column. The first of these that holds:

    * "insufficient": fewer than MIN_PROMPTS prompts, or all points at one distance.
    * "over-optimized", since the d of the point with the highest mean gold: the interval of the drop from it to the last
      point is above 0. That point was selected because it is high, and the interval allows for the selection: it is
      simultaneous for the drops of all points, mean +- c s with s the drop's standard error and c the 95 % quantile, over
      resampled prompts, of the largest |resampled mean - mean| / s of any point, moved from the normal distribution to
      the same tail of Student's t at p - 1 (max-t; Hothorn et al. 2008).
    * "fine": the slope of gold in d over the last third of the range of d has an interval above 0, whose upper end is at
      least a third of the slope over the first third.
    * "flattening": gold is shown to have risen, at the last point or, with the same allowance for selection, at the best.
    * "insufficient".

    The slope over a third is that of the least-squares line through the piecewise linear curve. Calling this after each of
    many checkpoints is many tests: the false-alarm rate holds for each one alone.

    Raises:
        ValueError: gold or distances that are not finite, a negative distance, or a first column that is not nearest.
    """
    order = np.argsort(d, kind="stable")
    d, gain = d[order], _gain(d, gold_by_prompt)[:, order]
    num_prompts, mean = len(gain), gain.mean(axis=0)
    best = int(np.argmax(mean))
    lost = gain - gain[:, -1:]
    thirds = [_slope_weights(d, 0.0, 1 / 3), _slope_weights(d, 2 / 3, 1.0)]
    slopes = gain @ np.column_stack(thirds)
    means = _resampled_means(np.column_stack([lost, gain, gain[:, -1], slopes]), draws, seed)

    drop = _simultaneous(lost, means[:, : len(d)], best)
    rise = _simultaneous(gain, means[:, len(d) : 2 * len(d)], best)
    gained = _percentiles(float(mean[-1]), means[:, -3], num_prompts)
    early = _percentiles(float(slopes[:, 0].mean()), means[:, -2], num_prompts)
    late = _percentiles(float(slopes[:, 1].mean()), means[:, -1], num_prompts)

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"] = "insufficient"
    if num_prompts >= MIN_PROMPTS and d[-1] > d[0]:
        if drop.low > 0:
            kind = "over-optimized"
        elif late.low > 0 and late.high >= early.value / 3:
            kind = "fine"
        elif gained.low > 0 or rise.low > 0:
            kind = "flattening"
    since = float(d[best]) if kind == "over-optimized" else None
    return GoldTrend(kind, since, drop, gained, early, late)


def _kept(d: np.ndarray, law: Law) -> np.ndarray:
    """The points that inform the fit of a law: not d = 0, where centering fixes it, nor those too near for the RL law."""
    kept: np.ndarray = d >= MIN_DISTANCE if law == "rl" else d > 0
    return kept


def _points(
    d: np.ndarray, gold: np.ndarray, weight: np.ndarray | None, law: Law
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that a law is fitted to, checked."""
    d, gold = np.asarray(d, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    weight = np.ones_like(d) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (np.isfinite(d).all() and np.isfinite(gold).all() and (d >= 0).all()):
        raise ValueError("gold and distances must be finite, and distances at least 0 (the root of a KL)")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("weights must be finite and at least 0: one over the variance of a point")
    kept = _kept(d, law)
    if len(np.unique(d[kept & (weight > 0)])) < 2:
        least = f"at least {MIN_DISTANCE}" if law == "rl" else "above 0"
        raise ValueError(f"the {law} law needs two distinct distances {least}, got {d.tolist()}")
    return d[kept], gold[kept], weight[kept]


def _design(d: np.ndarray, law: Law) -> np.ndarray:
    """The columns that alpha and beta multiply."""
    of = bon_law if law == "bon" else rl_law
    return np.column_stack([of(d, 1.0, 0.0), of(d, 0.0, 1.0)])


def _least_squares(design: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The matrix that maps a curve to the coefficients of its weighted least-squares fit."""
    root = np.sqrt(weight)
    solution: np.ndarray = np.linalg.pinv(design * root[:, None]) * root
    return solution


def _peak(alpha: np.ndarray, beta: np.ndarray, law: Law) -> np.ndarray:
    turns = beta > 0
    safe = np.where(turns, np.maximum(beta, 1e-150), 1.0)  # far away where there is none, but its square stays finite
    if law == "bon":
        peak = np.maximum(alpha, 0.0) / (2.0 * safe)
    else:
        peak = np.exp(np.minimum(alpha / safe - 1.0, 350.0))
    never = np.where((beta == 0) & (alpha <= 0), 0.0, math.inf)
    return np.where(turns, peak, never)


def _height(alpha: np.ndarray, beta: np.ndarray, law: Law) -> np.ndarray:
    peak = _peak(alpha, beta, law)
    at = np.where(np.isfinite(peak), peak, 0.0)
    height = at * (alpha - beta * at) if law == "bon" else beta * at
    return np.where(np.isfinite(peak), height, math.inf)


def _gain(d: np.ndarray, gold_by_prompt: np.ndarray) -> np.ndarray:
    """Each prompt's gold over its gold at the reference, checked."""
    if not (np.isfinite(d).all() and np.isfinite(gold_by_prompt).all() and (d >= 0).all()):
        raise ValueError("gold and distances must be finite, and distances at least 0: leave out prompts without gold")
    if gold_by_prompt.shape[0] == 0 or gold_by_prompt.shape[1] < 2:
        raise ValueError(f"a curve must have a prompt and two points, got gold of shape {gold_by_prompt.shape}")
    if d[0] > d.min() or d[0] >= MIN_DISTANCE:
        raise ValueError(
            f"the first point must be the reference, within {MIN_DISTANCE} and nearest of all, got d = {d.tolist()}"
        )
    gain: np.ndarray = gold_by_prompt - gold_by_prompt[:, :1]
    return gain


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means [draws, c] of values [p, c] over rows drawn with replacement."""
    return resampled_sums(values, draws, seed, "multinomial") / len(values)


def _percentiles(value: float, replicates: np.ndarray, n: int) -> Interval:
    """The 95 % interval; limits are replicates themselves, because some may be infinite."""
    if n < 2:
        return Interval(value, math.nan, math.nan, n)
    low = float(np.quantile(replicates, 0.025, method="lower"))
    return Interval(value, low, float(np.quantile(replicates, 0.975, method="higher")), n)


def _simultaneous(lost: np.ndarray, means: np.ndarray, best: int) -> Interval:
    """The interval of the mean drop at the best point, simultaneous over all points, from drops [p, m] and resampled means."""
    n, mean = len(lost), lost.mean(axis=0)
    if n < 2:
        return Interval(float(mean[best]), math.nan, math.nan, n)
    error = lost.std(axis=0, ddof=1) / math.sqrt(n)
    moved = np.abs(means - mean) / np.where(error > 0, error, math.inf)
    normal = float(np.quantile(moved.max(axis=1), 0.95)) * math.sqrt(n / (n - 1))  # a resample's variance is over n
    half = -float(stdtrit(n - 1, ndtr(-normal))) * float(error[best])
    return Interval(float(mean[best]), float(mean[best]) - half, float(mean[best]) + half, n)


def _slope_weights(d: np.ndarray, start: float, end: float) -> np.ndarray:
    """Weights of a curve's points whose weighted sum is its slope over [start, end] of its range; 0.0 for a range of length 0."""
    if d[-1] <= d[0]:
        return np.zeros(len(d))
    grid = np.linspace(d[0] + start * (d[-1] - d[0]), d[0] + end * (d[-1] - d[0]), 31)
    line = grid - grid.mean()
    line /= np.sum(line**2)
    places, where = np.unique(d, return_inverse=True)
    share = np.array([np.interp(grid, places, unit) for unit in np.eye(len(places))]) @ line
    weights: np.ndarray = (share / np.bincount(where))[where]
    return weights
