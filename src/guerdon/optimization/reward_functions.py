"""Rewards that are a user's functions f(prompts, responses), and the numbers that they return.

Axes: n responses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from guerdon.contracts import GuerdonError, Prompt, Response

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["RewardFunction", "returned_numbers"]

RewardFunction = Callable[[Sequence[Prompt], Sequence[Response]], Iterable[float]]


def returned_numbers(name: str, returned: Any, n: int) -> Float[np.ndarray, " n"]:
    """What a function returned, as [n] float64; GuerdonError if it is anything but n numbers."""
    advice = "Return a list of one number per response."
    try:
        values: list[Any] | None = None if isinstance(returned, str | bytes | Mapping) else list(returned)
    except TypeError:
        values = None
    if values is None:
        kind = type(returned).__name__
        raise GuerdonError(f"reward {name}: must return a list of numbers, got {kind} ({returned!r:.40}). {advice}")
    if len(values) != n:
        raise GuerdonError(
            f"reward {name}: must return one number for each of {n} responses, got {len(values)}. {advice}"
        )
    for at, value in enumerate(values):
        if not isinstance(value, SupportsFloat) or getattr(value, "shape", ()) != ():
            kind = type(value).__name__
            raise GuerdonError(
                f"reward {name}: must return numbers, got {kind} ({value!r:.40}) for response {at}. {advice}"
            )
    return np.array([_as_float(value) for value in values], dtype=np.float64)


def _as_float(value: SupportsFloat) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer larger than every float
        return math.inf
