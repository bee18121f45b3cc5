"""Write a whole directory or nothing: filled beside its final place, then renamed there."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from guerdon.contracts import GuerdonError
from guerdon.models.directory.formats import is_ensemble
from guerdon.models.engine.pretrained import first_line

ABANDONED = 86_400  # seconds after which a half-written directory is taken to be from a killed save


def write_directory(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a scratch directory, then rename that to `folder`.

    An older model of that name is replaced; a save that is killed leaves the older model, or nothing.
    """
    from safetensors import SafetensorError

    recover(folder)
    if folder.exists() and not _is_model(folder) and not _is_empty(folder):
        raise GuerdonError(f"{folder}: exists and is not a model, so it is not replaced. Write elsewhere.")
    scratch = folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        fill(scratch)
        _flush(scratch)
        old = _old_name(folder)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        scratch.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        reason = getattr(error, "strerror", None) or first_line(error)
        raise GuerdonError(f"cannot write {folder}: {reason}. Free space, or write elsewhere.") from None
    finally:
        if scratch != folder:
            shutil.rmtree(scratch, ignore_errors=True)


def recover(folder: Path) -> None:
    """Restore a model that a kill between the two renames of write_directory left under its hidden name."""
    old = _old_name(folder)
    if not folder.exists() and _is_model(old):
        old.rename(folder)


def _remove_abandoned(folder: Path) -> None:
    for scratch in folder.parent.glob(f".{folder.name}.*"):
        if time.time() - scratch.stat().st_mtime > ABANDONED:  # a younger one may belong to a save in progress
            shutil.rmtree(scratch, ignore_errors=True)


def _flush(scratch: Path) -> None:
    """Give every file the usual permissions (safetensors writes for its owner alone) and flush it to the disk."""
    for path in scratch.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    os.chmod(scratch, 0o755)


def _old_name(folder: Path) -> Path:
    absolute = Path(os.path.abspath(folder))
    return absolute.parent / f".{absolute.name}.old"


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_ensemble(folder)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None
