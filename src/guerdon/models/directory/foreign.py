"""Reward models saved by other trainers in their own layouts: LLaMA-Factory's and TRL's `v_head`, OpenRLHF's value-head prefixes.

Their backbone is an ordinary causal model, and their head is one projection under another name. It is read from safetensors and
becomes `score.weight`; a bias, which the common layout cannot hold, becomes the reference mean.
"""

from __future__ import annotations

from pathlib import Path

from guerdon.config import ModelOptions
from guerdon.contracts import GuerdonError
from guerdon.models.directory.loading import bias_as_calibration, create_reward_model
from guerdon.models.engine.loaded_weights import refuse_adapter
from guerdon.models.engine.pretrained import read_config
from guerdon.models.engine.stored_head import PREFIXES, read_head
from guerdon.models.reward_model import ScalarRewardModel


def load_foreign(folder: str | Path, options: ModelOptions | None = None) -> ScalarRewardModel:
    """A value-head checkpoint as a model of ours, whose card carries the head's bias as calibration."""
    path, chosen = (
        Path(folder),
        (options or ModelOptions()).model_copy(update={"base": str(folder), "lora_rank": 0, "lora_targets": []}),
    )
    refuse_adapter(path)
    if any(path.glob("*.bin")) and not any(path.glob("*.safetensors")):
        raise GuerdonError(f"{folder}: holds pickled .bin weights, which are never loaded. Save them as safetensors.")
    head = read_head(path, read_config(str(path), chosen))
    if head is None:
        raise GuerdonError(
            f"{folder}: no scalar head among its tensors (looked for {', '.join(PREFIXES)}). Copy value_head.safetensors there."
        )
    model = create_reward_model(chosen)
    return model.with_card(calibration=bias_as_calibration(head))
