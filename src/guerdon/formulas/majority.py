"""How far a majority of a few votes can be trusted: the best accuracy against it, and how often it would be repeated.

Axes: n pairs, k kinds of votes (how many on the smaller and on the larger side), c concentrations, d draws. votes[n, 3] counts
(first better, tie, second better). A pair's population prefers the first with probability p among those who prefer one side.
p has the prior Beta(a, a) over the pairs of a data set: symmetric, because which response is first carries no meaning. Tie
votes carry no information about p: under a Dirichlet(a, a, b) prior of (first, second, tie), p is Beta(a, a) and independent
of the share of ties, so only votes for a side are counted. A pair has a majority if more voted for one side than for the other.

What follows holds for preferences of that shape only; `shape_excess` compares the shape with the votes.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import betainc, betaln, gammaln

from guerdon.formulas.clustered import clustered_mean
from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import percentile_limits, resampled_sums, sums_by_group

__all__ = [
    "FEWEST_GROUPS",
    "FEWEST_SPLIT",
    "FEWEST_TO_CHECK",
    "Majority",
    "best_accuracy",
    "fit_concentration",
    "majority_again",
    "measure_majority",
    "shape_excess",
]

FEWEST_GROUPS = 20  # groups with two or more votes for a side, from which a prior can be fitted
FEWEST_SPLIT = 5  # of them with votes for both sides
FEWEST_TO_CHECK = (
    4  # votes for a side that a pair needs to say something of the prior's shape: two give only its spread
)
CONCENTRATIONS = np.geomspace(0.01, 1000.0, 241)
"""The values of a that are tried, a factor of 1.05 apart: from unanimous people to coins. Between them values are interpolated."""


class Majority(NamedTuple):
    """What fitted preferences say of the majorities, with intervals over groups.

    concentration: a. best_accuracy: the share of majorities that the whole population would agree with, which no model
    can be expected to exceed. again: how often a fresh set of as many votes for a side would have the same majority, a tied
    one counting half. excess: see `shape_excess`, None if the votes cannot say.
    """

    concentration: Interval
    best_accuracy: Interval
    again: Interval
    excess: Interval | None = None

    @property
    def has_other_shape(self) -> bool:
        """Whether the votes show that preferences are not spread as a beta distribution, so that the rest does not hold."""
        return self.excess is not None and not self.excess.low <= 0.0 <= self.excess.high


def fit_concentration(votes: Int[np.ndarray, "n 3"], weight: Float[np.ndarray, " n"] | None = None) -> float:
    """The a of the prior Beta(a, a) that makes the votes likeliest, within CONCENTRATIONS (beta-binomial; Skellam 1948).

    All pairs with two votes for a side or more count, those without a majority too: without them a would be too small.
    """
    kinds, kind_of = _kinds(votes)
    weight = np.ones(len(votes)) if weight is None else np.asarray(weight, dtype=np.float64)
    total = np.bincount(kind_of, weights=weight, minlength=len(kinds))
    place = _likeliest((total @ _log_likelihood(kinds))[None])
    return math.exp(float(_at(place, np.log(CONCENTRATIONS)[None])[0]))


def best_accuracy(votes: Int[np.ndarray, "n 3"], concentration: float) -> Float[np.ndarray, " n"]:
    """The posterior probability that the population is on the majority's side; NaN where there is no majority."""
    kinds, kind_of = _kinds(votes)
    share: np.ndarray = _population_agrees(kinds, np.array([concentration]))[kind_of, 0]
    return share


def majority_again(votes: Int[np.ndarray, "n 3"], concentration: float) -> Float[np.ndarray, " n"]:
    """The posterior probability that as many fresh votes for a side have the same majority, a tied one counting half; else NaN."""
    kinds, kind_of = _kinds(votes)
    share: np.ndarray = _fresh_votes_agree(kinds, np.array([concentration]))[kind_of, 0]
    return share


def measure_majority(
    votes: Int[np.ndarray, "n 3"],
    groups: Shaped[np.ndarray, " n"],
    weight: Float[np.ndarray, " n"],
    draws: int = 2000,
    seed: int = 0,
) -> Majority | None:
    """The fitted prior and what follows from it; None if fewer than FEWEST_GROUPS groups, or FEWEST_SPLIT split ones, have the votes.

    Intervals: percentiles over draws of groups, the prior fitted again to each. The quantities average over the pairs that
    have a majority.
    """
    first, _, second = votes.T
    if len(np.unique(groups[first + second >= 2])) < FEWEST_GROUPS:
        return None
    if len(np.unique(groups[np.minimum(first, second) > 0])) < FEWEST_SPLIT:
        return None
    kinds, kind_of = _kinds(votes)
    columns = np.zeros((len(votes), len(kinds)))
    columns[np.arange(len(votes)), kind_of] = weight
    by_group = sums_by_group(columns, groups)
    drawn = np.concatenate([by_group.sum(axis=0, keepdims=True), resampled_sums(by_group, draws, seed)])
    place = _likeliest(drawn @ _log_likelihood(kinds))
    has_majority = kinds[:, 0] < kinds[:, 1]
    decided = drawn * has_majority

    def interval(values: Float[np.ndarray, " d"]) -> Interval:
        low, high = percentile_limits(values[1:])
        return Interval(float(values[0]), float(low), float(high), len(by_group))

    def averaged(by_kind: Float[np.ndarray, "k c"]) -> Interval:
        total = decided @ np.where(has_majority[:, None], by_kind, 0.0)
        return interval(_at(place, total) / decided.sum(axis=1))

    log_concentration = _at(place, np.broadcast_to(np.log(CONCENTRATIONS), (len(place), len(CONCENTRATIONS))))
    return Majority(
        interval(np.exp(log_concentration)),
        averaged(_population_agrees(kinds, CONCENTRATIONS)),
        averaged(_fresh_votes_agree(kinds, CONCENTRATIONS)),
        shape_excess(votes, groups, weight),
    )


def shape_excess(
    votes: Int[np.ndarray, "n 3"], groups: Shaped[np.ndarray, " n"], weight: Float[np.ndarray, " n"]
) -> Interval | None:
    """How much larger the mean of (2p - 1)^4 is than under the symmetric beta distribution with the same mean of (2p - 1)^2.

    Both means are estimated without bias from the products of two and of four votes of a pair, each +1 or -1. Under Beta(a, a)
    with mean square x = 1 / (2a + 1) the fourth moment is 3x^2 / (1 + 2x). The interval is over groups, by the delta
    method. None with fewer than FEWEST_GROUPS groups that have FEWEST_TO_CHECK votes for a side.
    """
    first, _, second = votes.T
    rows = first + second >= FEWEST_TO_CHECK
    if len(np.unique(groups[rows])) < FEWEST_GROUPS:
        return None
    total, lead, weight = (first + second)[rows], (first - second)[rows].astype(np.float64), weight[rows]
    square = (lead**2 - total) / (total * (total - 1))
    fourth = (lead**4 - (6 * total - 8) * lead**2 + 3 * total * (total - 2)) / (
        total * (total - 1) * (total - 2) * (total - 3)
    )
    x = float(np.average(square, weights=weight))
    expected, slope = 3 * x**2 / (1 + 2 * x), 6 * x * (1 + x) / (1 + 2 * x) ** 2
    return clustered_mean(fourth - expected - slope * (square - x), groups[rows], weight)


# ---- By kind of votes ----------------------------------------------------------------------------------------------


def _kinds(votes: Int[np.ndarray, "n 3"]) -> tuple[Int[np.ndarray, "k 2"], Int[np.ndarray, " n"]]:
    """Each pair of a smaller and a larger number of votes for a side, and which one every row has."""
    first, _, second = votes.T
    sides = np.column_stack([np.minimum(first, second), np.maximum(first, second)])
    kinds, kind_of = np.unique(sides, axis=0, return_inverse=True)
    return kinds, kind_of.reshape(-1)


def _log_likelihood(kinds: Int[np.ndarray, "k 2"]) -> Float[np.ndarray, "k c"]:
    """Of the votes under each concentration, up to a constant; one vote says nothing and gives 0.0 everywhere but for rounding."""
    fewer, more = kinds[:, :1], kinds[:, 1:]
    likelihood: np.ndarray = betaln(CONCENTRATIONS + fewer, CONCENTRATIONS + more) - betaln(
        CONCENTRATIONS, CONCENTRATIONS
    )
    return np.where(fewer + more >= 2, likelihood, 0.0)


def _population_agrees(
    kinds: Int[np.ndarray, "k 2"], concentration: Float[np.ndarray, " c"]
) -> Float[np.ndarray, "k c"]:
    """P(p of the smaller side is below one half); NaN without a majority."""
    fewer, more = kinds[:, :1], kinds[:, 1:]
    posterior: np.ndarray = betainc(concentration + fewer, concentration + more, 0.5)
    return np.where(fewer < more, posterior, math.nan)


def _fresh_votes_agree(
    kinds: Int[np.ndarray, "k 2"], concentration: Float[np.ndarray, " c"]
) -> Float[np.ndarray, "k c"]:
    """P(more than half of as many fresh votes are on the larger side) + P(half of them) / 2; NaN without a majority."""
    share = np.full((len(kinds), len(concentration)), math.nan)
    for row, (fewer, more) in enumerate(kinds.tolist()):
        if fewer == more:
            continue
        m = fewer + more
        k = np.arange(m // 2 if m % 2 == 0 else m // 2 + 1, m + 1)[:, None]
        a, b = concentration + more, concentration + fewer
        log_chance = gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1) + betaln(a + k, b + m - k) - betaln(a, b)
        share[row] = (np.exp(log_chance) * np.where(2 * k == m, 0.5, 1.0)).sum(axis=0)
    return share


# ---- Between concentrations ----------------------------------------------------------------------------------------


def _likeliest(log_likelihood: Float[np.ndarray, "d c"]) -> Float[np.ndarray, " d"]:
    """The place of each row's maximum among CONCENTRATIONS, between two of them by the parabola through three."""
    last = log_likelihood.shape[1] - 1
    best = np.clip(log_likelihood.argmax(axis=1), 1, last - 1)
    rows = np.arange(len(best))
    before, at, after = (log_likelihood[rows, best + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    step = np.divide(before - after, 2 * bend, out=np.zeros_like(bend), where=bend < 0)
    place: np.ndarray = np.clip(best + np.clip(step, -1.0, 1.0), 0.0, float(last))
    return place


def _at(place: Float[np.ndarray, " d"], values: Float[np.ndarray, "d c"]) -> Float[np.ndarray, " d"]:
    """Each row's value at its place, linear between concentrations."""
    below = np.minimum(np.floor(place).astype(np.int64), values.shape[1] - 2)
    rows, part = np.arange(len(place)), place - below
    between: np.ndarray = values[rows, below] * (1.0 - part) + values[rows, below + 1] * part
    return between
