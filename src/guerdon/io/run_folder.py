"""A run on disk: what it was started with, which process holds it, its metrics, and where it resumes after a kill.

An identity is everything that a run was started with and that changes its result, as names and JSON values. Whoever
resumes a run must agree with all of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeGuard, cast, final

from guerdon.errors import OutputError, field_error
from guerdon.io.directories import FILES, recover, refuse_foreign_folder
from guerdon.io.fields import is_count
from guerdon.io.json_rows import parse_json
from guerdon.io.readers import read_json, read_rows
from guerdon.io.writers import (
    append_jsonl,
    atomic_write,
    cannot_write,
    encode_json,
    explain_os_errors,
    is_own_config,
    sync_folder,
    write_all,
    write_json,
)

Identity = Mapping[str, Any]
_locked_here: set[Path] = set()  # folders that this process holds

METRICS = "metrics.jsonl"
CLAIM = "run.json"  # the identity of the run that a folder belongs to
SIGNS_OF_ANOTHER_RUN = (METRICS, "checkpoint", "config.yaml", "config.json")


# ---- Identity ----------------------------------------------------------------------------------------------------


def as_json(identity: Identity) -> Identity:
    """The identity as it comes back from a JSON file: tuples are lists."""
    values: Identity = json.loads(encode_json(identity))
    return values


def differences(identity: Identity, stored: object) -> list[str]:
    """The names whose stored value is not the identity's; all of them if no identity is stored."""
    values = stored if isinstance(stored, Mapping) else {}
    return [name for name, value in as_json(identity).items() if name not in values or values[name] != value]


def refuse_other_run(path: Path, identity: Identity, stored: object) -> None:
    """An error that names what differs, unless the stored identity agrees with this run's."""
    if names := differences(identity, stored):
        raise OutputError(
            f"{path}: belongs to a run that differs in {' and '.join(names)}. "
            "Delete it to start over, or pass another path.",
            path,
        )


# ---- A folder ----------------------------------------------------------------------------------------------------


@final
class RunFolder:
    """The folder of one run. Without a path nothing is kept; of several processes only the main one writes."""

    def __init__(self, path: Path | None, identity: Identity | None = None, *, is_main: bool = True) -> None:
        self.path, self.identity, self.is_main = path, identity or {}, is_main

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Create the folder and keep other runs out of it; a folder that was created and stays empty is removed.

        The first process of a launcher locks it for all. shared: those who write single files keep runs out but
        not each other.
        """
        is_follower = os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1"
        if self.path is None or is_follower:
            yield
            return
        key = Path(os.path.realpath(self.path))
        if key in _locked_here:  # by a command, for the stage that it runs
            yield
            return
        new = [folder for folder in (key, *key.parents) if not folder.exists()]
        self.create()
        handle = None if sys.platform == "win32" else os.open(self.path, os.O_RDONLY)
        try:
            if handle is not None:
                _lock(handle, self.path, shared=shared)
            _locked_here.add(key)
            yield
        finally:
            _locked_here.discard(key)
            with suppress(OSError):
                for folder in new:
                    folder.rmdir()
            if handle is not None:
                os.close(handle)

    def create(self) -> None:
        """Create the folder if it does not exist."""
        if self.path is None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from None

    def is_run(self) -> bool:
        """Whether a run, or a command that saves a model, has written here."""
        if self.path is None:
            return False
        signs = (CLAIM, METRICS, "checkpoint", FILES)
        return any(os.path.exists(self.path / name) for name in signs) or is_own_config(self.path / "config.yaml")

    def is_empty(self) -> bool:
        """Whether the folder exists and holds nothing."""
        return self.path is not None and os.path.isdir(self.path) and not os.listdir(self.path)

    def refuse_foreign(self, name: str) -> None:
        """Raise GuerdonError if the directory that the run writes at its end holds what Guerdon did not write."""
        if self.path is not None:
            refuse_foreign_folder(Path(os.path.realpath(self.path / name)))  # it may be a link to another disk

    def claim(self, wait: Callable[[], None] = lambda: None) -> None:
        """Write run.json, which says which run the folder belongs to; refuse a folder that holds something else.

        A run that ended before its first update, over a mistake in its reward, say, has nothing to lose and is
        replaced. `wait` is a barrier for all processes: each must look before the main one writes.
        """
        if self.path is None:
            return
        self.create()
        note = self.path / CLAIM
        is_run = note.exists()
        has_progress = is_run and (self.size(METRICS) > 0 or self.has_checkpoint())
        is_taken = not is_run and any((self.path / name).exists() for name in SIGNS_OF_ANOTHER_RUN)
        wait()
        if has_progress:
            self.refuse_other(read_json(note), self.path)
        elif is_taken:
            raise OutputError(f"{self.path}: holds a model or another kind of run. Pass another path.", self.path)
        elif self.is_main:
            write_json(note, self.identity)
        wait()

    def reclaim(self, wait: Callable[[], None] = lambda: None) -> None:
        """Write run.json over that of a run which this one continues. `wait` is a barrier for all processes."""
        wait()
        if self.path is not None and self.is_main:
            write_json(self.path / CLAIM, self.identity)
        wait()

    def refuse_other(self, stored: object, path: Path) -> None:
        """An error that names what differs, unless the identity stored in the path is this run's."""
        refuse_other_run(path, self.identity, stored)

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        if self.path is None:
            return False
        recover(self.path / "checkpoint")
        return any(self.path.glob("checkpoint*/state.json"))

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a line to one of the folder's JSONL files."""
        if self.path is not None and self.is_main:
            append_jsonl(self.path / name, row)

    def log_metrics(self, row: Mapping[str, float], seconds: float) -> None:
        """Add a line to metrics.jsonl; a number that is not finite becomes null, which JSON has."""
        finite = {name: value if math.isfinite(value) else None for name, value in row.items()}
        self.append(METRICS, finite | {"seconds": round(seconds, 3)})

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without the half line that a killed run may leave."""
        if self.path is None or not self.size(METRICS):
            return []
        return [_as_metrics(row, place) for place, row in read_rows(self.path / METRICS) if isinstance(row, dict)]

    def refuse_other_metrics(self, counter: str) -> None:
        """An error unless metrics.jsonl is absent or counts what this kind of run counts, such as `step`."""
        if self.path is None or not self.size(METRICS):
            return
        rows = [row for _, row in islice(read_rows(self.path / METRICS), 1)]
        is_half = not (self.path / METRICS).read_bytes().count(b"\n")  # of a run that was killed over its first line
        if not is_half and not (isinstance(rows[0], dict) and {counter, "seconds"} <= set(rows[0])):
            raise OutputError(
                f"{self.path / METRICS}: is not that of such a run, so it is not overwritten. Pass another path.",
                self.path,
            )

    def size(self, name: str) -> int:
        """Bytes in one of the folder's files; 0 if there is none."""
        path = self.path / name if self.path else None
        return path.stat().st_size if path and path.exists() else 0

    def truncate(self, sizes: Mapping[str, int]) -> None:
        """Cut files back to the sizes they had at a checkpoint: the lines after it are written again."""
        if self.path is None or not self.is_main:
            return
        for name, size in sizes.items():
            if self.size(name) > size:
                os.truncate(self.path / name, size)


def _as_metrics(row: dict[str, Any], place: str) -> dict[str, Any]:
    """The row of metrics.jsonl, if it holds numbers and nulls only."""
    for name, value in row.items():
        if value is not None and not isinstance(value, int | float):
            raise field_error(f"{place}: {name}", "a number or null", value, "Restore the line, or delete it.")
    return row


# ---- A single file -----------------------------------------------------------------------------------------------


@final
class ResumableFile:
    """A file that grows by whole chunks, and what is written so far: bytes, rows and responses."""

    def __init__(self, path: str | Path, file: IO[bytes], journal: IO[bytes] | None = None) -> None:
        self.path, self.file, self.journal = path, file, journal
        self.size = self.rows = self.responses = 0

    @property
    def partial(self) -> Path:
        """Where the rows are until the file is whole."""
        return Path(self.file.name)

    def add(self, lines: bytes, rows: int, responses: int) -> None:
        """Write a chunk. With a journal it is on disk on return, and a killed run resumes after it."""
        total = {
            "size": self.size + len(lines),
            "rows": self.rows + rows,
            "responses": self.responses + responses,
        }
        with explain_os_errors(self.path):
            write_all(self.file, lines)
            if self.journal is not None:
                os.fsync(self.file.fileno())  # the rows before the journal entry that vouches for them
                write_all(self.journal, encode_json(total) + b"\n")
                os.fsync(self.journal.fileno())
        self.size, self.rows, self.responses = total["size"], total["rows"], total["responses"]

    def recover(self) -> None:
        """Cut the file and its journal after the last whole chunk, and count what is there."""
        assert self.journal is not None
        size = self.partial.stat().st_size
        self.journal.seek(0)
        first, *lines, _ = self.journal.read().split(b"\n")
        end = position = len(first) + 1
        for line in lines:
            position += len(line) + 1
            total = parse_json(line, str(self.path))
            if _is_total(total) and total["size"] <= size:
                self.size, self.rows, self.responses, end = total["size"], total["rows"], total["responses"], position
        self.journal.truncate(end)
        self.file.truncate(self.size)


def reopen_unproven(path: str | Path, identity: Identity) -> None:
    """Make a finished file partial again if its run was killed before the journal was removed, hence before any receipt."""
    target = Path(os.path.realpath(path))
    partial, journal = _partial_and_journal(target)
    if partial.exists() or not (journal.is_file() and target.is_file()):
        return
    first, *lines = [parse_json(line, str(journal)) for line in journal.read_bytes().split(b"\n") if line]
    totals = [line["size"] for line in lines if _is_total(line)]
    if totals and totals[-1] == target.stat().st_size and first == as_json(identity):
        with explain_os_errors(path):
            target.rename(partial)


@contextmanager
def open_resumable(
    path: str | Path, identity: Identity | None, prove: Callable[[ResumableFile], None] = lambda file: None
) -> Iterator[ResumableFile]:
    """A file to write in chunks, which gets its name when it is whole and on disk; a killed run resumes it.

    Until then PATH.partial holds the rows, and PATH.journal the identity and where each chunk ended. A partial file of
    another identity is an error; one without a whole chunk is removed on failure. `prove` is called between the renaming
    and the end of the journal, for what has to be written whenever the file is. Without an identity, and where the path
    is not a regular file, this is atomic_write.
    """
    target = Path(os.path.realpath(path))
    if identity is None or (target.exists() and not target.is_file()):
        with atomic_write(path, "wb") as plain:
            yield ResumableFile(path, plain)
        return
    partial, journal_path = _partial_and_journal(target)
    with ExitStack() as stack:
        with explain_os_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            journal = _open_journal(partial, journal_path, as_json(identity), stack)
            file = ResumableFile(path, stack.enter_context(partial.open("ab", buffering=0)), journal)
        try:
            with explain_os_errors(path):
                file.recover()
            yield file
            with explain_os_errors(path):
                os.fsync(file.file.fileno())
                partial.replace(target)
                sync_folder(target.parent)
                prove(file)
                journal_path.unlink()
                sync_folder(target.parent)
        except BaseException:
            if not file.size:
                partial.unlink(missing_ok=True)
                journal_path.unlink(missing_ok=True)
            raise


def _partial_and_journal(target: Path) -> tuple[Path, Path]:
    return target.with_name(f"{target.name}.partial"), target.with_name(f"{target.name}.journal")


def _open_journal(partial: Path, path: Path, identity: Identity, stack: ExitStack) -> IO[bytes]:
    """The journal of this identity, new or existing, locked until the stack ends."""
    if partial.exists() and not path.exists():
        raise _in_the_way(partial)
    journal = cast("IO[bytes]", stack.enter_context(path.open("ab+", buffering=0)))
    _lock(journal, partial)
    journal.seek(0)
    *lines, _ = journal.read().split(b"\n")
    has_rows = partial.exists()
    stored = parse_json(lines[0], str(path)) if lines else {}
    if not isinstance(stored, Mapping) or ((lines or has_rows) and not set(identity) <= set(stored)):
        raise _in_the_way(path)
    if has_rows:
        refuse_other_run(partial, identity, stored)
        return journal
    try:
        journal.truncate(0)
        write_all(journal, encode_json(identity) + b"\n")
        os.fsync(journal.fileno())
        sync_folder(path.parent)
    except OSError:
        path.unlink()
        raise
    return journal


def _is_total(line: object) -> TypeGuard[Mapping[str, int]]:
    """Whether a line of a journal says how much was written; a killed run may leave half a line."""
    return isinstance(line, Mapping) and all(is_count(line.get(name)) for name in ("size", "rows", "responses"))


def _in_the_way(path: Path) -> OutputError:
    return OutputError(
        f"{path}: is in the way and was not written by this command. Move it, or pass another path.", path
    )


def _lock(handle: IO[bytes] | int, path: Path, *, shared: bool = False) -> None:
    """Refuse what another process is writing; where files cannot be locked, do nothing."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{path}: another process is writing it. Wait for it, or pass another path.", path) from None
    except OSError:  # some network disks
        pass


# ---- A finished file ---------------------------------------------------------------------------------------------


def write_receipt(path: Path, identity: Identity, counts: Mapping[str, int]) -> None:
    """Write PATH.made.json next to a finished file: what it was made of, its hash, and what it holds."""
    body = {"made of": as_json(identity), "file": _file_hash(path), **counts}
    write_json(_receipt_of(path), body)


def read_receipt(path: Path, identity: Identity, details: Identity | None) -> dict[str, int] | None:
    """What a finished file holds if it was made of the identity and the details; None if it has to be made (again).

    A file that was made of another identity, or by somebody else, is an error. Other details, or unknown ones (None),
    mean that it is made again.
    """
    if not path.is_file() or not path.stat().st_size:
        return None
    receipt = read_json(_receipt_of(path)) if _receipt_of(path).is_file() else None
    stored = receipt.get("made of") if isinstance(receipt, Mapping) else None
    if receipt is None or not isinstance(stored, Mapping) or receipt.get("file") != _file_hash(path):
        raise OutputError(f"{path}: was not written by this command. Delete it, or pass another path.", path)
    refuse_other_run(path, identity, stored)
    if details is None or stored != as_json({**identity, **details}):
        return None
    counts = {name: value for name, value in receipt.items() if name not in ("made of", "file")}
    return counts if all(is_count(value) for value in counts.values()) else None


def _receipt_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.made.json")


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
