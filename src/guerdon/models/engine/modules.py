"""Parts of a transformers model: the model inside a PEFT wrapper, its decoder layers, the attention it uses."""

from __future__ import annotations

from typing import Any

from torch import nn


def unwrap_peft(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def attention_name(model: Any) -> str:
    """The attention implementation in use, by transformers' name."""
    return str(unwrap_peft(model).config._attn_implementation)


def decoder_layers(base_model: Any) -> nn.ModuleList:
    """The model's one list of decoder layers; empty where it is built otherwise."""
    depth = getattr(base_model.config, "num_hidden_layers", 0)
    stacks = [m for m in base_model.children() if isinstance(m, nn.ModuleList) and len(m) == depth > 0]
    return stacks[0] if len(stacks) == 1 else nn.ModuleList()
