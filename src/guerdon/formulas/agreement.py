"""How far people agree with each other, whether a model agrees with them, and how well any model could.

Axes: n items, c categories. votes[n, 3] counts how many people said (first better, tie, second better) of an item. Who
came first carries no meaning, so every function gives the same answer with the two sides swapped.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betainc

__all__ = [
    "krippendorff_alpha_nominal",
    "leave_one_out",
    "majority_stands",
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
    """Votes in, share of each item's pairs of raters who said the same [n] out; NaN where fewer than two voted."""
    raters = votes.sum(axis=1)
    return _share((votes * (votes - 1)).sum(axis=1), np.where(raters < 2, 0, raters * (raters - 1)))


def leave_one_out(votes: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Votes in, chance that a rater left out at random sides with the majority of the others [n] out.

    A tie vote sides half with either, and a tied majority is met by half. NaN where fewer than two voted. This is what
    one person scores against the others, the fair rival for a model that is scored against a majority.
    """
    first, tie, second = votes.T
    raters = votes.sum(axis=1)
    lead = first - second
    agreeing = first * _half_step(lead - 1) + 0.5 * tie + second * _half_step(-lead - 1)
    return _share(agreeing, np.where(raters < 2, 0, raters))


def majority_stands(votes: Int[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
    """Votes in, posterior probability that the whole population would side with the majority seen [n] out.

    The population's P(first better) has a uniform prior, Beta(1, 1); a tie vote counts half for either side. 0.5 at an
    exact tie or without votes. Its mean is the best accuracy any model can expect when it is judged by the majority.
    """
    first, tie, second = votes.T
    more = np.maximum(first, second) + tie / 2
    fewer = np.minimum(first, second) + tie / 2
    posterior: np.ndarray = betainc(1 + fewer, 1 + more, 0.5)
    return np.where(first == second, 0.5, posterior)


def krippendorff_alpha_nominal(votes: Int[np.ndarray, "n 3"]) -> float:
    """Votes in, Krippendorff's alpha of (first, tie, second) out: 1 perfect, 0 chance, NaN where it is undefined.

    Every item is counted in both orientations. Otherwise alpha hangs on which response happened to be called first: the
    same votes look less reliable when the better one usually was.
    """
    return nominal_alpha(np.concatenate([votes, votes[:, ::-1]]))


def nominal_alpha(counts: Int[np.ndarray, "n c"]) -> float:
    """How many raters put each item in each category in, Krippendorff's nominal alpha out, categories as they are.

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
    """Chance that two raters agree on a two-way item in, chance that one of them is right out; at least 0.5.

    Both are right or both wrong, a = r^2 + (1 - r)^2, solved for r: raters are taken as equally able, independent, and
    items as equally hard (Dawid & Skene 1979, one coin).
    """
    return (1.0 + math.sqrt(max(0.0, 2.0 * agreement - 1.0))) / 2.0


def _half_step(lead: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1.0 for a lead, 0.5 for none, 0.0 for a deficit."""
    step: np.ndarray = (np.sign(lead) + 1.0) / 2.0
    return step


def _share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " n"]:
    """Part of the whole, NaN where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)
    return share
