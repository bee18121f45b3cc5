"""Reward models that others saved in layouts of their own: LLaMA-Factory's and TRL's `v_head`, OpenRLHF's value-head prefixes.

Their backbone is an ordinary causal model; their head is one projection under another name. It is read from safetensors,
moved to `score.weight`, and the bias that the common layout cannot hold becomes the reference mean.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError
from guerdon.models.calibrated import Calibration
from guerdon.models.directory import layout
from guerdon.models.reward_model import ScalarRewardModel, create

PREFIXES = ("v_head.summary", "value_head", "reward_head", "score", "v_head")


def find_head(folder: Path) -> tuple[str, Path] | None:
    """Name (without ".weight") and file of the scalar head in a directory of safetensors; None where there is none."""
    from safetensors import SafetensorError, safe_open

    config = layout.read_config(str(folder), ModelOptions())
    prefixes = dict.fromkeys([getattr(config, "value_head_prefix", None) or PREFIXES[0], *PREFIXES])
    found: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="pt") as tensors:
                found |= dict.fromkeys(tensors.keys(), file)
        except SafetensorError as error:
            raise GuerdonError(f"{file}: not readable ({error}); remedy: copy the file again") from None
    for prefix in prefixes:
        for name in (f"{prefix}.weight", f"model.{prefix}.weight", f"base_model.{prefix}.weight"):
            if name in found:
                return name.removesuffix(".weight"), found[name]
    return None


def load_foreign(folder: str | Path, options: ModelOptions | None = None) -> tuple[ScalarRewardModel, Calibration]:
    """A value-head checkpoint as one of ours: the model, and a calibration that carries the head's bias (0 where it has none)."""
    place = Path(folder)
    if any(place.glob("*.bin")) and not any(place.glob("*.safetensors")):
        raise GuerdonError(
            f"{folder}: holds pickled .bin weights, which are never loaded; remedy: save them as safetensors"
        )
    head = find_head(place)
    if head is None:
        raise GuerdonError(
            f"{folder}: no scalar head among its tensors (looked for {', '.join(PREFIXES)}); remedy: copy value_head.safetensors there"
        )
    name, _ = head
    given = (options or ModelOptions()).model_copy(update={"base": str(place), "lora_rank": 0})
    model = create(given)
    weight, bias = layout.stored_tensor(str(place), f"{name}.weight"), layout.stored_tensor(str(place), f"{name}.bias")
    target = layout.head(model.network.classifier)
    if weight is None or tuple(weight.reshape(1, -1).shape) != tuple(target.weight.shape):
        shape = None if weight is None else tuple(weight.shape)
        raise GuerdonError(
            f"{folder}: {name}.weight has shape {shape}, the backbone needs {tuple(target.weight.shape)}; remedy: match head and base"
        )
    with torch.no_grad():
        target.weight.copy_(weight.reshape(1, -1).float())
    shift = 0.0 if bias is None else -float(bias.float().reshape(-1)[0])
    card = dataclasses.replace(model.card, calibration=Calibration(reference_mean=shift))
    return ScalarRewardModel(model.network, model.text, card), card.calibration
