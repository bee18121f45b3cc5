"""The rows of JSON files: one object per line, a list, objects over several lines, or a list within an object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from guerdon.contracts import GuerdonError
from guerdon.errors import cause_of, show_value
from guerdon.io import text_lines
from guerdon.io.schema import Rejected

Rows = Iterator[tuple[str, Any]]

WRAPPERS = (
    "data",
    "rows",
    "examples",
    "items",
    "records",
    "instances",
    "comparisons",
    "pairs",
    "train",
    "validation",
    "test",
)
_SEPARATORS = re.compile(
    r"[\s,\ufeff]*"
)  # between the values of a line; a byte-order mark is left where files were joined


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"names {show_value(twice, 40)} twice")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def json_rows(path: Path) -> Rows:
    """The (location, row) pairs of a JSON file; a line that is not JSON is a Rejected."""
    if text_lines.first_byte(path) == b"[":
        yield from ((f"{path}: item {i}", item) for i, (_, item) in enumerate(_stream(path), start=1))
        return
    is_first = True
    for number, line in text_lines.text_lines(path):
        if not line.strip():
            continue
        if is_first and _goes_on(line):
            yield from _unwrap(path, ((f"{path}:{start}", value) for start, value in _stream(path)))
            return
        rows = list(_line_rows(line, f"{path}:{number}"))
        if is_first and ".jsonl" not in path.name and ".ndjson" not in path.name:
            if isinstance(rows[0][1], Rejected):
                raise GuerdonError(f"{path}: is neither a list nor one object per line: {rows[0][1].reason}")
            yield from _unwrap(path, iter(rows))
        else:
            yield from rows
        is_first = False


def parse_json(line: bytes, location: str, decoder: json.JSONDecoder | None = None) -> Any:
    """What the line holds; a Rejected with its text if it is not JSON."""
    try:
        return (decoder or json.JSONDecoder()).decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start + 1}. Convert the file to UTF-8."
    except json.JSONDecodeError as error:
        reason = f"is not valid JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1}). Complete or delete the line."
        if line.lstrip().startswith((b"{'", b"[{'")):
            reason = (
                f"is not valid JSON ({error.msg}): it is a Python object. Write it with json.dumps, or drop the line."
            )
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets; a key twice
        reason = f"is not JSON that can be read ({cause_of(error)}). Correct or delete the line."
    return Rejected(location, reason, line.decode("utf-8", "backslashreplace").rstrip("\n"))


def _line_rows(line: bytes, location: str) -> Rows:
    """The rows of one line: usually one; several where objects follow each other without a line end."""
    row = parse_json(line.removeprefix(text_lines.BOM), location, _DECODER)
    objects = _split_objects(line) if isinstance(row, Rejected) else []
    if len(objects) < 2:
        yield location, objects[0] if objects else row
    else:
        yield from ((f"{location}: item {i}", value) for i, value in enumerate(objects, start=1))


def _split_objects(line: bytes) -> list[Any]:
    """The objects in a line; none if it holds anything else."""
    objects = []
    try:
        text = line.decode("utf-8")
        position = _skip(text, 0)
        while position < len(text):
            value, end = _DECODER.raw_decode(text, position)
            if not isinstance(value, Mapping):
                return []
            objects.append(value)
            position = _skip(text, end)
    except (ValueError, RecursionError):
        return []
    return objects


def _goes_on(line: bytes) -> bool:
    """Whether a line holds the beginning of a value that ends on a later line."""
    text = line.decode("utf-8", "replace").strip()
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) and text.endswith(("{", "[", ",", ":"))
    except (ValueError, RecursionError):
        pass
    return False


# ---- Values over several lines -----------------------------------------------------------------------------------


def _stream(path: Path) -> Iterator[tuple[int, Any]]:
    """(first line, value) of the values of a file, or of the list that it holds, one by one.

    At most one value and two blocks are in memory, and at most LONGEST_LINE characters of a value that is not JSON.
    """
    text = _Text(path)
    is_list = text.peek() == "["
    if is_list:
        text.position += 1
    while (char := text.peek()) and not (is_list and char == "]"):
        yield text.line, text.decode()
    if is_list:
        if not char:
            raise GuerdonError(f"{path}: is not valid JSON (its list does not end). Copy the file again.")
        text.position += 1
        if text.peek():
            raise GuerdonError(f"{path}:{text.line}: holds more text after its list. Delete it.")


class _Text:
    """What has been read of a file, from `position` on; `line` is the number of the line there."""

    def __init__(self, path: Path) -> None:
        self.path, self.blocks = path, text_lines.text_blocks(path)
        self.text, self.position, self.line, self.count = "", 0, 1, 0

    def peek(self) -> str:
        """The next character that is no separator, after moving to it; "" at the end."""
        while True:
            start = _skip(self.text, self.position)
            self._move(start)
            if start < len(self.text):
                return self.text[start]
            self.text, self.position = next(self.blocks, ""), 0
            if not self.text:
                return ""

    def decode(self) -> Any:
        """The value at the position, after moving behind it.

        A value that ends at the end of the text may go on, and so may one that is not JSON: each further try has twice as
        much text, so the cost is linear.
        """
        self.count += 1
        is_whole = False
        while True:
            error: Exception | None = None
            try:
                value, end = _DECODER.raw_decode(self.text, self.position)
                if end < len(self.text) or is_whole:
                    self._move(end)
                    return value
            except (ValueError, RecursionError) as raised:
                error = raised
            is_hopeless = isinstance(error, RecursionError) or len(self.text) > text_lines.LONGEST_LINE
            if error and (is_whole or is_hopeless):
                cause = error.msg if isinstance(error, json.JSONDecodeError) else cause_of(error)
                where = f"{self.path}:{self.line}: item {self.count}"
                raise GuerdonError(f"{where}: is not valid JSON ({cause}). Correct the file.") from None
            is_whole = not self._read()

    def _read(self) -> bool:
        """Read as much as is left to decode, one block at least; False where the file has ended."""
        parts = [self.text[self.position :]]
        wanted = len(parts[0])
        while wanted >= 0 and (block := next(self.blocks, "")):
            parts.append(block)
            wanted -= len(block)
        self.text, self.position = "".join(parts), 0
        return len(parts) > 1

    def _move(self, position: int) -> None:
        self.line += self.text.count("\n", self.position, position)
        self.position = position


def _skip(text: str, position: int) -> int:
    match = _SEPARATORS.match(text, position)
    return match.end() if match else position


# ---- A list within an object -------------------------------------------------------------------------------------


def _unwrap(path: Path, rows: Rows) -> Rows:
    """The rows; of a file that holds one object around its rows, those."""
    first = next(rows, None)
    second = next(rows, None)
    if first and not second and isinstance(first[1], Mapping):
        inner = _inner_rows(first[1])
        if inner is not None:
            yield from ((f"{path}: item {i}", row) for i, row in enumerate(inner, start=1))
            return
    yield from (row for row in (first, second) if row)
    yield from rows


def _inner_rows(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of {"data": [row, ...]} or of columns {name: {index: cell}}, as pandas writes them; None for anything else."""
    for name in WRAPPERS:
        items = value.get(name)
        if isinstance(items, list) and items and all(isinstance(item, Mapping) for item in items):
            return items
    columns = list(value.values())
    if len(columns) > 1 and all(
        isinstance(column, Mapping) and column.keys() == columns[0].keys() for column in columns
    ):
        return [{name: column[index] for name, column in value.items()} for index in columns[0]]
    return None
