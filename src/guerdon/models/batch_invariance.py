"""Does a score depend on who else is scored? The hygiene gate and the conformance check both ask. Axis: n responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import as_prompt, as_response

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel


@dataclass(frozen=True, slots=True)
class BatchInvariance:
    """The same responses [n] scored in different company, and the largest change of a score in each."""

    alone: Float[np.ndarray, " n"]
    spread: float
    together: float
    shuffled: float
    beside_long: float
    beside_short: float
    twice: float

    @property
    def changes(self) -> dict[str, float]:
        """Largest change by kind of company, as named in a sentence."""
        return {
            "together with the others": self.together,
            "in another order": self.shuffled,
            "beside the longest": self.beside_long,
            "beside the shortest": self.beside_short,
            "a second time": self.twice,
        }


def measure_batch_invariance(
    model: RewardModel, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike], seed: int = 0
) -> BatchInvariance:
    """Score each response alone, with all others, shuffled, beside the longest and the shortest, and alone again."""
    rows = list(range(len(prompts)))

    def score(chosen: Sequence[int]) -> Float[np.ndarray, " n"]:
        found = model.score([prompts[i] for i in chosen], [responses[i] for i in chosen])
        return np.asarray(found.value, dtype=np.float64)

    def change(other: Float[np.ndarray, " n"]) -> float:
        return float(np.max(np.abs(other - alone), initial=0.0))

    alone = np.array([score([i])[0] for i in rows], dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(rows)).tolist()
    sizes = [_size(prompts[i], responses[i]) for i in rows]
    longest, shortest = int(np.argmax(sizes)), int(np.argmin(sizes))
    return BatchInvariance(
        alone=alone,
        spread=float(alone.std()),
        together=change(score(rows)),
        shuffled=change(score(order)[np.argsort(order)]),
        beside_long=change(np.array([score([i, longest])[0] for i in rows])),
        beside_short=change(np.array([score([shortest, i])[1] for i in rows])),
        twice=change(np.array([score([i])[0] for i in rows])),
    )


def _size(prompt: PromptLike, response: ResponseLike) -> int:
    return sum(len(message.content) for message in as_prompt(prompt)) + len(as_response(response).text)
