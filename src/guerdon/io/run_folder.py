"""A run's folder: who holds it, what it was made from, and how a killed run resumes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from guerdon.contracts import (
    GuerdonError,
)
from guerdon.io.readers import parse_json
from guerdon.io.writers import atomic_write, encode_json, explain_os_errors, sync_folder, write_all


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
        with explain_os_errors(self.path):
            write_all(self.file, lines)
            if self.journal is not None:
                os.fsync(self.file.fileno())  # first the rows, then what vouches for them
                write_all(self.journal, encode_json(done) + b"\n")
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
        with explain_os_errors(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            log = _begun(partial, journal, json.loads(encode_json(identity)), stack)
            chunks = Chunks(path, stack.enter_context(partial.open("ab", buffering=0)), log)
        try:
            with explain_os_errors(path):
                _go_on(chunks, partial)
            yield chunks
            with explain_os_errors(path):
                os.fsync(chunks.file.fileno())
                partial.replace(target)
                journal.unlink()
                sync_folder(target.parent)
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
    found = parse_json(lines[0], str(journal)) if lines else {}
    if not isinstance(found, Mapping) or ((lines or begun) and not set(identity) <= set(found)):
        raise _in_the_way(journal)
    differs = [name for name in identity if begun and found[name] != identity[name]]
    if differs:
        remedy = "delete it to start afresh, or pass another --out"
        raise GuerdonError(f"{partial}: was begun with another {' and another '.join(differs)}; remedy: {remedy}")
    if not begun:
        try:
            log.truncate(0)
            write_all(log, encode_json(identity) + b"\n")
            os.fsync(log.fileno())
            sync_folder(journal.parent)
        except OSError:
            journal.unlink()
            raise
    return log


def _in_the_way(path: Path) -> GuerdonError:
    return GuerdonError(f"{path}: is in the way, and not of our making; remedy: move it, or pass another --out")


def _go_on(chunks: Chunks, partial: Path) -> None:
    """Cut the partial and its journal after the last whole chunk, and count what is there."""
    assert chunks.journal is not None
    size = partial.stat().st_size
    chunks.journal.seek(0)
    first, *lines, _ = chunks.journal.read().split(b"\n")
    end = at = len(first) + 1
    for line in lines:
        at += len(line) + 1
        done = parse_json(line, str(chunks.path))
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
        raise GuerdonError(f"cannot write {folder}: {error.strerror}; remedy: another --out") from None


def _lock(log: IO[bytes] | int, partial: Path) -> None:
    """Refuse what another process is writing; where files cannot be locked, do nothing."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise GuerdonError(f"{partial}: another process is writing it; remedy: wait, or pass another --out") from None
    except OSError:  # some network disks
        pass
