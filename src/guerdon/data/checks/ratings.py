"""Ratings and reasons that come from a judge's failure, and ratings that contradict each other or the preference."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from guerdon.contracts import Comparison, Finding, Response
from guerdon.data.checks.contract import Check, Data, Fault, Row, RowCheck
from guerdon.data.hashes import as_column

__all__ = ["DefaultRatings", "Reasons"]

SENTINELS: Final = (-1.0, -99.0, -100.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)
LOWEST_SPIKE: Final = 0.05  # share of the ratings
FEWEST_VALUES: Final = 20  # distinct values of a rating that counts as continuous


class DefaultRatings(Check):
    """A number that a judge's program writes when the judge fails: -1 where all others are positive, or a spike.

    A spike is one value, neither the lowest nor the highest, that at least 5 % of continuous ratings have and no other value a
    fifth as often. 8 bytes for each rating.
    """

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._values: dict[str, array[float]] = {}
        self._rows: dict[str, array[int]] = {}

    def add(self, row: Row) -> None:
        """Remember the ratings by name, and soft labels as one more."""
        for response in row.comparison.responses:
            for name, value in response.ratings.items():
                self._remember(f"the rating {name}", value, row)
        preference = row.comparison.preference
        if preference.q is not None and preference.votes is None and preference.q not in (0.0, 0.5, 1.0):
            self._remember("the label q", preference.q, row)

    def _remember(self, name: str, value: float, row: Row) -> None:
        self._values.setdefault(name, array("f")).append(value)
        self._rows.setdefault(name, array("I")).append(row.number)

    def findings(self) -> Iterator[Finding]:
        """An error for each default."""
        for name, value, rows, reason in self._defaults():
            claim = f"have {value:g} as {name}: {reason}"
            remedy = "Drop them, or judge them again: a failed call is not a judgment."
            evidence = self.data.evidence(len(rows), claim, rows)
            yield Finding("error", f"A default as {name}", evidence, remedy)

    def drops(self) -> Mapping[str, Sequence[int]]:
        """The comparisons with a default."""
        return {f"A default as {name}": rows for name, _, rows, _ in self._defaults()}

    def _defaults(self) -> Iterator[tuple[str, float, list[int], str]]:
        for name, column in self._values.items():
            values = as_column(column)
            for value, reason in _suspects(values):
                rows = as_column(self._rows[name])[values == np.float32(value)]
                yield name, value, np.unique(rows).tolist(), reason


def _suspects(values: np.ndarray) -> Iterator[tuple[float, str]]:
    """Values that no judge gave, and why."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) < 3:
        return
    for index, nearest, step in (
        (0, distinct[1], distinct[2] - distinct[1]),
        (-1, distinct[-2], distinct[-2] - distinct[-3]),
    ):
        value = float(distinct[index])
        is_apart = value < 0 <= nearest if index == 0 else abs(value - nearest) > 5 * (nearest - distinct[0])
        if value in SENTINELS and is_apart and abs(value - nearest) >= step:
            yield value, f"all others are {'at least' if index == 0 else 'at most'} {nearest:g}"
    if len(distinct) >= FEWEST_VALUES:
        inner = counts[1:-1]
        largest = int(inner.argmax())
        others = np.delete(inner, largest)
        if inner[largest] >= LOWEST_SPIKE * len(values) and others.max() * 5 <= inner[largest]:
            yield (
                float(distinct[1 + largest]),
                f"{inner[largest] / len(values):.1%} of them, no other value a fifth as often",
            )


FAILURE: Final = Fault(
    "error",
    "Failed judgments",
    "have the error message of a judge as the reason or as the annotator",
    "Drop them, or judge them again: a failed call is not a judgment.",
)
OVERALL: Final = Fault(
    "warning",
    "An overall rating against the others",
    "prefer a response with the highest overall rating whose other ratings are in the lower half of their scale",
    "Use the mean of the other ratings: overall ratings of 10 have been written for 1.",
)
CRITIQUE: Final = Fault(
    "warning",
    "The highest rating with a negative reason",
    "prefer a response with the highest rating for a reason that names its faults only",
    "Read some: the number and the words contradict each other.",
)
AGAINST: Final = Fault(
    "warning",
    "Preferences against the ratings",
    "prefer a response that every rating puts below another one",
    "Check which end of the scale is the good one.",
)
_FAILURE = re.compile(
    r"\s*(?:\[?\[?(?:error|failed|failure|n/?a|none|null|nan|invalid|unparse?able|parse error|timeout)\]?\]?[.:!]?\s*$"
    r"|error[: ]|error code|api ?error|openai\.|rate limit|too many requests|request timed out|traceback|exception:|http [45]\d\d"
    r"|(?:could not|cannot|failed to|unable to) parse|no (?:valid )?(?:verdict|judgment|rating|answer) (?:found|given|returned))",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    r"\b(?:incorrect|wrong|inaccurate|irrelevant|unhelpful|misleading|nonsensical|incoherent|harmful|false|fails?|failed|poor(?:ly)?"
    r"|does not|doesn't|did not|didn't|lacks?|missing|ignores?|unrelated|off-topic|error)\b",
    re.IGNORECASE,
)
_POSITIVE = re.compile(
    r"\b(?:correct|accurate|helpful|relevant|clear|good|great|excellent|well|better|best|detailed|concise|useful|strong|right|perfect"
    r"|informative|thorough|follows|complete|addresses|provides|safe|polite|nice|more|prefer(?:red)?)\b",
    re.IGNORECASE,
)


class Reasons(RowCheck):
    """Reasons and ratings of single comparisons that cannot be right."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._low: dict[str, float] = {}
        self._high: dict[str, float] = {}

    def faults(self, row: Row) -> Iterator[Fault]:
        """Highest and lowest are those of the rows so far."""
        comparison = row.comparison
        for name, value in ((n, v) for response in comparison.responses for n, v in response.ratings.items()):
            self._low[name] = min(value, self._low.get(name, math.inf))
            self._high[name] = max(value, self._high.get(name, -math.inf))
        for text in (comparison.rationale, comparison.annotator):
            if text and len(text) < 1000 and _FAILURE.match(text):
                yield FAILURE
                break
        if not row.pairs:
            return
        best = [comparison.responses[i] for i, rank in enumerate(comparison.ranks) if rank == 0]
        if any(self._contradicts_overall(response.ratings) for response in best):
            yield OVERALL
        if self._is_highest_with_critique(comparison, best):
            yield CRITIQUE
        if any(_is_below(comparison.responses[i], comparison.responses[j]) for i, j in row.pairs):
            yield AGAINST

    def _contradicts_overall(self, ratings: Mapping[str, float]) -> bool:
        overall = [name for name in ratings if name.lower().startswith("overall")]
        others = [name for name in ratings if name not in overall and self._high[name] > self._low[name]]
        if not overall or len(others) < 2 or any(ratings[name] < self._high[name] for name in overall):
            return False
        scaled = [(ratings[name] - self._low[name]) / (self._high[name] - self._low[name]) for name in others]
        return sum(scaled) / len(scaled) < 0.5

    def _is_highest_with_critique(self, comparison: Comparison, best: Sequence[Response]) -> bool:
        text = comparison.rationale or ""
        rated = [(name, value) for response in best for name, value in response.ratings.items()]
        if (
            not text
            or not rated
            or any(value < self._high[name] or self._high[name] == self._low[name] for name, value in rated)
        ):
            return False
        return len(_NEGATIVE.findall(text)) >= 2 and not _POSITIVE.search(text)


def _is_below(better: Response, worse: Response) -> bool:
    """Whether each rating that both have, and at least one, is lower for the one that is preferred."""
    shared = better.ratings.keys() & worse.ratings.keys()
    return bool(shared) and all(better.ratings[name] < worse.ratings[name] for name in shared)
