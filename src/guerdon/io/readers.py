"""Paths in, rows and contract objects out. Errors name file:line, the field, the value and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guerdon.config import ImportOptions
from guerdon.config.yaml_text import parse_yaml
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Prompt,
    Rollouts,
)
from guerdon.errors import field_error, short_path
from guerdon.io.json_rows import json_rows, parse_json
from guerdon.io.parquet_rows import arrow_rows, parquet_rows
from guerdon.io.saved_dataset import is_saved_dataset, saved_rows
from guerdon.io.schema import (
    Rejected,
    at_location,
    comparison_from_row,
    conversation_from_row,
    in_context,
    parse_row,
    prompt_from_row,
)
from guerdon.io.tables import table_rows
from guerdon.io.text_lines import COMPRESSED, is_compressed, text_lines

ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")

Rows = Iterator[tuple[str, Any]]  # (location, row): the location is file:line, or what comes closest


# ---- Contract objects --------------------------------------------------------------------------------------------


def read_comparisons(path: str | Path) -> Iterator[Comparison]:
    """The comparisons of a native file (.jsonl, .jsonl.gz, .parquet), one by one in constant memory."""
    for location, row in read_rows(path):
        yield at_location(location, parse_row(location, row, comparison_from_row))


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
    return list(dict.fromkeys(parse_row(location, row, _prompt_of).at(location) for location, row in read_rows(path)))


def _prompt_of(row: Any) -> Prompt:
    if not isinstance(row, Mapping) or not {"prompt", "messages"} & set(row):
        raise field_error("row", "an object with prompt or messages", row, "Give one of them.")
    prompt = in_context(row, prompt_from_row(row["prompt"] if "prompt" in row else row["messages"], row.get("tools")))
    if "prompt" not in row and prompt[-1].role == "assistant":
        prompt = prompt[:-1]
    if not prompt:
        raise field_error("messages", "a list with a turn to answer", row["messages"])
    return prompt


# ---- Rows --------------------------------------------------------------------------------------------------------


def read_rows(source: str | Path, options: ImportOptions | None = None, wanted: Collection[str] | None = None) -> Rows:
    """The (location, row) pairs of a file, of a folder that `save_to_disk` wrote, or of a data set on the hub, one by one.

    .jsonl, .json (a list, or objects), .csv, .tsv, each also compressed (gzip, zstd, bzip2, xz), .parquet and .arrow. A row
    that cannot be read is a Rejected with its text; a file that cannot be read any further is a GuerdonError.

    wanted: names of columns that may be used; parquet_rows says which others it does not read.
    """
    path, options = Path(source), options or ImportOptions()
    _refuse_unreachable(path)
    if not path.exists() and _is_hub_name(str(source)):
        return _hub_rows(str(source), options)
    if path.is_dir() and is_saved_dataset(path):
        return _at_least_one(saved_rows(path, options.hub_split, wanted), path)
    ending = _ending(path)
    if ending not in ENDINGS and path.exists() and not path.is_dir():
        advice = _ADVICE.get(ending, "Rename the file.")
        raise GuerdonError(f"{path}: the ending must be one of {', '.join(ENDINGS)}, got {ending!r}. {advice}")
    _refuse_missing(path)
    if ending in (".parquet", ".arrow"):
        rows = (parquet_rows if ending == ".parquet" else arrow_rows)(path, wanted)
    elif ending in (".csv", ".tsv"):
        rows = table_rows(path, "," if ending == ".csv" else "\t")
    else:
        rows = json_rows(path)
    return _at_least_one(rows, path)


@dataclass(frozen=True, slots=True)
class RowFile:
    """The (location, row) pairs of `read_rows`, read from the start each time they are iterated."""

    source: str | Path
    options: ImportOptions | None = None
    columns: Collection[str] | None = None

    def __iter__(self) -> Rows:
        return read_rows(self.source, self.options, self.columns)


_ADVICE = {
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "Save the sheet as CSV UTF-8."),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z"), "Unpack it, and give the file in it."),
    **dict.fromkeys((".feather", ".pkl", ".pickle", ".avro"), "Write it as Parquet."),
    ".txt": "Rename the file to .jsonl, .csv or .tsv, by what it holds.",
}


def _ending(path: Path) -> str:
    """The ending of the name, in lower case, without that of a compression."""
    return (Path(path.stem).suffix if path.suffix.lower() in COMPRESSED else path.suffix).lower()


def count_rows(*sources: str | Path) -> int | None:
    """The number of rows for a progress bar: exact for Parquet, an upper bound for plain JSONL, None for the rest."""
    counts = [_count_rows(Path(source)) for source in sources]
    return sum(count for count in counts if count is not None) if None not in counts else None


def _count_rows(path: Path) -> int | None:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return int(pq.read_metadata(path).num_rows)
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            with path.open("rb") as file:
                if not is_compressed(file.peek(6)):
                    return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b""))
    except (OSError, ValueError):  # reading the rows reports what is wrong with the file
        pass
    return None


def _refuse_unreachable(path: Path) -> None:
    """Raise GuerdonError where not even the existence of the path can be known: its name is too long, for example.

    Path.exists raises OSError for some of these, which whoever is writing would take for an error of the output.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        advice = "Give a shorter path." if error.errno == errno.ENAMETOOLONG else "Check the path and its permissions."
        raise GuerdonError(f"cannot read {short_path(path)}: {error.strerror}. {advice}") from None


def _refuse_missing(path: Path) -> None:
    _refuse_unreachable(path)
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


# ---- The hub -----------------------------------------------------------------------------------------------------


def _is_hub_name(name: str) -> bool:
    """Whether the name is ORG/NAME and not a path, which has a known ending or a folder that exists."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) or Path(name).parent.exists():
        return False
    return not name.lower().endswith((*ENDINGS, *COMPRESSED, ".txt"))


def _hub_rows(name: str, options: ImportOptions) -> Rows:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise GuerdonError(
            f"{name}: no such file, and reading it from the hub needs the package datasets. "
            "Run pip install 'guerdon[hub]', or give a file."
        ) from None
    split = options.hub_split
    names = (name,) if options.hub_config is None else (name, options.hub_config)
    place = f"{'/'.join(names)}[{split}]"
    try:
        for number, row in enumerate(load_dataset(*names, split=split, streaming=True), start=1):
            yield f"{place}: row {number}", row
    except _hub_errors() as error:
        lines = str(error).splitlines() or [type(error).__name__]
        advice = "Check the name, the split and the network, or give a file."
        if "onfig name is missing" in lines[0]:
            advice = "Choose one with imports.hub_config."
        elif "ataset scripts are no longer supported" in lines[0]:
            advice = "Give its files, such as the Parquet files of its branch refs/convert/parquet."
        cause = lines[0].rstrip(".")[:400]
        raise GuerdonError(f"{place}: cannot be read from the hub ({cause}). {advice}") from None


def _hub_errors() -> tuple[type[Exception], ...]:
    """What reading from the hub raises: unreachable, unknown name or split, gated, several configurations, a script."""
    known = (OSError, ValueError, RuntimeError)
    try:
        from huggingface_hub import errors
    except ModuleNotFoundError:
        return known
    http_error: type[Exception] = getattr(errors, "HTTPError", OSError)  # of the client that this version uses
    return (*known, http_error)


# ---- Whole files -------------------------------------------------------------------------------------------------


def read_text(path: str | Path) -> str:
    """The text of a file, in UTF-8."""
    try:
        return _read_bytes(Path(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GuerdonError(
            f"{path}: must be text in UTF-8, got byte {error.start:,} that is not. Save it as UTF-8."
        ) from None


def read_json(path: str | Path) -> Any:
    """What a JSON file holds."""
    value = parse_json(_read_bytes(Path(path)), str(path))
    if isinstance(value, Rejected):
        raise GuerdonError(f"{path}: {value.reason.replace('the line', 'the file')}")
    return value


def read_config(path: str | Path) -> dict[str, Any]:
    """The options that a YAML file sets, for config.build; an empty file sets none."""
    return _upgrade_config(read_yaml(path, "a mapping of stages to options", "Write train: {lr: 1e-5}, for example."))


def read_yaml(path: str | Path, claim: str, advice: str) -> dict[str, Any]:
    """The mapping that a YAML file holds; {} for an empty file. claim, advice: for the error about a file that holds none."""
    text = _read_bytes(Path(path))
    try:
        values = parse_yaml(text) or {}
    except ValueError as error:
        raise GuerdonError(f"{path}: is not valid YAML ({error}). Correct it.") from None
    if not isinstance(values, Mapping):
        raise field_error(f"{path}: the file", claim, values, advice)
    return dict(values)


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
    return b"".join(line for _, line in text_lines(path))
