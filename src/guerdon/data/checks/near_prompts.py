"""Prompts that are near-duplicates of prompts in other parts."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.data.hashes import as_column
from guerdon.data.near_duplicates import SIMILARITY, NearDuplicates

__all__ = ["NearPrompts"]


class NearPrompts(Check):
    """Near-duplicates across parts; without another part nothing is computed. Identical prompts are counted as leaks."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._prompts = NearDuplicates() if data.parts else None
        self._keys: dict[str, array[int]] = {part: array("Q") for part in ("", *data.parts)}

    def add(self, row: Row) -> None:
        """Remember the prompt."""
        if self._prompts:
            self._keys[""].append(self._prompts.add(row.comparison.prompt))

    def add_other(self, part: str, row: Row) -> None:
        """Remember the prompt, by part."""
        if self._prompts:
            self._keys[part].append(self._prompts.add(row.comparison.prompt))

    def findings(self) -> Iterator[Finding]:
        """An error for each part that holds near-duplicates."""
        for part, near in self._near.items():
            rows = np.flatnonzero(near)
            claim = f"have a near-duplicate prompt in {part} (Jaccard similarity of word 5-grams >= {SIMILARITY:g})"
            remedy = "Split again: split keeps near-duplicates together."
            evidence = self.data.evidence(len(rows), claim, rows.tolist())
            yield Finding(
                "warning" if self._is_by_design else "error", f"Near-duplicates leak into {part}", evidence, remedy
            )

    def drops(self) -> dict[str, list[int]]:
        """The comparisons with a near-duplicate in another part, where that is an error."""
        if self._is_by_design:
            return {}
        return {f"Near-duplicates leak into {part}": np.flatnonzero(near).tolist() for part, near in self._near.items()}

    @cached_property
    def _is_by_design(self) -> bool:
        """With several groups per prompt, the prompt is an instruction that all share by design ("rate this text")."""
        return len(self.data.groups) > 2 * len(np.unique(as_column(self._keys[""])))

    @cached_property
    def _near(self) -> dict[str, np.ndarray]:
        """For each other part with near-duplicates, which of the comparisons have one [n]."""
        if not self._prompts or not self.data.rows:
            return {}
        keys, components = self._prompts.components()
        ours = as_column(self._keys[""])
        component = components[np.searchsorted(keys, ours)]
        near = {}
        for part in self.data.parts:
            theirs = np.unique(as_column(self._keys[part]))
            is_connected = np.isin(component, components[np.searchsorted(keys, theirs)]) & ~np.isin(ours, theirs)
            if is_connected.any():
                near[part] = is_connected
        return near
