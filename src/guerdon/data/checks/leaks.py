"""Groups, prompts and long responses that two parts share."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from guerdon.contracts import Finding, Severity
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.data.hashes import as_column, hash_parts
from guerdon.errors import verb

__all__ = ["LEAK_LENGTH", "Leaks"]

LEAK_LENGTH = 40  # characters; two splits may share a shorter text, such as "I don't know.", by chance


class Leaks(Check):
    """What the data share with other parts. 8 bytes for each group, prompt and response."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._ours = _Hashes()
        self._others: dict[str, _Hashes] = {}

    def add(self, row: Row) -> None:
        """Remember the hashes of its texts, if there is another part."""
        if self.data.parts:
            self._ours.add(row)

    def add_other(self, part: str, row: Row) -> None:
        """Remember the hashes of its texts, by part."""
        self._others.setdefault(part, _Hashes()).add(row)

    def findings(self) -> Iterator[Finding]:
        """Errors, unless a shared prompt is an instruction by design."""
        for name, other in self._others.items():
            remedy = f"Split again by group, or drop them from {name}: data to train on must not be audited on."
            for kind, (noun, ignoring) in KINDS.items():
                ours = self._ours.distinct(kind)
                if shared := len(np.intersect1d(ours, other.distinct(kind), assume_unique=True)):
                    severity: Severity = "warning" if self._is_by_design(kind) else "error"
                    evidence = f"{shared:,} of {len(ours):,} {noun} {verb(shared, 'are')} in both{ignoring}"
                    yield Finding(severity, f"{kind.capitalize()} leak into {name}", evidence, remedy)

    def drops(self) -> Mapping[str, Sequence[int]]:
        """The comparisons that share something."""
        drops = {}
        for name, other in self._others.items():
            for kind in KINDS:
                rows = [] if self._is_by_design(kind) else self._ours.rows_with(kind, other.distinct(kind))
                if rows:
                    drops[f"{kind.capitalize()} leak into {name}"] = rows
        return drops

    def _is_by_design(self, kind: str) -> bool:
        """With several groups per prompt, the prompt is an instruction that all share by design ("rate this text")."""
        return kind == "prompts" and len(self._ours.distinct("groups")) > 2 * len(self._ours.distinct("prompts"))


KINDS: Final[Mapping[str, tuple[str, str]]] = {  # what they are called, and how they are compared
    "groups": ("groups", ""),
    "prompts": ("prompts", ", ignoring case and spacing"),
    "responses": (f"responses of {LEAK_LENGTH} characters or more", ", ignoring case and spacing"),
}


class _Hashes:
    """Hashes of a part's groups, prompts and long responses, and the rows that have them."""

    def __init__(self) -> None:
        self._hashes = {kind: array("Q") for kind in KINDS}
        self._rows = array("I")  # of the responses

    def add(self, row: Row) -> None:
        self._hashes["groups"].append(row.group)
        self._hashes["prompts"].append(row.prompt)
        for content in row.normalized:
            if len(content) >= LEAK_LENGTH:
                self._hashes["responses"].append(hash_parts(content))
                self._rows.append(row.number)

    def distinct(self, kind: str) -> np.ndarray:
        """The hashes, sorted."""
        return np.unique(as_column(self._hashes[kind]))

    def rows_with(self, kind: str, hashes: np.ndarray) -> list[int]:
        """The numbers of the rows that have one of the hashes."""
        positions = np.flatnonzero(np.isin(as_column(self._hashes[kind]), hashes))
        rows = np.unique(as_column(self._rows)[positions]) if kind == "responses" else positions
        return [int(row) for row in rows]
