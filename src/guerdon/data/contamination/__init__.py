"""Prompts of public benchmarks, as hashes: which benchmarks a text is in. `benchmarks/contamination.py` makes the index.

hashes.bin: for each benchmark its sorted 8-byte hashes, one benchmark after the other. manifest.json: the names of the benchmarks in
that order, where each comes from, and how many hashes it has. No text of a benchmark is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from guerdon.data.hashes import hash_parts, normalize

__all__ = ["FOLDER", "SHORTEST", "benchmarks_of", "manifest", "text_hash", "write_index"]

FOLDER: Final = Path(__file__).parent
SHORTEST: Final = 25  # characters; a shorter prompt, such as "Tell me a joke.", is asked by everyone


def text_hash(text: str) -> int | None:
    """The hash of a text without differences of case, width and spacing; None for a text too short to be told apart."""
    return _hash(normalize(text))


def benchmarks_of(normalized: str) -> tuple[str, ...]:
    """The names of the benchmarks that have this text, which `normalize` gave, as a prompt."""
    value = _hash(normalized)
    return () if value is None else tuple(_names()[i] for i in _index().get(value, ()))


def _hash(normalized: str) -> int | None:
    return hash_parts(normalized) if len(normalized) >= SHORTEST else None


def manifest() -> list[dict[str, Any]]:
    """For each benchmark its name, repository, commit, date, files, and number of hashes."""
    entries: list[dict[str, Any]] = json.loads((FOLDER / "manifest.json").read_text("utf-8"))
    return entries


def write_index(folder: Path, hashes: Mapping[str, set[int]], entries: Sequence[Mapping[str, Any]]) -> int:
    """Write hashes.bin and manifest.json; returns their size in bytes."""
    columns = [np.array(sorted(hashes[entry["name"]]), "<u8") for entry in entries]
    (folder / "hashes.bin").write_bytes(b"".join(column.tobytes() for column in columns))
    (folder / "manifest.json").write_text(json.dumps(list(entries), indent=1) + "\n", "utf-8")
    return sum((folder / name).stat().st_size for name in ("hashes.bin", "manifest.json"))


@cache
def _names() -> tuple[str, ...]:
    return tuple(entry["name"] for entry in manifest())


@cache
def _index() -> dict[int, tuple[int, ...]]:
    """Hash -> the positions of its benchmarks."""
    hashes = np.fromfile(FOLDER / "hashes.bin", "<u8").tolist()
    index: dict[int, tuple[int, ...]] = {}
    start = 0
    for position, entry in enumerate(manifest()):
        for value in hashes[start : start + entry["hashes"]]:
            index[value] = (*index.get(value, ()), position)
        start += entry["hashes"]
    return index
