"""Groups, prompts and long responses that two parts share."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

from guerdon.contracts import Finding
from guerdon.data.checks.contract import Check, Data, Row
from guerdon.data.hashes import as_column, hash_parts

__all__ = ["LEAK_LENGTH", "Leaks"]

LEAK_LENGTH = 40  # characters; two splits may share a shorter text, such as "I don't know.", by chance


class Leaks(Check):
    """What the data share with other parts. 8 bytes for each group, prompt and response."""

    def __init__(self, data: Data) -> None:
        super().__init__(data)
        self._ours = _Hashes()
        self._others: dict[str, _Hashes] = {}

    def add(self, row: Row) -> None:
        """Remember the hashes of its texts."""
        self._ours.add(row)

    def add_other(self, part: str, row: Row) -> None:
        """Remember the hashes of its texts, by part."""
        self._others.setdefault(part, _Hashes()).add(row)

    def findings(self) -> Iterator[Finding]:
        """Errors, unless a shared prompt is an instruction by design."""
        groups, prompts, responses = self._ours.sorted()
        for name, other in self._others.items():
            shared = [
                len(np.intersect1d(ours, theirs, assume_unique=True))
                for ours, theirs in zip((groups, prompts, responses), other.sorted(), strict=True)
            ]
            remedy = f"Split again by group, or drop them from {name}: data to train on must not be audited on."
            if shared[0]:
                evidence = f"{shared[0]:,} of {len(groups):,} groups are in both"
                yield Finding("error", f"Groups leak into {name}", evidence, remedy)
            if shared[1]:
                # With several groups per prompt, the prompt is an instruction that all share by design ("rate this text").
                by_design = len(groups) > 2 * len(prompts)
                evidence = f"{shared[1]:,} of {len(prompts):,} prompts are in both, ignoring case and spacing"
                yield Finding("warning" if by_design else "error", f"Prompts leak into {name}", evidence, remedy)
            if shared[2]:
                evidence = (
                    f"{shared[2]:,} of {len(responses):,} responses of {LEAK_LENGTH} characters or more are in both, "
                    "ignoring case and spacing"
                )
                yield Finding("error", f"Responses leak into {name}", evidence, remedy)


class _Hashes:
    """Hashes of a part's groups, prompts and long responses."""

    def __init__(self) -> None:
        self._columns = (array("Q"), array("Q"), array("Q"))

    def add(self, row: Row) -> None:
        groups, prompts, responses = self._columns
        groups.append(hash_parts(row.comparison.group))
        prompts.append(row.prompt)
        responses.extend(hash_parts(content) for content in row.normalized if len(content) >= LEAK_LENGTH)

    def sorted(self) -> list[np.ndarray]:
        return [np.unique(as_column(column)) for column in self._columns]
