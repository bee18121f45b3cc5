"""What a policy lost in other abilities while it was optimized: paired differences on one scale for all tasks.

Axes: n items of a task, the same before and after; t tasks. Higher scores are better, so tax = before - after is above 0
if something was lost.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.drift import FIRST_WORDS, words
from guerdon.formulas.estimation import Interval, mcnemar

__all__ = [
    "Tax",
    "linearized",
    "mean_and_worst",
    "task_correlation",
    "tax_of_mean",
    "tax_of_share",
    "vocabulary_entropy",
]


class Tax(NamedTuple):
    """Before minus after, its standard error (always above 0), and the two-sided p-value of no difference."""

    difference: Interval
    error: float
    p: float

    @property
    def standardized(self) -> float:
        """The difference in standard errors, a unit that all tasks share."""
        return self.difference.value / self.error


def tax_of_share(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Tax:
    """The tax of a share: 1.0 for right and 0.0 for wrong on the same n items before and after.

    The interval is Bonett & Price's (2012, eq. 3): Wald's with one item added to each kind of disagreement, so that it
    has a width even if no item changed. p is McNemar's, exact.
    """
    n = len(before)
    lost, won = int(np.sum(before > after)), int(np.sum(after > before))
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    error = math.sqrt((p_lost + p_won - (p_lost - p_won) ** 2) / (n + 2))
    half = float(ndtri(0.975)) * error
    low, high = max(-1.0, p_lost - p_won - half), min(1.0, p_lost - p_won + half)
    return Tax(Interval((lost - won) / max(1, n), low, high, n), error, mcnemar(lost, won))


def tax_of_mean(before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Tax:
    """The tax of a mean score over the same n >= 1 items before and after.

    Interval over items. The standard error counts one more item, on which nothing changed: items that
    all lose the same amount are strong evidence, but not infinitely strong. p by the normal distribution.
    """
    n = len(before)
    difference = before - after
    mean = float(difference.mean())
    error = math.sqrt(float(((difference - mean) ** 2).sum()) + mean**2 * n / (n + 1)) / n
    if error == 0.0:  # no item changed
        return Tax(Interval(0.0, 0.0, 0.0, n), math.inf, 1.0)
    interval = clustered_mean(difference, range(n))
    return Tax(interval, error, float(2 * ndtr(-abs(mean) / error)))


def mean_and_worst(
    standardized: Float[np.ndarray, " t"], correlation: Float[np.ndarray, "t t"], level: float = 0.95
) -> tuple[Interval, Interval]:
    """The mean and the largest of standardized taxes with the given correlation, in standard errors.

    Each tax has a standard error of 1, so that of the mean follows from the correlation. The largest was selected because
    it is large: its interval is the band that covers all t taxes at once (Sidak 1967), which allows for the selection.
    """
    t = len(standardized)
    mean, worst = float(standardized.mean()), float(standardized.max())
    half = float(ndtri((1 + level) / 2)) * math.sqrt(max(0.0, float(correlation.sum()))) / t
    band = float(ndtri((1 + level ** (1 / t)) / 2))
    return Interval(mean, mean - half, mean + half, t), Interval(worst, worst - band, worst + band, t)


def task_correlation(
    differences: Sequence[Float[np.ndarray, " _"]], banks: Sequence[Hashable]
) -> Float[np.ndarray, "t t"]:
    """Correlations of tasks, from each task's differences item by item and the bank of items it was measured on.

    Tasks of one bank share their items, in order; tasks of different banks are independent, 0.0. If a task does not vary
    nothing is known, and 1.0 is the conservative choice.
    """
    t = len(differences)
    correlation = np.eye(t)
    for i in range(t):
        for j in range(i):
            if banks[i] != banks[j]:
                continue
            a, b = differences[i] - differences[i].mean(), differences[j] - differences[j].mean()
            size = math.sqrt(float((a**2).sum() * (b**2).sum()))
            correlation[i, j] = correlation[j, i] = float((a * b).sum()) / size if size > 0 else 1.0
    return correlation


def linearized(rows: Sequence[object], statistic: Callable[[Sequence[object]], float]) -> Float[np.ndarray, " n"]:
    """One number per row, whose mean is the statistic of all rows and whose spread gives its standard error.

    value + (n - 1)(mean of the leave-one-outs - the row's own): the jackknife's influence values (Efron & Stein 1981), so
    that a statistic such as the share of distinct words can be compared item by item like a mean. With one row, the value.
    """
    n, value = len(rows), statistic(rows)
    if n < 2:
        return np.full(n, float(value))
    without = np.array([statistic([*rows[:i], *rows[i + 1 :]]) for i in range(n)])
    influence: np.ndarray = value + (n - 1) * (without.mean() - without)
    return influence


def vocabulary_entropy(texts: Sequence[str], first: int = FIRST_WORDS) -> float:
    """Entropy of the words in the beginnings of replies, in nats; 0.0 without a word.

    Only the `first` words of each reply count, as in `drift.distinct`. The plug-in estimate: too small by about
    (distinct words - 1) / (2 words), the same for two sets of texts of equal size.
    """
    counts = np.array(list(Counter(word for text in texts for word in words(text)[:first]).values()), dtype=np.float64)
    if len(counts) == 0:
        return 0.0
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())
