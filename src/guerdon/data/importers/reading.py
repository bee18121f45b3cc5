"""What the rows of one file share while they are read: its labels, the options, and what people should know in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from guerdon.config import ImportOptions
from guerdon.data.importers.labels import LabelReader

__all__ = ["Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a format's `read` gets with each row.

    label: a label of the file and its field in, its preference out. options: of the import. notes: lines for people, each with
    the number of its cases; they are printed after the last row. seen: how many rows of a name, such as a post's, were read.
    """

    label: LabelReader = field(default_factory=LabelReader)
    options: ImportOptions = field(default_factory=ImportOptions)
    notes: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def note(self, line: str) -> None:
        """Count a case of what the line says, such as "replies left out because they hold a role mark"."""
        self.notes[line] += 1
