"""The rows of Parquet and Arrow files. A cell that Python cannot hold sets its row aside and no other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.contracts import GuerdonError
from guerdon.io.schema import Rejected

if TYPE_CHECKING:
    import pyarrow as pa

Rows = Iterator[tuple[str, Any]]
Batches = Iterator[tuple["pa.RecordBatch", dict[str, Any]]]  # with the cells of the columns that are left out

BATCH = 512  # rows in memory at once when Parquet is read or written
NOT_READ = "(not read)"  # the cells of columns that are left out


def parquet_rows(path: Path, wanted: Collection[str] | None = None) -> Rows:
    """The (location, row) pairs of a Parquet file, one batch in memory at a time.

    wanted: names of columns that may be used; other columns of bytes, times or numbers in lists, such as images and
    embeddings, are not read, and each of their cells is NOT_READ. None reads all columns.
    """
    return _rows(path, _parquet_batches(path, wanted), "Parquet")


def arrow_rows(path: Path, wanted: Collection[str] | None = None) -> Rows:
    """The same for a file of Arrow's stream or file format, as the package datasets writes them."""
    return _rows(path, _arrow_batches(path, wanted), "Arrow")


def _parquet_batches(path: Path, wanted: Collection[str] | None) -> Batches:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        read, left_out = _columns(file.schema_arrow, wanted)
        for batch in file.iter_batches(batch_size=BATCH, columns=read):
            yield batch, left_out


def _arrow_batches(path: Path, wanted: Collection[str] | None) -> Batches:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        is_stream = file.read(6) != b"ARROW1"
        file.seek(0)
        reader = pa.ipc.open_stream(file) if is_stream else pa.ipc.open_file(file)
        read, left_out = _columns(reader.schema, wanted)
        for batch in reader if is_stream else (reader.get_batch(i) for i in range(reader.num_record_batches)):
            for start in range(0, batch.num_rows, BATCH):
                yield batch.select(read).slice(start, BATCH), left_out


def _columns(schema: pa.Schema, wanted: Collection[str] | None) -> tuple[list[str], dict[str, Any]]:
    """The names of the columns to read, and the cells of the others."""
    skipped = [] if wanted is None else [n for n in schema.names if n not in wanted and _is_bulk(schema, n)]
    return [name for name in schema.names if name not in skipped], dict.fromkeys(skipped, NOT_READ)


def _rows(path: Path, batches: Batches, kind: str) -> Rows:
    import pyarrow as pa

    number = 0
    try:
        for batch, left_out in batches:
            for row in _batch_rows(batch):
                number += 1
                location = f"{path}: row {number}"
                yield (
                    location,
                    _rejected(location, row) if _Unreadable in map(type, row.values()) else row | left_out,
                )
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, GuerdonError):
            raise
        cause = (str(error).splitlines() or ["unreadable"])[0].rstrip(".")[:160]
        raise GuerdonError(
            f"{path}: row {number + 1}: is not readable {kind} ({cause}). Copy or write the file again."
        ) from None


class _Unreadable:
    """A cell that has no Python value, with the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _batch_rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    columns = [_values(column) for column in batch.columns]
    names = batch.schema.names
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def _values(column: pa.Array) -> list[Any]:
    """The Python values of a column; cell by cell only where one of them has none."""
    import pyarrow as pa

    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError, pa.ArrowException):
        return [_value(column.slice(i, 1)) for i in range(len(column))]
    return values


def _value(cell: pa.Array) -> Any:
    import pyarrow as pa

    try:
        return cell.to_pylist(maps_as_pydicts="strict")[0]
    except UnicodeDecodeError as error:
        return _Unreadable(f"is not UTF-8 at byte {error.start + 1}")
    except (ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        try:
            return cell.cast(pa.string()).to_pylist()[0]  # times that Python cannot hold: nanoseconds, far years
        except (ValueError, OverflowError, pa.ArrowException):
            cause = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")[:120]
            return _Unreadable(f"cannot be read ({cause})")


def _rejected(location: str, row: Mapping[str, Any]) -> Rejected:
    name, cell = next((name, cell) for name, cell in row.items() if isinstance(cell, _Unreadable))
    kept = {key: value for key, value in row.items() if not isinstance(value, _Unreadable)}
    return Rejected(location, f"{name} {cell.reason}. Correct the cell, or drop the row or the column.", kept)


def _is_bulk(schema: pa.Schema, name: str) -> bool:
    """Whether a column holds bytes, times, or lists of numbers, none of which is a text or a judgment."""
    import pyarrow as pa

    def has_bytes(kind: pa.DataType) -> bool:
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return True
        return any(has_bytes(kind.field(i).type) for i in range(kind.num_fields))

    kind = schema.field(name).type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    is_embedding = is_list and pa.types.is_floating(kind.value_type)
    return has_bytes(kind) or pa.types.is_temporal(kind) or is_embedding
