"""A run frozen between two optimizer steps: safetensors and JSON, written whole or not at all.

A checkpoint holds the trainable weights, AdamW's moments, the generators' states, the number of steps done and where the
metrics file ended then. The learning rate and the data order are functions of the step, so they need no state. Its tensors
are whole, however many processes made it: any number of them goes on from it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from guerdon.contracts import GuerdonError

Named = dict[str, Tensor]


def save(folder: Path, tensors: Named, state: dict[str, Any], keep: str = "checkpoint") -> None:
    """Write folder/keep in a scratch folder, sync it, and put it in the old one's place."""
    scratch = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{keep}.*"):  # by a run that was killed while it wrote; one run owns the folder
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{keep}.", dir=folder))
        save_file(
            {name: value.detach().contiguous() for name, value in tensors.items()}, str(scratch / "tensors.safetensors")
        )
        (scratch / "state.json").write_text(json.dumps(state), "utf-8")
        for file in (scratch / "tensors.safetensors", scratch / "state.json"):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        old = folder / f"{keep}.old"
        if (folder / keep).exists():  # else the old one is the only one, until the rename below
            shutil.rmtree(old, ignore_errors=True)
            (folder / keep).rename(old)
        scratch.rename(folder / keep)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        raise GuerdonError(
            f"cannot write checkpoint in {folder}: {error}; remedy: free space, or save_every=0"
        ) from None
    finally:
        if scratch != folder:
            shutil.rmtree(scratch, ignore_errors=True)


def find(folder: Path | None, keep: str = "checkpoint") -> Path | None:
    """The newest whole checkpoint: a kill between the two renames leaves it under the old name."""
    if folder is None:
        return None
    for name in (keep, f"{keep}.old"):
        if (folder / name / "state.json").is_file():
            return folder / name
    return None


def read_state(place: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint."""
    try:
        state: dict[str, Any] = json.loads((place / "state.json").read_text("utf-8"))
    except json.JSONDecodeError:
        raise GuerdonError(f"{place}: state.json is not JSON; remedy: delete {place} to start again") from None
    return state


def read_tensors(place: Path, into: Named, cut: Callable[[str, Tensor], Tensor] = lambda name, stored: stored) -> None:
    """Copy the stored tensors, or what `cut` takes of each, into the given ones, one at a time; names and shapes must agree."""
    try:
        opened = safe_open(str(place / "tensors.safetensors"), framework="pt")
    except (OSError, SafetensorError) as error:
        raise GuerdonError(f"{place}: not readable ({error}); remedy: delete {place} to start again") from None
    with opened as stored, torch.no_grad():
        names = set(stored.keys())
        if names != set(into):
            odd = sorted(names ^ set(into))[0]
            raise GuerdonError(
                f"{place}: does not belong to this model (tensor {odd}); remedy: delete {place}, or use the options it was written with"
            )
        for name, target in into.items():
            target.copy_(cut(name, stored.get_tensor(name)))
