"""Damaged inputs of every format and file kind, and what must hold of each of them whatever it is.

Nothing but a GuerdonError of one line is raised; every row of the file comes out as a comparison or as a rejected row; and every text
of a comparison stands byte for byte in a cell of the file.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from format_rows import FORMAT_ROWS

from guerdon.config import ImportOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.data.files import import_files
from guerdon.data.importers import IMPORTERS, Rejected
from guerdon.data.importers.columns import list_in
from guerdon.io.readers import read_rows

KINDS = ("jsonl", "json", "csv", "parquet")
TEXTS = (
    "", " ", "\ud800", "a\x00b", "\u202eevil\u202c", "\u200b", "\ufeff", "line\nline", "carriage\r\nreturn", '"quoted", and, commas',
    "[1, 2", '{"role": "user", "content": "x"}', '[{"role": "user", "content": "x"}]', "\n\nHuman: hi\n\nAssistant: yes", "Human:",
    "\n\nAssistant:", "NaN", "null", "none", "1", "a", "b", "tie", "left", "A>B", "é" * 50, "\U0001f600", "x" * 5000,
    "<|im_start|>user", "skip",
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -1, 2, 0.5, 1e308, -0.0, float("nan"), float("inf"), 10**30, [], {}, [[]], [None], ["x"], ["a", "b"],
    {"text": "x"}, {"role": "robot", "content": "x"}, [{"from": "human", "value": "x"}], [{"role": "assistant", "content": None}],
    {"id": 1}, [{"id": "a"}, {"id": "b"}], {"value": ["response1", "response2"], "user_id": 3},
)  # fmt: skip
NAMES = (
    "prompt",
    "chosen",
    "rejected",
    "label",
    "responses",
    "messages",
    "id",
    "first",
    "second",
    "margin",
    "votes",
    "source",
)
COMPOSED = ("summaries",)  # formats whose prompt is put together from several cells
STEPPED = ("math_shepherd", "stepwise", "first_error")  # whose responses are steps of the row, joined by blank lines
OPTIONS = ({}, {}, {"judgments": "each"}, {"label_means": "first"}, {"strict": True}, {"source": "s"})


def check_input(seed: int, folder: Path) -> str:
    """Import one damaged input; "error" or how many comparisons came out. AssertionError, or any other, where it does not hold."""
    rng = random.Random(seed)
    form = rng.choice(list(FORMAT_ROWS))
    kind = rng.choice(KINDS)
    rows = _damaged_rows(rng, FORMAT_ROWS[form])
    content = encoded(rows, kind)
    if content is None:
        kind, content = "jsonl", encoded(rows, "jsonl") or b""
    if rng.random() < 0.4:
        content = _damaged_bytes(rng, content)
    path = folder / f"input.{kind}"
    path.write_bytes(content)
    format_given = {"format": rng.choice([form.partition("/")[0], *IMPORTERS])} if rng.random() < 0.3 else {}
    return check_file(path, ImportOptions(**rng.choice(OPTIONS), **format_given))


def check_file(path: Path, options: ImportOptions) -> str:
    """Import a file and check what comes out against the rows that are in it."""
    lines: list[str] = []
    results, error = _imported(path, options, lines)
    if error is not None:
        assert "\n" not in error, f"one line: {error!r}"
        assert error.strip()
        return "error"
    rows = list(read_rows(path, options))
    if path.suffix == ".jsonl":
        assert len(rows) >= sum(map(_is_object, path.read_bytes().split(b"\n"))), "a line that is an object is a row"
    name = lines[0].partition("format: ")[2].partition(" ")[0].strip(",") if lines else "native"
    if IMPORTERS[name].join is None:
        places = {place for place, _ in rows}
        assert {_place(result) for result in results} == places, f"{name}: lost rows"
    else:
        texts = {_response_of(row) for place, row in rows if not isinstance(row, Rejected)}
        held = sum(len(result.responses) for result in results if isinstance(result, Comparison))
        assert held + sum(isinstance(result, Rejected) for result in results) >= len(texts), f"{name}: lost rows"
    leaves = {place: _leaves(row) for place, row in rows}
    everywhere = [leaf for given in leaves.values() for leaf in given]
    for result in results:
        if isinstance(result, Comparison):
            own = everywhere if IMPORTERS[name].join else leaves[result.prompt.location]
            for text in _texts_of(result, with_prompt=name not in COMPOSED):
                parts = text.split("\n\n") if name in STEPPED else [text]
                assert all(_occurs(part, own) for part in parts), f"{name}: a text that is not in the file: {text!r}"
        else:
            assert "\n" not in result.reason, f"one line: {result.reason!r}"
    return str(sum(isinstance(result, Comparison) for result in results))


def _imported(path: Path, options: ImportOptions, lines: list[str]) -> tuple[list[Comparison | Rejected], str | None]:
    try:
        return list(import_files([path], options, lines.append)), None
    except GuerdonError as error:
        return [], str(error)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _place(result: Comparison | Rejected) -> str:
    return result.place if isinstance(result, Rejected) else result.prompt.location


def _response_of(row: Any) -> str:
    names = ("completion", "output", "response", "messages", "conversations")
    return repr([row.get(name) for name in names] if isinstance(row, dict) else row)


def _texts_of(comparison: Comparison, with_prompt: bool) -> Iterator[str]:
    if with_prompt:
        yield from (turn.content for turn in comparison.prompt)
    for response in comparison.responses:
        yield from (turn.content for turn in response.turns())


def _occurs(text: str, leaves: Sequence[str], joins: int = 2) -> bool:
    """Whether a text stands in a cell, or is several of them joined: an instruction, its input, an answer's beginning and its rest."""
    if any(text in leaf for leaf in leaves):
        return True
    starts = [leaf for leaf in leaves if leaf and text.startswith(leaf)]
    ends = [leaf for leaf in leaves if leaf and text.endswith(leaf)]
    if any(text[len(leaf) :].removeprefix("\n") in other for leaf in starts for other in leaves):
        return True
    return joins > 0 and any(_occurs(text[: -len(leaf)].removesuffix("\n"), leaves, joins - 1) for leaf in ends)


def _leaves(value: Any) -> list[str]:
    """All texts in a row, those in cells of JSON or Python's notation too, with line ends as transcripts are read."""
    if isinstance(value, str):
        held = list_in(value)
        inner = [] if isinstance(held, str) else _leaves(held)
        return [value, value.replace("\r\n", "\n"), *inner]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list | tuple):
        parts = [part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str)]
        return [leaf for item in value for leaf in _leaves(item)] + ["".join(parts)]
    return []


# ---- Damage ------------------------------------------------------------------------------------------------------------


def _damaged_rows(rng: random.Random, rows: Sequence[dict[str, Any]]) -> list[Any]:
    damaged: list[Any] = [copy.deepcopy(rng.choice(rows)) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.5:
        damaged = [copy.deepcopy(row) for row in rows]
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        i = rng.randrange(len(damaged))
        damaged[i] = _damaged(rng, damaged[i])
    if rng.random() < 0.1:
        damaged.insert(rng.randrange(len(damaged) + 1), rng.choice(VALUES))
    return damaged


def _damaged(rng: random.Random, value: Any) -> Any:
    """The value with one change somewhere in it."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        change = rng.random()
        if change < 0.12:
            return {name: item for name, item in value.items() if name != key}
        if change < 0.2:
            return {(rng.choice(NAMES) if name == key else name): item for name, item in value.items()}
        if change < 0.26:
            return {**value, key: value[rng.choice(list(value))]}
        return {**value, key: _damaged(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        change = rng.random()
        if change < 0.15:
            return value[:i] + value[i + 1 :]
        if change < 0.3:
            return [*value, value[i]]
        if change < 0.4:
            return value[::-1]
        return [*value[:i], _damaged(rng, value[i]), *value[i + 1 :]]
    if isinstance(value, str) and rng.random() < 0.4:
        cut = rng.randrange(len(value) + 1)
        return value[:cut] + rng.choice(TEXTS) + value[cut:]
    return rng.choice(TEXTS) if rng.random() < 0.5 else copy.deepcopy(rng.choice(VALUES))


def _damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((0, 1, 1, 2, 8, 64)))
        change = rng.randrange(5)
        if change == 0 and start < len(data):
            data[start] = rng.randrange(256)
        elif change == 1:
            del data[start:end]
        elif change == 2:
            data[start:start] = data[start:end]
        elif change == 3:
            data[start:start] = rng.choice(
                (b"\n", b'"', b"\xff", b"\x00", b"{", b"]", b",", b"\r\n", b"\xef\xbb\xbf", b"\\u", b"\x1f\x8b")
            )
        elif rng.random() < 0.3:
            del data[start:]
    return bytes(data)


# ---- Files -------------------------------------------------------------------------------------------------------------


def encoded(rows: Sequence[Any], kind: str) -> bytes | None:
    """The rows as a file; None where the kind cannot hold them."""
    if kind == "jsonl":
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    if not all(isinstance(row, dict) for row in rows):
        return None
    return _as_table(rows) if kind == "csv" else _as_parquet(rows)


def _as_table(rows: Sequence[dict[str, Any]]) -> bytes | None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name) for name in names]
        writer.writerow(
            [json.dumps(cell) if isinstance(cell, list | dict) else "" if cell is None else cell for cell in cells]
        )
    try:
        return file.getvalue().encode("utf-8")
    except UnicodeEncodeError:  # half a character
        return None


def _as_parquet(rows: Sequence[dict[str, Any]]) -> bytes | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    try:
        pq.write_table(
            pa.Table.from_pylist(
                [{name: row.get(name) for name in dict.fromkeys(k for r in rows for k in r)} for row in rows]
            ),
            buffer,
        )
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # columns of several types
        return None
    return buffer.getvalue()
