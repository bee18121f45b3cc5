"""Run a command in a process of its own that is killed, stopped, or runs out of space, at its n-th operation on files.

An operation is whatever creates, renames, cuts or removes a file or folder below the working directory, or flushes one to
disk; Python's audit hooks report them, whoever makes them. The process is a fork, which takes no second to start.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shell import guerdon

KILLED = 137
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

Fault = Callable[[int, bool], None]  # the number of an operation, from 1, and whether it needs space -> may not return


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, what it printed, and how many operations it made."""

    code: int
    err: str
    operations: int


def no_fault(number: int, needs_space: bool) -> None:
    """The command runs to its end."""


def kill_at(n: int) -> Fault:
    """The process ends before its n-th operation, without a chance to clean up."""

    def fault(number: int, needs_space: bool) -> None:
        if number == n:
            os._exit(KILLED)

    return fault


def stop_at(n: int) -> Fault:
    """SIGTERM at the n-th operation."""

    def fault(number: int, needs_space: bool) -> None:
        if number == n:
            os.kill(os.getpid(), signal.SIGTERM)

    return fault


def disk_full_from(n: int) -> Fault:
    """From the n-th operation on, no file can be created or flushed."""

    def fault(number: int, needs_space: bool) -> None:
        if number >= n and needs_space:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fault


def run(words: str, folder: Path, fault: Fault = no_fault, largest_file: int | None = None) -> Ended:
    """`guerdon WORDS` in the folder, in a process of its own; no file may grow beyond `largest_file` bytes."""
    result = folder.with_name("result")
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads: ours wait for work
        pid = os.fork()
    if pid == 0:
        _run_in_child(words, folder, fault, largest_file, result)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    err, counted = ((result / name) for name in ("err", "operations"))
    return Ended(code, err.read_text() if err.exists() else "", int(counted.read_text()) if counted.exists() else 0)


def _run_in_child(words: str, folder: Path, fault: Fault, largest_file: int | None, result: Path) -> None:
    try:
        os.chdir(folder)
        operations = _watch(folder, fault)
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        ran = guerdon(*words.split())
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
        (result / "err").write_text(ran.err)
        (result / "operations").write_text(str(operations[0]))
        os._exit(ran.code)
    except BaseException:
        (result / "err").write_text(traceback.format_exc())
        os._exit(1)


def _watch(folder: Path, fault: Fault) -> list[int]:
    """Call the fault at every operation from now on; returns a list with their number so far."""
    counted, top, fsync = [0], f"{folder}{os.sep}", os.fsync

    def operation(needs_space: bool) -> None:
        counted[0] += 1
        fault(counted[0], needs_space)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | os.PathLike) and flags & FOR_WRITING and _below(path, top):
                operation(True)
        elif event in CHANGES and _below(args[0], top):
            operation(event == "os.mkdir")

    def watched_fsync(handle: int) -> None:
        operation(True)
        fsync(handle)

    sys.addaudithook(hook)
    os.fsync = watched_fsync
    return counted


def _below(path: Any, top: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(top)
