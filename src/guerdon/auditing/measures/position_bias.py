"""Does a judge's verdict survive a change of places? A reward model's does by construction: only judges are asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity, Report
from guerdon.models.estimates import CORRECTNESS, SHARED_QUANTITIES, estimate_share

if TYPE_CHECKING:
    from guerdon.config import AuditOptions
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.scored_pairs import ScoredPairs

CONSISTENT = 0.9

QUANTITIES: Mapping[str, Quantity] = {
    "first_position": Quantity(
        "prefers the first", "share", CORRECTNESS, "share of pairs, in both orders, in which the first shown wins"
    ),
    **SHARED_QUANTITIES,
}


def measure_position_bias(
    judge: Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs, options: AuditOptions
) -> Report:
    """Every pair asked again with its responses swapped. Keys: position_consistency, first_position."""
    rows = list(zip(pairs.index.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True))
    swapped = np.asarray(
        judge.log_odds(
            [comparisons[c].prompt for c, _, _ in rows],
            [comparisons[c].responses[j] for c, _, j in rows],
            [comparisons[c].responses[i] for c, i, _ in rows],
        ),
        dtype=np.float64,
    )
    same = (np.sign(pairs.margin) == -np.sign(swapped)).astype(np.float64)
    first = (2.0 + np.sign(pairs.margin) + np.sign(swapped)) / 4.0

    def mean(values: np.ndarray) -> Estimate:
        return estimate_share(values, pairs.group, pairs.weight, options)

    estimates = {"position_consistency": mean(same), "first_position": mean(first)}
    notes = []
    if estimates["position_consistency"].high < CONSISTENT or not (
        estimates["first_position"].low <= 0.5 <= estimates["first_position"].high
    ):
        evidence = (
            f"the winner stays in {estimates['position_consistency']} of pairs; "
            f"the first shown wins {estimates['first_position']} of the time"
        )
        notes.append(
            Finding("warning", "The verdict depends on the order shown", evidence, "Ask in both orders and average.")
        )
    return Report("Order", estimates=estimates, findings=tuple(notes), quantities=QUANTITIES)
