"""Checks of single values: each returns the value in its type, or raises an error that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from guerdon.errors import field_error


def as_number(
    value: object,
    field: str,
    claim: str = "a finite number",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> float:
    """The value as a finite float in [low, high] and > above. A boolean is not a number; a Decimal is."""
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float | Decimal) else float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and low <= number <= high and number > above):
        raise field_error(field, claim, value)
    return number


def to_number(
    value: object, field: str, claim: str, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """Like `as_number`, but a number may be text, which is all that a table holds."""
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        raise field_error(field, claim, value) from None
    return as_number(number, field, claim, low=low, high=high, above=above)


def as_text(value: object, field: str) -> str:
    """The value if it is text."""
    if not isinstance(value, str):
        raise field_error(field, "text", value)
    return value


def as_list(value: object, field: str, claim: str) -> Sequence[Any]:
    """The value if it is a list."""
    if not isinstance(value, list | tuple):
        raise field_error(field, claim, value)
    return value


def optional_text(row: Mapping[str, Any], key: str, parent: str = "") -> str | None:
    """The text under the key, or None if the key is absent; `parent` is where the row itself is, for the error."""
    return as_text(row[key], f"{parent}.{key}" if parent else key) if key in row else None


def is_count(value: object) -> bool:
    """Whether the value is an integer >= 0. A boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def complement(probability: float) -> float:
    """1 - probability as people write it: 0.1 for 0.9, where the difference of the two floats is 0.09999999999999998."""
    return float(1 - Decimal(repr(float(probability))))


NO_VALUE = ("", "nan", "na", "n/a", "null", "none")  # what tables write where a number or a name is missing


def is_absent(value: object) -> bool:
    """Whether an optional cell holds nothing: null, NaN, or a word that tables write for it."""
    if isinstance(value, str):
        return value.strip().casefold() in NO_VALUE
    return value is None or is_nan(value)


def is_nan(value: object) -> bool:
    """Whether the value is a number that is none: what tables hold where a number is missing."""
    return isinstance(value, float | Decimal) and math.isnan(value)


def as_name(value: object, field: str) -> str:
    """The value as the text of an id, a group, an annotator or a source: 12.0 is 12, and an object is its JSON text."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise field_error(field, "text or a number", value)
    return str(value)


def without_missing(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without its null fields."""
    return {key: value for key, value in row.items() if value is not None}
