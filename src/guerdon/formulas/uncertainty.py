"""How sure a single model may be: Laplace on its head, distance from its data, and whether uncertainty predicts error.

Axes: n rows, h features, m calibration rows. A feature is what the head reads, so a reward is head @ feature and a margin
head @ (feature of the first - feature of the second), in nats. A symmetric matrix is handed on as its lower Cholesky
factor. What many rows contribute is a sum, so the rows of a large data set may come in chunks. All values are float64.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import solve_triangular
from scipy.optimize import brentq
from scipy.special import bdtr, expit

__all__ = [
    "Moments",
    "RiskCoverage",
    "Selection",
    "Shrunk",
    "aurc",
    "auroc",
    "cholesky",
    "conformal_p",
    "effective_parameters",
    "fit_prior_precision",
    "laplace_information",
    "laplace_variance",
    "ledoit_wolf",
    "mahalanobis",
    "moments",
    "risk_coverage",
    "selective_threshold",
]


# ---- Laplace on the head -----------------------------------------------------------------------------------------


def laplace_information(
    difference: Float[np.ndarray, "n h"], margin: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> Float[np.ndarray, "h h"]:
    """The information that comparisons carry about the head, sum p(1-p) d d', from their feature differences and margins.

    The Hessian of the Bradley-Terry loss, p = sigmoid(margin) (Laplace on the last layer: MacKay 1992; Daxberger et al.
    2021, arXiv 2106.14806). It does not depend on labels. The information of chunks adds up.
    """
    difference, p = np.asarray(difference, dtype=np.float64), expit(np.asarray(margin, dtype=np.float64))
    precision = p * (1.0 - p)
    if weight is not None:
        precision = precision * np.asarray(weight, dtype=np.float64)
    scaled = difference * np.sqrt(precision)[:, None]
    information: np.ndarray = scaled.T @ scaled
    return information


def fit_prior_precision(information: Float[np.ndarray, "h h"], head: Float[np.ndarray, " h"]) -> float:
    """The prior precision with the largest Laplace evidence, from the information and the trained head.

    The head's prior is normal around 0 with this precision. With eigenvalues s of the information, the log evidence
    (h/2) log a - (a/2) |head|^2 - (1/2) sum log(s + a) has one maximum, where sum s / (s + a) = a |head|^2: the number of
    directions that the data determine, over the size of the head (MacKay 1992, Bayesian interpolation). Features times c and
    head over c give c^2 times this, and the variance of a margin stays the same. Fewer comparisons than features are fine.
    """
    s = np.maximum(np.linalg.eigvalsh(information), 0.0)
    size = float(np.asarray(head, dtype=np.float64) @ head)
    if not (s[-1] > 0 and size > 0):
        raise ValueError(
            "information and head must not be 0 for a prior precision, "
            f"got a largest information of {s[-1]:.3g} and a squared length of the head of {size:.3g}"
        )

    def excess(log_a: float) -> float:
        """Log of the determined directions per unit of precision, over the head's size; falls from + to -."""
        a = math.exp(log_a)
        return math.log(float(np.sum(s / (s + a))) / a) - math.log(size)

    # At the lower end the largest eigenvalue alone is too much; at the upper end s / (s + a) < s / a is too little.
    low, high = min(0.5 / size, s[-1]), math.sqrt(float(s.sum()) / size)
    return math.exp(float(brentq(excess, math.log(low) - 1.0, math.log(max(high, low)) + 1.0, xtol=1e-12)))


def effective_parameters(information: Float[np.ndarray, "h h"], prior_precision: float) -> float:
    """How many of the h directions the data determine (MacKay 1992)."""
    s = np.maximum(np.linalg.eigvalsh(information), 0.0)
    return float(np.sum(s / (s + prior_precision)))


def laplace_variance(difference: Float[np.ndarray, "n h"], factor: Float[np.ndarray, "h h"]) -> Float[np.ndarray, " n"]:
    """The variance of margins, d' P^-1 d in squared nats, from feature differences and the factor of the precision P.

    `factor` is `cholesky(information + prior precision x identity)`. For a single reward pass feature - mean feature of the
    training replies: a reward alone has no meaningful variance, because Bradley-Terry leaves its constant free.
    """
    return _quadratic(difference, factor)


# ---- Distance from the data --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """Moments of n rows d = (x - pivot) / scale: their mean `center`, and sums of e e', |e|^2 e and |e|^4 with e = d - center.

    Those of chunks with one pivot and scale add up. pivot and scale are any vectors near the mean and the standard
    deviations: without a pivot, features far from 0 would lose precision; `ledoit_wolf` explains the scale.
    """

    pivot: Float[np.ndarray, " h"]
    scale: Float[np.ndarray, " h"]
    num_rows: int
    center: Float[np.ndarray, " h"]
    second: Float[np.ndarray, "h h"]
    third: Float[np.ndarray, " h"]
    fourth: float

    @property
    def mean(self) -> Float[np.ndarray, " h"]:
        """The mean row [h], in the rows' own units."""
        mean: np.ndarray = self.pivot + self.scale * self.center
        return mean

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both chunks' rows (Pebay 2008, Sandia SAND2008-6212), which never subtract sums of like size."""
        if not (np.array_equal(self.pivot, other.pivot) and np.array_equal(self.scale, other.scale)):
            raise ValueError("moments to add must have the same pivot and scale, got different ones")
        num_rows = self.num_rows + other.num_rows
        apart = (other.center - self.center) / max(1, num_rows)
        second, third, fourth = self._shifted(-other.num_rows * apart)
        other_second, other_third, other_fourth = other._shifted(self.num_rows * apart)
        return Moments(
            self.pivot,
            self.scale,
            num_rows,
            self.center + other.num_rows * apart,
            second + other_second,
            third + other_third,
            fourth + other_fourth,
        )

    def _shifted(
        self, shift: Float[np.ndarray, " h"]
    ) -> tuple[Float[np.ndarray, "h h"], Float[np.ndarray, " h"], float]:
        """The sums of e e', |e|^2 e and |e|^4 with `shift` added to every e."""
        n, along, trace, size = self.num_rows, self.second @ shift, float(np.trace(self.second)), float(shift @ shift)
        return (
            self.second + n * np.outer(shift, shift),
            self.third + 2.0 * along + (trace + n * size) * shift,
            self.fourth + 4.0 * float(shift @ self.third + shift @ along) + (2.0 * trace + n * size) * size,
        )


class Shrunk(NamedTuple):
    """A covariance [h, h] in the rows' own units, and the share of it that is its plain target, in [0, 1]."""

    covariance: Float[np.ndarray, "h h"]
    shrinkage: float


def moments(
    rows: Float[np.ndarray, "n h"], pivot: Float[np.ndarray, " h"], scale: Float[np.ndarray, " h"] | None = None
) -> Moments:
    """The moments of rows, about a vector near their mean and scaled by one near their standard deviations (above 0; 1 by default)."""
    pivot = np.asarray(pivot, dtype=np.float64)
    scale = np.ones_like(pivot) if scale is None else np.asarray(scale, dtype=np.float64)
    d = (np.asarray(rows, dtype=np.float64) - pivot) / scale
    center = d.sum(axis=0) / max(1, len(d))
    e = d - center
    size = np.einsum("nh,nh->n", e, e)
    return Moments(pivot, scale, len(d), center, e.T @ e, e.T @ size, float(size @ size))


def ledoit_wolf(sums: Moments) -> Shrunk:
    """The covariance of rows, shrunk toward one without correlations, from their moments.

    Ledoit & Wolf 2004 (J. Multivariate Analysis 88, section 3), by 1/n: the shrinkage of least expected squared error,
    estimated from the data. Well conditioned with fewer rows than features. Rows are assumed to be independent. In units of
    `scale` the target is the identity times the mean variance, as in the paper. With a scale of 1, the few features of huge
    variance that language models have would set that mean and drown the directions that hardly vary, where a shift shows best.
    """
    n, h = sums.num_rows, len(sums.center)
    covariance = sums.second / n
    level = float(np.trace(covariance)) / h
    spread = float(np.sum((covariance - level * np.eye(h)) ** 2)) / h
    error = max(0.0, sums.fourth / n - float(np.sum(covariance**2))) / (n * h)
    shrinkage = min(1.0, error / spread) if spread > 1e-12 * level**2 else 1.0
    shrunk = (1.0 - shrinkage) * covariance
    shrunk[np.diag_indices(h)] += shrinkage * level
    return Shrunk(shrunk * np.outer(sums.scale, sums.scale), shrinkage)


def mahalanobis(
    rows: Float[np.ndarray, "n h"], mean: Float[np.ndarray, " h"], factor: Float[np.ndarray, "h h"]
) -> Float[np.ndarray, " n"]:
    """The distance of rows from the mean in standard deviations, by the factor of the covariance (Lee et al. 2018).

    arXiv 1807.03888, with one class. For normal rows its square has mean h.
    """
    distance: np.ndarray = np.sqrt(_quadratic(np.asarray(rows, dtype=np.float64) - mean, factor))
    return distance


def conformal_p(
    distance: Float[np.ndarray, " n"],
    calibration: Float[np.ndarray, " m"],
    weight: Float[np.ndarray, " m"] | None = None,
) -> Float[np.ndarray, " n"]:
    """p-value of each distance belonging to the distribution of the calibration distances; higher is more likely.

    p = (1 + #{calibration >= distance}) / (m + 1) (Vovk et al. 2005, ch. 2): among rows like the calibration ones a share
    of at most a has p <= a. With weights that sum to 1 in each of G independent groups, p = (1 + sum of weights) / (G + 1)
    holds for a row of a new group (Lee, Barber & Willett 2023, arXiv 2306.06342). The least p there can be is 1 / (G + 1).
    """
    calibration = np.asarray(calibration, dtype=np.float64)
    weight = np.ones_like(calibration) if weight is None else np.asarray(weight, dtype=np.float64)
    order = np.argsort(calibration, kind="stable")
    from_here = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    beyond = from_here[np.searchsorted(calibration[order], np.asarray(distance, dtype=np.float64), side="left")]
    p: np.ndarray = (1.0 + beyond) / (1.0 + float(weight.sum()))
    return p


# ---- Does uncertainty predict error? -----------------------------------------------------------------------------


class RiskCoverage(NamedTuple):
    """Error among the rows answered [n], from the most certain row alone to all rows, and the share they are."""

    coverage: Float[np.ndarray, " n"]
    risk: Float[np.ndarray, " n"]


class Selection(NamedTuple):
    """Answer where certainty >= threshold: the share of rows that is, and their error where it was chosen."""

    threshold: float
    coverage: float
    error: float


def auroc(
    score: Float[np.ndarray, " n"], positive: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> float:
    """The probability that a positive row has a higher score than a negative one; equal scores count half.

    Mann & Whitney 1947. `positive` may be between 0 and 1: a row that is half wrong counts half on either side. 0.5 is
    uninformative; below it the score points the wrong way. NaN where all rows are of one kind.
    """
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, dtype=np.float64)
    _, level = np.unique(score, return_inverse=True)
    yes = np.bincount(level, weights=weight * positive)
    no = np.bincount(level, weights=weight * (1.0 - positive))
    if not (yes.sum() > 0 and no.sum() > 0):
        return math.nan
    below = np.cumsum(no) - no
    return float(yes @ (below + no / 2.0) / (yes.sum() * no.sum()))


def risk_coverage(
    certainty: Float[np.ndarray, " n"], wrong: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> RiskCoverage:
    """The error by the share of rows answered, most certain first. wrong: in [0, 1].

    El-Yaniv & Wiener 2010. Rows of equal certainty are answered in any order: the curve is the mean over all of them.
    """
    weight = np.ones(len(certainty)) if weight is None else np.asarray(weight, dtype=np.float64)
    level = np.unique(-np.asarray(certainty, dtype=np.float64), return_inverse=True)[1]
    order = np.argsort(level, kind="stable")
    mass = np.bincount(level, weights=weight)
    mean = np.bincount(level, weights=weight * wrong) / np.where(mass > 0, mass, 1.0)
    answered = np.cumsum(weight[order])
    wrongs = np.cumsum(weight[order] * mean[level[order]])
    return RiskCoverage(answered / answered[-1] if len(answered) else answered, wrongs / np.maximum(answered, 1e-300))


def aurc(
    certainty: Float[np.ndarray, " n"], wrong: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"] | None = None
) -> float:
    """The area under the risk-coverage curve: the mean error over all shares of rows answered.

    Geifman, Uziel & El-Yaniv 2019 (arXiv 1805.08206). Lower is better; an uninformative certainty has the mean error.
    NaN without rows.
    """
    if len(certainty) == 0:
        return math.nan
    coverage, risk = risk_coverage(certainty, wrong, weight)
    return float(np.diff(coverage, prepend=0.0) @ risk)


def selective_threshold(
    certainty: Float[np.ndarray, " n"],
    wrong: Bool[np.ndarray, " n"],
    error: float,
    delta: float = 0.05,
    steps: int = 20,
) -> Selection | None:
    """The smallest certainty above which at most `error` of the rows are wrong, or None. Rows must be independent.

    With probability 1 - delta over the rows the share of wrong answers among new rows at or above the threshold is at most
    `error`. Fixed-sequence testing (Angelopoulos et al. 2021, arXiv 2110.01052): from few and most certain rows to all of
    them in `steps` steps whose sizes do not depend on who is wrong, as long as the Clopper-Pearson upper bound at delta
    stays within `error`. The first step is the smallest number of rows that would pass at half of `error`, or all rows if there
    are fewer. None where even that fails.
    """
    certainty = np.asarray(certainty, dtype=np.float64)
    n = len(certainty)
    sizes = _sizes(n, error, delta, steps)
    if len(sizes) == 0:
        return None
    order = np.argsort(-certainty, kind="stable")
    thresholds = certainty[order][sizes - 1]
    answered = n - np.searchsorted(certainty[order][::-1], thresholds, side="left")  # includes rows of equal certainty
    wrongs = np.cumsum(wrong[order])[answered - 1]
    # The upper bound is within `error` exactly where so few errors are unlikely at that rate.
    passes = bdtr(wrongs, answered, error) <= delta
    num = len(passes) if passes.all() else int(np.argmin(passes))
    if num == 0:
        return None
    at = num - 1
    return Selection(float(thresholds[at]), float(answered[at] / n), float(wrongs[at] / answered[at]))


@cache
def _sizes(n: int, error: float, delta: float, steps: int) -> Int[np.ndarray, " s"]:
    """How many rows each step of `selective_threshold` answers; none where n rows without error would not be enough."""
    if not (0 < error < 1 and 0 < delta < 1):
        raise ValueError(f"error and delta must be between 0 and 1, got {error} and {delta}")
    if (1.0 - error) ** n > delta:
        return np.zeros(0, dtype=np.int64)
    every = np.arange(1, n + 1)
    enough = bdtr(np.floor(every * error / 2.0), every, error) <= delta
    first = int(every[np.argmax(enough)]) if enough.any() else n
    sizes: np.ndarray = np.unique(np.linspace(first, n, steps).round().astype(np.int64))
    return sizes


# ---- Linear algebra ----------------------------------------------------------------------------------------------


def cholesky(matrix: Float[np.ndarray, "h h"]) -> Float[np.ndarray, "h h"]:
    """The lower Cholesky factor of a positive definite matrix."""
    try:
        factor: np.ndarray = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        least = np.linalg.eigvalsh(matrix)[0]
        raise ValueError(f"matrix must be positive definite, got a least eigenvalue of {least:.3g}") from None
    return factor


def _quadratic(rows: Float[np.ndarray, "n h"], factor: Float[np.ndarray, "h h"]) -> Float[np.ndarray, " n"]:
    """x' A^-1 x of each row, by the factor of A."""
    solved = solve_triangular(factor, np.asarray(rows, dtype=np.float64).T, lower=True, check_finite=False)
    form: np.ndarray = np.einsum("hn,hn->n", solved, solved)
    return form
