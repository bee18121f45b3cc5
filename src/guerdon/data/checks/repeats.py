"""The same comparison again, the same pair judged the other way round, and ids that different comparisons share."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity
from guerdon.data.checks.contract import SECTION, Check, Data, Row
from guerdon.data.hashes import as_column, hash_parts, row_hash

__all__ = ["Repeats"]


class Repeats(Check):
    """Comparisons that repeat or contradict others. 34 bytes for each comparison."""

    quantities: ClassVar[Mapping[str, Quantity]] = {
        "duplicates": Quantity("duplicates", "share", SECTION, "comparisons that equal an earlier one"),
        "contradicted_pairs": Quantity("contradicted pairs", "share", SECTION, "pairs judged once each way"),
    }

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._rows, self._ids, self._is_named = array("Q"), array("Q"), array("B")
        self._pairs, self._pair_rows, self._directions = array("Q"), array("Q"), array("B")

    def add(self, row: Row) -> None:
        """Remember its hash, and for a pair with a winner which response of the pair won."""
        comparison = row.comparison
        self._rows.append(row_hash(comparison, row.exact_prompt, row.responses, row.ranks))
        self._ids.append(hash_parts(comparison.id))
        self._is_named.append(comparison.annotator is not None)
        if len(comparison.responses) == 2 and comparison.q != 0.5:
            first, second = row.responses
            self._pairs.append(hash_parts(row.exact_prompt, *sorted((first, second))))
            self._pair_rows.append(row.number)
            self._directions.append(((comparison.q or 0.0) > 0.5) == (first < second))

    def findings(self) -> Iterator[Finding]:
        """Duplicates and shared ids are warnings; contradictions are a note, because people disagree."""
        rows, ids = as_column(self._rows), as_column(self._ids)
        first_row, first_id = _first_with_same(rows), _first_with_same(ids)
        is_repeated = first_row < np.arange(len(rows))
        if repeated := np.flatnonzero(is_repeated).tolist():
            claim = "repeat an earlier one (prompt, responses, preference, annotator)"
            remedy = "Drop the repetitions; if they are votes, name the annotators."
            yield Finding("warning", "Exact duplicates", self.data.evidence(len(repeated), claim, repeated), remedy)
        if shared := np.flatnonzero(~is_repeated & (rows[first_id] != rows)).tolist():
            claim = "have the id of an earlier comparison that is not the same"
            remedy = "Give each comparison an id of its own, or leave ids out: scores are matched by id."
            yield Finding("warning", "Ids that are shared", self.data.evidence(len(shared), claim, shared), remedy)
        if contradictions := self._contradictions():
            claim = "judge a pair that was also judged the other way round"
            evidence = self.data.evidence(len(contradictions), claim, contradictions)
            yield Finding("note", "Contradictions", evidence, "Merge each pair into one soft label q: people disagree.")

    def _contradictions(self) -> list[int]:
        """Per contradicted pair, the number of the first row that contradicts the first one."""
        pairs, directions = as_column(self._pairs), as_column(self._directions)
        first = _first_with_same(pairs)
        against = np.flatnonzero(directions != directions[first])
        _, positions = np.unique(first[against], return_index=True)
        return sorted(as_column(self._pair_rows)[against[positions]].tolist())

    def merges(self, dropped: frozenset[int]) -> tuple[dict[int, int], dict[int, int]]:
        """What to do with repeated judgments: rows to merge into another one, and rows that only repeat another one.

        Rows of one pair by nobody in particular are votes: each goes to the first of them. Ties, rankings and judgments of a
        named annotator are kept once. Both map a row's number to that of the first row; `dropped` rows do not count.
        """
        numbers, pairs = as_column(self._pair_rows), as_column(self._pairs)
        counts = ~np.isin(np.arange(len(self._rows)), list(dropped))
        votes = (counts & (as_column(self._is_named) == 0))[numbers]
        into = _earlier(numbers[votes], pairs[votes])
        merged = {*into, *into.values()}
        rest = np.flatnonzero(counts & ~np.isin(np.arange(len(self._rows)), list(merged)))
        return into, _earlier(rest, as_column(self._rows)[rest])

    def estimates(self) -> Mapping[str, Estimate]:
        """Shares of comparisons and of pairs."""
        rows, pairs = as_column(self._rows), as_column(self._pairs)
        shares = {}
        if len(rows):
            shares["duplicates"] = self.data.share(len(rows) - len(np.unique(rows)), len(rows))
        if num_pairs := len(np.unique(pairs)):
            shares["contradicted_pairs"] = self.data.share(len(self._contradictions()), num_pairs)
        return shares


def _earlier(numbers: np.ndarray, values: np.ndarray) -> dict[int, int]:
    """For the number of each row whose value an earlier row has, the number of the first such row."""
    first = numbers[_first_with_same(values)]
    is_later = first < numbers
    return dict(zip(numbers[is_later].tolist(), first[is_later].tolist(), strict=True))


def _first_with_same(values: np.ndarray) -> np.ndarray:
    """For each value the position of the first one that equals it [n]."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse]
