"""How far people agree with each other, and whether a model agrees with them.

Axes: n items, c categories, d resamples. votes[n, 3] counts how many people chose (first better, tie, second better) for an
item. Which response came first carries no meaning, so every function of votes gives the same result with the two swapped:
where a statistic depends on how often each side is chosen, every item is counted in both orders.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import bootstrap_sums, percentile_limits, resampled_sums, sums_by_group

__all__ = [
    "Reliability",
    "cohen_kappa",
    "krippendorff_alpha_nominal",
    "leave_one_out",
    "leave_one_out_votes",
    "measure_reliability",
    "nominal_alpha",
    "ordinal_alpha",
    "pair_accuracy",
    "raw_agreement",
    "single_rater_accuracy",
]

DRAWS = 1000  # resamples of items


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


def leave_one_out_votes(
    counts: Int[np.ndarray, "n 3"], item: Int[np.ndarray, " v"], vote: Int[np.ndarray, " v"]
) -> Float[np.ndarray, " v"]:
    """How far each vote agrees with the majority of the others on its item: 1.0, 0.5 or 0.0 by the rule of `leave_one_out`.

    NaN where there are no others.
    """
    side = 1.0 - vote
    others = counts[item, 0] - counts[item, 2] - side
    agreement = (1.0 + np.sign(side * others)) / 2.0
    return np.where(counts[item].sum(axis=1) >= 2, agreement, math.nan)


def single_rater_accuracy(agreement: float) -> float:
    """The probability that a rater is right, from the probability that two raters agree on a two-way item; at least 0.5.

    Both are right or both wrong, a = r^2 + (1 - r)^2, solved for r. Raters are assumed to be equally able and independent, and
    items equally hard (Dawid & Skene 1979, the one-coin model).
    """
    return (1.0 + math.sqrt(max(0.0, 2.0 * agreement - 1.0))) / 2.0


# ---- Corrected for chance ------------------------------------------------------------------------------------------


class Reliability(NamedTuple):
    """Agreement between the raters of items with two votes or more, each with its interval over groups of items.

    raw: two raters of an item chose the same. The others are corrected for chance, 1 for perfect agreement and 0 for chance:
    Krippendorff's alpha for categories without order and for ordered ones, Gwet's AC1, and Fleiss' kappa, which is None where items
    do not all have the same number of votes.
    """

    raw: Interval
    nominal_alpha: Interval
    ordinal_alpha: Interval
    ac1: Interval
    fleiss_kappa: Interval | None


def measure_reliability(
    counts: Int[np.ndarray, "n c"], groups: Shaped[np.ndarray, " n"], draws: int = DRAWS, seed: int = 0
) -> Reliability | None:
    """How reliable votes are, from how many raters put each item in each of c ordered categories; None without items rated twice.

    The categories are symmetric, such as (first, tie, second): every item is counted in both orders, exactly and not by
    chance. Raw agreement and AC1 (Gwet 2008, Br. J. Math. Stat. Psychol. 61, eq. 5-8) weigh items alike, alpha
    (Krippendorff 2011) by their votes. Intervals are percentiles over draws of groups.
    """
    counts = np.asarray(counts, dtype=np.float64)
    raters = counts.sum(axis=1)
    is_rated_twice = raters >= 2
    if not is_rated_twice.any():
        return None
    counts, raters, groups = counts[is_rated_twice], raters[is_rated_twice], np.asarray(groups)[is_rated_twice]
    num, c = counts.shape
    agreeing = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    columns = np.column_stack([agreeing, np.ones(num), counts / raters[:, None], _coincidences(counts)])
    by_group = sums_by_group(columns, groups)
    drawn = by_group.sum(axis=0, keepdims=True)
    if len(by_group) > 1:
        drawn = np.concatenate([drawn, resampled_sums(by_group, draws, seed)])
    raw, share = drawn[:, 0] / drawn[:, 1], drawn[:, 2 : 2 + c] / drawn[:, 1:2]
    share = (share + share[:, ::-1]) / 2
    coincidence = _mirrored(drawn[:, 2 + c :].reshape(-1, c, c))
    fleiss = _above_chance(raw, (share**2).sum(axis=1)) if (raters == raters[0]).all() else None

    def interval(values: Float[np.ndarray, " d"]) -> Interval:
        low, high = percentile_limits(values[1:])
        return Interval(float(values[0]), float(low), float(high), len(by_group))

    return Reliability(
        interval(raw),
        interval(_alpha(coincidence, is_ordinal=False)),
        interval(_alpha(coincidence, is_ordinal=True)),
        interval(_above_chance(raw, (share * (1 - share)).sum(axis=1) / (c - 1))),
        None if fleiss is None else interval(fleiss),
    )


def cohen_kappa(
    a: Int[np.ndarray, " n"],
    b: Int[np.ndarray, " n"],
    groups: Shaped[np.ndarray, " n"],
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Cohen's kappa (1960) of two raters' votes, 0 first, 1 tie, 2 second, on the items that both rated; n is groups.

    Every item is counted in both orders. NaN where both always vote for ties.
    """
    table = np.zeros((len(a), 9))
    table[np.arange(len(a)), 3 * np.asarray(a) + np.asarray(b)] = 1.0

    def kappa(total: Float[np.ndarray, "d 9"]) -> Float[np.ndarray, " d"]:
        joint = _mirrored(total.reshape(-1, 3, 3))
        joint = joint / joint.sum(axis=(1, 2), keepdims=True)
        chance = (joint.sum(axis=1) * joint.sum(axis=2)).sum(axis=1)
        return _above_chance(np.einsum("dcc->d", joint), chance)

    return bootstrap_sums(table, np.asarray(groups), kappa, draws, seed)


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
    return _alpha_of_counts(counts, is_ordinal=False)


def ordinal_alpha(counts: Int[np.ndarray, "n c"]) -> float:
    """Krippendorff's ordinal alpha, for categories in order; otherwise as `nominal_alpha`."""
    return _alpha_of_counts(counts, is_ordinal=True)


def _alpha_of_counts(counts: Int[np.ndarray, "n c"], *, is_ordinal: bool) -> float:
    c = counts.shape[1]
    return float(_alpha(_coincidences(counts).sum(axis=0).reshape(1, c, c), is_ordinal=is_ordinal)[0])


def _coincidences(counts: Shaped[np.ndarray, "n c"]) -> Float[np.ndarray, "n cc"]:
    """How often each item pairs two categories, each of its votes counting once; 0.0 for an item with fewer than two votes."""
    counts = np.asarray(counts, dtype=np.float64)
    others = counts.sum(axis=1) - 1
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    weight = np.divide(1.0, others, out=np.zeros_like(others), where=others > 0)
    coincidences: np.ndarray = (pairs * weight[:, None, None]).reshape(len(counts), -1)
    return coincidences


def _alpha(coincidence: Float[np.ndarray, "d c c"], *, is_ordinal: bool) -> Float[np.ndarray, " d"]:
    """1 - observed over expected disagreement (Krippendorff 2011); NaN where chance gives none."""
    used = coincidence.sum(axis=1)
    total = used.sum(axis=1)
    distance = _ordinal_distance(used) if is_ordinal else 1.0 - np.eye(used.shape[1])
    observed = (coincidence * distance).sum(axis=(1, 2))
    expected = (used[:, :, None] * used[:, None, :] * distance).sum(axis=(1, 2))
    ratio = np.divide((total - 1) * observed, expected, out=np.full(len(total), math.nan), where=expected > 0)
    alpha: np.ndarray = 1.0 - ratio
    return alpha


def _ordinal_distance(used: Float[np.ndarray, "d c"]) -> Float[np.ndarray, "d c c"]:
    """The square of how many ratings lie from the middle of one category to that of the other."""
    middle = np.cumsum(used, axis=1) - used / 2
    distance: np.ndarray = (middle[:, :, None] - middle[:, None, :]) ** 2
    return distance


def _mirrored(table: Float[np.ndarray, "d c c"]) -> Float[np.ndarray, "d c c"]:
    """The table with every item counted in the other order too."""
    mirrored: np.ndarray = table + table[:, ::-1, ::-1]
    return mirrored


def _above_chance(agreement: Float[np.ndarray, " d"], chance: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """(agreement - chance) / (1 - chance); NaN where chance alone agrees always."""
    room = 1.0 - chance
    above: np.ndarray = np.divide(agreement - chance, room, out=np.full(len(room), math.nan), where=room > 1e-12)
    return above


# ---- Parts ---------------------------------------------------------------------------------------------------------


def _half_step(lead: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """1.0 for a lead, 0.5 for a tie, 0.0 for a deficit."""
    step: np.ndarray = (np.sign(lead) + 1.0) / 2.0
    return step


def _share(part: np.ndarray, whole: np.ndarray) -> Float[np.ndarray, " n"]:
    """Part of the whole, NaN where the whole is 0."""
    share: np.ndarray = np.divide(part, whole, out=np.full(len(whole), math.nan), where=whole > 0)
    return share
