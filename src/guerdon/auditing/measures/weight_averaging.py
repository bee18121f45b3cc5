"""Whether models can be averaged weight by weight. Axes: n pairs, k members."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.auditing.measures.ensemble import QUANTITIES as MEMBER_QUANTITIES
from guerdon.auditing.measures.ensemble import SECTION
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.agreement import pair_accuracy
from guerdon.models.averaging import average_weights
from guerdon.models.estimates import estimate_difference, estimate_share
from guerdon.models.scored_pairs import score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison
    from guerdon.models.reward_model import ScalarRewardModel


ALPHAS = (0.25, 0.5, 0.75)

QUANTITIES: Mapping[str, Quantity] = {
    "average_accuracy": Quantity(
        "averaged weights", "share", SECTION, "accuracy of the average of the members' weights"
    ),
    "average_gain": Quantity(
        "gain of averaging", "share", SECTION, "its accuracy less the members' mean, pair by pair"
    ),
    "path_gain": Quantity(
        "on the way between members", "share", SECTION, "accuracy between two members less the line between theirs"
    ),
    "average_less_ensemble": Quantity("averaged weights less the ensemble", "share", SECTION),
    **MEMBER_QUANTITIES,
}


def measure_weight_averaging(
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
    gains = {0.0: estimate_difference(mean, mean, pairs.group, pairs.weight, options)}
    for alpha in ALPHAS:
        halfway = alpha == 0.5 and len(models) == 2
        found = averaged if halfway else right_of(average_weights([models[one], models[other]], [1 - alpha, alpha]))
        gains[alpha] = estimate_difference(
            found, (1 - alpha) * right[one] + alpha * right[other], pairs.group, pairs.weight, options
        )
    gains[1.0] = gains[0.0]
    together = pair_accuracy(np.mean([each.margin for each in scored], axis=0), pairs.q)
    estimates = {
        "member_accuracy_mean": estimate_share(mean, pairs.group, pairs.weight, options),
        "average_accuracy": estimate_share(averaged, pairs.group, pairs.weight, options),
        "average_gain": estimate_difference(averaged, mean, pairs.group, pairs.weight, options),
        "path_gain": gains[0.5],
        "average_less_ensemble": estimate_difference(averaged, together, pairs.group, pairs.weight, options),
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
    return average, Report(
        "Weight averaging",
        about,
        estimates,
        _line_findings(estimates),
        {"linear_mode": curve},
        quantities=QUANTITIES,
    )


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


def _distance(one: ScalarRewardModel, other: ScalarRewardModel) -> float:
    """Euclidean distance of all weights."""
    theirs = dict(other.network.named_parameters())
    squares = [
        float((weight.detach().cpu() - theirs[name].detach().cpu()).float().square().sum())
        for name, weight in one.network.named_parameters()
    ]
    return math.sqrt(sum(squares))
