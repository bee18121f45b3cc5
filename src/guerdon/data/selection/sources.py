"""The files of unlabeled rows, read once for all pairs, and again for the texts of those that are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from guerdon.config import ImportOptions
from guerdon.contracts import GuerdonError, Response
from guerdon.data.files import Rejects
from guerdon.data.selection.candidates import CandidateRow, Pool, candidate_rows
from guerdon.io.readers import count_rows

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Int

__all__ = ["Candidate", "Sources"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair of a pool with its texts: its position in the pool, and the location of its row."""

    position: int
    location: str
    row: CandidateRow
    indices: tuple[int, int]

    @property
    def responses(self) -> tuple[Response, Response]:
        """The two responses, in the order of the row."""
        first, second = self.indices
        return self.row.responses[first], self.row.responses[second]


@dataclass
class Sources:
    """Files that can be read several times; `rejects` counts the rows that the first reading could not use."""

    paths: Sequence[str | Path]
    options: ImportOptions
    say: Callable[[str], None] = lambda line: None
    rejects: Rejects = field(default_factory=Rejects)

    @property
    def num_rows(self) -> int | None:
        """For a progress bar; None where it is not known before reading."""
        return count_rows(*self.paths)

    def rows(self) -> Iterator[tuple[str, CandidateRow | None]]:
        """Every row with its location, None for one that cannot be used."""
        self.rejects.count = 0
        return candidate_rows(self.paths, self.options, self.rejects, self.say)

    def candidates(self, pool: Pool, positions: Int[np.ndarray, " s"]) -> Iterator[Candidate]:
        """These pairs of the pool with their texts, in the order of the files, in constant memory.

        Raises GuerdonError where a file does not hold them anymore.
        """
        by_row: dict[int, list[int]] = {}
        for position in positions.tolist():
            by_row.setdefault(int(pool.row[position]), []).append(position)
        for number, (location, row) in enumerate(candidate_rows(self.paths, self.options, Rejects())):
            if not by_row:
                return
            wanted = by_row.pop(number, ())
            exact = {(i, j): key for i, j, _, key in row.pairs()} if wanted and row else {}
            for position in wanted:
                indices = int(pool.first[position]), int(pool.second[position])
                if row is None or exact.get(indices) != int(pool.exact_key[position]):
                    raise _changed(location)
                yield Candidate(position, location, row, indices)
        if by_row:
            raise _changed(str(self.paths[-1]))


def _changed(place: str) -> GuerdonError:
    return GuerdonError(f"{place}: must stay as it is while pairs are picked, got other rows. Run the command again.")
