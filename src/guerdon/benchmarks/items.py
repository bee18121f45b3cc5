"""What readers give and rules take: items of a benchmark, and the scores of their responses.

Axes: n items, k responses per item in its own order, g games (1, or 2 where a judge saw a pair in both orders).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Finding, Prompt, Response

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

__all__ = ["Item", "ScoreTable", "first_few"]

NUM_SHOWN = 5  # names listed in one line


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt, its responses in the order published, and the indices of the right ones.

    subset: the benchmark's own name for a part of it. group: what intervals resample: the prompt, or the question that
    several items were made from. own_prompts: what each response answers where that is not the prompt alone, as in
    trajectories whose later turns of the user are a part; empty otherwise.
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    correct: tuple[int, ...]
    subset: str
    group: str
    own_prompts: tuple[Prompt, ...] = ()

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """What each response answers."""
        return self.own_prompts or (self.prompt,) * len(self.responses)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Characters that the assistant wrote for each response, turns before it included that the prompt does not have."""
        earlier = (prompt[len(self.prompt) :] for prompt in self.prompts)
        own = (sum(len(turn.content) for turn in turns if turn.role == "assistant") for turns in earlier)
        return tuple(before + len(response.text) for before, response in zip(own, self.responses, strict=True))

    @property
    def wrong(self) -> tuple[int, ...]:
        """Indices of the responses that are not right."""
        return tuple(i for i in range(len(self.responses)) if i not in self.correct)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores [g, k] of each item's responses, in their order, and whether the model read only a part of an item's texts [n].

    A judge's scores are its log-odds: (odds, 0) for a pair, and NaN where a game has no decision. notes: how the scores were
    matched to the items.
    """

    scores: tuple[Float[np.ndarray, "g k"], ...]
    truncated: Bool[np.ndarray, " n"]
    notes: tuple[Finding, ...] = ()


def first_few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(str(name) for name in names[:NUM_SHOWN]) + more
