"""Is a score independent of the rest of its batch? Used by the hygiene gate and by the conformance check.

Axis: n responses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import as_prompt, as_response

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel

__all__ = ["BatchInvariance", "measure_batch_invariance"]


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """Scores of n responses, each scored alone, and the largest change of any score in other batches.

    std: standard deviation of the scores, 0.0 where all are equal. changes: by how the batch differed, in words.
    """

    alone: Float[np.ndarray, " n"]
    std: float
    changes: Mapping[str, float]


def measure_batch_invariance(
    model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], seed: int = 0
) -> BatchInvariance:
    """Score each response alone, with all others, shuffled, next to the longest and the shortest, and alone again."""
    rows = list(range(len(prompts)))

    def score(chosen: Sequence[int]) -> Float[np.ndarray, " n"]:
        scores = model.score([prompts[i] for i in chosen], [responses[i] for i in chosen])
        return np.asarray(scores.value, dtype=np.float64)

    def largest_change(other: Float[np.ndarray, " n"]) -> float:
        return float(np.max(np.abs(other - alone), initial=0.0))

    alone = np.array([score([i])[0] for i in rows], dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    sizes = [_size(prompts[i], responses[i]) for i in rows]
    longest, shortest = int(np.argmax(sizes)), int(np.argmin(sizes))
    changes = {
        "together with the others": largest_change(score(rows)),
        "in another order": largest_change(score(order)[np.argsort(order)]),
        "next to the longest": largest_change(np.array([score([i, longest])[0] for i in rows])),
        "next to the shortest": largest_change(np.array([score([shortest, i])[1] for i in rows])),
        "a second time": largest_change(np.array([score([i])[0] for i in rows])),
    }
    return BatchInvariance(alone, float(alone.std()), changes)


def _size(prompt: PromptLike, response: ResponseLike) -> int:
    turns = [*as_prompt(prompt), *as_response(response).turns()]
    return sum(len(turn.content) + sum(len(call.arguments) for call in turn.tool_calls) for turn in turns)
