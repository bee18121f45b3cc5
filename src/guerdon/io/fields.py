"""Checks of single values, and the one form of error: what must be true, what was found, what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from guerdon.contracts import (
    GuerdonError,
)


def is_count(value: object) -> bool:
    """Whether the value is a whole number >= 0; True is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def without_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without its null fields."""
    return {key: value for key, value in row.items() if value is not None}


def as_list(value: object, where: str, claim: str) -> Sequence[Any]:
    """The value if it is a list; else an error that names the field."""
    if not isinstance(value, list | tuple):
        raise wrong(where, claim, value)
    return value


def optional_text(fields: Mapping[str, Any], key: str, where: str = "") -> str | None:
    """The field's text, or None where it is absent."""
    return text(fields[key], f"{where}.{key}" if where else key) if key in fields else None


def text(value: object, where: str) -> str:
    """The value if it is text; else an error that names the field."""
    if not isinstance(value, str):
        raise wrong(where, "is text", value)
    return value


def number(
    value: object,
    where: str,
    claim: str = "is a finite number",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> float:
    """The value as a finite float in [low, high] and > above; else an error that names the field. True is no number."""
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        found = math.inf
    if not (math.isfinite(found) and low <= found <= high and found > above):
        raise wrong(where, claim, value)
    return found


def wrong(where: str, claim: str, value: object, remedy: str = "correct or drop the row") -> GuerdonError:
    """What a field should be, what it is, and what to do, in one line."""
    return GuerdonError(f"field {where} {claim}, got {shown(value)}; remedy: {remedy}")


def shown(value: object, width: int = 60) -> str:
    """The value on one line, cut where it is long."""
    if value is None:
        return "nothing"
    body = repr(value[: width + 1] if isinstance(value, str | bytes) else value)
    return body if len(body) <= width + 2 else f"{body[:width]}…"


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like this one, and all of them where none is."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return close[0] if close else f"none; known are {', '.join(names)}"
