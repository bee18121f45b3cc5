"""Which files the sources of a command name: paths, patterns such as data/*.jsonl, and names on the hub."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from guerdon.contracts import GuerdonError

__all__ = ["matching_files"]

BESIDE_OUTPUTS = (".rejected.jsonl", ".fixes.jsonl")  # what our commands write next to comparisons


def matching_files(sources: Iterable[str | Path]) -> list[str | Path]:
    """The sources in order, each pattern replaced by the files that it matches, sorted by name; none is an error.

    * and ? match within a name, ** also folders. What exists under the name of a pattern is no pattern. The files of rows that
    were rejected or fixed, which stand beside comparisons, match a pattern only if it ends like their names.
    """
    return [file for source in sources for file in _matches(source)]


def _matches(source: str | Path) -> list[str | Path]:
    pattern = str(source)
    if not glob.has_magic(pattern) or "://" in pattern or pattern.startswith("store:") or _exists(pattern):
        return [source]
    files: list[str | Path] = [
        path
        for path in sorted(glob.glob(pattern, recursive=True))
        if Path(path).is_file() and (not path.endswith(BESIDE_OUTPUTS) or pattern.endswith(BESIDE_OUTPUTS))
    ]
    if not files:
        raise GuerdonError(f"{pattern}: matches no file. Check the pattern; the current folder is {Path.cwd()}.")
    return files


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # reading it reports why
        return True
