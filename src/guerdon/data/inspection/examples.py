"""Rows that a finding names, as texts to read: each set of responses once, with everybody's judgment of it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from guerdon.contracts import Comparison, Example, response_identity
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.data.hashes import as_column, hash_parts
from guerdon.io.labels import label_of_response

__all__ = ["Repetitions", "example_of"]

MAX_JUDGMENTS: Final = 5  # of the same responses, shown with their texts


class Repetitions(Check):
    """Which rows are about the same prompt and responses. It finds no fault; 8 bytes a comparison."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._hashes = array("Q")

    def add(self, row: Row) -> None:
        """Remember what was judged, whoever judged it and in which order it was shown."""
        self._hashes.append(hash_parts(row.exact_prompt, *sorted(row.responses)))

    def of(self, numbers: Iterable[int]) -> dict[int, list[int]]:
        """For each row the first rows about the same responses, itself among them."""
        hashes = as_column(self._hashes)
        same: dict[int, list[int]] = {}
        for number in dict.fromkeys(numbers):
            rows = np.flatnonzero(hashes == hashes[number])[:MAX_JUDGMENTS].tolist()
            same[number] = rows if number in rows else [*rows[: MAX_JUDGMENTS - 1], number]
        return same


def example_of(number: int, same: Sequence[int], rows: Mapping[int, Comparison]) -> Example:
    """The responses of a row, with the judgments of all rows about the same responses."""
    comparison = rows[number]
    judgments = [rows[i] for i in same if i in rows]
    labels = tuple(
        "; ".join(_judgment(other, response_identity(response), i) for other in judgments)
        for i, response in enumerate(comparison.responses)
    )
    places = dict.fromkeys(other.prompt.location or other.id for other in judgments)
    nan = math.nan
    return Example(
        ", ".join(places), comparison.prompt, comparison.responses, labels, (nan,) * len(comparison.responses)
    )


def _judgment(comparison: Comparison, identity: object, i: int) -> str:
    """What one row says of the response, and who says it."""
    identities = [response_identity(response) for response in comparison.responses]
    place = i if identities[i] == identity else identities.index(identity)  # type: ignore[arg-type]
    by = f" by {comparison.annotator}" if comparison.annotator else ""
    return f"{label_of_response(comparison, place)}{by}"
