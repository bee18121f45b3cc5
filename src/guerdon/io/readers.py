"""Paths in, rows and contract objects out. Errors name file:line, field, value and remedy.

Lines end at \\n and nowhere else, so a text that holds U+2028 stays whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from guerdon.config import ImportOptions
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Prompt,
    Rollouts,
)
from guerdon.errors import field_error, show_value
from guerdon.io.schema import Rejected, comparison_from_row, conversation_from_row, prompt_from_row

LONGEST_LINE = 256 * 2**20  # bytes; a longer line is no row but a file of another kind


BATCH = 512  # rows held at once when Parquet is read or written


ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


def read_comparisons(path: str | Path) -> Iterator[Comparison]:
    """A native file (.jsonl, .jsonl.gz, .parquet) in, its comparisons out, one by one in constant memory."""
    for place, row in read_rows(path):
        if isinstance(row, Rejected):
            raise GuerdonError(f"{place}: {row.reason}")
        try:
            yield comparison_from_row(row)
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None


def read_rollouts(path: str | Path) -> Rollouts:
    """A policy's responses from rows of prompt with response or responses, or messages that end with an assistant turn."""
    asked = [
        (prompt, response)
        for row in read_rows(path)
        for prompt, responses, _ in [conversation_from_row(*row)]
        for response in responses
    ]
    return Rollouts(tuple(prompt for prompt, _ in asked), tuple(response for _, response in asked))


def read_prompts(path: str | Path) -> list[Prompt]:
    """Different prompts in the order they first stand: rows of prompt, comparisons, or messages (a last assistant turn is left off)."""
    found: dict[Prompt, None] = {}
    for place, row in read_rows(path):
        if isinstance(row, Rejected):
            raise GuerdonError(f"{row.place}: {row.reason}")
        try:
            if not isinstance(row, Mapping) or not {"prompt", "messages"} & set(row):
                raise field_error("row", "an object with prompt or messages", row, "Give one of them.")
            prompt = prompt_from_row(row["prompt"] if "prompt" in row else row["messages"], row.get("tools"))
            if "prompt" not in row and prompt[-1].role == "assistant":
                prompt = prompt[:-1]
            if not prompt:
                raise field_error("messages", "a list with a turn to answer", row["messages"])
        except GuerdonError as error:
            raise GuerdonError(f"{place}: {error}") from None
        found[prompt] = None
    return list(found)


def read_rows(source: str | Path, options: ImportOptions | None = None) -> Iterator[tuple[str, Any]]:
    """A file or the name of a hub data set in; (place, row) pairs out, one by one.

    .jsonl, .json (a list, or one object a line), .csv, .tsv, each also gzipped, and .parquet. A row that cannot be read
    is a Rejected that holds its text; where the file cannot go on being read, that is an GuerdonError.
    """
    path = Path(source)
    if not path.exists() and _is_hub_name(str(source)):
        return _hub_rows(str(source), (options or ImportOptions()).hub_split)
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending.lower() not in ENDINGS and path.exists() and not path.is_dir():
        raise GuerdonError(f"{path}: ending {ending!r} is not known; remedy: rename it to one of {', '.join(ENDINGS)}")
    _refuse_missing(path)
    if ending.lower() == ".parquet":
        rows = _parquet_rows(path)
    elif ending.lower() in (".csv", ".tsv"):
        rows = _table_rows(path, "," if ending.lower() == ".csv" else "\t")
    else:
        rows = _json_rows(path)
    return _at_least_one(rows, path)


def count_rows(source: str | Path) -> int | None:
    """How many rows a bar should expect: exact for Parquet, at most for plain JSONL, None where only reading tells."""
    path = Path(source)
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            with path.open("rb") as file:
                if not file.peek(2).startswith(b"\x1f\x8b"):
                    return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b""))
    except (OSError, ValueError):  # what is wrong with the file is told by those who read it
        pass
    return None


def _refuse_missing(path: Path) -> None:
    if path.is_dir():
        raise GuerdonError(f"{path}: is a directory, not a file; remedy: name a file in it")
    if not path.exists():
        raise GuerdonError(f"{path}: no such file; remedy: check the path (current folder: {Path.cwd()})")


def _at_least_one(rows: Iterator[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any]]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise GuerdonError(f"{path}: holds no rows; remedy: check how it was made")


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _lines(path)
    first = True
    for at, line in lines:
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            yield from _json_items(path, line + b"".join(more for _, more in lines))
            return
        row = parse_json(line, f"{path}:{at}")
        if first and isinstance(row, Rejected) and ".jsonl" not in path.name:
            raise GuerdonError(f"{path}: is neither a list nor one object a line: {row.reason}")
        first = False
        yield f"{path}:{at}", row


def _json_items(path: Path, body: bytes) -> Iterator[tuple[str, Any]]:
    items = parse_json(body, str(path))
    if isinstance(items, Rejected):
        raise GuerdonError(f"{path}: {items.reason}")
    for at, item in enumerate(items, start=1):
        yield f"{path}: item {at}", item


def parse_json(line: bytes, place: str) -> Any:
    """What the line holds; a Rejected with its text where it is not JSON."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start + 1}; remedy: convert the file to UTF-8"
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg} at character {error.pos + 1}); remedy: complete or delete the line"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        reason = f"is not JSON we can hold ({str(error).partition(';')[0]}); remedy: delete the line"
    return Rejected(place, reason, line.decode("utf-8", "backslashreplace").rstrip("\n"))


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    pending: list[str] = []  # the physical lines of the row that is being read
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_text_lines(path, pending), delimiter=delimiter, strict=True)
    header = next(_csv_rows(reader, path, pending), None)
    if header is None:
        return
    names = header[1]
    if isinstance(names, Rejected) or len(set(names)) != len(names):
        raise GuerdonError(
            f"{path}:1: the first line must be a header that names each column once, got {show_value(names)}. Add a header."
        )
    for place, cells in _csv_rows(reader, path, pending):
        if isinstance(cells, Rejected):
            yield place, cells
        elif len(cells) != len(names):
            reason = f"has {len(cells)} cells for {len(names)} columns; remedy: quote cells that hold {delimiter!r}"
            yield place, Rejected(place, reason, cells)
        else:
            yield place, dict(zip(names, cells, strict=True))


def _csv_rows(reader: Any, path: Path, pending: list[str]) -> Iterator[tuple[str, Any]]:
    """(place, cells) for each row, blank ones left out; the place is the row's first line."""
    while True:
        pending.clear()
        place = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield place, Rejected(place, f"is not valid CSV ({error}); remedy: close its quotes", "".join(pending))
            continue
        if cells:
            yield place, cells


def _text_lines(path: Path, pending: list[str]) -> Iterator[str]:
    for at, line in _lines(path):
        try:
            pending.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            remedy = "convert the file to UTF-8"
            raise GuerdonError(f"{path}:{at}: is not UTF-8 at byte {error.start + 1}; remedy: {remedy}") from None
        yield pending[-1]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a text file, unpacked if gzipped; a mark of byte order is left out."""
    at = 0
    try:
        with ExitStack() as stack:
            file = _opened(path, stack)
            if b"\0" in file.peek(4096)[:4096]:
                raise GuerdonError(
                    f"{path}: is not UTF-8 text (it holds NUL bytes); remedy: give JSONL, CSV or .parquet"
                )
            while line := file.readline(LONGEST_LINE):
                at += 1
                if at == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    _refuse_binary(path, line)
                if len(line) == LONGEST_LINE:
                    raise GuerdonError(
                        f"{path}:{at}: line is longer than {LONGEST_LINE >> 20} MiB; remedy: is it JSONL?"
                    )
                yield at, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = str(error).rstrip(".")
        raise GuerdonError(
            f"{path}:{at + 1}: gzip data are damaged or cut short ({what}); remedy: copy it again"
        ) from None


def _opened(path: Path, stack: ExitStack) -> io.BufferedReader:
    """The file, unpacked if its first bytes are gzip's, whatever its name says."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise GuerdonError(f"{path}: cannot be read ({error.strerror}); remedy: check its permissions") from None
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    packed = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
    return stack.enter_context(io.BufferedReader(cast("io.RawIOBase", packed)))


def _refuse_binary(path: Path, line: bytes) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GuerdonError(
            f"{path}:1: is not UTF-8 text (byte {error.start + 1}); remedy: convert it, or give the right file"
        ) from None


def _is_hub_name(name: str) -> bool:
    """org/name, unless it reads like a path: a known ending, or a folder that exists."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or Path(name).parent.exists():
        return False
    return not name.lower().endswith((*ENDINGS, ".gz", ".txt"))


def _hub_rows(name: str, split: str) -> Iterator[tuple[str, Any]]:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        remedy = "pip install 'guerdon[hub]', or give a file"
        raise GuerdonError(
            f"{name}: no such file, and reading it from the hub needs datasets; remedy: {remedy}"
        ) from None
    try:
        for at, row in enumerate(load_dataset(name, split=split, streaming=True), start=1):
            yield f"{name}[{split}]: row {at}", row
    except (OSError, ValueError) as error:  # unreachable, unknown name, unknown split, gated
        lines = str(error).splitlines() or [type(error).__name__]
        remedy = "check the name, the split and the network, or give a file"
        raise GuerdonError(
            f"{name}[{split}]: cannot be read from the hub ({lines[0][:160]}); remedy: {remedy}"
        ) from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    at += 1
                    yield f"{path}: row {at}", row
    except (pa.ArrowException, OSError) as error:
        what = (str(error).splitlines() or ["unreadable"])[0].rstrip(".")[:160]
        raise GuerdonError(
            f"{path}: row {at + 1}: is not readable Parquet ({what}); remedy: copy or make it again"
        ) from None


def read_json(path: str | Path) -> Any:
    """What a JSON file holds."""
    value = parse_json(_whole(Path(path)), str(path))
    if isinstance(value, Rejected):
        raise GuerdonError(f"{path}: {value.reason.replace('the line', 'the file')}")
    return value


def read_config(path: str | Path) -> dict[str, Any]:
    """The options that a YAML file sets, for config.build; an empty file sets none."""
    import yaml

    try:
        found = yaml.safe_load(_whole(Path(path)))
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise GuerdonError(f"{path}: is not valid YAML ({what[:160]}); remedy: correct it") from None
    if not isinstance(found or {}, Mapping):
        raise GuerdonError(
            f"{path}: the file must be a mapping of stages to options, got {show_value(found)}. Write train: {{lr: 1e-5}}."
        )
    return _upgrade_config(dict(found or {}))


def _upgrade_config(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a file that 0.1 wrote, in today's spelling."""
    train, optimize = values.get("train"), values.get("optimize")
    if isinstance(train, Mapping) and "centring" in train:
        values["train"] = {"centering" if key == "centring" else key: value for key, value in train.items()}
    if isinstance(optimize, Mapping) and optimize.get("stop_when") == "over_optimised":
        values["optimize"] = {**optimize, "stop_when": "over_optimized"}
    return values


def _whole(path: Path) -> bytes:
    _refuse_missing(path)
    return b"".join(line for _, line in _lines(path))
