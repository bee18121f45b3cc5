"""What a process that was killed leaves in a folder: files and folders that it was writing."""

from __future__ import annotations

import os
import re
from pathlib import Path

from guerdon.io.temporary import temporary_path


def of_dead_process(target: Path, kind: str = "tmp") -> Path:
    """A temporary name of a process that had this one's number, and ended."""
    path = temporary_path(target, kind)
    return path.with_name(re.sub(rf"-{os.getpid()}-\d+-", f"-{os.getpid()}-1-", path.name))


def hidden(folder: Path) -> list[str]:
    """All hidden files and folders, at any depth."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))
