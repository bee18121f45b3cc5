"""A file of any size in, the same rows with their rewards out; a killed run resumes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from guerdon.errors import OutputError
from guerdon.io import readers, run_folder, writers
from guerdon.progress import ProgressBar, note
from guerdon.scoring.chunks import ADDED, CHUNK, added_columns, scored_line, split_into_chunks
from guerdon.scoring.workers import LoadModel, score_chunks


def score_rows(
    load_model: LoadModel,
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    identity: Mapping[str, Any] | None,
    *,
    workers: int = 1,
    chunk: int = CHUNK,
    rows: Iterator[tuple[str, Any]] | None = None,
) -> dict[str, int]:
    """Write every row of the source with its reward(s), in order; returns the number of rows, of responses, and of rows of
    which the model did not see a whole text.

    With an identity, a killed run resumes after its last whole chunk if the source begins with the rows that are
    already scored. With several workers, load_model is pickled. `rows` are those of the source, where it has more than
    one file or is in another format.
    """
    sources = [source] if isinstance(source, str | Path) else source
    rows = readers.read_rows(sources[0]) if rows is None else rows
    writers.require_jsonl_ending(out)
    writers.refuse_to_replace(sources, [out])
    num_truncated = 0
    with run_folder.open_resumable(out, identity) as sink:
        if sink.rows:
            num_truncated = _refuse_other_rows(sink.partial, rows)
            note(f"{out}: resumes after {sink.rows:,} rows")
        chunks = split_into_chunks(rows, chunk)
        bar = ProgressBar(readers.count_rows(*sources), "score", "rows", initial=sink.rows)
        with bar, closing(score_chunks(chunks, load_model, _useful(workers, bar.total))) as scored:
            for part, scores in scored:
                sink.add(part.lines(scores), len(part.rows), len(scores.value))
                num_truncated += sum(row["truncated"] for row in added_columns(scores, part.conversations))
                bar.advance(len(part.rows))
    return {"rows": sink.rows, "responses": sink.responses, "truncated": num_truncated}


def _useful(workers: int, num_rows: int | None) -> int:
    """As many of the workers as there are rows and cores, but two where two are asked for."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    useful = max(1, min(workers, max(2, cores), workers if num_rows is None else num_rows))
    if useful < workers:
        note(f"score: {useful} of {workers:,} workers, since there are no more rows or cores")
    return useful


def _refuse_other_rows(partial: Path, rows: Iterator[tuple[str, Any]]) -> int:
    """Read as many rows as the partial file holds, and count those that were truncated; raise at the first other row."""
    num_truncated = 0
    with partial.open("rb") as scored:
        for number, line in enumerate(scored, start=1):
            location, row = next(rows, ("the end of the file", None))
            values = json.loads(line)
            added = {name: values[name] for name in ADDED if name in values}
            num_truncated += added.get("truncated", False)
            if not isinstance(row, Mapping) or scored_line(row, added) != line:
                raise OutputError(
                    f"{partial}: row {number} must be that of {location}, got one of other data. "
                    "Delete it to start over, or pass another path.",
                    partial,
                )
    return num_truncated
