"""Reward models saved by other trainers in their own layouts: LLaMA-Factory's and TRL's `v_head`, OpenRLHF's value-head prefixes.

Their backbone is an ordinary causal model, and their head is one projection under another name. It is read from safetensors and
becomes `score.weight`; a bias, which the common layout cannot hold, becomes the reference mean.
"""

from __future__ import annotations

from pathlib import Path

import torch

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError
from guerdon.models.card import Calibration
from guerdon.models.directory.loading import create_reward_model
from guerdon.models.engine.classifier import reward_head
from guerdon.models.engine.pretrained import read_config, stored_tensor
from guerdon.models.reward_model import ScalarRewardModel

PREFIXES = ("v_head.summary", "value_head", "reward_head", "score", "v_head")


def load_foreign(folder: str | Path, options: ModelOptions | None = None) -> ScalarRewardModel:
    """A value-head checkpoint as a model of ours, whose card carries the head's bias as calibration."""
    path = Path(folder)
    if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
        raise GuerdonError(f"{folder}: holds pickled .bin weights, which are never loaded. Save them as safetensors.")
    head = find_head(path)
    if head is None:
        raise GuerdonError(
            f"{folder}: no scalar head among its tensors (looked for {', '.join(PREFIXES)}). Copy value_head.safetensors there."
        )
    name, _ = head
    model = create_reward_model((options or ModelOptions()).model_copy(update={"base": str(path), "lora_rank": 0}))
    weight, bias = stored_tensor(str(path), f"{name}.weight"), stored_tensor(str(path), f"{name}.bias")
    target = reward_head(model.network.classifier)
    if weight is None or tuple(weight.reshape(1, -1).shape) != tuple(target.weight.shape):
        shape = None if weight is None else tuple(weight.shape)
        raise GuerdonError(
            f"{folder}: {name}.weight must have shape {tuple(target.weight.shape)} to fit the backbone, got {shape}. "
            "Pair the head with its own base model."
        )
    with torch.no_grad():
        target.weight.copy_(weight.reshape(1, -1).float())
    shift = 0.0 if bias is None else -float(bias.float().reshape(-1)[0])
    return model.with_card(calibration=Calibration(reference_mean=shift))


def find_head(folder: Path) -> tuple[str, Path] | None:
    """The name (without ".weight") and the file of the scalar head in a directory of safetensors; None if there is none."""
    from safetensors import SafetensorError, safe_open

    config = read_config(str(folder), ModelOptions())
    prefixes = dict.fromkeys([getattr(config, "value_head_prefix", None) or PREFIXES[0], *PREFIXES])
    file_of: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(file), framework="pt") as tensors:
                file_of |= dict.fromkeys(tensors.keys(), file)
        except SafetensorError as error:
            raise GuerdonError(f"{file}: not readable ({error}). Copy the file again.") from None
    for prefix in prefixes:
        for name in (f"{prefix}.weight", f"model.{prefix}.weight", f"base_model.{prefix}.weight"):
            if name in file_of:
                return name.removesuffix(".weight"), file_of[name]
    return None
