"""Calibration: proper scores, temperature, and calibration error with its null distribution.

Axes: n comparisons, b bins. A margin is r(first) - r(second) in nats: the model gives sigmoid(margin) for
P(first better). q is the share of people, in [0, 1], who say that the first is better. Everything is float64.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.optimize import brentq
from scipy.special import expit

__all__ = [
    "LOG_TEMPERATURE_RANGE",
    "CalibrationSlope",
    "Reliability",
    "brier",
    "calibration_slope",
    "confidence_and_correctness",
    "ece",
    "ece_null",
    "ece_p_value",
    "equal_mass_bins",
    "fit_temperature",
    "nll",
    "num_bins",
    "reliability",
]

LOG_TEMPERATURE_RANGE = (-4.0, 5.0)
"""Bounds of log T in `fit_temperature`; a minimum beyond them is set to the nearer bound."""

_CHUNK = 4_000_000  # numbers drawn at once: 32 MB for any n


class Reliability(NamedTuple):
    """Mean confidence, mean correctness and number of comparisons in each bin, from the least confident bin up."""

    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    num_rows: Int[np.ndarray, " b"]


def nll(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Margins and labels in, negative log likelihood [n] in nats out: averaged over the votes that q represents."""
    margin, q = _float64(margin), _float64(q)
    loss: np.ndarray = q * np.logaddexp(0.0, -margin) + (1.0 - q) * np.logaddexp(0.0, margin)
    return loss


def brier(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Margins and labels in, squared error of the probability [n] out: averaged over the votes that q represents.

    Brier 1950. For a soft label it is q(1 - p)^2 + (1 - q)p^2, so 100 votes as one q score the same as 100 rows.
    """
    p, q = expit(_float64(margin)), _float64(q)
    loss: np.ndarray = q * (1.0 - p) ** 2 + (1.0 - q) * p**2
    return loss


def fit_temperature(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> float:
    """Margins and labels in, the T that minimizes the mean of nll(margin / T, q) out.

    Guo et al. 2017 (arXiv 1706.04599). T above 1 means that the model is overconfident. log T stays within
    LOG_TEMPERATURE_RANGE: perfectly separable labels give its lower end, labels that do not depend on the margin its
    upper end. 1.0 if every margin (of positive weight) is zero.
    """
    margin, q = _float64(margin), _float64(q)
    weight = np.ones_like(margin) if weight is None else _float64(weight)
    if not np.any(margin * weight):
        return 1.0

    def slope(log_t: float) -> float:
        """Derivative of the loss in 1/T, in which it is convex, in a form whose tails do not round to 0 or 1."""
        scaled = margin * math.exp(-log_t)
        return float(np.sum(weight * margin * ((1.0 - q) * expit(scaled) - q * expit(-scaled))))

    low, high = LOG_TEMPERATURE_RANGE
    if slope(low) <= 0.0:
        return math.exp(low)
    if slope(high) >= 0.0:
        return math.exp(high)
    return math.exp(float(brentq(slope, low, high, xtol=1e-12, rtol=1e-12)))


class CalibrationSlope(NamedTuple):
    """1 / T of some comparisons, in nats per nat of margin: 1 for calibrated margins, below 1 for overconfident ones.

    error: standard error of its logarithm. NaN where the comparisons do not determine it.
    """

    value: float
    error: float


def calibration_slope(
    margin: Float[np.ndarray, " n"],
    q: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"] | None = None,
) -> CalibrationSlope:
    """Margins, labels and their groups in, the slope b of logit P(first better) = b margin out, without an intercept.

    Error by the sandwich over groups (Liang & Zeger 1986), of log b by the delta method. NaN with fewer than two groups, or
    where the best slope lies at or beyond the ends of LOG_TEMPERATURE_RANGE.
    """
    margin, q = _float64(margin), _float64(q)
    weight = np.ones_like(margin) if weight is None else _float64(weight)
    _, code = np.unique(groups, return_inverse=True)
    t = fit_temperature(margin, q, weight)
    low, high = LOG_TEMPERATURE_RANGE
    is_inside = low + 1e-9 < math.log(t) < high - 1e-9
    if len(np.unique(code)) < 2 or not is_inside or not np.any(margin * weight):
        return CalibrationSlope(math.nan, math.nan)
    p = expit(margin / t)
    num_groups = int(code.max()) + 1
    score = np.bincount(code, weights=weight * margin * (q - p), minlength=num_groups)
    bread = float(np.sum(weight * margin**2 * p * (1.0 - p)))
    error = math.sqrt(float((score**2).sum()) * num_groups / (num_groups - 1)) / bread
    return CalibrationSlope(1.0 / t, error * t)


def confidence_and_correctness(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Margins and labels in; confidence [n] in [0.5, 1] and share of votes for the model's choice [n] out.

    A margin of exactly zero chooses neither side: confidence 0.5, correctness 0.5. The order of the two responses does not
    matter; an ECE of P(first) would be degenerate on rows that all have the better one first.
    """
    margin, q = _float64(margin), _float64(q)
    correct: np.ndarray = np.select([margin > 0, margin < 0], [q, 1.0 - q], 0.5)
    return expit(np.abs(margin)), correct


def reliability(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], bins: int = 15) -> Reliability:
    """Margins and labels in, mean confidence and correctness in at most `bins` bins of equal mass out.

    Comparisons of equal confidence share a bin, so the order of the rows does not matter; empty bins are left out.
    """
    confidence, correct = confidence_and_correctness(margin, q)
    bin_of = equal_mass_bins(confidence, bins)
    num_rows = np.bincount(bin_of)
    return Reliability(
        np.bincount(bin_of, weights=confidence) / num_rows, np.bincount(bin_of, weights=correct) / num_rows, num_rows
    )


def ece(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], bins: int = 15) -> float:
    """Margins and labels in, expected calibration error of the confidence out: the mean over bins of |accuracy - confidence|.

    Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599, eq. 3), on bins of equal mass, weighted by their rows. It is
    positive even for a perfectly calibrated model: compare it with `ece_null`. NaN without rows.
    """
    if len(margin) == 0:
        return math.nan
    confidence, accuracy, num_rows = reliability(margin, q, bins)
    return float(np.average(np.abs(accuracy - confidence), weights=num_rows))


def ece_null(
    margin: Float[np.ndarray, " n"],
    *,
    votes: int | Int[np.ndarray, " n"] = 1,
    bins: int = 15,
    draws: int = 1000,
    seed: int = 0,
) -> Float[np.ndarray, " draws"]:
    """Margins in, the ECE of a perfectly calibrated model on `draws` simulated label sets out.

    Each row's label is the share of `votes` votes for the first, each drawn with P(first) = sigmoid(margin). Brocker &
    Smith 2007 (consistency resampling). Time is linear in n x draws; memory does not grow with draws.
    """
    confidence, _ = confidence_and_correctness(margin, np.zeros(len(margin)))
    bin_of = equal_mass_bins(confidence, bins)
    order = np.argsort(bin_of, kind="stable")
    starts = np.flatnonzero(np.diff(bin_of[order], prepend=-1))
    confidence, undecided = confidence[order], _float64(margin)[order] == 0
    num_votes = np.broadcast_to(np.asarray(votes), confidence.shape)[order]
    rng = np.random.default_rng(seed)
    null = np.full(draws, math.nan)
    chunk = max(1, _CHUNK // max(1, len(order)))
    for start in range(0, draws if len(order) else 0, chunk):
        rows = min(chunk, draws - start)
        correct = rng.binomial(num_votes, confidence, size=(rows, len(order))) / num_votes
        excess = np.where(undecided, 0.0, correct - confidence)
        null[start : start + rows] = np.abs(np.add.reduceat(excess, starts, axis=1)).sum(axis=1) / len(order)
    return null


def ece_p_value(observed: float, null: Float[np.ndarray, " draws"]) -> float:
    """Observed ECE and its null in, probability that a calibrated model has one at least as large out; never exactly 0."""
    return float((1 + np.count_nonzero(null >= observed)) / (len(null) + 1))


def num_bins(num_rows: int, most: int) -> int:
    """How many bins that many comparisons fill: the cube root of their number, at least 3 and at most `most`."""
    return max(1, min(most, max(3, round(math.cbrt(num_rows)))))


def equal_mass_bins(confidence: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Confidences in, the bin of each [n] out, numbered 0, 1, ... from the least confident; no bin is empty."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    _, level, size = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2  # of the rows of a level, in sorted order
    bin_of = np.floor(middle * bins / max(1, len(confidence))).astype(np.int64)
    contiguous: np.ndarray = np.unique(bin_of, return_inverse=True)[1][level]
    return contiguous


def _float64(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(values, dtype=np.float64)
