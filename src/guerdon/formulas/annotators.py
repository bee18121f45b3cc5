"""From the votes of many annotators to one probability per pair, and what each annotator is worth.

Axes: v votes, n pairs, j annotators. Each pair has a fixed first response; which one that is carries no meaning. A vote is
stored as it was shown: 0 for the response on the left, 1 for a tie, 2 for the one on the right; `is_swapped` is True where
the pair's first response was on the right. All results are about the pair's first response, and swapping a pair's two
responses turns q into 1 - q and changes nothing else.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.special import expit, ndtr

__all__ = [
    "Abilities",
    "Ratings",
    "VoteTable",
    "dawid_skene",
    "effective_votes",
    "fit_abilities",
    "majority",
    "most_shared",
    "one_vote_each",
    "two_sided_p",
]

LEFT, TIE, RIGHT = 0, 1, 2
PRIOR_MEAN = np.array([1.0, 0.0])  # of ability and left bias; standard deviations of 1
LOG_TIE_SPREAD = 1.0  # standard deviation of the log of an annotator's tie threshold around that of all
ROUNDING = 1e-9  # a difference of weights below it is none
MAX_STEP = 1.0  # of a parameter, per Newton step


class VoteTable(NamedTuple):
    """Votes as columns. weight: how much of a vote each is; a soft judgment is two votes whose weights sum to 1."""

    pair: Int[np.ndarray, " v"]
    annotator: Int[np.ndarray, " v"]
    shown_vote: Int[np.ndarray, " v"]
    is_swapped: Bool[np.ndarray, " v"]
    weight: Float[np.ndarray, " v"]
    num_pairs: int
    num_annotators: int

    @property
    def vote(self) -> Int[np.ndarray, " v"]:
        """0 for the pair's first response, 1 for a tie, 2 for its second."""
        vote: np.ndarray = np.where(self.is_swapped, 2 - self.shown_vote, self.shown_vote)
        return vote

    def counts(self) -> Float[np.ndarray, "n 3"]:
        """The weight of the votes for (first, tie, second) of each pair."""
        cell = self.pair.astype(np.int64) * 3 + self.vote
        counts: np.ndarray = np.bincount(cell, weights=self.weight, minlength=3 * self.num_pairs)
        return counts.reshape(-1, 3)


class Ratings(NamedTuple):
    """One vote per pair and annotator: 0 for the pair's first response, 1 a tie, 2 its second. Sorted by pair, then annotator."""

    pair: Int[np.ndarray, " r"]
    annotator: Int[np.ndarray, " r"]
    vote: Int[np.ndarray, " r"]

    def of(self, is_meant: Bool[np.ndarray, " r"]) -> "Ratings":
        """Some of the ratings; pairs and annotators keep their numbers."""
        return Ratings(*(column[is_meant] for column in self))

    def counts(self, num_pairs: int) -> Int[np.ndarray, "n 3"]:
        """How many annotators chose (first, tie, second) of each pair."""
        counts: np.ndarray = np.bincount(self.pair * 3 + self.vote, minlength=3 * num_pairs)
        return counts.reshape(-1, 3)


def one_vote_each(
    pair: Int[np.ndarray, " v"],
    annotator: Int[np.ndarray, " v"],
    vote: Int[np.ndarray, " v"],
    weight: Shaped[np.ndarray, " v"],
    num_annotators: int,
) -> tuple[Ratings, Int[np.ndarray, " v"]]:
    """Several votes of an annotator on a pair as one, a tie where their weights cancel; and the rating that each vote is part of.

    vote: 0 for the pair's first response, 1 a tie, 2 its second.
    """
    num = max(1, num_annotators)
    code, rating_of_vote = np.unique(pair * num + annotator, return_inverse=True)
    lead = np.bincount(rating_of_vote, weights=weight * (1 - vote), minlength=len(code))
    lead = np.where(np.abs(lead) < ROUNDING, 0.0, lead)
    return Ratings(code // num, code % num, (1 - np.sign(lead)).astype(np.int64)), rating_of_vote


def most_shared(
    ratings: Ratings, fewest: int, most: int
) -> Iterator[tuple[int, int, Int[np.ndarray, " s"], Int[np.ndarray, " s"]]]:
    """The two annotators who rated most pairs both, and so on: (a, b, the row of a's rating of each such pair, that of b's).

    fewest: pairs that they share at least. most: couples of annotators that are given.
    """
    pair, annotator, _ = ratings
    size = int(np.bincount(pair, minlength=1).max(initial=0))
    num = int(annotator.max(initial=0)) + 1

    def shared(step: int) -> tuple[Int[np.ndarray, " s"], Int[np.ndarray, " s"]]:
        """Ratings of one pair that lie `step` apart, by row number, and a number for their two annotators."""
        rows = np.flatnonzero(pair[:-step] == pair[step:])
        return rows, annotator[rows] * num + annotator[rows + step]

    totals: dict[int, int] = {}
    for step in range(1, size):
        for code, count in zip(*np.unique(shared(step)[1], return_counts=True), strict=True):
            totals[int(code)] = totals.get(int(code), 0) + int(count)
    codes = sorted((code for code in totals if totals[code] >= fewest), key=lambda code: -totals[code])
    for code in codes[:most]:
        rows = [(rows[codes_of == code], step) for step in range(1, size) for rows, codes_of in [shared(step)]]
        of_a, of_b = (np.concatenate([each + step * side for each, step in rows]) for side in (0, 1))
        yield code // num, code % num, of_a, of_b


class Abilities(NamedTuple):
    """The ability-and-left-bias model after its fit.

    q: P(first is better) per pair. ability, left_bias: nats; tie_threshold: nats >= 0, 0.0 where nobody ever voted for a tie.
    The standard errors allow for the better response being unknown. has_converged: whether the last round moved no
    parameter by more than the tolerance.
    """

    q: Float[np.ndarray, " n"]
    ability: Float[np.ndarray, " j"]
    left_bias: Float[np.ndarray, " j"]
    tie_threshold: Float[np.ndarray, " j"]
    ability_se: Float[np.ndarray, " j"]
    left_bias_se: Float[np.ndarray, " j"]
    tie_threshold_se: Float[np.ndarray, " j"]
    rounds: int
    has_converged: bool

    @property
    def is_reversed(self) -> Bool[np.ndarray, " j"]:
        """Annotators whose votes say the opposite of what they mean: the 95 % interval of the ability is below 0."""
        reversed_: np.ndarray = self.ability + 1.96 * self.ability_se < 0
        return reversed_


def majority(table: VoteTable) -> Float[np.ndarray, " n"]:
    """The share of each pair's votes that are for the first, a tie counting half; 0.5 where nobody voted."""
    counts = table.counts()
    total = counts.sum(axis=1)
    share: np.ndarray = np.full(table.num_pairs, 0.5)
    np.divide(counts[:, 0] + counts[:, 1] / 2, total, out=share, where=total > 0)
    return share


def effective_votes(table: VoteTable, ability: Float[np.ndarray, " j"]) -> Float[np.ndarray, " n"]:
    """How many equally able annotators each pair's votes are worth: (sum w|a|)^2 / sum w a^2 (Kish 1965); 0.0 without votes.

    Between equally able annotators it is the number of votes; one able vote among guesses is worth about 1.
    """
    size = np.abs(ability)[table.annotator]
    total = np.bincount(table.pair, weights=table.weight * size, minlength=table.num_pairs)
    square = np.bincount(table.pair, weights=table.weight * size**2, minlength=table.num_pairs)
    return np.divide(total**2, square, out=np.zeros(table.num_pairs), where=square > 0)


def two_sided_p(estimate: Float[np.ndarray, " j"], se: Float[np.ndarray, " j"]) -> Float[np.ndarray, " j"]:
    """The two-sided p-value of no effect of an estimate with a normal error."""
    p: np.ndarray = 2.0 * ndtr(-np.abs(estimate) / se)
    return p


# ---- Dawid and Skene -----------------------------------------------------------------------------------------------


def dawid_skene(
    table: VoteTable, *, has_left_bias: bool = True, smoothing: float = 1.0, rounds: int = 100, tolerance: float = 1e-6
) -> Float[np.ndarray, "n 3"]:
    """P(first is better, they are tied, second is better) of each pair (Dawid & Skene 1979).

    Each annotator has a table of chances: of what they vote for, left, tie or right, given what is true of the two as shown.
    smoothing: pseudo-votes per row of that table, spread as all annotators' votes together. Differs from the original by
    that, and by classes that are equally frequent on both sides. has_left_bias: whether left and right may differ; where not, both
    orders share one row, which is the original on votes with their mirror images.
    """
    cell = _cells(table)
    posterior = _normalized(table.counts() + 1e-9)
    for _ in range(rounds):
        prior = posterior.mean(axis=0)
        prior = (prior + prior[::-1]) / 2
        log_chance = np.log(_confusion(table, cell, posterior, smoothing, has_left_bias) + 1e-300)
        log_posterior = np.tile(np.log(prior + 1e-300), (table.num_pairs, 1))
        for true in range(3):  # of the pair's first response; as shown it is the mirror image where swapped
            shown_truth = np.where(table.is_swapped, 2 - true, true)
            by_vote = table.weight * log_chance[table.annotator, shown_truth, table.shown_vote]
            log_posterior[:, true] += np.bincount(table.pair, weights=by_vote, minlength=table.num_pairs)
        updated = _normalized(np.exp(log_posterior - log_posterior.max(axis=1, keepdims=True)))
        change = float(np.abs(updated - posterior).max(initial=0.0))
        posterior = updated
        if change < tolerance:
            break
    return posterior


def _confusion(
    table: VoteTable,
    cell: Int[np.ndarray, " v"],
    posterior: Float[np.ndarray, "n 3"],
    smoothing: float,
    has_left_bias: bool,
) -> Float[np.ndarray, "j 3 3"]:
    """P(an annotator votes for left, tie, right | left is better, they are tied, right is better)."""
    counts = np.empty((table.num_annotators, 3, 3))
    for true in range(3):
        shown_posterior = posterior[table.pair, np.where(table.is_swapped, 2 - true, true)]
        total = np.bincount(cell, weights=table.weight * shown_posterior, minlength=3 * table.num_annotators)
        counts[:, true] = total.reshape(-1, 3)
    if not has_left_bias:
        counts = counts + counts[:, ::-1, ::-1]
    pooled = _normalized(counts.sum(axis=0) + 1e-9)
    return _normalized(counts + smoothing * pooled + 1e-12)


# ---- Ability and left bias -----------------------------------------------------------------------------------------


def fit_abilities(
    table: VoteTable,
    prior_log_odds: Float[np.ndarray, " n"] | None = None,
    *,
    has_left_bias: bool = True,
    rounds: int = 200,
    tolerance: float = 1e-3,
) -> Abilities:
    """How able and how biased to the left each annotator is, and the q that follows, by expectation-maximization.

    One of a pair's responses is better. An annotator of ability a, left bias b and tie threshold t votes for the left
    one with probability sigmoid(e - t), for the right one with sigmoid(-e - t), and else for a tie, where e = a + b if the
    left one is better and -a + b if the right one is (an ordered logit; with t = b = 0 the one-coin model of Dawid & Skene 1979).
    Priors: a ~ N(1, 1), b ~ N(0, 1), log t ~ N(that of the share of ties, 1). A negative ability is a reversed annotator,
    whose votes count the other way; the prior's mean decides which of the two mirror-image solutions is meant.

    prior_log_odds: of each pair's first response before any vote, in nats; 0 where absent. has_left_bias: where False, b is 0.
    Pairs that only one annotator judged say nothing about ability: such votes count as the prior's mean.
    """
    prior = np.zeros(table.num_pairs) if prior_log_odds is None else np.asarray(prior_log_odds, dtype=np.float64)
    cell = _cells(table)
    fit = _AbilityFit(table, has_left_bias)
    change, done = math.inf, 0
    while done < rounds and change > tolerance:
        votes = _votes_by_truth(table, cell, expit(_log_odds(table, fit, prior)))
        change = fit.improve(votes)
        done += 1
    log_odds = _log_odds(table, fit, prior)
    se = _standard_errors(table, cell, fit, expit(log_odds))
    ability, left_bias, _ = fit.parameters.T
    has_converged = change <= tolerance
    return Abilities(
        expit(log_odds), ability, left_bias, fit.tie_threshold, se[:, 0], se[:, 1], se[:, 2], done, has_converged
    )


class _AbilityFit:
    """The parameters [j, 3], (ability, left bias, log of the tie threshold), and one step of their fit."""

    def __init__(self, table: VoteTable, has_left_bias: bool) -> None:
        tie_share = _weighted_share(table.weight, table.shown_vote == TIE)
        self.has_ties = 0.0 < tie_share
        # the threshold that gives this share of ties to an undecided annotator: 1 - 2 sigmoid(-t)
        log_threshold = math.log(2 * math.atanh(min(tie_share, 0.999))) if self.has_ties else 0.0
        self.prior_mean = np.array([*PRIOR_MEAN, log_threshold])
        self.is_free = np.array([True, has_left_bias, self.has_ties])
        self.precision = np.diag([1.0, 1.0, LOG_TIE_SPREAD**-2])
        self.parameters = np.tile(self.prior_mean, (table.num_annotators, 1))

    @property
    def tie_threshold(self) -> Float[np.ndarray, " j"]:
        return self._threshold(self.parameters)

    def _threshold(self, parameters: Float[np.ndarray, "j 3"]) -> Float[np.ndarray, " j"]:
        threshold: np.ndarray = np.exp(parameters[:, 2]) if self.has_ties else np.zeros(len(parameters))
        return threshold

    def chance(self, parameters: Float[np.ndarray, "j 3"]) -> Float[np.ndarray, "j 2 3"]:
        """P(vote | left is better, right is better) for the votes left, tie, right."""
        ability, left_bias, _ = parameters.T
        threshold = self._threshold(parameters)[:, None]
        lead = left_bias[:, None] + np.stack([ability, -ability], axis=1)
        left, right = expit(lead - threshold), expit(-lead - threshold)
        tie = left * right * np.expm1(2 * threshold)  # 1 - left - right, without cancellation
        chance: np.ndarray = np.stack([left, tie, right], axis=2)
        return chance

    def log_chance(self, parameters: Float[np.ndarray, "j 3"]) -> Float[np.ndarray, "j 2 3"]:
        log_chance: np.ndarray = np.log(np.maximum(self.chance(parameters), 1e-300))
        return log_chance

    def scores(self, parameters: Float[np.ndarray, "j 3"]) -> Float[np.ndarray, "j 2 3 3"]:
        """Derivatives of `log_chance` by each of the three parameters (last axis); 0.0 for a parameter that is not fitted."""
        left, _, right = np.moveaxis(self.chance(parameters), 2, 0)
        threshold = self._threshold(parameters)[:, None]
        by_lead = np.stack([1 - left, right - left, right - 1], axis=2)
        # the derivative of log(expm1(2t)) is 2 / (1 - exp(-2t)); of log sigmoid(e - t) it is -(1 - sigmoid(e - t))
        of_tie = -(1 - left) - (1 - right) + (2 / -np.expm1(-2 * threshold) if self.has_ties else 0.0)
        by_log_threshold = threshold[:, :, None] * np.stack([left - 1, of_tie, right - 1], axis=2)
        is_left_better = np.array([1.0, -1.0])[None, :, None]
        scores: np.ndarray = np.stack([by_lead * is_left_better, by_lead, by_log_threshold], axis=3) * self.is_free
        return scores

    def objective(
        self, parameters: Float[np.ndarray, "j 3"], votes: Float[np.ndarray, "j 2 3"]
    ) -> Float[np.ndarray, " j"]:
        deviation = parameters - self.prior_mean
        log_prior = -0.5 * np.einsum("jp,pr,jr->j", deviation, self.precision, deviation)
        value: np.ndarray = (votes * self.log_chance(parameters)).sum(axis=(1, 2)) + log_prior
        return value

    def improve(self, votes: Float[np.ndarray, "j 2 3"], steps: int = 3) -> float:
        """A few Newton steps with the expected information, none of which lowers the objective; returns the largest change."""
        before = self.parameters
        for _ in range(steps):
            scores, current = self.scores(self.parameters), self.objective(self.parameters, votes)
            expected = votes.sum(axis=2, keepdims=True) * self.chance(self.parameters)
            gradient = np.einsum("jzy,jzyp->jp", votes, scores)
            gradient -= (self.parameters - self.prior_mean) @ self.precision
            information = np.einsum("jzy,jzyp,jzyr->jpr", expected, scores, scores) + self.precision
            step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
            step *= np.minimum(1.0, MAX_STEP / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-300))
            for _ in range(8):
                is_worse = self.objective(self.parameters + step, votes) < current - 1e-12
                if not is_worse.any():
                    break
                step[is_worse] /= 2
            self.parameters = self.parameters + np.where(is_worse[:, None], 0.0, step)
        return float(np.abs(self.parameters - before).max(initial=0.0))


def _log_odds(table: VoteTable, fit: _AbilityFit, prior: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Posterior log-odds that each pair's first response is the better one."""
    log_chance = fit.log_chance(fit.parameters)
    left_over_right = (log_chance[:, 0] - log_chance[:, 1])[table.annotator, table.shown_vote]
    by_vote = table.weight * np.where(table.is_swapped, -left_over_right, left_over_right)
    return prior + np.bincount(table.pair, weights=by_vote, minlength=table.num_pairs)


def _votes_by_truth(
    table: VoteTable, cell: Int[np.ndarray, " v"], q: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "j 2 3"]:
    """The weight of each annotator's votes where the left one is better, and where the right one is."""
    left_is_better = np.where(table.is_swapped, 1.0 - q[table.pair], q[table.pair])
    size = 3 * table.num_annotators
    total = np.bincount(cell, weights=table.weight, minlength=size)
    left = np.bincount(cell, weights=table.weight * left_is_better, minlength=size)
    return np.stack([left.reshape(-1, 3), (total - left).reshape(-1, 3)], axis=1)


def _standard_errors(
    table: VoteTable, cell: Int[np.ndarray, " v"], fit: _AbilityFit, q: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "j 3"]:
    """Of ability, left bias and tie threshold: the observed information (Louis 1982) with the other annotators as they are.

    What a vote says about its annotator is averaged over which response is better; the spread of that average, not of the
    two cases, is the information. The prior's is added.
    """
    scores = fit.scores(fit.parameters)
    left_is_better = np.where(table.is_swapped, 1.0 - q[table.pair], q[table.pair])
    size = 3 * table.num_annotators
    moments = [
        np.bincount(cell, weights=table.weight * left_is_better**power, minlength=size).reshape(-1, 3)
        for power in range(3)
    ]
    # score = p x + (1 - p) y with x, y the scores in the two cases: its square needs the moments of p only
    x, y = scores[:, 0], scores[:, 1]
    both, one, square = moments[0] - 2 * moments[1] + moments[2], moments[1] - moments[2], moments[2]
    information = (
        np.einsum("jy,jyp,jyr->jpr", square, x, x)
        + np.einsum("jy,jyp,jyr->jpr", one, x, y)
        + np.einsum("jy,jyp,jyr->jpr", one, y, x)
        + np.einsum("jy,jyp,jyr->jpr", both, y, y)
    )
    variance = np.linalg.inv(information + fit.precision)
    se: np.ndarray = np.sqrt(np.einsum("jpp->jp", variance)) * fit.is_free
    se[:, 2] *= fit.tie_threshold  # from the log to the threshold itself
    return se


# ---- Parts ---------------------------------------------------------------------------------------------------------


def _cells(table: VoteTable) -> Int[np.ndarray, " v"]:
    """One number per annotator and shown vote."""
    cells: np.ndarray = table.annotator.astype(np.int64) * 3 + table.shown_vote
    return cells


def _normalized(values: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "... c"]:
    normalized: np.ndarray = values / values.sum(axis=-1, keepdims=True)
    return normalized


def _weighted_share(weight: Float[np.ndarray, " v"], is_counted: Bool[np.ndarray, " v"]) -> float:
    return float(weight[is_counted].sum() / weight.sum()) if len(weight) else 0.0
