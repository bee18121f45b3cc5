"""Writes and reads the single-file form of a store: .jsonl, .jsonl.gz, .jsonl.zst, or Parquet with a JSON text per column."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from guerdon.contracts import GuerdonError
from guerdon.errors import field_error
from guerdon.io.json_rows import parse_json
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
    for _ in WholeRows(path, read_rows(path)):  # before the first item is stored
        pass
    for location, row in read_rows(path):
        if not is_header(row):
            yield parse_row(location, row, lambda row: item_from_row(from_cells(row)))


@dataclass(frozen=True, slots=True)
class WholeRows:
    """The (location, row) pairs of a file of any format, as they are, in one pass.

    After the last item of a header GuerdonError is raised if the items are not those that it is of. Files may be joined, each
    with its header; what follows no header may be anything.
    """

    path: str | Path
    rows: Iterable[tuple[str, Any]]

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        section = _Section(_parquet_header(self.path))
        for location, row in self.rows:
            if is_header(row):
                section.require_whole(self.path)
                section = _Section(parse_row(location, row, header_of))
            else:
                section.add(location, row)
            yield location, row
        section.require_whole(self.path)


class _Section:
    """What has been read below a header; None where there is no header, and nothing to compare with."""

    def __init__(self, header: Header | None) -> None:
        self.header, self.count, self.content = header, 0, hashlib.sha256()

    def add(self, location: str, row: Any) -> None:
        """The next row; one that could not be read is missing."""
        if self.header is None or isinstance(row, Rejected):
            return
        self.count += 1
        try:
            self.content.update(encode_json(parse_row(location, row, from_cells)) + b"\n")
        except GuerdonError:
            raise
        except ValueError:  # NaN, which no store writes
            self.content.update(b"\n")

    def require_whole(self, path: str | Path) -> None:
        """Raise GuerdonError unless the rows are those that the header is of."""
        if self.header is None or self.header.content == self.content.hexdigest():
            return
        got = f"{self.count:,}" if self.count != self.header.items else "other content"
        advice = "" if str(path).endswith(".parquet") else "; without its first line it is read as it is"
        raise GuerdonError(
            f"{path}: must hold the {self.header.items:,} items of its header, got {got}: the file was cut, edited or "
            f"damaged. Copy it again{advice}."
        )


def is_prefs_file(path: str | Path) -> bool:
    """Whether the first row of a file is a header or an item."""
    return has_header(path) or is_item(_first_row(path))


def has_header(path: str | Path) -> bool:
    """Whether a file begins with a header."""
    return is_header(_first_row(path)) or _parquet_header(path) is not None


def _first_row(path: str | Path) -> Mapping[str, Any]:
    """The first row of a file; {} where it is no object, or the path names no file."""
    _, row = next(iter(read_rows(path)), ("", None)) if _is_file(path) else ("", None)
    return row if isinstance(row, Mapping) else {}


def _is_file(path: str | Path) -> bool:
    return not is_store(path) and Path(path).is_file()


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


def _parquet_header(path: str | Path) -> Header | None:
    """The header in the metadata of a Parquet file; None where there is none, or reading the rows will say why not."""
    if not str(path).endswith(".parquet") or not _is_file(path):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        text = (pq.read_schema(path).metadata or {}).get(HEADER_KEY)
    except (pa.ArrowException, OSError):
        return None
    return None if text is None else parse_row(f"{path}: header", parse_json(text, f"{path}: header"), header_of)
