"""The mistakes to read: the pairs on which the model is most confident and people clearly disagree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Example

if TYPE_CHECKING:
    from guerdon.contracts import Comparison
    from guerdon.models.scored_pairs import ScoredPairs

CLEAR: Final = 0.7  # share of people who must prefer one response


def worst_mistakes(comparisons: Sequence[Comparison], pairs: ScoredPairs, num: int) -> tuple[Example, ...]:
    """Up to `num` pairs, most confident first, one per comparison; what people prefer comes first. A judge's rewards are NaN."""
    is_clear = np.maximum(pairs.q, 1 - pairs.q) >= CLEAR
    is_wrong = is_clear & (np.sign(pairs.margin) * np.sign(pairs.q - 0.5) < 0)
    order = np.flatnonzero(is_wrong)[np.argsort(-np.abs(pairs.margin[is_wrong]), kind="stable")]
    _, earliest = np.unique(pairs.index[order], return_index=True)
    return tuple(_example(comparisons, pairs, int(row)) for row in order[np.sort(earliest)][:num])


def _example(comparisons: Sequence[Comparison], pairs: ScoredPairs, row: int) -> Example:
    comparison = comparisons[pairs.index[row]]
    sides = [(pairs.first[row], pairs.first_reward[row]), (pairs.second[row], pairs.second_reward[row])]
    if pairs.q[row] < 0.5:
        sides.reverse()
    confidence = 1 / (1 + math.exp(-abs(float(pairs.margin[row]))))
    votes = pairs.votes[row]
    people = "people" if votes.min() < 0 else f"{max(votes[0], votes[2])} of {votes.sum()} people"
    return Example(
        title=f"The model is {_percent(confidence)} sure of the answer that {people} rejected",
        prompt=comparison.prompt,
        responses=tuple(comparison.responses[i] for i, _ in sides),
        labels=("people prefer", "the model prefers"),
        rewards=tuple(float(reward) for _, reward in sides),
    )


def _percent(confidence: float) -> str:
    if confidence > 0.999:
        return "over 99.9 %"
    return f"{100 * confidence:.0f} %" if confidence < 0.99 else f"{100 * confidence:.1f} %"
