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
    from guerdon.auditing.score_cache import CachedJudge
    from guerdon.contracts import Comparison
    from guerdon.models.scored_pairs import ScoredPairs

CONSISTENT: Final = 0.9

TITLE = "Order"
QUANTITIES: Mapping[str, Quantity] = {
    "first_position": Quantity(
        "prefers the first", "share", CORRECTNESS, "share of pairs, in both orders, in which the first shown wins"
    ),
    **SHARED_QUANTITIES,
}


def measure_position_bias(judge: CachedJudge, comparisons: Sequence[Comparison], pairs: ScoredPairs) -> Report:
    """Whether the winner stays when the responses change places. Keys: position_consistency, first_position.

    A judge that asks in both orders itself is measured on what it answered in each; any other judges every pair once more with
    its responses swapped.
    """
    rows = list(zip(pairs.index.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True))
    prompts = [comparisons[index].prompt for index, _, _ in rows]
    first = [comparisons[index].responses[i] for index, i, _ in rows]
    second = [comparisons[index].responses[j] for index, _, j in rows]
    picks = judge.first_picks(prompts, first, second)
    if picks is None:
        swapped = np.asarray(judge.log_odds(prompts, second, first), dtype=np.float64)
        sides = np.sign(np.column_stack([pairs.margin, swapped]))
    else:
        sides = np.sign(picks - 0.5)
    known = ~np.isnan(sides).any(axis=1)
    is_consistent = (sides[:, 0] == -sides[:, 1]).astype(np.float64)[known]
    first_wins = ((2.0 + sides.sum(axis=1)) / 4.0)[known]
    groups, weight = pairs.group[known], pairs.weight[known]
    estimates = {
        "position_consistency": estimate_share(is_consistent, groups, weight),
        "first_position": estimate_share(first_wins, groups, weight),
    }
    consistency, bias = estimates["position_consistency"], estimates["first_position"]
    if consistency.high >= CONSISTENT and bias.low <= 0.5 <= bias.high:
        return Report(TITLE, estimates=estimates, quantities=QUANTITIES)
    finding = Finding(
        "warning",
        "The preference depends on the order shown",
        f"the winner stays the same in {percent(consistency)} of pairs; the first shown wins {percent(bias)} of the time",
        "Judge in both orders and average, as it is done here; labels from one order hold the bias."
        if picks is not None
        else "Judge in both orders and average.",
    )
    return Report(TITLE, estimates=estimates, findings=(finding,), quantities=QUANTITIES)
