"""Files in any known format in, comparisons out: the one way in which every command reads comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.importers import Rejected, import_rows
from guerdon.data.importers.columns import COLUMNS, MEDIA
from guerdon.io.readers import read_rows

__all__ = ["Rejects", "count_rejects", "import_files", "require_usable"]

KNOWN_COLUMNS = frozenset((*COLUMNS, *MEDIA))  # of these, columns of any type are read; of others, texts and numbers
Say = Callable[[str], None]


@dataclass(slots=True)
class Rejects:
    """How many rows cannot be used, and the first of them."""

    count: int = 0
    first: Rejected | None = None

    @property
    def first_reason(self) -> str:
        """The location of the first row and its reason."""
        return f"{self.first.place}: {self.first.reason}" if self.first else ""


def import_files(
    sources: Sequence[str | Path], options: ImportOptions, say: Say = lambda line: None
) -> Iterator[Comparison | Rejected]:
    """For each row of each file a Comparison or a Rejected, in order and in constant memory; a format is detected per file.

    `say` is called with a line about each file. The options hold for all files.
    """
    for source in sources:
        report = say if len(sources) == 1 else lambda line, source=source: say(f"{source}: {line}")
        yield from import_rows(
            read_rows(source, options, KNOWN_COLUMNS.union(options.columns.values())), options, report
        )


def count_rejects(rows: Iterable[Comparison | Rejected], rejects: Rejects) -> Iterator[Comparison | Rejected]:
    """The same rows; those that are rejected are counted in `rejects`."""
    for row in rows:
        if isinstance(row, Rejected):
            rejects.count += 1
            rejects.first = rejects.first or row
        yield row


def require_usable(comparisons: Iterable[Comparison], rejects: Rejects, advice: str = "") -> Iterator[Comparison]:
    """The same comparisons; where there are none, GuerdonError with the reason of the first rejected row."""
    is_empty = True
    for comparison in comparisons:
        is_empty = False
        yield comparison
    if is_empty and rejects.count:
        others = f" None of {rejects.count:,} rows can be used." if rejects.count > 1 else ""
        raise GuerdonError(f"{rejects.first_reason}{others}{advice}")
