"""Members of an ensemble that share a backbone: one file on disk, linked into every member, and one pass when it is loaded."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guerdon.contracts import GuerdonError
from guerdon.models.directory.formats import card_as_json, read_card
from guerdon.models.engine.checkpoint_files import INDEX, read_checkpoint_file
from guerdon.models.engine.classifier import HEAD_NAMES, head_name, linear_head, set_head
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.engine.stored_head import stored_tensor
from guerdon.models.reward_model import ScalarRewardModel

log = logging.getLogger("guerdon")

COMPARED_BYTES = 2**20  # leading bytes of two backbone files that are compared if they are not the same file


# ---- Writing -----------------------------------------------------------------------------------------------------


def split_off_head(folder: Path, classifier: Any) -> str:
    """Move a saved model's head into a shard of its own, the last one, and write the index; returns the shard's name."""
    from safetensors.torch import load_file

    name = head_name(classifier)
    head: dict[str, torch.Tensor] = {}
    backbone: list[dict[str, torch.Tensor]] = []
    files = sorted(folder.glob("*.safetensors"))
    for file in files:
        tensors = load_file(file)
        head |= {key: tensors.pop(key) for key in list(tensors) if key.startswith(f"{name}.")}
        backbone.append(tensors)
    for file in files:
        file.unlink()
    shards = [tensors for tensors in backbone if tensors] + [head]
    shard_of: dict[str, str] = {}
    for number, tensors in enumerate(shards, start=1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_tensors(tensors, folder / shard)
        shard_of |= dict.fromkeys(tensors, shard)
    size = sum(value.nbytes for tensors in shards for value in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": shard_of}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", "utf-8")
    return shard


def write_head(head: nn.Linear, row: int, classifier: Any, file: Path) -> None:
    """Write one row of a head, weight and bias, as a shard."""
    name = head_name(classifier)
    rows = {key: value.detach().cpu()[row : row + 1].clone() for key, value in head.state_dict().items()}
    _write_tensors({f"{name}.{key}": value for key, value in rows.items()}, file)


def link_files(source: Path, target: Path, but: Sequence[str] = ()) -> None:
    """Put the files of one directory into another, new one: hard links if the file system allows it, else copies."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        if file.is_file() and file.name not in but:
            try:
                os.link(file.resolve(), target / file.name)
            except OSError:
                shutil.copyfile(file, target / file.name)


def _write_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, file, metadata={"format": "pt"})


# ---- Reading -----------------------------------------------------------------------------------------------------


def can_share(folders: Sequence[Path]) -> bool:
    """Whether the members still have one backbone and read texts in one way, so that a single pass serves them all."""
    cards = [read_card(folder) for folder in folders]
    plain = [card and {**card_as_json(card), "self_test": None} for card in cards]
    has_uncertainty = any(card and card.uncertainty for card in cards)  # of one head, which the others would not have
    if has_uncertainty or any(other != plain[0] for other in plain[1:]) or not _is_same_backbone(folders):
        log.warning("%s: its members no longer share a backbone; each is loaded and run separately", folders[0].parent)
        return False
    return True


def stack_heads(model: ScalarRewardModel, folders: Sequence[Path]) -> None:
    """Replace the head of the first member's model by the heads of all members."""
    classifier = unwrap_peft(model.network.classifier)
    name, head = head_name(classifier), linear_head(classifier)
    rows = {
        key: torch.cat([_stored_head(folder, f"{name}.{key}") for folder in folders]).to(head.weight)
        for key in head.state_dict()  # weight, and bias if there is one
    }
    set_head(classifier, rows["weight"], rows.get("bias"))


def _stored_head(folder: Path, name: str) -> torch.Tensor:
    value = stored_tensor(str(folder), name)
    if value is None or not torch.isfinite(value).all():
        raise GuerdonError(f"{folder}: its head is missing or not finite. Restore it from where it was saved.")
    return value


def _is_same_backbone(folders: Sequence[Path]) -> bool:
    """Whether all members hold the first one's backbone: one linked file, or files of equal size and beginning after a copy."""
    first, *others = folders
    try:
        shard_of, *rest = [read_checkpoint_file(folder / INDEX)["weight_map"] for folder in folders]
        if any(other != shard_of for other in rest):
            return False
        shards = {file for key, file in shard_of.items() if not key.startswith(tuple(f"{n}." for n in HEAD_NAMES))}
        return all(_is_same_file(first / file, other / file) for other in others for file in shards)
    except (OSError, GuerdonError):
        return False


def _is_same_file(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    with one.open("rb") as first, other.open("rb") as second:
        is_same_size = one.stat().st_size == other.stat().st_size
        return is_same_size and first.read(COMPARED_BYTES) == second.read(COMPARED_BYTES)
