"""Attributes of a reward in files: an object of lists, one number per response, null where it is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.errors import field_error
from guerdon.io.fields import as_number

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["attributes_from_row", "attributes_to_row", "null_for_nan"]


def null_for_nan(values: Float[np.ndarray, " n"] | Sequence[float]) -> list[float | None]:
    """The numbers as JSON has them: what is not finite becomes null."""
    return [float(x) if math.isfinite(x) else None for x in values]


def attributes_to_row(attributes: Mapping[str, Float[np.ndarray, " n"]]) -> dict[str, list[float | None]]:
    """The attributes as plain values."""
    return {name: null_for_nan(values) for name, values in attributes.items()}


def attributes_from_row(value: object, n: int) -> dict[str, Float[np.ndarray, " n"]]:
    """The inverse of attributes_to_row, for n responses. Errors name the field."""
    if not isinstance(value, Mapping):
        raise field_error("attributes", "an object of lists", value)
    columns = {}
    for name, values in value.items():
        if not isinstance(values, list) or len(values) != n:
            raise field_error(f"attributes.{name}", f"a list of {n} numbers, one per response", values)
        numbers = [math.nan if x is None else as_number(x, f"attributes.{name}[{i}]") for i, x in enumerate(values)]
        columns[str(name)] = np.array(numbers, dtype=np.float64)
    return columns
