"""Paths in, rows and contract objects out. Errors name file:line, the field, the value and what to do.

Lines end at \\n only, so a text that holds U+2028 stays whole.
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
from guerdon.config.yaml_text import parse_yaml
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Prompt,
    Rollouts,
)
from guerdon.errors import field_error
from guerdon.io.schema import Rejected, comparison_from_row, conversation_from_row, parse_row, prompt_from_row

LONGEST_LINE = 256 * 2**20  # bytes; with a longer line the file is not JSONL
BATCH = 512  # rows in memory at once when Parquet is read or written
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")

Rows = Iterator[tuple[str, Any]]  # (location, row): the location is file:line, or what comes closest


# ---- Contract objects --------------------------------------------------------------------------------------------


def read_comparisons(path: str | Path) -> Iterator[Comparison]:
    """The comparisons of a native file (.jsonl, .jsonl.gz, .parquet), one by one in constant memory."""
    for location, row in read_rows(path):
        yield parse_row(location, row, comparison_from_row)


def read_rollouts(path: str | Path) -> Rollouts:
    """A policy's responses, from rows of prompt and response(s), or of messages that end with an assistant turn."""
    pairs = [
        (prompt, response)
        for location, row in read_rows(path)
        for prompt, responses, _ in [conversation_from_row(location, row)]
        for response in responses
    ]
    return Rollouts(tuple(prompt for prompt, _ in pairs), tuple(response for _, response in pairs))


def read_prompts(path: str | Path) -> list[Prompt]:
    """The distinct prompts in order of first appearance, from rows with prompt or messages; a final assistant turn is cut."""
    return list(dict.fromkeys(parse_row(location, row, _prompt_of) for location, row in read_rows(path)))


def _prompt_of(row: Any) -> Prompt:
    if not isinstance(row, Mapping) or not {"prompt", "messages"} & set(row):
        raise field_error("row", "an object with prompt or messages", row, "Give one of them.")
    prompt = prompt_from_row(row["prompt"] if "prompt" in row else row["messages"], row.get("tools"))
    if "prompt" not in row and prompt[-1].role == "assistant":
        prompt = prompt[:-1]
    if not prompt:
        raise field_error("messages", "a list with a turn to answer", row["messages"])
    return prompt


# ---- Rows --------------------------------------------------------------------------------------------------------


def read_rows(source: str | Path, options: ImportOptions | None = None) -> Rows:
    """The (location, row) pairs of a file or a data set on the hub, one by one.

    .jsonl, .json (a list, or one object per line), .csv, .tsv, each also gzipped, and .parquet. A row that cannot be
    read is a Rejected with its text; a file that cannot be read any further is a GuerdonError.
    """
    path = Path(source)
    if not path.exists() and _is_hub_name(str(source)):
        return _hub_rows(str(source), (options or ImportOptions()).hub_split)
    ending = (Path(path.stem).suffix if path.suffix == ".gz" else path.suffix).lower()
    if ending not in ENDINGS and path.exists() and not path.is_dir():
        raise GuerdonError(f"{path}: the ending must be one of {', '.join(ENDINGS)}, got {ending!r}. Rename the file.")
    _refuse_missing(path)
    if ending == ".parquet":
        rows = _parquet_rows(path)
    elif ending in (".csv", ".tsv"):
        rows = _table_rows(path, "," if ending == ".csv" else "\t")
    else:
        rows = _json_rows(path)
    return _at_least_one(rows, path)


def count_rows(source: str | Path) -> int | None:
    """The number of rows for a progress bar: exact for Parquet, an upper bound for plain JSONL, None for the rest."""
    path = Path(source)
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            with path.open("rb") as file:
                if not file.peek(2).startswith(b"\x1f\x8b"):
                    return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b""))
    except (OSError, ValueError):  # reading the rows reports what is wrong with the file
        pass
    return None


def _refuse_missing(path: Path) -> None:
    if path.is_dir():
        raise GuerdonError(f"{path}: is a directory, not a file. Name a file in it.")
    if not path.exists():
        raise GuerdonError(f"{path}: no such file. Check the path; the current folder is {Path.cwd()}.")


def _at_least_one(rows: Rows, path: Path) -> Rows:
    is_empty = True
    for row in rows:
        is_empty = False
        yield row
    if is_empty:
        raise GuerdonError(f"{path}: holds no rows. Check what wrote it.")


# ---- JSON --------------------------------------------------------------------------------------------------------


def parse_json(line: bytes, location: str) -> Any:
    """What the line holds; a Rejected with its text if it is not JSON."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start + 1}. Convert the file to UTF-8."
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg} at character {error.pos + 1}). Complete or delete the line."
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        reason = f"is not JSON that can be read ({str(error).partition(';')[0]}). Delete the line."
    return Rejected(location, reason, line.decode("utf-8", "backslashreplace").rstrip("\n"))


def _json_rows(path: Path) -> Rows:
    lines = _lines(path)
    is_first = True
    for number, line in lines:
        if not line.strip():
            continue
        if is_first and line.lstrip().startswith(b"["):
            yield from _json_items(path, line + b"".join(more for _, more in lines))
            return
        row = parse_json(line, f"{path}:{number}")
        if is_first and isinstance(row, Rejected) and ".jsonl" not in path.name:
            raise GuerdonError(f"{path}: is neither a list nor one object per line: {row.reason}")
        is_first = False
        yield f"{path}:{number}", row


def _json_items(path: Path, body: bytes) -> Rows:
    items = parse_json(body, str(path))
    if isinstance(items, Rejected):
        raise GuerdonError(f"{path}: {items.reason}")
    for number, item in enumerate(items, start=1):
        yield f"{path}: item {number}", item


# ---- CSV ---------------------------------------------------------------------------------------------------------


def _table_rows(path: Path, delimiter: str) -> Rows:
    pending: list[str] = []  # the physical lines of the row that is being read
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_text_lines(path, pending), delimiter=delimiter, strict=True)
    header = next(_csv_rows(reader, path, pending), None)
    if header is None:
        return
    names = header[1]
    if isinstance(names, Rejected) or len(set(names)) != len(names):
        raise field_error(f"{path}:1: the first line", "a header that names each column once", names, "Add a header.")
    for location, cells in _csv_rows(reader, path, pending):
        if isinstance(cells, Rejected):
            yield location, cells
        elif len(cells) != len(names):
            reason = f"has {len(cells)} cells for {len(names)} columns. Quote cells that hold {delimiter!r}."
            yield location, Rejected(location, reason, cells)
        else:
            yield location, dict(zip(names, cells, strict=True))


def _csv_rows(reader: Any, path: Path, pending: list[str]) -> Rows:
    """(location, cells) of each row, without blank ones; the location is the row's first line."""
    while True:
        pending.clear()
        location = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield location, Rejected(location, f"is not valid CSV ({error}). Close its quotes.", "".join(pending))
            continue
        if cells:
            yield location, cells


def _text_lines(path: Path, pending: list[str]) -> Iterator[str]:
    for number, line in _lines(path):
        try:
            pending.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise GuerdonError(
                f"{path}:{number}: is not UTF-8 at byte {error.start + 1}. Convert the file to UTF-8."
            ) from None
        yield pending[-1]


# ---- Lines -------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a text file, decompressed if it is gzipped, without a byte-order mark."""
    number = 0
    try:
        with ExitStack() as stack:
            file = _open(path, stack)
            if b"\0" in file.peek(4096)[:4096]:
                raise GuerdonError(
                    f"{path}: is not UTF-8 text (it holds NUL bytes). Give a .jsonl, .csv or .parquet file."
                )
            while line := file.readline(LONGEST_LINE):
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    _refuse_binary(path, line)
                if len(line) == LONGEST_LINE:
                    raise GuerdonError(
                        f"{path}:{number}: line is longer than {LONGEST_LINE >> 20} MiB. Check that the file is JSONL."
                    )
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        cause = str(error).rstrip(".")
        raise GuerdonError(
            f"{path}:{number + 1}: gzip data is damaged or truncated ({cause}). Copy the file again."
        ) from None


def _open(path: Path, stack: ExitStack) -> io.BufferedReader:
    """The file, decompressed if its first bytes are gzip's, whatever its name is."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise GuerdonError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from None
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    compressed = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
    return stack.enter_context(io.BufferedReader(cast("io.RawIOBase", compressed)))


def _refuse_binary(path: Path, line: bytes) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GuerdonError(
            f"{path}:1: is not UTF-8 text (byte {error.start + 1}). Convert it, or give another file."
        ) from None


# ---- The hub and Parquet -----------------------------------------------------------------------------------------


def _is_hub_name(name: str) -> bool:
    """Whether the name is ORG/NAME and not a path, which has a known ending or a folder that exists."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or Path(name).parent.exists():
        return False
    return not name.lower().endswith((*ENDINGS, ".gz", ".txt"))


def _hub_rows(name: str, split: str) -> Rows:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise GuerdonError(
            f"{name}: no such file, and reading it from the hub needs the package datasets. "
            "Run pip install 'guerdon[hub]', or give a file."
        ) from None
    try:
        for number, row in enumerate(load_dataset(name, split=split, streaming=True), start=1):
            yield f"{name}[{split}]: row {number}", row
    except (OSError, ValueError) as error:  # unreachable, unknown name, unknown split, gated
        lines = str(error).splitlines() or [type(error).__name__]
        raise GuerdonError(
            f"{name}[{split}]: cannot be read from the hub ({lines[0][:160]}). "
            "Check the name, the split and the network, or give a file."
        ) from None


def _parquet_rows(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for row in batch.to_pylist(maps_as_pydicts="strict"):
                    number += 1
                    yield f"{path}: row {number}", row
    except (pa.ArrowException, OSError) as error:
        cause = (str(error).splitlines() or ["unreadable"])[0].rstrip(".")[:160]
        raise GuerdonError(
            f"{path}: row {number + 1}: is not readable Parquet ({cause}). Copy or write the file again."
        ) from None


# ---- Whole files -------------------------------------------------------------------------------------------------


def read_json(path: str | Path) -> Any:
    """What a JSON file holds."""
    value = parse_json(_read_bytes(Path(path)), str(path))
    if isinstance(value, Rejected):
        raise GuerdonError(f"{path}: {value.reason.replace('the line', 'the file')}")
    return value


def read_config(path: str | Path) -> dict[str, Any]:
    """The options that a YAML file sets, for config.build; an empty file sets none."""
    text = _read_bytes(Path(path))
    try:
        values = parse_yaml(text) or {}
    except ValueError as error:
        raise GuerdonError(f"{path}: is not valid YAML ({error}). Correct it.") from None
    if not isinstance(values, Mapping):
        raise field_error(
            f"{path}: the file", "a mapping of stages to options", values, "Write train: {lr: 1e-5}, for example."
        )
    return _upgrade_config(dict(values))


def _upgrade_config(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a file that 0.1 wrote, in today's spelling."""
    train, optimize = values.get("train"), values.get("optimize")
    if isinstance(train, Mapping) and "centring" in train:
        values["train"] = {"centering" if key == "centring" else key: value for key, value in train.items()}
    if isinstance(optimize, Mapping) and optimize.get("stop_when") == "over_optimised":
        values["optimize"] = {**optimize, "stop_when": "over_optimized"}
    return values


def _read_bytes(path: Path) -> bytes:
    _refuse_missing(path)
    return b"".join(line for _, line in _lines(path))
