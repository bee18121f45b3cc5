"""How often the model orders a pair as the verdict does, beside what a rule without a model would get.

Axis: n pairs. The verdict is the majority's, q > 0.5; a pair that the verdict or the model calls a tie counts half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Curve, Estimate, Finding, Quantity, Report

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from guerdon.config import AuditOptions
    from guerdon.models.scored_pairs import ScoredPairs

from guerdon.formulas.agreement import pair_accuracy
from guerdon.models.estimates import CORRECTNESS, SHARED_QUANTITIES, estimate_share

LENGTH_BINS = 8


FEWEST_IN_BIN = 20


POINTS = 0.05  # the difference an audit should be able to see


POWER_80 = 1.96 + 0.84  # standard errors between a difference and 0 for 80 % power at a two-sided 5 %

QUANTITIES: Mapping[str, Quantity] = {
    "constant": Quantity(
        "anchor: a constant", "share", CORRECTNESS, "accuracy of a model that gives everything the same reward"
    ),
    "accuracy_decided": Quantity(
        "accuracy, no ties", "share", CORRECTNESS, "pairs with a winner only; equal rewards count half"
    ),
    "accuracy_longer_preferred": Quantity(
        "when the better is longer", "share", CORRECTNESS, "accuracy on pairs whose better response is longer"
    ),
    "accuracy_shorter_preferred": Quantity(
        "when the better is shorter", "share", CORRECTNESS, "accuracy on pairs whose better response is shorter"
    ),
    "preference_ties": Quantity("tied labels", "share", CORRECTNESS, "pairs that people call equal"),
    **SHARED_QUANTITIES,
}


def measure_accuracy(pairs: ScoredPairs, options: AuditOptions) -> Report:
    """Accuracy and its anchors, by length and by source.

    Keys: accuracy, accuracy_strict, longer_wins, constant, accuracy_above_longer, model_ties, preference_ties,
    accuracy_decided (where some verdicts are ties), accuracy_longer_preferred and accuracy_shorter_preferred (where
    there are such pairs), truncated.
    """
    right = pair_accuracy(pairs.margin, pairs.q)
    longer = pairs.first_length - pairs.second_length
    right_by_length = pair_accuracy(longer.astype(np.float64), pairs.q)
    decided, everyone = ~pairs.is_tie, np.ones(len(pairs), dtype=bool)
    toward_better = longer * np.sign(pairs.q - 0.5)

    def mean(values: Float[np.ndarray, " n"], chosen: Bool[np.ndarray, " n"] = everyone) -> Estimate:
        return estimate_share(values[chosen], pairs.group[chosen], pairs.weight[chosen], options)

    estimates = {
        "accuracy": mean(right),
        "longer_wins": mean(right_by_length),
        "constant": mean(np.full(len(pairs), 0.5)),
        "accuracy_above_longer": mean(right - right_by_length),
        "accuracy_strict": mean((right == 1.0).astype(np.float64), decided),
    }
    if pairs.is_tie.any():
        estimates["accuracy_decided"] = mean(right, decided)
    for name, chosen in (("longer", toward_better > 0), ("shorter", toward_better < 0)):
        if chosen.any():
            estimates[f"accuracy_{name}_preferred"] = mean(right, chosen)
    estimates["model_ties"] = mean((pairs.margin == 0).astype(np.float64))
    estimates["preference_ties"] = mean(pairs.is_tie.astype(np.float64))
    estimates["truncated"] = mean(pairs.truncated.astype(np.float64))

    curves = {}
    if by_length := _by_length(right, toward_better, decided, pairs, options):
        curves["accuracy_by_length"] = by_length
    if len(np.unique(pairs.source)) > 1:
        curves["accuracy_by_source"] = _by_source(right, pairs, options)
    return Report("Accuracy", {}, estimates, _findings(estimates), curves, quantities=QUANTITIES)


def _by_length(
    right: Float[np.ndarray, " n"],
    toward_better: Float[np.ndarray, " n"],
    decided: Bool[np.ndarray, " n"],
    pairs: ScoredPairs,
    options: AuditOptions,
) -> Curve | None:
    """Accuracy in bins of equal mass of (better minus worse) length; None with too few pairs for two bins."""
    num_bins = min(LENGTH_BINS, int(decided.sum()) // FEWEST_IN_BIN)
    if num_bins < 2:
        return None
    edges = np.unique(np.quantile(toward_better[decided], np.linspace(0, 1, num_bins + 1)[1:-1]))
    place = np.searchsorted(edges, toward_better, side="right")
    x, y = [], []
    for each in np.unique(place[decided]):
        chosen = decided & (place == each)
        x.append(float(np.median(toward_better[chosen])))
        y.append(estimate_share(right[chosen], pairs.group[chosen], pairs.weight[chosen], options))
    return Curve(
        tuple(x),
        tuple(y),
        "length of the better minus the worse answer, characters",
        "accuracy",
        title="Accuracy by difference of length",
        caption="A model that only counts characters stands at 0 left of zero and at 1 right of it; "
        "one that ignores them is level.",
    )


def _by_source(right: Float[np.ndarray, " n"], pairs: ScoredPairs, options: AuditOptions) -> Curve:
    names = np.unique(pairs.source)
    y = []
    for name in names:
        chosen = pairs.source == name
        y.append(estimate_share(right[chosen], pairs.group[chosen], pairs.weight[chosen], options))
    shown = tuple(str(name) or "no source" for name in names)
    return Curve(
        tuple(float(i) for i in range(len(names))),
        tuple(y),
        "source",
        "accuracy",
        "points",
        x_names=shown,
        title="Accuracy by source",
    )


def _findings(found: dict[str, Estimate]) -> tuple[Finding, ...]:
    accuracy, above = found["accuracy"], found["accuracy_above_longer"]
    notes = []
    if accuracy.high < 0.5:
        notes.append(
            Finding(
                "warning",
                "The model prefers the worse answer",
                f"accuracy {accuracy}",
                "Check that first and second, or chosen and rejected, are not swapped in the data it was trained on.",
            )
        )
    elif not accuracy.low > 0.5:
        notes.append(
            Finding(
                "warning",
                "Not shown to be better than a coin",
                f"accuracy {accuracy}, and 0.5 lies within the interval",
                "Audit on more prompts; if the interval still covers 0.5, train on more or cleaner comparisons.",
            )
        )
    if not above.low > 0:
        notes.append(
            Finding(
                "warning",
                "Not shown to be better than preferring the longer answer",
                f"accuracy {accuracy}, longer-wins {found['longer_wins']}, difference {above}",
                "Compare the two on pairs of equal length; train on pairs whose length does not give the verdict away.",
            )
        )
    notes += _length_finding(found)
    notes += _evidence_finding(accuracy)
    if found["truncated"].value > 0:
        notes.append(
            Finding(
                "warning",
                "The model did not see all the text",
                f"truncated in {found['truncated']} of pairs",
                "Raise the model's max_length, or drop the longest comparisons and say so.",
            )
        )
    return tuple(notes)


def _length_finding(found: dict[str, Estimate]) -> list[Finding]:
    longer, shorter = found.get("accuracy_longer_preferred"), found.get("accuracy_shorter_preferred")
    if longer is None or shorter is None or not (shorter.high < 0.5 < longer.low):
        return []
    evidence = f"accuracy {longer} where the better answer is longer, {shorter} where it is shorter"
    remedy = "Read its mistakes; balance the training pairs by length, or penalize length."
    return [Finding("warning", "When the better answer is shorter, the model picks the longer", evidence, remedy)]


def _evidence_finding(accuracy: Estimate) -> list[Finding]:
    error = (accuracy.high - accuracy.low) / (2 * 1.96)
    if math.isnan(error):
        return [Finding("warning", "Too little evidence", "a single group gives no interval", "Audit on more prompts.")]
    needed = math.ceil(accuracy.n * (error * POWER_80 / POINTS) ** 2)
    if error * 1.96 <= POINTS or needed <= accuracy.n:
        return []
    evidence = f"n = {accuracy.n} groups; about {needed} are needed to see a difference of 5 points four times in five"
    return [Finding("warning", "Too little evidence", evidence, "Audit on more prompts before comparing models.")]
