"""The edge where paths become objects and objects become files. Errors name file:line, field, value and remedy.

Lines end at \\n and nowhere else, so a text that holds U+2028 stays whole. What is written appears whole or not at all.
"""

from __future__ import annotations

import csv
import difflib
import errno
import gzip
import io
import json
import math
import os
import re
import secrets
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast, get_args

from assay.config import Config, ImportOptions
from assay.contracts import AssayError, Comparison, FinishReason, Message, Prompt, Response, Role, Rollouts, Verdict

__all__ = [
    "Chunks",
    "Rejected",
    "append_jsonl",
    "asked_row",
    "atomic_write",
    "comparison_writer",
    "count_rows",
    "from_row",
    "held",
    "make_folder",
    "nearest",
    "number",
    "read_comparisons",
    "read_config",
    "read_json",
    "read_prompts",
    "read_rollouts",
    "read_rows",
    "refuse_other_ending",
    "resumable_write",
    "set_aside",
    "shown",
    "text",
    "to_row",
    "write_comparisons",
    "write_config",
    "write_json",
    "write_jsonl",
    "write_parts",
    "write_rejected",
    "write_rollouts",
    "write_text",
    "wrong",
]

LONGEST_LINE = 256 * 2**20  # bytes; a longer line is no row but a file of another kind
BATCH = 512  # rows held at once when Parquet is read or written
ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not be used: where it stands, the reason with its remedy, and the row as it was."""

    place: str
    reason: str
    row: object


# ---- Comparisons -------------------------------------------------------------------------------------------------


def read_comparisons(path: str | Path) -> Iterator[Comparison]:
    """A native file (.jsonl, .jsonl.gz, .parquet) in, its comparisons out, one by one in constant memory."""
    for place, row in read_rows(path):
        if isinstance(row, Rejected):
            raise AssayError(f"{place}: {row.reason}")
        try:
            yield from_row(row)
        except AssayError as error:
            raise AssayError(f"{place}: {error}") from None


def write_comparisons(path: str | Path, comparisons: Iterable[Comparison]) -> int:
    """Write comparisons, as they come, in the format of the path's ending; returns how many."""
    count = 0
    with comparison_writer(path) as write:
        for comparison in comparisons:
            write(comparison)
            count += 1
    return count


def write_parts(folder: str | Path, parts: Iterable[tuple[str, Comparison]], names: Sequence[str]) -> dict[str, int]:
    """Write each comparison to folder/NAME.jsonl by the name before it, all files at once; returns how many in each."""
    counts = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        writers = {name: stack.enter_context(comparison_writer(Path(folder) / f"{name}.jsonl")) for name in names}
        for name, comparison in parts:
            writers[name](comparison)
            counts[name] += 1
    return counts


def write_rejected(path: str | Path, rejected: Iterable[Rejected]) -> int:
    """Write {place, reason, row} a line; returns how many. An empty file says that nothing was rejected."""
    count = 0
    with atomic_write(path, "wb") as file:
        for row in rejected:
            file.write(_rejected_line(row))
            count += 1
    return count


def set_aside(rows: Iterable[Comparison | Rejected], path: str | Path) -> Iterator[Comparison]:
    """Comparisons and rejected rows in, the comparisons out; the rejected go to the path once all rows are read."""
    with atomic_write(path, "wb") as file:
        for row in rows:
            if isinstance(row, Comparison):
                yield row
            else:
                file.write(_rejected_line(row))


@contextmanager
def comparison_writer(path: str | Path) -> Iterator[Callable[[Comparison], None]]:
    """A function that writes one comparison; the file appears, whole, when the block ends without an error."""
    name = str(path)
    if name.endswith(".parquet"):
        with atomic_write(path, "wb") as file, _parquet_writer(file) as write:
            yield write
    elif name.endswith((".jsonl", ".jsonl.gz")):
        with atomic_write(path, "wb") as file:
            if not name.endswith(".gz"):
                yield lambda comparison: _write(file, _comparison_line(comparison))
                return
            # No name and no time in the header: the same comparisons make the same bytes.
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed:
                yield lambda comparison: _write(packed, _comparison_line(comparison))
    else:
        raise AssayError(f"{path}: comparisons are written as .jsonl, .jsonl.gz or .parquet; remedy: change the ending")


def write_rollouts(path: str | Path, rollouts: Rollouts) -> int:
    """Write a policy's responses, {prompt, response, reward?, kl?} a line; returns how many."""
    with atomic_write(path, "wb") as file:
        for i, (prompt, response) in enumerate(zip(rollouts.prompts, rollouts.responses, strict=True)):
            row: dict[str, Any] = {
                "prompt": [{"role": m.role, "content": m.content} for m in prompt],
                "response": _response_row(response),
            }
            for name, values in (("reward", rollouts.reward), ("kl", rollouts.kl)):
                if values is not None:
                    row[name] = float(values[i])
            file.write(_encoded(row) + b"\n")
    return len(rollouts.responses)


def refuse_other_ending(path: str | Path, what: str) -> None:
    """An error unless the file's name tells that it holds JSON lines; what is no file, such as a pipe, may have any name."""
    target = Path(os.path.realpath(path))
    if target.suffix not in (".jsonl", ".ndjson") and not (target.exists() and not target.is_file()):
        raise AssayError(f"{path}: {what} written as .jsonl; remedy: change the ending")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line; returns how many."""
    num = 0
    with atomic_write(path, "wb") as file:
        for row in rows:
            file.write(_encoded(row) + b"\n")
            num += 1
    return num


def read_rollouts(path: str | Path) -> Rollouts:
    """A policy's responses from rows of prompt with response or responses, or messages that end with an assistant turn."""
    asked = [
        (prompt, response)
        for row in read_rows(path)
        for prompt, responses, _ in [asked_row(*row)]
        for response in responses
    ]
    return Rollouts(tuple(prompt for prompt, _ in asked), tuple(response for _, response in asked))


def read_prompts(path: str | Path) -> list[Prompt]:
    """Different prompts in the order they first stand: rows of prompt, comparisons, or messages (a last assistant turn is left off)."""
    found: dict[Prompt, None] = {}
    for place, row in read_rows(path):
        if isinstance(row, Rejected):
            raise AssayError(f"{row.place}: {row.reason}")
        try:
            if not isinstance(row, Mapping) or not {"prompt", "messages"} & set(row):
                raise wrong("row", "holds prompt or messages", row, "give one of them")
            prompt = _prompt(row["prompt"] if "prompt" in row else row["messages"])
            if "prompt" not in row and prompt[-1].role == "assistant":
                prompt = prompt[:-1]
            if not prompt:
                raise wrong("messages", "hold a turn to answer", row["messages"])
        except AssayError as error:
            raise AssayError(f"{place}: {error}") from None
        found[prompt] = None
    return list(found)


def asked_row(place: str, row: Any) -> tuple[Prompt, list[Response], bool]:
    """The prompt of a row to be scored, its responses, and whether it has a single one; errors name the place."""
    if isinstance(row, Rejected):
        raise AssayError(f"{row.place}: {row.reason}")
    remedy = "give prompt and response, prompt and responses, or messages that end with an assistant turn"
    try:
        if isinstance(row, Mapping) and "messages" in row:
            *before, last = _prompt(row["messages"])
            if last.role != "assistant" or not before:
                raise wrong("messages", "end with an assistant turn after another", last.role, remedy)
            return tuple(before), [Response(last.content)], True
        if not isinstance(row, Mapping) or "prompt" not in row or not {"response", "responses"} & set(row):
            raise wrong("row", "holds prompt and response", row, remedy)
        if {"response", "responses"} <= set(row):
            raise wrong("row", "holds response or responses, not both", row, "leave one out")
        if "responses" in row:
            values = _list(row["responses"], "responses", "is a list of texts")
            return (
                _prompt(row["prompt"]),
                [_response(value, f"responses[{i}]") for i, value in enumerate(values)],
                False,
            )
        return _prompt(row["prompt"]), [_response(row["response"], "response")], True
    except AssayError as error:
        raise AssayError(f"{place}: {error}") from None


# ---- The native row ----------------------------------------------------------------------------------------------

KEYS: Mapping[str, tuple[str, ...]] = {
    "row": ("id", "group", "prompt", "responses", "verdict", "annotator", "source", "weight"),
    "message": ("role", "content"),
    "response": ("text", "finish", "author", "ratings"),
    "verdict": ("groups", "q", "strength", "votes"),
}


def to_row(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values; from_row gives it back exactly. See from_row for the schema."""
    v = comparison.verdict
    verdict = {
        "groups": None if v.groups is None else [list(group) for group in v.groups],
        "q": None if v.q is None else float(v.q),
        "strength": None if v.strength is None else float(v.strength),
        "votes": None if v.votes is None else [int(count) for count in v.votes],
    }
    row = {
        "id": comparison.id,
        "group": comparison.group,
        "prompt": [{"role": m.role, "content": m.content} for m in comparison.prompt],
        "responses": [_response_row(response) for response in comparison.responses],
        "verdict": _present(verdict),
        "annotator": comparison.annotator,
        "source": comparison.source,
        "weight": None if comparison.weight == 1.0 else float(comparison.weight),
    }
    return _present(row)


def from_row(row: object) -> Comparison:
    """The native row in, a Comparison out. A key marked ? may be missing or null; any other key is an error.

    {id?, group?, prompt: [{role, content}], responses: [{text, finish?, author?, ratings?: {name: number}}],
     verdict: {groups: [[index, ...], ...] best first | q: P(first is better), strength?, votes?: [first, tie, second]},
     annotator?, source?, weight?}

    A prompt may be text (one user turn) and a response too. Missing id and group are computed from the content.
    """
    fields = _object(row, "row", ("prompt", "responses", "verdict"))
    responses = _list(fields["responses"], "responses", "is a list of two or more responses")
    return Comparison(
        prompt=_prompt(fields["prompt"]),
        responses=tuple(_response(value, f"responses[{i}]") for i, value in enumerate(responses)),
        verdict=_verdict(fields["verdict"]),
        annotator=_optional_text(fields, "annotator"),
        source=_optional_text(fields, "source"),
        weight=number(fields["weight"], "weight", "is a number > 0", above=0) if "weight" in fields else 1.0,
        group=_optional_text(fields, "group") or "",
        id=_optional_text(fields, "id") or "",
    )


def _prompt(value: object) -> Prompt:
    if isinstance(value, str):
        return (Message("user", value),)
    turns = _list(value, "prompt", "is text or a list of messages")
    if not turns:
        raise wrong("prompt", "holds at least one message", value)
    return tuple(_message(turn, f"prompt[{i}]") for i, turn in enumerate(turns))


def _message(value: object, where: str) -> Message:
    fields = _object(value, "message", ("role", "content"), where)
    if fields["role"] not in get_args(Role):
        raise wrong(f"{where}.role", f"is one of {', '.join(get_args(Role))}", fields["role"])
    return Message(fields["role"], text(fields["content"], f"{where}.content"))


def _response(value: object, where: str) -> Response:
    if isinstance(value, str):
        return Response(value)
    fields = _object(value, "response", ("text",), where)
    if fields.get("finish") not in (None, *get_args(FinishReason)):
        raise wrong(f"{where}.finish", f"is {' or '.join(get_args(FinishReason))}", fields["finish"])
    ratings = fields.get("ratings", {})
    if not isinstance(ratings, Mapping):
        raise wrong(f"{where}.ratings", "is an object of names and numbers", ratings)
    return Response(
        text(fields["text"], f"{where}.text"),
        finish=fields.get("finish"),
        author=_optional_text(fields, "author", where),
        ratings={str(name): number(value, f"{where}.ratings.{name}") for name, value in ratings.items()},
    )


def _verdict(value: object) -> Verdict:
    fields = _object(value, "verdict", (), "verdict")
    votes = fields.get("votes")
    return Verdict(
        groups=None if "groups" not in fields else _groups(fields["groups"]),
        q=number(fields["q"], "q", "is a probability between 0 and 1", low=0, high=1) if "q" in fields else None,
        strength=number(fields["strength"], "strength", "is a number >= 0", low=0) if "strength" in fields else None,
        votes=None if votes is None else _votes(votes),
    )


def _groups(value: object) -> tuple[tuple[int, ...], ...]:
    groups = _list(value, "groups", "is a list of lists of response numbers, best first")
    if not all(isinstance(group, list | tuple) and all(_is_count(i) for i in group) for group in groups):
        raise wrong("groups", "is a list of lists of response numbers, best first", value)
    return tuple(tuple(group) for group in groups)


def _votes(value: object) -> tuple[int, int, int]:
    if not (isinstance(value, list | tuple) and len(value) == 3 and all(_is_count(count) for count in value)):
        raise wrong("votes", "is three counts: first better, tie, second better", value)
    return cast("tuple[int, int, int]", tuple(value))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _response_row(response: Response) -> dict[str, Any]:
    ratings = {name: float(value) for name, value in response.ratings.items()}
    row = {"text": response.text, "finish": response.finish, "author": response.author, "ratings": ratings or None}
    return _present(row)


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}


def _object(value: object, kind: str, required: Sequence[str], where: str = "") -> dict[str, Any]:
    """The fields that are present and not null, checked by name."""
    if not isinstance(value, Mapping):
        raise wrong(where or "row", f"is an object with {', '.join(KEYS[kind])}", value)
    dot = f"{where}." if where else ""
    for key in required:
        if value.get(key) is None:
            hint = "import the file first" if kind == "row" else "add it"
            raise AssayError(f"field {dot}{key} is missing; remedy: {hint}")
    for key in value:
        if key not in KEYS[kind]:
            name = shown(str(key), 40).strip("'")
            raise AssayError(f"field {dot}{name} is not known; the nearest is {nearest(key, KEYS[kind])}")
    return _present(value)


def _list(value: object, where: str, claim: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise wrong(where, claim, value)
    return value


def _optional_text(fields: Mapping[str, Any], key: str, where: str = "") -> str | None:
    return text(fields[key], f"{where}.{key}" if where else key) if key in fields else None


def text(value: object, where: str) -> str:
    """The value if it is text; else an error that names the field."""
    if not isinstance(value, str):
        raise wrong(where, "is text", value)
    return value


def number(
    value: object,
    where: str,
    claim: str = "is a finite number",
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> float:
    """The value as a finite float in [low, high] and > above; else an error that names the field. True is no number."""
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        found = math.inf
    if not (math.isfinite(found) and low <= found <= high and found > above):
        raise wrong(where, claim, value)
    return found


def wrong(where: str, claim: str, value: object, remedy: str = "correct or drop the row") -> AssayError:
    """What a field should be, what it is, and what to do, in one line."""
    return AssayError(f"field {where} {claim}, got {shown(value)}; remedy: {remedy}")


def shown(value: object, width: int = 60) -> str:
    """The value on one line, cut where it is long."""
    if value is None:
        return "nothing"
    body = repr(value[: width + 1] if isinstance(value, str | bytes) else value)
    return body if len(body) <= width + 2 else f"{body[:width]}…"


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most like this one, and all of them where none is."""
    names = list(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return close[0] if close else f"none; known are {', '.join(names)}"


# ---- Any format's rows -------------------------------------------------------------------------------------------


def read_rows(source: str | Path, options: ImportOptions | None = None) -> Iterator[tuple[str, Any]]:
    """A file or the name of a hub data set in; (place, row) pairs out, one by one.

    .jsonl, .json (a list, or one object a line), .csv, .tsv, each also gzipped, and .parquet. A row that cannot be read
    is a Rejected that holds its text; where the file cannot go on being read, that is an AssayError.
    """
    path = Path(source)
    if not path.exists() and _is_hub_name(str(source)):
        return _hub_rows(str(source), (options or ImportOptions()).hub_split)
    ending = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if ending.lower() not in ENDINGS and path.exists() and not path.is_dir():
        raise AssayError(f"{path}: ending {ending!r} is not known; remedy: rename it to one of {', '.join(ENDINGS)}")
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
        raise AssayError(f"{path}: is a directory, not a file; remedy: name a file in it")
    if not path.exists():
        raise AssayError(f"{path}: no such file; remedy: check the path (current folder: {Path.cwd()})")


def _at_least_one(rows: Iterator[tuple[str, Any]], path: Path) -> Iterator[tuple[str, Any]]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise AssayError(f"{path}: holds no rows; remedy: check how it was made")


def _json_rows(path: Path) -> Iterator[tuple[str, Any]]:
    lines = _lines(path)
    first = True
    for at, line in lines:
        if not line.strip():
            continue
        if first and line.lstrip().startswith(b"["):
            yield from _json_items(path, line + b"".join(more for _, more in lines))
            return
        row = _parsed(line, f"{path}:{at}")
        if first and isinstance(row, Rejected) and ".jsonl" not in path.name:
            raise AssayError(f"{path}: is neither a list nor one object a line: {row.reason}")
        first = False
        yield f"{path}:{at}", row


def _json_items(path: Path, body: bytes) -> Iterator[tuple[str, Any]]:
    items = _parsed(body, str(path))
    if isinstance(items, Rejected):
        raise AssayError(f"{path}: {items.reason}")
    for at, item in enumerate(items, start=1):
        yield f"{path}: item {at}", item


def _parsed(line: bytes, place: str) -> Any:
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
        raise AssayError(f"{path}:1: the first line names each column once, got {shown(names)}; remedy: add a header")
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
            raise AssayError(f"{path}:{at}: is not UTF-8 at byte {error.start + 1}; remedy: {remedy}") from None
        yield pending[-1]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of a text file, unpacked if gzipped; a mark of byte order is left out."""
    at = 0
    try:
        with ExitStack() as stack:
            file = _opened(path, stack)
            if b"\0" in file.peek(4096)[:4096]:
                raise AssayError(f"{path}: is not UTF-8 text (it holds NUL bytes); remedy: give JSONL, CSV or .parquet")
            while line := file.readline(LONGEST_LINE):
                at += 1
                if at == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                    _refuse_binary(path, line)
                if len(line) == LONGEST_LINE:
                    raise AssayError(f"{path}:{at}: line is longer than {LONGEST_LINE >> 20} MiB; remedy: is it JSONL?")
                yield at, line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = str(error).rstrip(".")
        raise AssayError(
            f"{path}:{at + 1}: gzip data are damaged or cut short ({what}); remedy: copy it again"
        ) from None


def _opened(path: Path, stack: ExitStack) -> io.BufferedReader:
    """The file, unpacked if its first bytes are gzip's, whatever its name says."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise AssayError(f"{path}: cannot be read ({error.strerror}); remedy: check its permissions") from None
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    packed = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb"))
    return stack.enter_context(io.BufferedReader(cast("io.RawIOBase", packed)))


def _refuse_binary(path: Path, line: bytes) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AssayError(
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
        remedy = "pip install 'assay-rm[hub]', or give a file"
        raise AssayError(
            f"{name}: no such file, and reading it from the hub needs datasets; remedy: {remedy}"
        ) from None
    try:
        for at, row in enumerate(load_dataset(name, split=split, streaming=True), start=1):
            yield f"{name}[{split}]: row {at}", row
    except (OSError, ValueError) as error:  # unreachable, unknown name, unknown split, gated
        lines = str(error).splitlines() or [type(error).__name__]
        remedy = "check the name, the split and the network, or give a file"
        raise AssayError(f"{name}[{split}]: cannot be read from the hub ({lines[0][:160]}); remedy: {remedy}") from None


# ---- Parquet -----------------------------------------------------------------------------------------------------


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
        raise AssayError(
            f"{path}: row {at + 1}: is not readable Parquet ({what}); remedy: copy or make it again"
        ) from None


@contextmanager
def _parquet_writer(file: IO[bytes]) -> Iterator[Callable[[Comparison], None]]:
    """Nested typed columns, a row group every BATCH comparisons."""
    import pyarrow.parquet as pq

    schema = _parquet_schema()
    held: list[dict[str, Any]] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_batch(_record_batch(held, schema))
            held.clear()

        def write(comparison: Comparison) -> None:
            held.append({"weight": 1.0, **to_row(comparison)})
            if len(held) == BATCH:
                flush()

        yield write
        if held:
            flush()


def _record_batch(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise AssayError(
            f"Parquet cannot hold half a character ({half!r}); remedy: write .jsonl, or mend the text"
        ) from None


def _parquet_schema() -> Any:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    ratings = pa.map_(pa.string(), pa.float64())
    response = pa.struct(
        [("text", pa.string()), ("finish", pa.string()), ("author", pa.string()), ("ratings", ratings)]
    )
    verdict = pa.struct(
        [
            ("groups", pa.list_(pa.list_(pa.int32()))),
            ("q", pa.float64()),
            ("strength", pa.float64()),
            ("votes", pa.list_(pa.int64())),
        ]
    )
    return pa.schema(
        [
            ("id", pa.string()),
            ("group", pa.string()),
            ("prompt", pa.list_(message)),
            ("responses", pa.list_(response)),
            ("verdict", verdict),
            ("annotator", pa.string()),
            ("source", pa.string()),
            ("weight", pa.float64()),
        ]
    )


# ---- Whole files -------------------------------------------------------------------------------------------------


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file to write ("w" text, "wb" bytes) that takes its name only when it is whole and on the disk.

    Until then it is a hidden file in the same folder, removed on any failure; an older file of that name stays. Missing
    folders are made. A path that is no regular file (a pipe, /dev/stdout) is written to as it is.
    """
    target = Path(os.path.realpath(path))  # a link keeps pointing where it points
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with _told(path):
            if target.exists() and not target.is_file():
                with _open_to_write(target, mode) as file:
                    yield file
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            with _open_to_write(temporary, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """A path that cannot be written is one line with its remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        remedy = _REMEDIES[error.errno]
        raise AssayError(f"cannot write {path}: {error.strerror}; remedy: {remedy}") from None


_REMEDIES: Mapping[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space or pass another --out"),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT), "pass another --out, or change its permissions"
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "pass another --out: this one is in the way"),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EFBIG, errno.EINVAL, errno.EIO), "pass another --out"),
}


class Chunks:
    """A file that grows by whole chunks, and how much of it is written: size in bytes, rows, responses."""

    def __init__(self, path: str | Path, file: IO[bytes], journal: IO[bytes] | None = None) -> None:
        self.path, self.file, self.journal = path, file, journal
        self.size = self.rows = self.responses = 0

    def add(self, lines: bytes, rows: int, responses: int) -> None:
        """Write a chunk. With a journal it is on the disk on return, and a killed run goes on after it."""
        done = {
            "size": self.size + len(lines),
            "rows": self.rows + rows,
            "responses": self.responses + responses,
        }
        with _told(self.path):
            _write_all(self.file, lines)
            if self.journal is not None:
                os.fsync(self.file.fileno())  # first the rows, then what vouches for them
                _write_all(self.journal, _encoded(done) + b"\n")
                os.fsync(self.journal.fileno())
        self.size, self.rows, self.responses = done["size"], done["rows"], done["responses"]


@contextmanager
def resumable_write(path: str | Path, identity: Mapping[str, Any] | None) -> Iterator[Chunks]:
    """A file to write in chunks, which takes its name when it is whole and on the disk; a killed run goes on with it.

    Until then PATH.partial holds the rows, and PATH.journal what they are made of (`identity`: names and JSON values) and
    where each chunk ended. A partial that was made of something else is an error; one without a whole chunk is removed
    on a failure. Without an identity, and where the path is no regular file, it is atomic_write.
    """
    target = Path(os.path.realpath(path))
    if identity is None or (target.exists() and not target.is_file()):
        with atomic_write(path, "wb") as plain:
            yield Chunks(path, plain)
        return
    partial, journal = (target.with_name(f"{target.name}.{ending}") for ending in ("partial", "journal"))
    with ExitStack() as stack:
        with _told(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            log = _begun(partial, journal, json.loads(_encoded(identity)), stack)
            chunks = Chunks(path, stack.enter_context(partial.open("ab", buffering=0)), log)
        try:
            with _told(path):
                _go_on(chunks, partial)
            yield chunks
            with _told(path):
                os.fsync(chunks.file.fileno())
                partial.replace(target)
                journal.unlink()
                _sync_folder(target.parent)
        except BaseException:
            if not chunks.size:
                partial.unlink(missing_ok=True)
                journal.unlink(missing_ok=True)
            raise


def _begun(partial: Path, journal: Path, identity: Any, stack: ExitStack) -> IO[bytes]:
    """The journal of this identity, new or found, locked until the stack ends."""
    if partial.exists() and not journal.exists():
        raise _in_the_way(partial)
    log = cast("IO[bytes]", stack.enter_context(journal.open("ab+", buffering=0)))
    _lock(log, partial)
    log.seek(0)
    *lines, _ = log.read().split(b"\n")
    begun = partial.exists()
    found = _parsed(lines[0], str(journal)) if lines else {}
    if not isinstance(found, Mapping) or ((lines or begun) and not set(identity) <= set(found)):
        raise _in_the_way(journal)
    differs = [name for name in identity if begun and found[name] != identity[name]]
    if differs:
        remedy = "delete it to start afresh, or pass another --out"
        raise AssayError(f"{partial}: was begun with another {' and another '.join(differs)}; remedy: {remedy}")
    if not begun:
        try:
            log.truncate(0)
            _write_all(log, _encoded(identity) + b"\n")
            os.fsync(log.fileno())
            _sync_folder(journal.parent)
        except OSError:
            journal.unlink()
            raise
    return log


def _in_the_way(path: Path) -> AssayError:
    return AssayError(f"{path}: is in the way, and not of our making; remedy: move it, or pass another --out")


def _go_on(chunks: Chunks, partial: Path) -> None:
    """Cut the partial and its journal after the last whole chunk, and count what is there."""
    assert chunks.journal is not None
    size = partial.stat().st_size
    chunks.journal.seek(0)
    first, *lines, _ = chunks.journal.read().split(b"\n")
    end = at = len(first) + 1
    for line in lines:
        at += len(line) + 1
        done = _parsed(line, str(chunks.path))
        if isinstance(done, Mapping) and done["size"] <= size:
            chunks.size, chunks.rows, chunks.responses, end = done["size"], done["rows"], done["responses"], at
    chunks.journal.truncate(end)
    chunks.file.truncate(chunks.size)


@contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Make a run's folder and keep other processes from it meanwhile; one that was made and stays empty is removed.

    Of the processes of one launcher the first holds it for all.
    """
    follows = os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1"
    if folder is None or follows:
        yield
        return
    made = not folder.exists()
    make_folder(folder)
    handle = None if sys.platform == "win32" else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            _lock(handle, folder)
        try:
            yield
        finally:
            with suppress(OSError):
                if made:
                    folder.rmdir()
    finally:
        if handle is not None:
            os.close(handle)


def make_folder(folder: Path) -> None:
    """A run's folder, made or found; one that cannot be is a line with its remedy."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssayError(f"cannot write {folder}: {error.strerror}; remedy: another --out") from None


def _lock(log: IO[bytes] | int, partial: Path) -> None:
    """Refuse what another process is writing; where files cannot be locked, do nothing."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise AssayError(f"{partial}: another process is writing it; remedy: wait, or pass another --out") from None
    except OSError:  # some network disks
        pass


def _write_all(file: IO[bytes], content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def write_text(path: str | Path, content: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: str | Path, value: object) -> None:
    """Write indented JSON, whole or not at all. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """What a JSON file holds."""
    value = _parsed(_whole(Path(path)), str(path))
    if isinstance(value, Rejected):
        raise AssayError(f"{path}: {value.reason.replace('the line', 'the file')}")
    return value


def write_config(path: str | Path, config: Config) -> None:
    """Write every option as YAML that read_config and --config take back."""
    import yaml

    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_config(path: str | Path) -> dict[str, Any]:
    """The options that a YAML file sets, for config.build; an empty file sets none."""
    import yaml

    try:
        found = yaml.safe_load(_whole(Path(path)))
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise AssayError(f"{path}: is not valid YAML ({what[:160]}); remedy: correct it") from None
    if not isinstance(found or {}, Mapping):
        raise AssayError(
            f"{path}: holds stages with their options, got {shown(found)}; remedy: write train: {{lr: 1e-5}}"
        )
    return dict(found or {})


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Add one line to a JSONL file and hand it to the system. A line that a killed run left half is ended first."""
    line = _encoded(row) + b"\n"
    try:
        with Path(path).open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line
            file.write(line)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno, "pass another --out")
        raise AssayError(f"cannot write {path}: {error.strerror}; remedy: {remedy}") from None


def _whole(path: Path) -> bytes:
    _refuse_missing(path)
    return b"".join(line for _, line in _lines(path))


def _comparison_line(comparison: Comparison) -> bytes:
    try:
        return _encoded(to_row(comparison)) + b"\n"
    except ValueError:
        raise AssayError(
            f"comparison {comparison.id}: holds a number that is not finite; remedy: leave it out"
        ) from None


def _rejected_line(row: Rejected) -> bytes:
    body = {"place": row.place, "reason": row.reason, "row": row.row}
    return json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def _encoded(value: object) -> bytes:
    """JSON as UTF-8. Half a character (a lone surrogate) becomes its escape, which JSON reads back as it was."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _write(file: IO[bytes] | gzip.GzipFile, line: bytes) -> None:
    file.write(line)


def _open_to_write(path: Path, mode: str) -> IO[Any]:
    if "b" in mode:
        return path.open(mode)
    return path.open(mode, encoding="utf-8", newline="\n", errors="backslashreplace")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
