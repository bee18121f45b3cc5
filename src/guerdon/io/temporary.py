"""Names for files and folders that are still being written, and the removal of those that a dead process left behind.

The name holds the process: `.NAME.HOST-PID-START-RANDOM.tmp`, or `.old` for a folder that is being replaced. One of a
process that still runs is never touched.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, Literal

ABANDONED: Final = 86_400  # seconds without a change after which another computer's leftovers count as abandoned
NAME: Final = re.compile(
    r"\.(?P<name>.*)\.(?P<host>[0-9a-f]{6})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{8}\.(?P<kind>tmp|old)"
)
LONGEST: Final = 100  # bytes of a name that are kept; file systems allow 255 in all

_swept: set[Path] = set()  # folders that this process has looked at


def temporary_path(target: Path, kind: Literal["tmp", "old"] = "tmp") -> Path:
    """A new hidden name next to the target. The first call for a folder removes what dead processes left there."""
    if target.parent not in _swept:
        _swept.add(target.parent)
        remove_abandoned(target.parent)
    pid = os.getpid()
    owner = f"{_host()}-{pid}-{_start_time(pid)}-{secrets.token_hex(4)}"
    return target.with_name(f".{_short_name(target.name)}.{owner}.{kind}")


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files and folders of processes that have ended."""
    for path, match in _temporary_entries(folder):
        if match["kind"] == "tmp" and not _may_be_written(match, path):
            remove(path)


def replaced_by(target: Path) -> tuple[list[Path], list[Path]]:
    """Older versions of the target, which its replacement has put aside: by processes that run, and by dead ones."""
    key = (_short_name(target.name), "old")
    entries = [(path, match) for path, match in _temporary_entries(target.parent) if match.group("name", "kind") == key]
    running = [path for path, match in entries if _may_be_written(match, path)]
    return running, [path for path, _ in entries if path not in running]


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as the operating system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _temporary_entries(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The folder's entries that have a temporary name."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [(folder / name, match) for name in names if (match := NAME.fullmatch(name))]


def _short_name(name: str) -> str:
    """The name, or its beginning and a hash of all of it where it is long."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST else f"{name[:20]}~{hashlib.sha256(encoded).hexdigest()[:16]}"


def _may_be_written(name: re.Match[str], path: Path) -> bool:
    """Whether the process that the name belongs to may still run."""
    if name["host"] == _host():
        return _start_time(int(name["pid"])) == int(name["start"])
    newest = 0.0
    with suppress(OSError):  # removed meanwhile
        newest = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
    return time.time() - newest < ABANDONED


@cache
def _host() -> str:
    """Where process numbers mean the same: this computer, or this container of it."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:6]


def _start_time(pid: int) -> int | None:
    """When a process started, in a unit of the platform, so that another one with its number is told from it; None if none runs."""
    if sys.platform == "linux":  # in ticks since the computer started: setting the clock changes nothing
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    import psutil

    try:
        return int(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
