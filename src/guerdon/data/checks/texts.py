"""Faults in the texts of single comparisons: responses that are the same, empty, or full of chat marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Check, Data, Fault, Row, Tally

__all__ = ["Texts", "contradict_ranks"]

IDENTICAL = Fault(
    "error",
    "Identical responses",
    "have identical responses with different ranks, or no others",
    "Drop them: nothing can be learned from them.",
)
EMPTY = Fault("error", "Empty responses", "have a response without text", "Drop them, or find out where the text went.")
MARKS = Fault(
    "warning",
    "Role marks inside responses",
    "have chat marks, such as a Human turn or a special token, in the text of a response",
    "Check whether responses were split in the wrong place.",
)
_MARK = re.compile(r"\n\n(?:Human|Assistant):|<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|</s>")


class Texts(Check):
    """Faults that each comparison shows by itself."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._tally = Tally(data, (IDENTICAL, EMPTY, MARKS))

    def add(self, row: Row) -> None:
        """Count the faults of the row."""
        for fault in _faults(row):
            self._tally.add(fault, row)

    def findings(self) -> Iterator[Finding]:
        """What was counted."""
        return self._tally.findings()


def contradict_ranks(contents: Sequence[object], ranks: Sequence[int]) -> bool:
    """Whether all responses are the same, or two that are the same have different ranks."""
    rank_of: dict[object, int] = {}
    for content, rank in zip(contents, ranks, strict=True):
        if rank_of.setdefault(content, rank) != rank:
            return True
    return len(rank_of) == 1


def _faults(row: Row) -> Iterator[Fault]:
    responses = row.comparison.responses
    if any(response.is_empty for response in responses):
        yield EMPTY
    if contradict_ranks(row.identities, row.comparison.ranks):
        yield IDENTICAL
    if any(_MARK.search(response.text) for response in responses):
        yield MARKS
