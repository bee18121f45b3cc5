"""How raw rewards become the scores that are optimized: scaled, clipped, and charged for replies that did not end.

Axes: b replies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.config import OptimizeOptions
from guerdon.formulas.advantage import RunningScale
from guerdon.optimization.processes import gather

__all__ = ["RewardScale"]


@dataclass(frozen=True, slots=True)
class RewardScale:
    """(raw - mean) / spread; `running`, if set, divides by the standard deviation of all rewards so far instead."""

    mean: float = 0.0
    spread: float = 1.0
    running: RunningScale | None = None

    def update(self, raw: Float[np.ndarray, " b"]) -> RewardScale:
        """The scale after one more batch of raw rewards, of all processes."""
        if self.running is None:
            return self
        return replace(self, running=self.running.update(torch.tensor(gather(raw.tolist()), dtype=torch.float64)))

    def apply(
        self, raw: Float[np.ndarray, " b"], cut: Bool[np.ndarray, " b"], options: OptimizeOptions
    ) -> Float[Tensor, " b"]:
        """Scores; a reply that was cut pays `options.unfinished`."""
        scores = self.scaled(torch.from_numpy(raw), options)
        return (scores - options.unfinished * torch.from_numpy(cut)).float()

    def scaled(self, raw: Float[Tensor, "*s"], options: OptimizeOptions) -> Float[Tensor, "*s"]:
        """Rewards on this scale, clipped, before any charge."""
        scores = (raw - self.mean) / self.spread
        if self.running is not None:
            scores = self.running.apply(scores)
        if options.reward_clip:
            scores = scores.clamp(-options.reward_clip, options.reward_clip)
        return scores
