"""Short hashes that tell models apart, so that cached scores and stored measurements are never used for another model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SAMPLE = 64  # leading values hashed of each tensor


def fingerprint_of(model: object) -> str:
    """The model's own fingerprint; its class name if it has none."""
    return str(getattr(model, "fingerprint", type(model).__name__))


def weights_fingerprint(model: nn.Module) -> str:
    """A hash over the names of the weights and the first values of each."""
    total = hashlib.sha256()
    for name, value in model.named_parameters():
        total.update(name.encode() + value.detach().flatten()[:SAMPLE].float().cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def rounded_fingerprint(model: nn.Module, *, prefix: bytes = b"", suffix: bytes = b"") -> str:
    """Like weights_fingerprint, but the same in whatever dtype the model was loaded: values are rounded to bfloat16."""
    import torch

    total = hashlib.sha256(prefix)
    for name, value in model.named_parameters():
        rounded = value.detach().flatten()[:SAMPLE].cpu().to(torch.bfloat16).view(torch.int16)
        total.update(name.encode() + rounded.numpy().tobytes())
    total.update(suffix)
    return total.hexdigest()[:16]
