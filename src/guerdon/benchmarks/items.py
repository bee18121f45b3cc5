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
    several items were made from.
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    correct: tuple[int, ...]
    subset: str
    group: str

    @property
    def wrong(self) -> tuple[int, ...]:
        """Indices of the responses that are not right."""
        return tuple(i for i in range(len(self.responses)) if i not in self.correct)


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Scores [g, k] of each item's responses, in their order, and whether the model read only a part of an item's texts [n].

    A judge's scores are its log-odds: (odds, 0) for a pair. notes: how the scores were matched to the items.
    """

    scores: tuple[Float[np.ndarray, "g k"], ...]
    truncated: Bool[np.ndarray, " n"]
    notes: tuple[Finding, ...] = ()


def first_few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return ", ".join(str(name) for name in names[:NUM_SHOWN]) + more
