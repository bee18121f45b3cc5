"""The calibration error of a model's confidence, without the part that is noise, and with an interval that holds the true error.

Axes: n comparisons, b bins of equal mass. Margins are nats, q is the share of people who say that the first is better. The error
is the root of the mean squared distance between confidence and accuracy (the l2 calibration error of Kumar, Liang & Ma 2019,
arXiv 1909.10155). Unlike the mean distance it can be freed of noise without a bias, and its distribution depends on the true
error alone, not on how that is spread over the bins, so that an interval follows.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import chi2, ncx2

from guerdon.formulas.calibration import confidence_and_correctness, equal_mass_bins, num_bins
from guerdon.formulas.estimation import Interval

__all__ = ["calibration_error", "debiased_error"]


MAX_OBSERVED = 1e4  # of the sum of squares: beyond, the noncentral chi-squared distribution is slow and ends in NaN


class _Squares(NamedTuple):
    """The weighted mean over bins of the squared distances, and of their variances; spread is the weighted sum of squares of the latter."""

    distance: float
    noise: float
    spread: float


def calibration_error(
    margin: Float[np.ndarray, " n"],
    q: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    bins: int = 15,
    level: float = 0.95,
    *,
    votes: Shaped[np.ndarray, " n"] | None = None,
) -> Interval:
    """Margins, labels and their groups in; the debiased calibration error and the interval of the true error out. n counts groups.

    The value is `debiased_error`. The sum of squared distances is, given the true error, a multiple of a noncentral chi-squared
    variable with the first two moments that the bins have (Satterthwaite 1946); the interval holds the errors that it does not
    reject. It includes 0 unless calibrated odds would seldom show so large a distance. NaN limits with fewer than two groups.
    votes: how many people's votes each q is the mean of, 0 where q is no mean of votes.
    """
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        return Interval(debiased_error(margin, q, groups, bins), math.nan, math.nan, num_groups)
    squares = _squares(margin, q, groups, bins, votes)
    value = math.sqrt(max(0.0, squares.distance - squares.noise))
    if squares.noise <= 0.0:
        return Interval(value, value, value, num_groups)
    unit = squares.spread / squares.noise
    freedom, observed = squares.noise / unit, squares.distance / unit

    def error_with(tail: float) -> float:
        """The true error under which the sum of squares is at most the observed one with this probability; 0.0 if none is."""
        if chi2.cdf(observed, freedom) <= tail:
            return 0.0
        if observed > MAX_OBSERVED:  # the root of such a sum is normal, with a spread of about 1
            return math.sqrt(max(0.0, (math.sqrt(observed) - float(ndtri(tail))) ** 2 - freedom) * unit)
        high = 1.0
        while ncx2.cdf(observed, freedom, high) > tail:
            high *= 2.0
        root = brentq(lambda shift: float(ncx2.cdf(observed, freedom, shift)) - tail, 1e-12, high)
        return math.sqrt(root * unit)

    return Interval(value, error_with((1 + level) / 2), min(1.0, error_with((1 - level) / 2)), num_groups)


def debiased_error(
    margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"], bins: int = 15
) -> float:
    """The root of the mean squared distance between confidence and accuracy, less its expectation from noise; 0.0 if that is more."""
    if len(margin) == 0:
        return math.nan
    squares = _squares(margin, q, groups, bins, None)
    return math.sqrt(max(0.0, squares.distance - squares.noise))


def _squares(
    margin: Float[np.ndarray, " n"],
    q: Float[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    bins: int,
    votes: Shaped[np.ndarray, " n"] | None,
) -> _Squares:
    """Over `num_bins` bins. The variance of a bin's distance is by group, and no less than that of as many tosses of a coin.

    Labels of a bin may happen to be all alike, two votes to one for example, and are no less uncertain for that.
    """
    confidence, correct = confidence_and_correctness(margin, q)
    bin_of = equal_mass_bins(confidence, num_bins(len(confidence), bins))
    rows = np.bincount(bin_of)
    share = rows / len(confidence)
    gap = np.bincount(bin_of, weights=correct - confidence) / rows
    _, code = np.unique(groups, return_inverse=True)
    cell, cell_of = np.unique(bin_of * (int(code.max()) + 1) + code, return_inverse=True)
    within = np.bincount(cell_of, weights=correct - confidence - gap[bin_of])
    bin_of_cell = cell // (int(code.max()) + 1)
    in_bin = np.bincount(bin_of_cell)
    variance = np.bincount(bin_of_cell, weights=within**2) / rows**2 * in_bin / np.maximum(1, in_bin - 1)
    tosses = np.where(np.isin(q, (0.0, 0.5, 1.0)), 1.0, np.inf) if votes is None else np.where(votes > 0, votes, np.inf)
    accuracy = (np.bincount(bin_of, weights=correct) + 1) / (rows + 2)
    is_decided = np.bincount(bin_of, weights=correct != 0.5) > 0
    floor = accuracy * (1 - accuracy) * np.bincount(bin_of, weights=1 / tosses) / rows**2
    variance = np.maximum(variance, np.where(is_decided, floor, 0.0))
    return _Squares(float(share @ gap**2), float(share @ variance), float(share**2 @ variance**2))
