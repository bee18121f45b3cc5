"""Writes and reads the single-file form of a store: .jsonl, .jsonl.gz, .jsonl.zst, or Parquet with a JSON text per column."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.readers import read_rows
from guerdon.io.schema import Rejected, parse_row
from guerdon.io.writers import atomic_write, encode_json
from guerdon.store.items import Item
from guerdon.store.lines import (
    ITEM_KEYS,
    Header,
    from_cells,
    header_of,
    is_header,
    is_item,
    item_from_row,
    item_to_row,
)
from guerdon.store.location import is_store

ENDINGS: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
HEADER_KEY: Final = b"guerdon.prefs"  # of the metadata of a Parquet file
_ROWS_AT_ONCE: Final = 512
_BLOCK: Final = 2**20


def write_prefs(path: str | Path, items: Iterable[tuple[str, Item]]) -> Header:
    """Write (id, item) pairs, in the order given; returns the header. The file appears when it is complete.

    The lines wait in a temporary file, for the header above them holds their number and their hash.
    """
    name = str(path)
    if not name.endswith(ENDINGS):
        raise field_error(f"{path}: the ending", ", ".join(ENDINGS), Path(path).suffix, "Change the ending.")
    with tempfile.TemporaryFile(prefix="guerdon-prefs-") as body, atomic_write(path, "wb") as file:
        header = _write_lines(body, items)
        body.seek(0)
        if name.endswith(".parquet"):
            _write_parquet(file, body, header)
            return header
        with _compressed(file, name) as target:
            target.write(encode_json(header.to_row()) + b"\n")
            while block := body.read(_BLOCK):
                target.write(block)
    return header


def read_prefs(path: str | Path) -> Iterator[Item]:
    """The items of a file, which must be whole. Raises GuerdonError with the line of what cannot be read."""
    _require_whole(Path(path))
    for location, row in read_rows(path):
        if not is_header(row):
            yield parse_row(location, row, lambda row: item_from_row(from_cells(row)))


def _require_whole(path: Path) -> None:
    """Raise GuerdonError unless the lines of the file are those that its header is of; a file without a header may be any."""
    header, count, content = _parquet_header(path), 0, hashlib.sha256()
    for location, row in read_rows(path):
        if is_header(row):
            header = parse_row(location, row, header_of)
        elif not isinstance(row, Rejected):
            count += 1
            content.update(encode_json(parse_row(location, row, from_cells)) + b"\n")
    if header is not None and header.content != content.hexdigest():
        got = f"{count:,}" if count != header.items else "other content"
        raise GuerdonError(
            f"{path}: must hold the {header.items:,} items of its header, got {got}: the file was cut, edited or "
            "damaged. Copy it again; without its first line it is read as it is."
        )


def is_prefs_file(path: str | Path) -> bool:
    """Whether the first row of a file is a header or an item."""
    if is_store(path) or not Path(path).is_file():
        return False
    if (path := Path(path)).suffix == ".parquet":
        return _parquet_header(path) is not None
    _, row = next(iter(read_rows(path)), ("", None))
    return isinstance(row, Mapping) and (is_header(row) or is_item(row))


def _write_lines(body: IO[bytes], items: Iterable[tuple[str, Item]]) -> Header:
    count, judgments, labels, content = 0, 0, 0, hashlib.sha256()
    for item_id, item in items:
        line = encode_json(item_to_row(item, item_id)) + b"\n"
        content.update(line)
        body.write(line)
        count, judgments, labels = count + 1, judgments + len(item.judgments), labels + len(item.labels)
    return Header(count, judgments, labels, content.hexdigest())


@contextmanager
def _compressed(file: IO[bytes], name: str) -> Iterator[Any]:
    """The file, or what compresses into it: no name and no time in it, so that the same lines give the same bytes."""
    if name.endswith(".gz"):
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as target:
            yield target
    elif name.endswith(".zst"):
        import pyarrow as pa

        kept_open = os.fdopen(os.dup(file.fileno()), "wb")  # closing the stream closes what it writes to
        with pa.CompressedOutputStream(kept_open, "zstd") as target:
            yield target
    else:
        yield file


def _write_parquet(file: IO[bytes], body: IO[bytes], header: Header) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = {HEADER_KEY: encode_json(header.to_row())}
    schema = pa.schema([(name, pa.string()) for name in ITEM_KEYS], metadata=metadata)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while lines := [line for _, line in zip(range(_ROWS_AT_ONCE), body, strict=False)]:
            rows = [{name: encode_json(value).decode() for name, value in json.loads(line).items()} for line in lines]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


def _parquet_header(path: Path) -> Header | None:
    if path.suffix != ".parquet":
        return None
    import pyarrow.parquet as pq

    text = (pq.read_schema(path).metadata or {}).get(HEADER_KEY)
    return None if text is None else parse_row(f"{path}: header", json.loads(text), header_of)
