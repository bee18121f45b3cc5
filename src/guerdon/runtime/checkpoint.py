"""Checkpoints of a run between two optimizer steps, as safetensors and JSON: written completely or not at all.

A checkpoint holds the trainable weights, AdamW's moments, the generators' states, the number of steps done, and the length of
the metrics file. The learning rate and the order of the data are functions of the step and need no state. Tensors are stored
in full, whatever the number of processes, so that a run can resume with any number of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from guerdon.contracts import GuerdonError
from guerdon.errors import cause_of, field_error
from guerdon.io.directories import recover, write_directory
from guerdon.io.json_files import parse_object
from guerdon.models.engine.checkpoint_files import first_line

Kind = TypeVar("Kind")

TENSORS, STATE = "tensors.safetensors", "state.json"


def save(folder: Path, tensors: dict[str, Tensor], state: dict[str, Any], name: str = "checkpoint") -> None:
    """Write folder/name, whole or not at all."""

    def fill(scratch: Path) -> None:
        save_file({key: value.detach().contiguous() for key, value in tensors.items()}, str(scratch / TENSORS))
        (scratch / STATE).write_text(json.dumps(state), "utf-8")

    write_directory(folder / name, fill, advice="Free space, or set save_every=0.")


def find(folder: Path | None, name: str = "checkpoint") -> Path | None:
    """The newest complete checkpoint."""
    if folder is None:
        return None
    recover(folder / name)
    for candidate in (name, f"{name}.old"):  # older versions left the second, if they were killed between two renames
        if (folder / candidate / STATE).is_file():
            return folder / candidate
    return None


def read_state(path: Path, kind: TypeAdapter[Kind]) -> Kind:
    """The JSON part of a checkpoint, as what the adapter describes. GuerdonError if it is something else."""
    file, advice = path / STATE, f"Delete {path} to start over."
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        cause = cause_of(error) if isinstance(error, RecursionError) else first_line(error)
        raise GuerdonError(f"{file}: must be readable JSON, got {cause}. {advice}") from None
    if not isinstance(values, dict):
        raise field_error(f"{file}: the file", "an object", values, advice)
    return parse_object(values, kind, str(file), advice)


def read_tensors(
    path: Path, targets: dict[str, Tensor], cut: Callable[[str, Tensor], Tensor] = lambda key, stored: stored
) -> None:
    """Copy the stored tensors, or what `cut` returns of each, into the targets one at a time. Names and shapes must agree."""
    try:
        opened = safe_open(str(path / TENSORS), framework="pt")
    except (OSError, SafetensorError) as error:
        raise GuerdonError(f"{path}: {TENSORS} must be readable, got {error}. Delete {path} to start over.") from None
    with opened as stored, torch.no_grad():
        keys = set(stored.keys())
        if keys != set(targets):
            first = sorted(keys ^ set(targets))[0]
            raise GuerdonError(
                f"{path}: the checkpoint must have this model's tensors, got a difference in {first}. "
                f"Delete {path}, or use the options it was written with."
            )
        for key, target in targets.items():
            tensor = cut(key, stored.get_tensor(key))
            if tensor.shape != target.shape:
                raise field_error(
                    f"{path}: {key}",
                    f"of shape {list(target.shape)}",
                    list(tensor.shape),
                    f"Delete {path} to start over.",
                )
            target.copy_(tensor)
