"""Does a judge's preference depend on which response it sees first?

A reward model's cannot, because it scores each response by itself; so only judges are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Finding, Quantity, Report
from guerdon.models.estimates import CORRECTNESS, SHARED_QUANTITIES, estimate_share, percent

if TYPE_CHECKING:
    from guerdon.contracts import Comparison, Judge
    from guerdon.models.scored_pairs import ScoredPairs

CONSISTENT: Final = 0.9

TITLE = "Order"
QUANTITIES: Mapping[str, Quantity] = {
    "first_position": Quantity(
        "prefers the first", "share", CORRECTNESS, "share of pairs, in both orders, in which the first shown wins"
    ),
    **SHARED_QUANTITIES,
}


def measure_position_bias(judge: Judge, comparisons: Sequence[Comparison], pairs: ScoredPairs) -> Report:
    """Every pair is judged again with its responses swapped. Keys: position_consistency, first_position."""
    rows = list(zip(pairs.index.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True))
    prompts = [comparisons[index].prompt for index, _, _ in rows]
    first = [comparisons[index].responses[i] for index, i, _ in rows]
    second = [comparisons[index].responses[j] for index, _, j in rows]
    swapped = np.sign(np.asarray(judge.log_odds(prompts, second, first), dtype=np.float64))
    is_consistent = (np.sign(pairs.margin) == -swapped).astype(np.float64)
    first_wins = (2.0 + np.sign(pairs.margin) + swapped) / 4.0
    estimates = {
        "position_consistency": estimate_share(is_consistent, pairs.group, pairs.weight),
        "first_position": estimate_share(first_wins, pairs.group, pairs.weight),
    }
    consistency, bias = estimates["position_consistency"], estimates["first_position"]
    if consistency.high >= CONSISTENT and bias.low <= 0.5 <= bias.high:
        return Report(TITLE, estimates=estimates, quantities=QUANTITIES)
    finding = Finding(
        "warning",
        "The preference depends on the order shown",
        f"the winner stays the same in {percent(consistency)} of pairs; the first shown wins {percent(bias)} of the time",
        "Judge in both orders and average.",
    )
    return Report(TITLE, estimates=estimates, findings=(finding,), quantities=QUANTITIES)
