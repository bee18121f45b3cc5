"""Reward against the distance from the reference policy: laws, peaks, forecasts, and whether gold has turned.

Axes: p prompts, N samples of a prompt's pool, m points (values of n, or checkpoints of a run) in order of KL, l strengths
of tilting. d is the square root of the KL to the reference policy, in nats a sequence. Gold is what the proxy stands
for, in any unit, higher is better. Everything is float64; every interval is at 95 % and resamples prompts.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import ndtr, stdtrit

from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import resampled_sums

__all__ = [
    "LEAST_D",
    "LEAST_PROMPTS",
    "Fit",
    "FitWithDoubt",
    "GoldTrend",
    "Tilt",
    "TiltFrontier",
    "aicc",
    "bon_law",
    "fit",
    "fit_with_doubt",
    "gold_trend",
    "rl_law",
    "tilt",
    "tilt_frontier",
    "turning_point",
]

Law = Literal["bon", "rl"]

LEAST_D = 0.1
"""Distance below which the RL law, whose slope is infinite at 0, is not fitted."""

LEAST_PROMPTS = 8
"""Prompts below which `gold_trend` does not judge, and `fit_with_doubt` observes no peak."""


# --- The laws of Gao, Schulman & Hilton ------------------------------------------------------------------------------


def bon_law(d: Float[np.ndarray, " m"], alpha: float, beta: float) -> Float[np.ndarray, " m"]:
    """Distances in, d (alpha - beta d) out: gold of best-of-n over the reference's (Gao et al. 2022, arXiv 2210.10760)."""
    return d * (alpha - beta * d)


def rl_law(d: Float[np.ndarray, " m"], alpha: float, beta: float) -> Float[np.ndarray, " m"]:
    """Distances in, d (alpha - beta log d) out, 0 at d = 0: gold of RL over the reference's (Gao et al. 2022)."""
    return d * (alpha - beta * np.log(np.where(d > 0, d, 1.0)))


@dataclass(frozen=True, slots=True)
class Fit:
    """A law's coefficients, in units of gold a sqrt(nat), and the root mean squared residual of the points it was fitted to.

    A statement about the fitted range only: a peak beyond it is an extrapolation. `fit_with_doubt` says which it is.
    """

    alpha: float
    beta: float
    law: Law
    rmse: float

    @property
    def peak(self) -> float:
        """Distance at which the law is highest: alpha / 2 beta, or exp(alpha / beta - 1); inf where it never turns.

        0.0 for a best-of-n law that only falls.
        """
        return float(_peak(np.array([self.alpha]), np.array([self.beta]), self.law)[0])

    @property
    def peak_kl(self) -> float:
        """KL at the peak, nats a sequence."""
        return self.peak * self.peak

    @property
    def height(self) -> float:
        """Gold at the peak over the reference's; inf where the law never turns."""
        return float(_height(np.array([self.alpha]), np.array([self.beta]), self.law)[0])

    def at(self, d: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Distances in, the law's gold over the reference's out."""
        return bon_law(d, self.alpha, self.beta) if self.law == "bon" else rl_law(d, self.alpha, self.beta)


def fit(
    d: Float[np.ndarray, " m"],
    gold: Float[np.ndarray, " m"],
    law: Law = "bon",
    weight: Float[np.ndarray, " m"] | None = None,
) -> Fit:
    """Distances and gold over the reference's in, the law's least-squares fit out.

    Linear in both coefficients, without intercept: center gold so that the reference's is 0. `weight` is 1 / variance of
    each point, where known. Points at d = 0, where every law is 0, are left out, for RL those below LEAST_D.

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
    """Points as in `fit` in; the law's corrected Akaike criterion out, to compare laws on the same points: lower is better.

    Hurvich & Tsai 1989, with three parameters (alpha, beta, the variance). Either law is fitted to the points that the RL
    law can take, for criteria on different points do not compare. inf with fewer than five such points, which cannot tell;
    -inf where the law is exact.
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
class FitWithDoubt:
    """A fit and the intervals of what it says. Limits of a peak are inf where resampled laws never turn.

    fit: the law fitted to the mean over prompts. drop: measured gold at the point nearest the peak less that at the last
    point, prompt by prompt. largest_d: where the points end. peak_observed: whether peak, peak_kl and height may be shown;
    if not, say "no peak observed up to KL = largest_d^2". It holds where the interval of the peak lies within the fitted
    points (it reaches inf where that of beta reaches 0), that of the drop, which no law has smoothed, is above 0, and there
    are LEAST_PROMPTS prompts: percentiles of fewer promise too much.
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


def fit_with_doubt(
    d: Float[np.ndarray, " m"],
    gold_by_prompt: Float[np.ndarray, "p m"],
    law: Law = "bon",
    seed: int = 0,
    draws: int = 2000,
    weight: Float[np.ndarray, " m"] | None = None,
) -> FitWithDoubt:
    """Distances and each prompt's gold there in, the law fitted to the mean over prompts with its doubt out.

    The first column is the reference (n = 1, or the untouched policy): gold is taken as the gain over it, prompt by
    prompt. Whole curves are resampled, and the law is fitted anew to each draw; limits are percentiles of the fits (Efron
    1979), NaN with fewer than two prompts.

    Raises:
        ValueError: what `fit` refuses, gold that is not finite, or a first column that is not the nearest to the reference.
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
    return FitWithDoubt(
        fit=point,
        alpha=_percentiles(point.alpha, alphas, num_prompts),
        beta=_percentiles(point.beta, betas, num_prompts),
        peak=peak,
        peak_kl=_percentiles(point.peak_kl, peaks * peaks, num_prompts),
        height=_percentiles(point.height, _height(alphas, betas, law), num_prompts),
        drop=drop,
        largest_d=float(d.max()),
        peak_observed=inside and drop.low > 0 and num_prompts >= LEAST_PROMPTS,
    )


# --- Tilting: where KL-regularized RL would go, told from samples of the reference alone ---------------------------------


class Tilt(NamedTuple):
    """A prompt (or its mean over prompts) at each strength of tilting.

    proxy and gold: expected scores. kl: nats a sequence. slope: d gold / d strength, the covariance of gold and proxy under
    the tilt. ess: how many samples' worth of weight is left of N. In `by_prompt` each is [p, l].
    """

    proxy: Float[np.ndarray, "*p l"]
    gold: Float[np.ndarray, "*p l"]
    kl: Float[np.ndarray, "*p l"]
    slope: Float[np.ndarray, "*p l"]
    ess: Float[np.ndarray, "*p l"]


class TiltFrontier(NamedTuple):
    """Means over prompts at each strength that the pool can still speak for, and the prompts' own values for intervals.

    strengths: [l], those asked for up to where the samples ran out. exhausted: whether any were left out for that.
    """

    strengths: Float[np.ndarray, " l"]
    proxy: Float[np.ndarray, " l"]
    gold: Float[np.ndarray, " l"]
    kl: Float[np.ndarray, " l"]
    slope: Float[np.ndarray, " l"]
    by_prompt: Tilt
    exhausted: bool


def tilt(proxy: Float[np.ndarray, " N"], gold: Float[np.ndarray, " N"], lambdas: Float[np.ndarray, " l"]) -> Tilt:
    """One prompt's pool and strengths lambda = 1 / beta in, the policies pi e^(lambda proxy) that they tilt it to out.

    Such a policy maximizes E[proxy] - beta KL, so it is where KL-regularized RL is bound (Korbak et al. 2022, arXiv
    2205.11275); the pool is weighted to it by self-normalized importance, and KL = lambda K' - K with K = log mean
    e^(lambda proxy). It cannot pass log N nats, and misleads well before: see `tilt_frontier`.
    """
    columns = [_tilted(proxy[None], gold[None], float(strength)) for strength in lambdas]
    return Tilt(*(np.array([column[i][0] for column in columns]) for i in range(5)))


def tilt_frontier(
    proxy: Float[np.ndarray, "p N"],
    gold: Float[np.ndarray, "p N"],
    lambdas: Float[np.ndarray, " l"],
    least_share: float = 0.05,
    most_bad: float = 0.10,
) -> TiltFrontier:
    """Prompts' pools and ascending strengths in; the mean over prompts of `tilt` out, as far as the samples reach.

    It stops before the first strength at which more than `most_bad` of the prompts have an effective sample size
    (Kish 1965) under max(10, least_share N): beyond, a handful of samples would speak for the policy. Pools of fewer than
    ten samples reach nowhere.
    """
    if np.any(np.diff(lambdas) <= 0) or np.any(lambdas < 0):
        raise ValueError(f"strengths of tilting are at least 0 and ascend, got {lambdas.tolist()}")
    if not (np.isfinite(proxy).all() and np.isfinite(gold).all()):
        raise ValueError("tilting needs finite scores: leave out the samples whose score is NaN or infinite")
    least = max(10.0, least_share * proxy.shape[1])
    columns: list[Tilt] = []
    for strength in lambdas:
        column = _tilted(proxy, gold, float(strength))
        if np.mean(column.ess < least) > most_bad:
            break
        columns.append(column)
    by_prompt = Tilt(*(np.array([column[i] for column in columns]).reshape(-1, len(proxy)).T for i in range(5)))
    return TiltFrontier(
        strengths=lambdas[: len(columns)],
        proxy=by_prompt.proxy.mean(axis=0),
        gold=by_prompt.gold.mean(axis=0),
        kl=by_prompt.kl.mean(axis=0),
        slope=by_prompt.slope.mean(axis=0),
        by_prompt=by_prompt,
        exhausted=len(columns) < len(lambdas),
    )


def turning_point(
    proxy: Float[np.ndarray, "p N"], gold: Float[np.ndarray, "p N"], strengths: Float[np.ndarray, " l"]
) -> float | None:
    """Prompts' pools and the strengths of their frontier in; the strength at which mean gold is at a maximum out, or None.

    A root of the mean slope (Khalaf et al. 2025, arXiv 2506.19248), where it falls through 0, so that a minimum is never
    taken; the highest of several. None where gold does not turn within the strengths; of those given, only the signs of
    the slope matter, so a maximum between two neighbors that ends as it began is overlooked.
    """

    def slope(strength: float) -> float:
        return float(_tilted(proxy, gold, strength).slope.mean())

    slopes = np.array([slope(float(strength)) for strength in strengths])
    falls = np.flatnonzero((slopes[:-1] > 0) & (slopes[1:] <= 0))
    roots = [float(brentq(slope, float(strengths[i]), float(strengths[i + 1]), xtol=1e-12)) for i in falls]
    return max(roots, key=lambda root: float(_tilted(proxy, gold, root).gold.mean()), default=None)


# --- Has gold turned? ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GoldTrend:
    """What a curve of gold says of its proxy, see `gold_trend` for the rule.

    since_d: d of the best point, for "over-optimized" only. drop: gold of the best point less that of the last. gain: gold
    of the last point less that of the first. early and late: gold a unit of d over the first and the last third.
    """

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"]
    since_d: float | None
    drop: Interval
    gain: Interval
    early: Interval
    late: Interval

    @property
    def since_kl(self) -> float | None:
        """KL of the best point, nats a sequence, for "over-optimized" only."""
        return None if self.since_d is None else self.since_d * self.since_d


def gold_trend(
    d: Float[np.ndarray, " m"], gold_by_prompt: Float[np.ndarray, "p m"], seed: int = 0, draws: int = 2000
) -> GoldTrend:
    """Distances and each prompt's gold there in, whether the proxy may still be trusted out.

    The first column is the reference, and the points are put in order of d. Everything is measured prompt by prompt as
    a gain over the first column. The first that holds:

    * "insufficient": fewer than LEAST_PROMPTS prompts, or all points at one distance.
    * "over-optimized", since the d of the point with the highest mean gold: the interval of its drop to the last point
      is above 0. That point was chosen because it is high, so the interval allows for the choice: it is simultaneous for
      the drops of all points, mean +- c s with s the drop's standard error and c the 95 % quantile, over resampled
      prompts, of the largest |resampled mean - mean| / s of any point, taken from the normal to the same tail of
      Student's t at p - 1 (max-t; Hothorn et al. 2008).
    * "flattening": gold a unit of d over the last third of the range of d has an interval that reaches 0, or one whose
      upper end is under a third of the value over the first third.
    * "fine".

    The slope over a third is that of the least-squares line through the piecewise linear curve. A verdict after each of
    many checkpoints is many tests: each alone has the false-alarm rate that it says.

    Raises:
        ValueError: gold or distances that are not finite, a negative distance, or a first column that is not the nearest.
    """
    order = np.argsort(d, kind="stable")
    d, gain = d[order], _gain(d, gold_by_prompt)[:, order]
    num_prompts, mean = len(gain), gain.mean(axis=0)
    best = int(np.argmax(mean))
    lost = gain - gain[:, -1:]
    thirds = [_slope_weights(d, 0.0, 1 / 3), _slope_weights(d, 2 / 3, 1.0)]
    slopes = gain @ np.column_stack(thirds)
    means = _resampled_means(np.column_stack([lost, gain[:, -1], slopes]), draws, seed)

    drop = _simultaneous(lost, means[:, : len(d)], best)
    gained = _percentiles(float(mean[-1]), means[:, -3], num_prompts)
    early = _percentiles(float(slopes[:, 0].mean()), means[:, -2], num_prompts)
    late = _percentiles(float(slopes[:, 1].mean()), means[:, -1], num_prompts)

    kind: Literal["fine", "flattening", "over-optimized", "insufficient"] = "fine"
    if num_prompts < LEAST_PROMPTS or d[-1] <= d[0]:
        kind = "insufficient"
    elif drop.low > 0:
        kind = "over-optimized"
    elif late.low <= 0 or late.high < early.value / 3:
        kind = "flattening"
    since = float(d[best]) if kind == "over-optimized" else None
    return GoldTrend(kind, since, drop, gained, early, late)


# --- What they share ------------------------------------------------------------------------------------------------------


def _kept(d: np.ndarray, law: Law) -> np.ndarray:
    """Where a law says something that centering has not said already, and can be trusted to."""
    kept: np.ndarray = d >= LEAST_D if law == "rl" else d > 0
    return kept


def _points(
    d: np.ndarray, gold: np.ndarray, weight: np.ndarray | None, law: Law
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that a law is fitted to, checked."""
    d, gold = np.asarray(d, dtype=np.float64), np.asarray(gold, dtype=np.float64)
    weight = np.ones_like(d) if weight is None else np.asarray(weight, dtype=np.float64)
    if not (np.isfinite(d).all() and np.isfinite(gold).all() and (d >= 0).all()):
        raise ValueError("a law is fitted to finite gold at finite distances of at least 0 (the root of a KL)")
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise ValueError("weights are finite and at least 0: one over the variance of a point")
    kept = _kept(d, law)
    if len(np.unique(d[kept & (weight > 0)])) < 2:
        least = f"at least {LEAST_D}" if law == "rl" else "above 0"
        raise ValueError(f"the {law} law needs two different distances {least}, got {d.tolist()}")
    return d[kept], gold[kept], weight[kept]


def _design(d: np.ndarray, law: Law) -> np.ndarray:
    """The two columns that alpha and beta multiply."""
    of = bon_law if law == "bon" else rl_law
    return np.column_stack([of(d, 1.0, 0.0), of(d, 0.0, 1.0)])


def _least_squares(design: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The matrix that turns a curve into the coefficients of its weighted least-squares fit."""
    root = np.sqrt(weight)
    solution: np.ndarray = np.linalg.pinv(design * root[:, None]) * root
    return solution


def _peak(alpha: np.ndarray, beta: np.ndarray, law: Law) -> np.ndarray:
    turns = beta > 0
    safe = np.where(turns, np.maximum(beta, 1e-150), 1.0)  # a peak that never was is far, but its square is a number
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
        raise ValueError("gold is finite and a distance finite and at least 0: leave out the prompts without gold")
    if gold_by_prompt.shape[0] == 0 or gold_by_prompt.shape[1] < 2:
        raise ValueError(f"a curve needs a prompt and two points, got gold of shape {gold_by_prompt.shape}")
    if d[0] > d.min() or d[0] >= LEAST_D:
        raise ValueError(
            f"the first point is the reference, nearer than {LEAST_D} and nearest of all, got d = {d.tolist()}"
        )
    gain: np.ndarray = gold_by_prompt - gold_by_prompt[:, :1]
    return gain


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Means [draws, c] of values [p, c] over rows drawn with replacement."""
    return resampled_sums(values, draws, seed, "multinomial") / len(values)


def _percentiles(value: float, replicates: np.ndarray, n: int) -> Interval:
    """The 95 % interval, its limits taken among the replicates themselves, some of which may be infinite."""
    if n < 2:
        return Interval(value, math.nan, math.nan, n)
    low = float(np.quantile(replicates, 0.025, method="lower"))
    return Interval(value, low, float(np.quantile(replicates, 0.975, method="higher")), n)


def _simultaneous(lost: np.ndarray, means: np.ndarray, best: int) -> Interval:
    """Drops by prompt [p, m], their resampled means, and the point of interest in; its interval, fair to all, out."""
    n, mean = len(lost), lost.mean(axis=0)
    if n < 2:
        return Interval(float(mean[best]), math.nan, math.nan, n)
    error = lost.std(axis=0, ddof=1) / math.sqrt(n)
    moved = np.abs(means - mean) / np.where(error > 0, error, math.inf)
    normal = float(np.quantile(moved.max(axis=1), 0.95)) * math.sqrt(n / (n - 1))  # a resample's variance is over n
    half = -float(stdtrit(n - 1, ndtr(-normal))) * float(error[best])
    return Interval(float(mean[best]), float(mean[best]) - half, float(mean[best]) + half, n)


def _slope_weights(d: np.ndarray, start: float, end: float) -> np.ndarray:
    """What to multiply a curve's points by, so that the sum is its slope over [start, end] of its range; 0.0 without one."""
    if d[-1] <= d[0]:
        return np.zeros(len(d))
    grid = np.linspace(d[0] + start * (d[-1] - d[0]), d[0] + end * (d[-1] - d[0]), 31)
    line = grid - grid.mean()
    line /= np.sum(line**2)
    places, where = np.unique(d, return_inverse=True)
    share = np.array([np.interp(grid, places, unit) for unit in np.eye(len(places))]) @ line
    weights: np.ndarray = (share / np.bincount(where))[where]
    return weights


def _tilted(proxy: np.ndarray, gold: np.ndarray, strength: float) -> Tilt:
    """Pools [p, N] in, their tilt at one strength out, each [p]."""
    behind = proxy - proxy.max(axis=1, keepdims=True)
    weight = np.exp(strength * behind)
    total = weight.sum(axis=1)
    share = weight / total[:, None]
    mean_behind, mean_gold = (share * behind).sum(axis=1), (share * gold).sum(axis=1)
    slope = (share * (gold - mean_gold[:, None]) * (behind - mean_behind[:, None])).sum(axis=1)
    kl = strength * mean_behind - np.log(total / proxy.shape[1])
    return Tilt(
        proxy=mean_behind + proxy.max(axis=1),
        gold=mean_gold,
        kl=np.maximum(kl, 0.0),
        slope=slope,
        ess=1.0 / np.square(share).sum(axis=1),
    )
