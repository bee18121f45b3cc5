"""Comparisons to read: a random sample, and the rows that findings name, in memory that does not grow with the data."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from guerdon.contracts import Comparison

__all__ = ["MAX_CHARACTERS", "RowSample", "rows_by_number"]

MAX_CHARACTERS: Final = 20_000_000  # of all texts that are kept


class RowSample:
    """At most `size` rows, each as likely as any other, and fewer where their texts are huge. The same seed draws the same rows.

    A row is drawn by the hash of its number, so which rows are kept does not depend on what they say.
    """

    def __init__(self, size: int, seed: int, max_characters: int = MAX_CHARACTERS) -> None:
        self.size, self.seed, self.max_characters = size, seed, max_characters
        self._kept: list[tuple[int, int, Comparison]] = []
        self._characters = 0

    def add(self, number: int, comparison: Comparison) -> None:
        """Keep the row if its hash is low enough."""
        key = -self._hash(number)
        if self.size < 1 or (len(self._kept) >= self.size and key <= self._kept[0][0]):
            return
        heapq.heappush(self._kept, (key, number, comparison))
        self._characters += _num_characters(comparison)
        while len(self._kept) > self.size or (self._characters > self.max_characters and len(self._kept) > 1):
            *_, dropped = heapq.heappop(self._kept)
            self._characters -= _num_characters(dropped)
            self.size = min(self.size, max(1, len(self._kept)))  # else later rows with a higher hash would come in

    @property
    def rows(self) -> dict[int, Comparison]:
        """The rows by their numbers, in the order in which they were drawn."""
        return {number: comparison for _, number, comparison in sorted(self._kept, key=lambda entry: -entry[0])}

    def _hash(self, number: int) -> int:
        return int.from_bytes(hashlib.blake2b(b"%d %d" % (self.seed, number), digest_size=8).digest(), "big")


def rows_by_number(comparisons: Iterable[Comparison], numbers: Iterable[int]) -> dict[int, Comparison]:
    """The rows with these numbers, as many as memory allows."""
    wanted, rows, characters = set(numbers), dict[int, Comparison](), 0
    if not wanted:
        return rows
    last = max(wanted)
    for number, comparison in enumerate(comparisons):
        if number in wanted and characters < MAX_CHARACTERS:
            rows[number] = comparison
            characters += _num_characters(comparison)
        if number == last:
            break
    return rows


def findings_of(cited: Mapping[str, Sequence[int]]) -> dict[int, tuple[str, ...]]:
    """The titles of the findings that name each row."""
    titles: dict[int, list[str]] = {}
    for title, numbers in cited.items():
        for number in numbers:
            titles.setdefault(number, []).append(title)
    return {number: tuple(names) for number, names in titles.items()}


def _num_characters(comparison: Comparison) -> int:
    turns = [*comparison.prompt, *(turn for response in comparison.responses for turn in response.messages)]
    return sum(len(turn.content) for turn in turns) + sum(len(response.text) for response in comparison.responses)
