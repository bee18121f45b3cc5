"""Folders that `save_to_disk` of the package datasets wrote, read without that package."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from guerdon.errors import GuerdonError, did_you_mean, field_error
from guerdon.io.json_files import read_object
from guerdon.io.parquet_rows import arrow_rows

__all__ = ["is_saved_dataset", "saved_rows", "saved_splits"]

STATE = "state.json"  # of a data set: names its Arrow files, in order
SPLITS = "dataset_dict.json"  # of several: names their folders
ADVICE = "Save the data set again."

Rows = Iterator[tuple[str, Any]]


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any((folder / name).is_file() for name in (STATE, SPLITS))


def saved_splits(source: str | Path) -> list[str]:
    """The splits of a folder of several that `save_to_disk` wrote; [] for anything else."""
    file = Path(source) / SPLITS
    return _names(file, "splits") if os.path.isfile(file) else []


def saved_rows(folder: Path, split: str, wanted: Collection[str] | None = None) -> Rows:
    """The (location, row) pairs of a saved data set, one batch in memory at a time; of several, those of the split."""
    if (folder / SPLITS).is_file():
        names = _names(folder / SPLITS, "splits")
        if split not in names:
            raise field_error(f"{folder}: imports.hub_split", "one of its splits", split, did_you_mean(split, names))
        folder = folder / split
    for name in _names(folder / STATE, "_data_files", "filename"):
        if not (folder / name).is_file():
            raise GuerdonError(f"{folder / name}: no such file, but {STATE} names it. {ADVICE}")
        yield from arrow_rows(folder / name, wanted)


def _names(file: Path, key: str, inner: str = "") -> list[str]:
    """The names of files or folders in a list of the file; a name that leads elsewhere is an error."""
    values = read_object(file, ADVICE).get(key)
    items = values if isinstance(values, list) else []
    names: list[Any] = [item.get(inner) if inner and isinstance(item, dict) else item for item in items]
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise field_error(f"{file}: {key}", "a list of names in this folder", values, ADVICE)
    return names
