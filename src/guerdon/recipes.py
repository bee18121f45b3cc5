"""Named configurations: each function returns only the options that it changes, and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Recipe = Mapping[str, Mapping[str, Any]]


def starter() -> Recipe:
    """Minutes on two CPU cores: the 135M starter model on short texts."""
    return {
        "model": {"base": "starter", "max_length": 512, "truncation": "drop"},
        "train": {"lr": 3e-5, "batch_size": 16, "epochs": 1.0},
    }


def quickstart() -> Recipe:
    """Ten minutes and 4 GB on two CPU cores, for texts of a sentence or two.

    LoRA on a bfloat16 backbone keeps memory low, eager attention is faster for short texts, and an empty system message
    saves the twenty tokens of the default one in every text.
    """
    return {
        "model": {
            "base": "starter",
            "max_length": 512,
            "truncation": "drop",
            "system": "",
            "lora_rank": 16,
            "dtype": "auto",
            "attention": "eager",
        },
        "train": {"lr": 5e-4, "batch_size": 16, "micro_tokens": 384},
        "split": {"train": 0.6, "calibrate": 0.2, "audit": 0.2},
        "audit": {"cue_rows": 40},
    }


def small() -> Recipe:
    """One consumer GPU, or a CPU and patience: LoRA on any causal model, dialogs of up to 2,048 tokens."""
    return {
        "model": {"max_length": 2048, "lora_rank": 16, "dtype": "bfloat16"},
        "train": {"lr": 1e-4, "batch_size": 32, "micro_tokens": 8192},
    }


def reference() -> Recipe:
    """Full fine-tuning as for published reward models: bfloat16 products over float32 weights, one epoch, a low rate."""
    return {
        "model": {"max_length": 4096, "autocast": "bfloat16"},
        "train": {"lr": 5e-6, "batch_size": 64, "micro_tokens": 16384, "gradient_checkpointing": True, "warmup": 0.03},
    }


RECIPES: dict[str, Callable[[], Recipe]] = {
    "starter": starter,
    "quickstart": quickstart,
    "small": small,
    "reference": reference,
}
