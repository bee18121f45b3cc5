"""PPO's value models: they predict the rest of a reply's reward before each of its tokens.

Axes: r tokens of all replies one after another.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from guerdon.models.engine.backbone import Texts
from guerdon.models.policy import PolicyOutput
from guerdon.models.reward_model import ScalarNetwork

__all__ = ["ValueHead", "ValueModel", "ValueNetwork"]


class ValueModel(Protocol):
    """Values in units of the optimized score."""

    def values(
        self, prompt_ids: Texts, token_ids: Texts, output: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """The value before each token of the replies. `output` is the policy's on the same texts."""
        ...


class ValueHead(nn.Module):
    """A linear head on the policy's own hidden states; it starts at 0 everywhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def values(
        self, prompt_ids: Texts, token_ids: Texts, output: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """Values; with `detached`, gradients reach the head alone."""
        hidden = output.hidden.detach() if detached else output.hidden
        with torch.autocast(hidden.device.type, enabled=False):
            values: Tensor = self.head(hidden.float())[:, 0]
        return values


class ValueNetwork(nn.Module):
    """A reward model that scores the text before each token; (its output - mean) x scale is in units of the optimized score."""

    def __init__(self, network: ScalarNetwork, mean: float, scale: float) -> None:
        super().__init__()
        self.network, self.mean, self.scale = network, mean, scale

    def values(
        self, prompt_ids: Texts, token_ids: Texts, output: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """Values from its own network; the policy's output is not used."""
        texts = [np.concatenate([prompt, reply[:-1]]) for prompt, reply in zip(prompt_ids, token_ids, strict=True)]
        outputs = self.network.read_from(texts, [len(prompt) - 1 for prompt in prompt_ids])[:, 0]
        return (outputs - self.mean) * self.scale
