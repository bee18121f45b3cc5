"""What a killed audit had finished, in a folder: scores a line a chunk, reports a file a part. Whoever asks again goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

from guerdon.auditing.score_cache import Score
from guerdon.contracts import GuerdonError, Report
from guerdon.io import readers, writers
from guerdon.io.reports import from_json, to_json
from guerdon.io.run_folder import differences


@final
class KeptReports(MutableMapping[str, Report]):
    """Reports by name, NAME.json each. One that was made of something else (another key) counts as absent."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def __getitem__(self, name: str) -> Report:
        path = self.folder / f"{name}.json"
        if not path.is_file():
            raise KeyError(name)
        try:
            kept = readers.read_json(path)
            if differences({"key": self.key}, kept):
                raise KeyError(name)
            return from_json(kept["report"])
        except (GuerdonError, TypeError):  # of another version, or not ours: it is measured again and written over
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
class KeptScores(dict[str, Score]):
    """Scores by a hash of the text, of one model. `update` adds a line to the file; a line cut by a kill is left out."""

    def __init__(self, path: Path, model: str) -> None:
        super().__init__()
        self.path, self.model = path, model
        if self._read():
            return
        self.clear()
        writers.write_text(path, json.dumps({"model": model}) + "\n")

    def update(self, scores: Any = (), /, **named: Score) -> None:
        """Add scores; those that are not finite are not kept."""
        new = {**dict(scores), **named}
        super().update(new)
        row = {key: _short(score) for key, score in new.items() if math.isfinite(score.value)}
        if row:
            with suppress(GuerdonError):  # a disk that is full is told by what must be written, not by what may be
                writers.append_jsonl(self.path, row)

    def _read(self) -> bool:
        """Whether the file is this model's; its scores are then known."""
        if not self.path.is_file():
            return False
        for place, row in readers.read_rows(self.path):
            if not isinstance(row, Mapping):
                continue
            if place.endswith(":1"):
                if differences({"model": self.model}, row):
                    return False
                continue
            super().update({str(key): Score(*score) for key, score in row.items()})
        return True


def _short(score: Score) -> list[Any]:
    """The score as JSON values, without what is not known at its end."""
    values = list(score)
    while values[-1] is None:
        values.pop()
    return values
