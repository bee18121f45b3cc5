"""Objects in, files out. A file is written whole or not at all."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from guerdon.config import Config
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Rollouts,
)
from guerdon.errors import OutputError, field_error, short_path
from guerdon.io.parquet_rows import BATCH
from guerdon.io.schema import Rejected, comparison_to_row, prompt_to_row, response_to_row
from guerdon.io.temporary import remove, temporary_path

Kept = TypeVar("Kept")


def write_comparisons(path: str | Path, comparisons: Iterable[Comparison], renames: Renames | None = None) -> int:
    """Write comparisons one by one in the format of the path's ending; returns how many."""
    count = 0
    with comparison_writer(path, renames) as write:
        for comparison in comparisons:
            write(comparison)
            count += 1
    return count


def write_parts(folder: str | Path, parts: Iterable[tuple[str, Comparison]], names: Sequence[str]) -> dict[str, int]:
    """Write each (name, comparison) to folder/NAME.jsonl in one pass; returns how many went to each name.

    The files get their names once all of them are complete and on disk. Raises GuerdonError where one is a symbolic link:
    the caller names the folder only, and the file that the link names may be any.
    """
    counts = dict.fromkeys(names, 0)
    paths = {name: Path(folder) / f"{name}.jsonl" for name in names}
    if links := [path for path in paths.values() if path.is_symlink()]:
        raise OutputError(
            f"{links[0]}: must be a file of its own, got a symbolic link. Remove the link, or pass another path.",
            links[0],
        )
    with renamed_together() as renames, ExitStack() as stack:
        writers = {name: stack.enter_context(comparison_writer(path, renames)) for name, path in paths.items()}
        for name, comparison in parts:
            writers[name](comparison)
            counts[name] += 1
    return counts


def write_rejected(path: str | Path, rejected: Iterable[Rejected]) -> int:
    """Write one {place, reason, row} per line; returns how many. An empty file means that nothing was rejected."""
    count = 0
    with atomic_write(path, "wb") as file:
        for row in rejected:
            file.write(_rejected_line(row))
            count += 1
    return count


def rejected_path(out: str | Path) -> Path:
    """Where the rejected rows of an output go: next to it and named after it, so that two outputs share no such file."""
    return beside(out, "rejected")


def beside(out: str | Path, name: str) -> Path:
    """A second output: all.NAME.jsonl for all.jsonl."""
    path = Path(out)
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.{name}.jsonl")


def fixes_path(out: str | Path) -> Path:
    """Where it stands what was done to each row of a cleaned file: next to it and named after it."""
    path = Path(out)
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.fixes.jsonl")


def write_fixed(out: str | Path, rows: Iterable[Comparison | Mapping[str, str]]) -> dict[str, int]:
    """Write comparisons to `out` and other rows, which say what was done, to `fixes_path(out)`; returns counts by action.

    Both files get their names once both are complete; GuerdonError where no comparison is left.
    """
    counts = {"kept": 0, "dropped": 0, "merged": 0}
    with renamed_together() as renames, ExitStack() as stack:
        write = stack.enter_context(comparison_writer(out, renames))
        log = stack.enter_context(atomic_write(fixes_path(out), "wb", renames))
        for row in rows:
            if isinstance(row, Comparison):
                write(row)
                counts["kept"] += 1
            else:
                log.write(encode_json(row) + b"\n")
                counts[row["action"]] += 1
        if not counts["kept"]:
            raise GuerdonError(
                f"{out}: no comparison is left without a fault. Read what check says, and correct the source."
            )
    return counts


def refuse_to_replace(inputs: Iterable[str | Path], outputs: Iterable[str | Path]) -> None:
    """Raise GuerdonError if an output is one of the inputs, whatever the two paths look like, or an input lies in it.

    Two outputs may not be one file either.
    """
    read = [os.path.realpath(path) for path in inputs]
    written: set[str] = set()
    for path in outputs:
        target = os.path.realpath(path)
        if any(each == target or each.startswith(target + os.sep) for each in read):
            text = f"{path}: must not be what is read, which the command would replace. Pass another path."
            raise OutputError(text, path)
        if target in written:
            raise GuerdonError(f"{path}: must be one output only, got it twice. Give each output its own file.")
        written.add(target)


def set_aside(rows: Iterable[Kept | Rejected], path: str | Path, renames: Renames | None = None) -> Iterator[Kept]:
    """Yield the rows that can be used and write the rejected ones to the path, which is complete once all rows are read.

    With `renames`, of renamed_together, it gets its name with the output of the usable rows; at once where there are none, for
    then it says why.
    """
    is_empty = True
    with renamed_together() as own:
        with atomic_write(path, "wb", own) as file:
            for row in rows:
                if isinstance(row, Rejected):
                    file.write(_rejected_line(row))
                else:
                    is_empty = False
                    yield row
        if renames is not None and not is_empty:
            renames += own
            own.clear()


@contextmanager
def comparison_writer(path: str | Path, renames: Renames | None = None) -> Iterator[Callable[[Comparison], None]]:
    """A function that writes one comparison; the file appears as that of atomic_write does."""
    name = str(path)
    if name.endswith(".parquet"):
        with atomic_write(path, "wb", renames) as file, _parquet_writer(file) as write:
            yield write
    elif name.endswith((".jsonl", ".jsonl.gz")):
        with atomic_write(path, "wb", renames) as file:
            if not name.endswith(".gz"):
                yield lambda comparison: _write(file, _comparison_line(comparison))
                return
            # no name and no time in the header, so that the same comparisons give the same bytes
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as compressed:
                yield lambda comparison: _write(compressed, _comparison_line(comparison))
    else:
        raise field_error(
            f"{path}: the ending", ".jsonl, .jsonl.gz or .parquet", Path(path).suffix, "Change the ending."
        )


def write_rollouts(path: str | Path, rollouts: Rollouts) -> int:
    """Write a policy's responses, one {prompt, response, reward?, kl?} per line; returns how many."""
    with atomic_write(path, "wb") as file:
        for i, (prompt, response) in enumerate(zip(rollouts.prompts, rollouts.responses, strict=True)):
            row: dict[str, Any] = {**prompt_to_row(prompt), "response": response_to_row(response)}
            for name, values in (("reward", rollouts.reward), ("kl", rollouts.kl)):
                if values is not None:
                    row[name] = float(values[i])
            file.write(encode_json(row) + b"\n")
    return len(rollouts.responses)


def require_jsonl_ending(path: str | Path) -> None:
    """An error unless the name says that the file holds JSON lines; a pipe or a device may have any name."""
    target = Path(os.path.realpath(path))
    is_special = target.exists() and not target.is_file()
    if target.suffix not in (".jsonl", ".ndjson") and not is_special:
        raise field_error(f"{path}: the ending", ".jsonl", target.suffix, "Change the ending.")


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object per line; returns how many."""
    count = 0
    with atomic_write(path, "wb") as file:
        for row in rows:
            file.write(encode_json(row) + b"\n")
            count += 1
    return count


def require_table_ending(path: str | Path) -> None:
    """An error unless the name says that the file holds a table."""
    if Path(path).suffix not in (".json", ".csv"):
        raise field_error(f"{path}: the ending", ".json or .csv", Path(path).suffix, "Change the ending.")


def write_table(path: str | Path, rows: Sequence[Mapping[str, Any]], renames: Renames | None = None) -> None:
    """Write rows with the same keys as a JSON list or as CSV, by the path's ending; a list in a cell of CSV is joined by spaces."""
    require_table_ending(path)
    with atomic_write(path, "w", renames) as file:
        if Path(path).suffix == ".json":
            file.write(json.dumps(list(rows), ensure_ascii=False, indent=2, allow_nan=False) + "\n")
            return
        table = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({key: " ".join(cell) if isinstance(cell, list) else cell for key, cell in row.items()})


def write_jsonl_together(files: Mapping[str | Path, Iterable[Mapping[str, Any]]]) -> None:
    """Write the rows of each file; all files get their names once they are complete, or none does."""
    with renamed_together() as renames:
        for path, rows in files.items():
            with atomic_write(path, "wb", renames) as file:
                for row in rows:
                    file.write(encode_json(row) + b"\n")


@contextmanager
def _parquet_writer(file: IO[bytes]) -> Iterator[Callable[[Comparison], None]]:
    """Nested typed columns, one row group per BATCH comparisons."""
    import pyarrow.parquet as pq

    schema = _parquet_schema()
    rows: list[dict[str, Any]] = []
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:

        def flush() -> None:
            writer.write_batch(_record_batch(rows, schema))
            rows.clear()

        def write(comparison: Comparison) -> None:
            rows.append({"weight": 1.0, **comparison_to_row(comparison)})
            if len(rows) == BATCH:
                flush()

        yield write
        if rows:
            flush()


def _record_batch(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.RecordBatch.from_pylist(rows, schema=schema)
    except UnicodeEncodeError as error:
        surrogate = error.object[error.start : error.end]
        raise GuerdonError(
            f"Parquet cannot hold half a character ({surrogate!r}). Write .jsonl, or correct the text."
        ) from None


def _parquet_schema() -> Any:
    import pyarrow as pa

    function = pa.struct([("name", pa.string()), ("arguments", pa.string())])
    call = pa.struct([("id", pa.string()), ("type", pa.string()), ("function", function)])
    message = pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("tool_calls", pa.list_(call)),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
        ]
    )
    ratings = pa.map_(pa.string(), pa.float64())
    response = pa.struct(
        [
            ("text", pa.string()),
            ("finish", pa.string()),
            ("author", pa.string()),
            ("ratings", ratings),
            ("messages", pa.list_(message)),
        ]
    )
    preference = pa.struct(
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
            ("tools", pa.list_(pa.string())),
            ("responses", pa.list_(response)),
            ("preference", preference),
            ("annotator", pa.string()),
            ("source", pa.string()),
            ("weight", pa.float64()),
            ("rationale", pa.string()),
        ]
    )


Renames = list[tuple[Path, Path]]  # temporary files that are complete and on disk, and their names to be


@contextmanager
def renamed_together() -> Iterator[Renames]:
    """Give several files of atomic_write their names at the end of the block, if all of them are complete; else none."""
    renames: Renames = []
    try:
        yield renames
        for temporary, target in renames:
            with explain_os_errors(target):
                temporary.replace(target)
                sync_folder(target.parent)
    finally:
        for temporary, _ in renames:
            remove(temporary)


@contextmanager
def atomic_write(path: str | Path, mode: str = "w", renames: Renames | None = None) -> Iterator[IO[Any]]:
    """A file to write ("w" text, "wb" bytes) that gets its name only when it is complete and on disk.

    Until then it is a hidden file in the same folder, which is removed on failure; an existing file of that name stays.
    Missing folders are created. A path that is not a regular file (a pipe, /dev/stdout) is written to directly. With
    `renames`, of renamed_together, it gets its name with those of other files.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays a link
    temporary = temporary_path(target)
    try:
        with explain_os_errors(path):
            if target.exists() and not target.is_file():
                with _open_to_write(target, mode) as file:
                    yield file
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            with _open_to_write(temporary, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if renames is not None:
                renames.append((temporary, target))
                return
            temporary.replace(target)
            sync_folder(target.parent)
    finally:
        if (temporary, target) not in (renames or ()):
            remove(temporary)


@contextmanager
def explain_os_errors(path: str | Path) -> Iterator[None]:
    """An operating system error about the path becomes one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        raise cannot_write(path, error) from None


def cannot_write(path: str | Path, error: OSError) -> GuerdonError:
    """The one line for a path that the operating system would not let us write."""
    advice = _ADVICE.get(error.errno, "Pass another path.")
    return OutputError(f"cannot write {short_path(path)}: {error.strerror}. {advice}", path)


_ADVICE: Mapping[int | None, str] = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free space, or pass another path."),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT), "Pass another path, or change its permissions."
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "Pass another path: this path is taken."),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EFBIG, errno.EINVAL, errno.EIO, errno.ELOOP), "Pass another path."),
}


def write_all(file: IO[bytes], content: bytes) -> None:
    """Write every byte, however few a single call accepts."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def write_text(path: str | Path, content: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: str | Path, value: object) -> None:
    """Write indented JSON, whole or not at all. NaN is an error: JSON has none."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


OWN_CONFIG = "# Every option of this run, written by Guerdon; the next run of this folder overwrites it."


def write_config(path: str | Path, config: Config) -> None:
    """Write every option as YAML that read_config and --config accept."""
    import yaml

    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    write_text(path, f"{OWN_CONFIG}\n{text}")


def is_own_config(path: Path) -> bool:
    """Whether write_config wrote the file, so that a run may write it again."""
    try:
        with path.open("rb") as file:
            return file.readline().rstrip() == OWN_CONFIG.encode()
    except OSError:
        return False


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one line to a JSONL file and flush it; a half line that a killed run left is ended first."""
    line = encode_json(row) + b"\n"
    try:
        with Path(path).open("ab+") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                line = b"\n" + line
            file.write(line)
    except OSError as error:
        raise cannot_write(path, error) from None


def _comparison_line(comparison: Comparison) -> bytes:
    try:
        return encode_json(comparison_to_row(comparison)) + b"\n"
    except ValueError:
        raise GuerdonError(f"comparison {comparison.id}: holds a number that is not finite. Leave it out.") from None


def _rejected_line(row: Rejected) -> bytes:
    body = {"place": row.place, "reason": row.reason, "row": row.row}
    return json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n"


def encode_json(value: object) -> bytes:
    """JSON as UTF-8. Half a character (a lone surrogate) becomes its escape, which JSON reads back unchanged."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def _write(file: IO[bytes] | gzip.GzipFile, line: bytes) -> None:
    file.write(line)


def _open_to_write(path: Path, mode: str) -> IO[Any]:
    if "b" in mode:
        return path.open(mode)
    return path.open(mode, encoding="utf-8", newline="\n", errors="backslashreplace")


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries to disk, so that a rename survives a power cut."""
    if os.name != "posix":  # a folder cannot be opened elsewhere
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
