"""How far people agree with each other, and whether a model agrees with them.

Axes: n items, c categories. votes[n, 3] counts how many people chose (first better, tie, second better) for an item.
Which response came first carries no meaning, so every function gives the same result with the two swapped.
"""

import math

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "krippendorff_alpha_nominal",
    "leave_one_out",
    "nominal_alpha",
    "pair_accuracy",
    "raw_agreement",
    "single_rater_accuracy",
]


def pair_accuracy(margin: Float[np.ndarray, " n"], q: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1.0 where a model's margin and people's q = P(first is better) point the same way, 0.0 where not, 0.5 for a tie of either."""
    accuracy: np.ndarray = (1.0 + np.sign(margin) * np.sign(q - 0.5)) / 2.0
    return accuracy


def raw_agreement(votes: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """The share of each item's pairs of raters who gave the same label; NaN where fewer than two voted."""
    raters = votes.sum(axis=1)
    return _share((votes * (votes - 1)).sum(axis=1), np.where(raters < 2, 0, raters * (raters - 1)))


def leave_one_out(votes: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """The probability that a rater left out at random agrees with the majority of the others.

    A vote for a tie agrees half with either side, and any vote agrees half with a tied majority. NaN where fewer than two
    voted. This is what one person scores against the others: the fair comparison for a model scored against a majority.
    """
    first, tie, second = votes.T
    raters = votes.sum(axis=1)
    lead = first - second
    agreeing = first * _half_step(lead - 1) + 0.5 * tie + second * _half_step(-lead - 1)
    return _share(agreeing, np.where(raters < 2, 0, raters))


def krippendorff_alpha_nominal(votes: Int[np.ndarray, "n 3"]) -> float:
    """Krippendorff's alpha of (first, tie, second): 1 is perfect agreement, 0 is chance, NaN where it is undefined.

    Every item is counted in both orders. Otherwise alpha would depend on which response happened to be called first: the same
    votes would look less reliable if that was usually the better one.
    """
    return nominal_alpha(np.concatenate([votes, votes[:, ::-1]]))


def nominal_alpha(counts: Int[np.ndarray, "n c"]) -> float:
    """Krippendorff's nominal alpha, from how many raters put each item in each category.

    Krippendorff 2011, Computing Krippendorff's Alpha-Reliability. Items with fewer than two ratings are left out. NaN
    where only one category was ever used, or no item has two ratings: chance is then undefined.
    """
    counts = counts[counts.sum(axis=1) >= 2]
    raters = counts.sum(axis=1)
    total, used = raters.sum(), counts.sum(axis=0)
    chance = total**2 - (used**2).sum()
    if chance == 0:
        return math.nan
    observed = ((raters**2 - (counts**2).sum(axis=1)) / (raters - 1)).sum()
    return float(1.0 - (total - 1) * observed / chance)


def single_rater_accuracy(agreement: float) -> float:
    """The probability that a rater is right, from the probability that two raters agree on a two-way item; at least 0.5.

    Both are right or both wrong, a = r^2 + (1 - r)^2, solved for r. Raters are assumed to be equally able and independent, and
    items equally hard (Dawid & Skene 1979, the one-coin model).
    """
    return (1.0 + math.sqrt(max(0.0, 2.0 * agreement - 1.0))) / 2.0


def _half_step(lead: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1.0 for a lead, 0.5 for a tie, 0.0 for a deficit."""
    step: np.ndarray = (np.sign(lead) + 1.0) / 2.0
    return step


def _share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " n"]:
    """Part of the whole, NaN where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)
    return share
