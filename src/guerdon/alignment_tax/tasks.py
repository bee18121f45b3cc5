"""What a task is made of: items with a right continuation, and a policy's scores on them.

Axis: n items of a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

__all__ = ["GENERATED_TASKS", "MAX_CHARACTERS", "READ_TASKS", "TASKS", "Choice", "Recall", "Task"]

READ_TASKS = ("text", "minimal_pairs", "cloze", "arithmetic", "copy")
"""Tasks in which the policy reads given texts."""

GENERATED_TASKS = ("unrepeated", "distinct", "vocabulary", "answered", "json")
"""Tasks in which the policy replies."""

TASKS = (*READ_TASKS, *GENERATED_TASKS)

MAX_CHARACTERS = 400
"""Of an item or an answer that a report shows."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One right continuation among wrong ones.

    context: plain text; continuations start with their own space. ask: what the user says in a chat, where a continuation
    without its space is the reply. kind: groups items.
    """

    kind: str
    context: str
    right: str
    wrong: tuple[str, ...]
    ask: str


@dataclass(frozen=True, slots=True)
class Recall:
    """A continuation that its context already contains; `ask` as for a Choice."""

    context: str
    continuation: str
    ask: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A policy's scores of a task's items [n], higher is better, and what a person needs to understand them.

    bank: names the items; tasks of one bank were measured on the same ones. is_share: every score is 1.0 or 0.0. chance: the
    score of a model that knows nothing, None if there is none. kinds: of each item, empty if there is only one. items, answers:
    what was shown, and what the policy made of it, item by item; empty if there is nothing to read.
    """

    score: Float[np.ndarray, " n"]
    bank: str
    is_share: bool = False
    chance: float | None = None
    kinds: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
