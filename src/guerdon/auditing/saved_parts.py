"""What an unfinished audit has on disk: one file of scores, and one file per finished part. The next run reuses both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, final

from guerdon.auditing.score_cache import Score
from guerdon.contracts import GuerdonError, Report
from guerdon.io import readers, writers
from guerdon.io.reports import from_json, to_json
from guerdon.io.run_folder import differences

__all__ = ["SAVED_PARTS", "SavedReports", "SavedScores", "remove_saved"]

SAVED_PARTS: Final = ".guerdon-parts"  # the folder's name, next to the report
SCORES: Final = "scores.jsonl"


def remove_saved(folder: Path, parts: Iterable[str]) -> None:
    """Remove the scores and these parts, and the folder if nothing else is in it."""
    with suppress(OSError):
        for name in (SCORES, *(f"{part}.json" for part in parts)):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


@final
class SavedReports(MutableMapping[str, Report]):
    """Reports by name, in files NAME.json of a folder. A report saved under another key counts as absent."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def __getitem__(self, name: str) -> Report:
        path = self.folder / f"{name}.json"
        if not path.is_file():
            raise KeyError(name)
        try:
            saved = readers.read_json(path)
            if differences({"key": self.key}, saved):
                raise KeyError(name)
            return from_json(saved["report"])
        except (GuerdonError, TypeError):  # another version's file, or a foreign one: measured again and overwritten
            raise KeyError(name) from None

    def __setitem__(self, name: str, report: Report) -> None:
        writers.write_json(self.folder / f"{name}.json", {"key": self.key, "report": to_json(report)})

    def __delitem__(self, name: str) -> None:
        (self.folder / f"{name}.json").unlink()

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*.json")) if path.stem in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


@final
class SavedScores(dict[str, Score]):
    """Scores of one model by a hash of the text, also in a file. `update` appends a line; a line cut off by a kill is skipped."""

    def __init__(self, path: Path, model: str) -> None:
        super().__init__()
        self.path, self.model = path, model
        if self._read():
            return
        self.clear()
        writers.write_text(path, json.dumps({"model": model}) + "\n")

    def update(self, scores: Any = (), /, **named: Score) -> None:
        """Add scores. Those that are not finite are not written."""
        new = {**dict(scores), **named}
        super().update(new)
        row = {key: _short(score) for key, score in new.items() if math.isfinite(score.value)}
        if row:
            with suppress(GuerdonError):  # a full disk fails the report, which must be written; this file need not be
                writers.append_jsonl(self.path, row)

    def _read(self) -> bool:
        """Load the file's scores; False unless it is this model's."""
        if not self.path.is_file():
            return False
        rows = (row for _, row in readers.read_rows(self.path))
        if differences({"model": self.model}, next(rows, None)):
            return False
        for row in rows:
            if isinstance(row, Mapping):
                super().update({str(key): Score(*score) for key, score in row.items()})
        return True


def _short(score: Score) -> list[Any]:
    """The score as JSON values, without unknown ones at its end."""
    values = list(score)
    while values[-1] is None:
        values.pop()
    return values
