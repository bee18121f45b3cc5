"""Can models be averaged weight by weight? Axes: n pairs, k models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.auditing.measures.ensemble import QUANTITIES as MEMBER_QUANTITIES
from guerdon.auditing.measures.ensemble import SECTION
from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report
from guerdon.formulas.agreement import pair_accuracy
from guerdon.models.averaging import average_weights
from guerdon.models.estimates import estimate_difference, estimate_share, percent
from guerdon.models.scored_pairs import score_comparisons

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import Comparison
    from guerdon.models.reward_model import ScalarRewardModel

ALPHAS: Final = (0.25, 0.5, 0.75)  # points on the line between two models

QUANTITIES: Mapping[str, Quantity] = {
    "average_accuracy": Quantity(
        "averaged weights", "share", SECTION, "accuracy of the average of the members' weights"
    ),
    "average_gain": Quantity(
        "gain of averaging", "share", SECTION, "its accuracy minus the members' mean, pair by pair"
    ),
    "path_gain": Quantity(
        "halfway between members", "share", SECTION, "accuracy there minus the mean of the two members'"
    ),
    "average_less_ensemble": Quantity("averaged weights minus ensemble", "share", SECTION, "accuracy, pair by pair"),
    **MEMBER_QUANTITIES,
}


def measure_weight_averaging(
    models: Sequence[ScalarRewardModel], comparisons: Sequence[Comparison]
) -> tuple[ScalarRewardModel, Report]:
    """The average of the models' weights, and whether averaging costs accuracy, on comparisons that none was trained on.

    Weights may be averaged if, on the straight line between models, accuracy is no lower than the same mix of their accuracies
    (linear mode connectivity; Ramé et al. 2024, eq. 3). The line is the one between the two models farthest apart.
    Keys: member_accuracy_mean, average_accuracy, average_gain (the average minus the members' mean), path_gain (halfway along
    the line minus the mean of the two ends), average_less_ensemble (minus the mean of all members' rewards); differences are
    pair by pair. Curve: linear_mode.
    """
    average = average_weights(models)
    scored = [score_comparisons(model, comparisons) for model in models]
    pairs = scored[0]
    is_right = [pair_accuracy(member.margin, pairs.q) for member in scored]

    def accuracy_of(model: ScalarRewardModel) -> Float[np.ndarray, " n"]:
        return pair_accuracy(score_comparisons(model, comparisons).margin, pairs.q)

    def difference(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Estimate:
        return estimate_difference(a, b, pairs.group, pairs.weight)

    one, other = _farthest(models)
    mean, of_average = np.mean(is_right, axis=0), accuracy_of(average)
    gains = {0.0: difference(mean, mean)}
    for alpha in ALPHAS:
        is_average = alpha == 0.5 and len(models) == 2
        mixed = of_average if is_average else accuracy_of(_mix(models[one], models[other], alpha))
        gains[alpha] = difference(mixed, (1 - alpha) * is_right[one] + alpha * is_right[other])
    gains[1.0] = gains[0.0]
    of_ensemble = pair_accuracy(np.mean([member.margin for member in scored], axis=0), pairs.q)
    estimates = {
        "member_accuracy_mean": estimate_share(mean, pairs.group, pairs.weight),
        "average_accuracy": estimate_share(of_average, pairs.group, pairs.weight),
        "average_gain": difference(of_average, mean),
        "path_gain": gains[0.5],
        "average_less_ensemble": difference(of_average, of_ensemble),
    }
    about = {
        "members": str(len(models)),
        "line": f"between members {one + 1} and {other + 1}, which are farthest apart",
    }
    curves = {"linear_mode": _line_curve(gains, one, other)}
    return average, Report("Weight averaging", about, estimates, _findings(estimates), curves, quantities=QUANTITIES)


def _farthest(models: Sequence[ScalarRewardModel]) -> tuple[int, int]:
    """The two models whose weights are farthest apart."""
    pairs = itertools.combinations(range(len(models)), 2)
    return max(pairs, key=lambda pair: _distance(models[pair[0]], models[pair[1]]))


def _distance(one: ScalarRewardModel, other: ScalarRewardModel) -> float:
    """Euclidean distance over all weights."""
    others = dict(other.network.named_parameters())
    squares = [
        float((weight.detach().cpu() - others[name].detach().cpu()).float().square().sum())
        for name, weight in one.network.named_parameters()
    ]
    return math.sqrt(sum(squares))


def _mix(one: ScalarRewardModel, other: ScalarRewardModel, alpha: float) -> ScalarRewardModel:
    return average_weights([one, other], [1 - alpha, alpha])


def _line_curve(gains: Mapping[float, Estimate], one: int, other: int) -> Curve:
    return Curve(
        tuple(gains),
        tuple(gains.values()),
        f"from member {one + 1} to member {other + 1}",
        "accuracy minus the mix of the ends'",
        title="Accuracy on the line between members",
        caption="Below 0, the straight line between the two leaves the region where both are good.",
    )


def _findings(estimates: dict[str, Estimate]) -> tuple[Finding, ...]:
    average, path = estimates["average_gain"], estimates["path_gain"]
    evidence = (
        f"accuracy minus the members' is {percent(average)} for the average, and {percent(path)} halfway between the two "
        "farthest apart"
    )
    if average.high < 0 or path.high < 0:
        remedy = (
            "Use the ensemble itself, or train the members again from one model with its head, with a smaller train.lr "
            "or fewer steps."
        )
        return (Finding("warning", "The members cannot be averaged", evidence, remedy),)
    return (Finding("note", "No loss from averaging is seen", evidence),)
