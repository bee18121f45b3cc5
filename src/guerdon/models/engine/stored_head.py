"""The reward head among a checkpoint's tensors: under transformers' name, or as other trainers save it.

LLaMA-Factory and TRL write `v_head.summary`, OpenRLHF the name in config.json's `value_head_prefix`. Axes: a rewards, h hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from guerdon.models.engine.checkpoint_files import one_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PREFIXES = ("v_head.summary", "value_head", "reward_head", "score", "v_head")


@dataclass(frozen=True, slots=True)
class StoredHead:
    """One linear projection. name: of its tensors, without ".weight"."""

    name: str
    weight: Float[Tensor, "a h"]
    bias: Float[Tensor, " a"] | None = None


def find_head(folder: Path, config: PretrainedConfig) -> tuple[str, Path] | None:
    """The name (without ".weight") and the file of the linear head in a directory of safetensors; None if there is none."""
    file_of: dict[str, Path] = {}
    for file in sorted(folder.glob("*.safetensors")):
        file_of |= dict.fromkeys(_names_in(file), file)
    prefixes = dict.fromkeys([getattr(config, "value_head_prefix", None) or PREFIXES[0], *PREFIXES])
    for prefix in prefixes:
        for name in (f"{prefix}.weight", f"model.{prefix}.weight", f"base_model.{prefix}.weight"):
            if name in file_of:
                return name.removesuffix(".weight"), file_of[name]
    return None


def read_head(folder: Path, config: PretrainedConfig) -> StoredHead | None:
    """The linear head in a directory of safetensors, float32; None if there is none."""
    location = find_head(folder, config)
    if location is None:
        return None
    name, file = location
    weight, bias = stored_tensor(file, f"{name}.weight"), stored_tensor(file, f"{name}.bias")
    assert weight is not None, f"{file} has just named it"
    rows = weight.float().reshape(-1, weight.shape[-1])
    return StoredHead(name, rows, None if bias is None else bias.float().reshape(-1))


def stored_tensor(source: str | Path, name: str) -> Tensor | None:
    """The tensor of that name in a safetensors file, or in those of a directory; None if there is none."""
    from safetensors import safe_open

    path = Path(source)
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path] if path.is_file() else []:
        if name in _names_in(file):
            with safe_open(str(file), framework="pt") as tensors:
                tensor: Tensor = tensors.get_tensor(name)
                return tensor
    return None


def _names_in(file: Path) -> Iterable[str]:
    from safetensors import safe_open

    with one_line(f"{file}: not readable ({{reason}}). Copy the file again."):
        with safe_open(str(file), framework="pt") as tensors:
            names: list[str] = tensors.keys()
            return names
