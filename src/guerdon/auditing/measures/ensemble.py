"""What an ensemble is worth: its members' accuracies, what it adds to them, and whether they err together.

Axes: n pairs, k members.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.gate import MAX_ERROR_CORRELATION
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report, RewardModel
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.ensemble import disagreement, error_correlation, error_left
from guerdon.formulas.resampling import bootstrap
from guerdon.models.estimates import estimate_difference, estimate_share

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.scored_pairs import ScoredPairs


CHUNK = 256  # comparisons scored in one call

SECTION = "Its members"
QUANTITIES: Mapping[str, Quantity] = {
    "member_accuracy_mean": Quantity("accuracy of a member", "share", SECTION, "mean over the members"),
    "member_accuracy_min": Quantity("worst member", "share", SECTION),
    "member_accuracy_max": Quantity("best member", "share", SECTION),
    "ensemble_gain": Quantity(
        "gain of the ensemble", "share", SECTION, "its accuracy less its members' mean, pair by pair"
    ),
    "error_correlation": Quantity(
        "correlation of errors", "number", SECTION, "of what the label leaves unexplained of two members' margins"
    ),
    "disagreement": Quantity("disagreement", "share", SECTION, "how often two members name different winners"),
}


def measure_ensemble(
    model: RewardModel | Judge,
    comparisons: Sequence[Comparison],
    pairs: ScoredPairs,
    options: AuditOptions,
) -> Report:
    """Members against the whole, on the pairs that the whole was scored on; an empty report of a model without members.

    The members' margins are those of the pairs, where somebody kept them; else the model is asked for them.
    Keys: member_accuracy_mean, member_accuracy_min, member_accuracy_max, ensemble_gain (accuracy of the whole less the members'
    mean, pair by pair), error_correlation, disagreement (how often two members name different winners). Curve: member_accuracy.
    """
    members = pairs.members if pairs.members is not None else member_margins(model, comparisons, pairs)
    if members is None or len(members) < 2 or not len(pairs):
        return Report("Ensemble")
    right = np.stack([pair_accuracy(margin, pairs.q) for margin in members])
    each = [estimate_share(row, pairs.group, pairs.weight, options) for row in right]
    ranked = sorted(each, key=lambda estimate: estimate.value)
    correlation, how = _error_correlation(members, pairs, options)
    estimates = {
        "member_accuracy_mean": estimate_share(right.mean(axis=0), pairs.group, pairs.weight, options),
        "member_accuracy_min": ranked[0],
        "member_accuracy_max": ranked[-1],
        "ensemble_gain": estimate_difference(
            pair_accuracy(pairs.margin, pairs.q), right.mean(axis=0), pairs.group, pairs.weight, options
        ),
        "error_correlation": correlation,
        "disagreement": estimate_share(disagreement(members), pairs.group, pairs.weight, options),
    }
    curve = Curve(
        tuple(float(i) for i in range(len(each))),
        tuple(each),
        "member",
        "accuracy",
        kind="points",
        x_names=tuple(f"member {i + 1}" for i in range(len(each))),
        title="Accuracy of each member",
    )
    about = {"members": str(len(members)), "error correlation": how}
    return Report(
        "Ensemble",
        about,
        estimates,
        _findings(estimates, len(members), how),
        {"member_accuracy": curve},
        quantities=QUANTITIES,
    )


def member_margins(
    model: RewardModel | Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs
) -> Float[np.ndarray, "k n"] | None:
    """Each member's margin of each pair; None of a model that has no members."""
    if not isinstance(model, RewardModel) or not comparisons:
        return None
    if model.score([comparisons[0].prompt], comparisons[0].responses[:1]).members is None:
        return None
    parts = []
    for start in range(0, len(comparisons), CHUNK):
        part = comparisons[start : start + CHUNK]
        prompts = [comparison.prompt for comparison in part for _ in comparison.responses]
        said = model.score(prompts, [response for comparison in part for response in comparison.responses]).members
        assert said is not None
        parts.append(said)
    rewards = np.concatenate(parts, axis=1)
    starts = np.cumsum([0, *(len(comparison.responses) for comparison in comparisons)])[pairs.index]
    margins: np.ndarray = rewards[:, starts + pairs.first] - rewards[:, starts + pairs.second]
    return margins


def _error_correlation(
    members: Float[np.ndarray, "k n"], pairs: ScoredPairs, options: AuditOptions
) -> tuple[Estimate, str]:
    """Correlation of the members' errors about the verdicts, and how it was measured."""
    people = pairs.votes.sum(axis=1)
    voted = (pairs.votes[:, 0] >= 0) & (people >= 2)
    if 2 * voted.sum() < len(pairs):
        return _correlation(members, 2 * pairs.q - 1, None, pairs, np.ones(len(pairs), dtype=bool), options), (
            "an upper bound: what is noise of the verdicts counts as shared"
        )
    first, _, second = pairs.votes.T
    count = np.maximum(people, 2)
    sign = (first - second) / count
    # The mean product of two different people's votes, +1, 0 or -1 each: what a second judge confirms of the verdict.
    agreed = ((first - second) ** 2 - (first + second)) / (count * (count - 1))
    found = _correlation(members, sign, agreed, pairs, voted, options)
    return found, f"corrected for how far people disagree, on {int(voted.sum())} pairs with votes"


def _correlation(
    members: Float[np.ndarray, "k n"],
    truth: Float[np.ndarray, " n"],
    agreed: Float[np.ndarray, " n"] | None,
    pairs: ScoredPairs,
    chosen: Bool[np.ndarray, " n"],
    options: AuditOptions,
) -> Estimate:
    place = np.flatnonzero(chosen & (truth != 0)) if agreed is None else np.flatnonzero(chosen)

    def statistic(rows: Int[np.ndarray, " m"]) -> float:
        at = place[rows]
        weight = pairs.weight[at]
        reliability = 1.0
        if agreed is not None:
            square = float(weight @ np.square(truth[at]))
            reliability = min(1.0, float(weight @ agreed[at]) / square) if square else 0.0
        return error_correlation(members[:, at], truth[at], weight, reliability) if reliability > 0 else math.nan

    if not len(place):
        return Estimate(math.nan, math.nan, math.nan, 0)
    return Estimate(*bootstrap(statistic, pairs.group[place], options.draws, options.seed))


def _findings(found: dict[str, Estimate], k: int, how: str) -> tuple[Finding, ...]:
    shared, gain = found["error_correlation"], found["ensemble_gain"]
    if not shared.low > MAX_ERROR_CORRELATION:
        return ()
    left = error_left(shared.value, k)
    evidence = (
        f"error correlation {shared} ({how}): a mean over these {k} members keeps {left:.0%} of one member's error variance, "
        f"over any number of them {shared.value:.0%}; accuracy above the members' {gain}"
    )
    remedy = (
        "Do not count on the ensemble to stop over-optimization, nor on its spread to warn: it does not see what all members "
        "get wrong. Members from other base models or other data differ more than those of other seeds."
    )
    return (Finding("warning", "The members share their errors", evidence, remedy),)
