"""Rewards that are a user's functions f(prompts, responses): read from a Python file, and the numbers that they return.

Axes: n responses.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsFloat, final

import numpy as np

from guerdon.contracts import GuerdonError, Prompt, Response

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["FileFunction", "RewardFunction", "from_file", "returned_numbers"]

RewardFunction = Callable[[Sequence[Prompt], Sequence[Response]], Iterable[float]]


@final
class FileFunction:
    """A function of a Python file. Its fingerprint is that of the file's content."""

    def __init__(self, function: RewardFunction, content: bytes, name: str) -> None:
        self.function = function
        self.fingerprint = hashlib.sha256(b"\0".join([content, name.encode()])).hexdigest()[:16]
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> Iterable[float]:
        """The function's numbers."""
        return self.function(prompts, responses)


def from_file(path: str, function: str) -> FileFunction:
    """FUNCTION of FILE.py. GuerdonError if there is none, or the file does not run."""
    import runpy

    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise GuerdonError(f"{path}: must be a readable Python file, got {error}. Give FILE.py:FUNCTION.") from None
    try:
        names = runpy.run_path(path)
    except (Exception, SystemExit) as error:  # a user's program: whatever it raises is shown, and chained
        line = " ".join(str(error).split())[:200]
        raise GuerdonError(f"{path}: raised {type(error).__name__} ({line}). Fix the file.") from error
    if not callable(names.get(function)):
        near = difflib.get_close_matches(function, [name for name, value in names.items() if callable(value)], 1)
        advice = f"Did you mean {near[0]}?" if near else "Give FILE.py:FUNCTION."
        raise GuerdonError(f"{path}: must define the function {function}, got none. {advice}")
    return FileFunction(names[function], content, function)


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
