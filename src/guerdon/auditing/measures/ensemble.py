"""What an ensemble is worth: its members' accuracies and what it adds to them, whether they err together, where they differ.

Also whether models can be averaged weight by weight. Axes: n pairs, k members.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.gate import SHARED
from guerdon.contracts import (
    Curve,
    Estimate,
    Finding,
    Report,
    RewardModel,
)
from guerdon.formulas.agreement import pair_accuracy
from guerdon.formulas.ensemble import disagreement, error_correlation, error_left
from guerdon.formulas.resampling import bootstrap, paired_difference
from guerdon.models.ensemble import average_weights
from guerdon.models.estimates import estimate_share
from guerdon.models.scored_pairs import score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.reward_model import ScalarRewardModel
    from guerdon.models.scored_pairs import ScoredPairs

ALPHAS = (0.25, 0.5, 0.75)
CHUNK = 256  # comparisons scored in one call


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
        "ensemble_gain": _paired(pair_accuracy(pairs.margin, pairs.q), right.mean(axis=0), pairs, options),
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
    )
    about = {"members": str(len(members)), "error correlation": how}
    return Report("Ensemble", about, estimates, _findings(estimates, len(members), how), {"member_accuracy": curve})


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


def measure_linear_mode(
    models: Sequence[ScalarRewardModel], comparisons: Sequence[Comparison], options: AuditOptions
) -> tuple[ScalarRewardModel, Report]:
    """The average of the models' weights, and whether it was allowed, on comparisons that none was trained on.

    Weights may be averaged where, on the straight line between models, accuracy is no lower than the same mix of their
    accuracies (linear mode connectivity; Ramé et al. 2024, eq. 3). The line is that between the two models farthest apart.
    Keys: member_accuracy_mean, average_accuracy, average_gain (the average less the members' mean), path_gain (half way along
    the line less the two ends' mean), average_less_ensemble (less the mean of all members' rewards); differences are pair by
    pair. Curve: linear_mode.
    """
    average = average_weights(models)
    scored = [score_comparisons(model, comparisons) for model in models]
    pairs = scored[0]
    right = [pair_accuracy(each.margin, pairs.q) for each in scored]
    mean = np.mean(right, axis=0)

    def right_of(model: ScalarRewardModel) -> Float[np.ndarray, " n"]:
        return pair_accuracy(score_comparisons(model, comparisons).margin, pairs.q)

    one, other = max(
        itertools.combinations(range(len(models)), 2), key=lambda two: _distance(*(models[i] for i in two))
    )
    averaged = right_of(average)
    gains = {0.0: _paired(mean, mean, pairs, options)}
    for alpha in ALPHAS:
        halfway = alpha == 0.5 and len(models) == 2
        found = averaged if halfway else right_of(average_weights([models[one], models[other]], [1 - alpha, alpha]))
        gains[alpha] = _paired(found, (1 - alpha) * right[one] + alpha * right[other], pairs, options)
    gains[1.0] = gains[0.0]
    together = pair_accuracy(np.mean([each.margin for each in scored], axis=0), pairs.q)
    estimates = {
        "member_accuracy_mean": estimate_share(mean, pairs.group, pairs.weight, options),
        "average_accuracy": estimate_share(averaged, pairs.group, pairs.weight, options),
        "average_gain": _paired(averaged, mean, pairs, options),
        "path_gain": gains[0.5],
        "average_less_ensemble": _paired(averaged, together, pairs, options),
    }
    curve = Curve(
        tuple(gains),
        tuple(gains.values()),
        f"from member {one + 1} to member {other + 1}",
        "accuracy less the ends' mix",
        caption="Below 0 the straight line between the two leaves the region in which both are good.",
    )
    about = {
        "members": str(len(models)),
        "line": f"between members {one + 1} and {other + 1}, which lie farthest apart",
    }
    return average, Report("Weight averaging", about, estimates, _line_findings(estimates), {"linear_mode": curve})


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
    if not shared.low > SHARED:
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


def _line_findings(found: dict[str, Estimate]) -> tuple[Finding, ...]:
    average, path = found["average_gain"], found["path_gain"]
    evidence = f"accuracy less the members': {average} for the average, {path} half way between the two farthest apart"
    if average.high < 0 or path.high < 0:
        remedy = (
            "Use the ensemble itself, or train the members again from one model with its head, with a smaller train.lr "
            "or fewer steps."
        )
        return (Finding("warning", "The members cannot be averaged", evidence, remedy),)
    return (Finding("note", "No loss from averaging is seen", evidence),)


def _paired(
    one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"], pairs: ScoredPairs, options: AuditOptions
) -> Estimate:
    return Estimate(*paired_difference(one, other, pairs.group, pairs.weight, options.draws, options.seed))


def _distance(one: ScalarRewardModel, other: ScalarRewardModel) -> float:
    """Euclidean distance of all weights."""
    theirs = dict(other.network.named_parameters())
    squares = [
        float((weight.detach().cpu() - theirs[name].detach().cpu()).float().square().sum())
        for name, weight in one.network.named_parameters()
    ]
    return math.sqrt(sum(squares))
