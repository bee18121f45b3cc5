"""Does the model mean its odds? Proper scores, temperature, and calibration error with its null.

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
    "fit_temperature",
    "nll",
    "reliability",
]

LOG_TEMPERATURE_RANGE = (-4.0, 5.0)
"""Where `fit_temperature` looks for log T; what would lie beyond is set to the nearer end."""

_CHUNK = 4_000_000  # numbers drawn at once: 32 MB, whatever n is


class Reliability(NamedTuple):
    """Mean confidence, mean correctness and number of comparisons in each bin, from the least confident bin up."""

    confidence: Float[np.ndarray, " b"]
    accuracy: Float[np.ndarray, " b"]
    num_rows: Int[np.ndarray, " b"]


def nll(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Margins and labels in, negative log likelihood [n] in nats out: the mean over the votes that q stands for."""
    margin, q = _float64(margin), _float64(q)
    loss: np.ndarray = q * np.logaddexp(0.0, -margin) + (1.0 - q) * np.logaddexp(0.0, margin)
    return loss


def brier(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Margins and labels in, squared error of the probability [n] out: the mean over the votes that q stands for.

    Brier 1950. For a soft label it is q(1 - p)^2 + (1 - q)p^2, so 100 votes as one q score as 100 rows would.
    """
    p, q = expit(_float64(margin)), _float64(q)
    loss: np.ndarray = q * (1.0 - p) ** 2 + (1.0 - q) * p**2
    return loss


def fit_temperature(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> float:
    """Margins and labels in, the T that minimizes the mean of nll(margin / T, q) out.

    Guo et al. 2017 (arXiv 1706.04599). T above 1 means that the model is overconfident. log T stays within
    LOG_TEMPERATURE_RANGE: perfectly separable labels give its lower end, labels that owe nothing to the margin its
    upper end. 1.0 if every margin (of positive weight) is zero.
    """
    margin, q = _float64(margin), _float64(q)
    weight = np.ones_like(margin) if weight is None else _float64(weight)
    if not np.any(margin * weight):
        return 1.0

    def slope(log_t: float) -> float:
        """Derivative of the loss in 1/T, in which it is convex; written so that neither tail rounds to 0 or 1."""
        scaled = margin * math.exp(-log_t)
        return float(np.sum(weight * margin * ((1.0 - q) * expit(scaled) - q * expit(-scaled))))

    coldest, hottest = LOG_TEMPERATURE_RANGE
    if slope(coldest) <= 0.0:
        return math.exp(coldest)
    if slope(hottest) >= 0.0:
        return math.exp(hottest)
    return math.exp(float(brentq(slope, coldest, hottest, xtol=1e-12, rtol=1e-12)))


class CalibrationSlope(NamedTuple):
    """1 / T of some comparisons, in nats a nat of margin: 1 where the margins mean their odds, below 1 where they claim too
    much. error: standard error of its logarithm. NaN where the comparisons do not determine it."""

    value: float
    error: float


def calibration_slope(
    margin: Float[np.ndarray, " n"],
    q: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"] | None = None,
) -> CalibrationSlope:
    """Margins, labels and the group of each in, the slope b of logit P(first better) = b margin out, no intercept.

    Error by the sandwich over groups (Liang & Zeger 1986), of log b by the delta method. NaN with fewer than two groups, or
    where the best slope lies at or beyond the ends of LOG_TEMPERATURE_RANGE.
    """
    margin, q = _float64(margin), _float64(q)
    weight = np.ones_like(margin) if weight is None else _float64(weight)
    _, code = np.unique(groups, return_inverse=True)
    t = fit_temperature(margin, q, weight)
    coldest, hottest = LOG_TEMPERATURE_RANGE
    inside = coldest + 1e-9 < math.log(t) < hottest - 1e-9
    if len(np.unique(code)) < 2 or not inside or not np.any(margin * weight):
        return CalibrationSlope(math.nan, math.nan)
    p = expit(margin / t)
    num = int(code.max()) + 1
    score = np.bincount(code, weights=weight * margin * (q - p), minlength=num)
    bread = float(np.sum(weight * margin**2 * p * (1.0 - p)))
    error = math.sqrt(float((score**2).sum()) * num / (num - 1)) / bread
    return CalibrationSlope(1.0 / t, error * t)


def confidence_and_correctness(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Margins and labels in; confidence [n] in [0.5, 1] and share of votes for the model's choice [n] out.

    A margin of exactly zero chooses neither side: confidence 0.5, correctness 0.5. Which response came first plays no
    part, where an ECE of P(first) on rows that all have the better one first would be degenerate.
    """
    margin, q = _float64(margin), _float64(q)
    correct: np.ndarray = np.select([margin > 0, margin < 0], [q, 1.0 - q], 0.5)
    return expit(np.abs(margin)), correct


def reliability(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], bins: int = 15) -> Reliability:
    """Margins and labels in, mean confidence and correctness in at most `bins` bins of equal mass out.

    Comparisons of equal confidence share a bin, so the order of the rows plays no part; empty bins are left out.
    """
    confidence, correct = confidence_and_correctness(margin, q)
    place = _equal_mass_bins(confidence, bins)
    num_rows = np.bincount(place)
    return Reliability(
        np.bincount(place, weights=confidence) / num_rows, np.bincount(place, weights=correct) / num_rows, num_rows
    )


def ece(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], bins: int = 15) -> float:
    """Margins and labels in, expected calibration error of the confidence out: mean |accuracy - confidence| of a bin.

    Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599, eq. 3), on bins of equal mass, weighted by their rows. It is
    positive even for a perfectly calibrated model: read it beside `ece_null`. NaN without rows.
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
    """Margins in, the ECE of `draws` simulated label sets from a model that means its odds exactly out.

    Each row's label is the share for the first of `votes` people who vote with P(first) = sigmoid(margin). Brocker &
    Smith 2007 (consistency resampling). Time is linear in n x draws; memory does not grow with draws.
    """
    confidence, _ = confidence_and_correctness(margin, np.zeros(len(margin)))
    place = _equal_mass_bins(confidence, bins)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    confidence, undecided = confidence[order], _float64(margin)[order] == 0
    people = np.broadcast_to(np.asarray(votes), confidence.shape)[order]
    rng = np.random.default_rng(seed)
    null = np.full(draws, math.nan)
    chunk = max(1, _CHUNK // max(1, len(order)))
    for start in range(0, draws if len(order) else 0, chunk):
        rows = min(chunk, draws - start)
        correct = rng.binomial(people, confidence, size=(rows, len(order))) / people
        excess = np.where(undecided, 0.0, correct - confidence)
        null[start : start + rows] = np.abs(np.add.reduceat(excess, starts, axis=1)).sum(axis=1) / len(order)
    return null


def ece_p_value(observed: float, null: Float[np.ndarray, " draws"]) -> float:
    """Observed ECE and its null in, chance of one at least as large from a calibrated model out, never exactly 0."""
    return float((1 + np.count_nonzero(null >= observed)) / (len(null) + 1))


def _equal_mass_bins(confidence: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """Confidences in, each one's bin [n] out, numbered 0, 1, ... from the least confident, none of them empty."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    _, level, size = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(size) - size / 2  # a level's place in the sorted order is the middle of its rows
    place = np.floor(middle * bins / max(1, len(confidence))).astype(np.int64)
    contiguous: np.ndarray = np.unique(place, return_inverse=True)[1][level]
    return contiguous


def _float64(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return np.asarray(values, dtype=np.float64)
