"""Rows of any columns in, a file out: JSON lines as they come, or Parquet whose columns are those that the rows turn out to have."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.parquet_rows import BATCH
from guerdon.io.writers import Renames, atomic_write, explain_os_errors

__all__ = ["ENDINGS", "line_writer", "write_lines"]

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


def write_lines(path: str | Path, lines: Iterable[bytes], renames: Renames | None = None) -> int:
    """Write lines of JSON, each with its newline, in the format of the path's ending; returns how many."""
    count = 0
    with line_writer(path, renames) as write:
        for line in lines:
            write(line)
            count += 1
    return count


@contextmanager
def line_writer(path: str | Path, renames: Renames | None = None) -> Iterator[Callable[[bytes], object]]:
    """A function that writes a line of JSON, an object; the file appears as that of atomic_write does."""
    name = str(path)
    if not name.endswith(ENDINGS):
        claim = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"
        raise field_error(f"{path}: the ending", claim, Path(path).suffix, "Change the ending.")
    with atomic_write(path, "wb", renames) as file:
        if name.endswith(".gz"):
            # no name and no time in the header, so that the same rows give the same bytes
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as compressed:
                yield compressed.write
        elif name.endswith(".parquet"):
            with explain_os_errors(path), tempfile.TemporaryFile(dir=Path(path).resolve().parent) as spool:
                yield spool.write
                _write_parquet(spool, file, path)
        else:
            yield file.write


def _write_parquet(spool: IO[bytes], file: IO[bytes], path: str | Path) -> None:
    """Write the lines of the spool as Parquet, after a first pass that learns their columns.

    A key that some rows lack is null there, so only keys that occur become columns: a message without tool calls has none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schemas: list[Any] = [pa.schema([])]
        for rows in _batches(spool):
            schemas = [pa.unify_schemas([*schemas, _struct(pa.array(rows))], promote_options="permissive")]
        with pq.ParquetWriter(file, schemas[0], compression="zstd") as writer:
            for rows in _batches(spool):
                array = pa.array(rows, type=pa.struct(list(schemas[0])))
                writer.write_batch(pa.RecordBatch.from_struct_array(array))
    except pa.ArrowException as error:
        cause = (str(error).splitlines() or ["unknown"])[0].rstrip(".")[:160]
        raise GuerdonError(
            f"{path}: rows must have one type in each column of Parquet, got others ({cause}). Write .jsonl."
        ) from None


def _struct(array: Any) -> Any:
    import pyarrow as pa

    return pa.schema(list(array.type))


def _batches(spool: IO[bytes]) -> Iterator[list[Any]]:
    """The rows of the spool, BATCH at a time."""
    spool.seek(0)
    while lines := list(islice(spool, BATCH)):
        yield [json.loads(line) for line in lines]
