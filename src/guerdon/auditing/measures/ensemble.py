"""What an ensemble is worth: its members' accuracies, what it adds to them, and whether their errors are correlated.

Axes: n pairs, k members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity, Report, RewardModel
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.ensemble import disagreement, error_correlation, error_left
from guerdon.formulas.resampling import bootstrap
from guerdon.models.estimates import estimate_difference, estimate_share, number, percent, points_by_name

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.scored_pairs import ScoredPairs

__all__ = ["QUANTITIES", "SECTION", "TITLE", "measure_ensemble", "member_margins"]

CHUNK: Final = 256  # comparisons scored in one call

TITLE = "Ensemble"
MAX_ERROR_CORRELATION: Final = 0.8  # averaging any number of members leaves this share of one member's error variance
SECTION = "Its members"
QUANTITIES: Mapping[str, Quantity] = {
    "member_accuracy_mean": Quantity("accuracy of a member", "share", SECTION, "mean over the members"),
    "member_accuracy_min": Quantity("worst member", "share", SECTION),
    "member_accuracy_max": Quantity("best member", "share", SECTION),
    "ensemble_gain": Quantity(
        "gain of the ensemble", "share", SECTION, "its accuracy minus its members' mean, pair by pair"
    ),
    "error_correlation": Quantity(
        "correlation of errors", "number", SECTION, "of the part of two members' margins that labels do not explain"
    ),
    "disagreement": Quantity("disagreement", "share", SECTION, "how often two members prefer different responses"),
}


def measure_ensemble(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    pairs: ScoredPairs,
    options: AuditOptions,
) -> Report:
    """The members compared with the ensemble on its scored pairs; an empty report for a model without members.

    The members' margins are taken from the pairs if they have them; else the model is asked for them.
    Keys: member_accuracy_mean, member_accuracy_min, member_accuracy_max, ensemble_gain (accuracy of the ensemble minus the
    members' mean, pair by pair), error_correlation, disagreement (how often two members prefer different responses).
    Curve: member_accuracy.
    """
    members = pairs.members if pairs.members is not None else member_margins(model, comparisons, pairs)
    if members is None or len(members) < 2 or not len(pairs):
        return Report(TITLE)
    group, weight = pairs.group, pairs.weight
    is_right = np.stack([pair_accuracy(margin, pairs.q) for margin in members])
    accuracies = [estimate_share(row, group, weight) for row in is_right]
    ranked = sorted(accuracies, key=lambda accuracy: accuracy.value)
    correlation, method = _error_correlation(members, pairs, options)
    mean = is_right.mean(axis=0)
    names = [f"member {i}" for i in range(1, len(members) + 1)]
    estimates = {
        "member_accuracy_mean": estimate_share(mean, group, weight),
        "member_accuracy_min": ranked[0],
        "member_accuracy_max": ranked[-1],
        "ensemble_gain": estimate_difference(pair_accuracy(pairs.margin, pairs.q), mean, group, weight),
        "error_correlation": correlation,
        "disagreement": estimate_share(disagreement(members), group, weight),
    }
    return Report(
        TITLE,
        {"members": str(len(members)), "error correlation": method},
        estimates,
        _findings(estimates, len(members), method),
        {"member_accuracy": points_by_name(names, accuracies, "member", "accuracy", title="Accuracy of each member")},
        quantities=QUANTITIES,
    )


def member_margins(
    model: RewardModel | Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs
) -> Float[np.ndarray, "k n"] | None:
    """Each member's margin on each pair; None for a model without members."""
    if not isinstance(model, RewardModel) or not comparisons:
        return None
    if model.score([comparisons[0].prompt], comparisons[0].responses[:1]).members is None:
        return None
    chunks = []
    for start in range(0, len(comparisons), CHUNK):
        part = comparisons[start : start + CHUNK]
        prompts = [comparison.prompt for comparison in part for _ in comparison.responses]
        responses = [response for comparison in part for response in comparison.responses]
        rewards = model.score(prompts, responses).members
        assert rewards is not None
        chunks.append(rewards)
    rewards = np.concatenate(chunks, axis=1)
    starts = np.cumsum([0, *(len(comparison.responses) for comparison in comparisons)])[pairs.index]
    margins: np.ndarray = rewards[:, starts + pairs.first] - rewards[:, starts + pairs.second]
    return margins


def _error_correlation(
    members: Float[np.ndarray, "k n"], pairs: ScoredPairs, options: AuditOptions
) -> tuple[Estimate, str]:
    """The correlation of the members' errors, and how it was measured."""
    num_votes = pairs.votes.sum(axis=1)
    has_votes = (pairs.votes[:, 0] >= 0) & (num_votes >= 2)
    if 2 * has_votes.sum() < len(pairs):
        truth, rows = 2 * pairs.q - 1, np.ones(len(pairs), dtype=bool)
        correlation = _correlation(members, truth, None, pairs, rows, options)
        return correlation, "an upper bound: noise in people's preferences counts as shared error"
    first, _, second = pairs.votes.T
    count = np.maximum(num_votes, 2)
    truth = (first - second) / count
    # The mean product of two different people's votes, +1, 0 or -1 each: what a second judge confirms of the preference.
    confirmed = ((first - second) ** 2 - (first + second)) / (count * (count - 1))
    correlation = _correlation(members, truth, confirmed, pairs, has_votes, options)
    return correlation, f"corrected for disagreement among people, on {int(has_votes.sum())} pairs with votes"


def _correlation(
    members: Float[np.ndarray, "k n"],
    truth: Float[np.ndarray, " n"],
    confirmed: Float[np.ndarray, " n"] | None,
    pairs: ScoredPairs,
    chosen: Bool[np.ndarray, " n"],
    options: AuditOptions,
) -> Estimate:
    """On the chosen pairs. confirmed: the part of the squared truth that a second judge confirms; None if unknown."""
    known = np.flatnonzero(chosen & (truth != 0)) if confirmed is None else np.flatnonzero(chosen)

    def on_rows(draw: Int[np.ndarray, " m"]) -> float:
        rows = known[draw]
        weight = pairs.weight[rows]
        reliability = 1.0
        if confirmed is not None:
            square = float(weight @ np.square(truth[rows]))
            reliability = min(1.0, float(weight @ confirmed[rows]) / square) if square else 0.0
        return error_correlation(members[:, rows], truth[rows], weight, reliability) if reliability > 0 else math.nan

    if not len(known):
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(*bootstrap(on_rows, pairs.group[known], options.draws, options.seed))


def _findings(estimates: dict[str, Estimate], k: int, method: str) -> tuple[Finding, ...]:
    correlation = estimates["error_correlation"]
    if not correlation.low > MAX_ERROR_CORRELATION:
        return ()
    left = error_left(correlation.value, k)
    evidence = (
        f"the correlation of errors is {number(correlation)} ({method}): the mean of these {k} members keeps {100 * left:.0f} % of "
        f"one member's error variance, and that of any number of them {100 * correlation.value:.0f} %; the ensemble gains "
        f"{percent(estimates['ensemble_gain'])} over its members' accuracy"
    )
    remedy = (
        "Do not count on the ensemble to stop over-optimization, or on its spread to warn: it does not see errors that all "
        "members share. Members from other base models or other data differ more than those from other seeds."
    )
    return (Finding("warning", "The members share their errors", evidence, remedy),)
