"""How far a policy is from its reference: estimators of the KL from the policy's own samples, and an adaptive KL penalty.

Axes: b sequences, t tokens, s any shape. A log ratio is log policy - log reference of a token that the policy drew, in nats.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.formulas.masks import at_least_float32

__all__ = ["MAX_LOG_RATIO", "AdaptiveKL", "k1", "k2", "k3", "sequence_kl"]

MAX_LOG_RATIO = 20.0
"""Log ratios are clamped to +- this many nats before they are exponentiated: e^20 is 5e8, far from overflow in float32."""


def k1(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The log ratios themselves: an unbiased estimate of KL(policy || reference), of either sign, with high variance.

    Schulman 2020, "Approximating KL divergence".
    """
    return at_least_float32(log_ratio)


def k2(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Half the squared log ratios: an estimate of KL(policy || reference), never negative, low variance, biased beyond second order.

    Schulman 2020. As a loss, its gradient in expectation is that of KL(policy || reference); those of `k1` and `k3` are not.
    """
    return at_least_float32(log_ratio).square() / 2.0


def k3(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """e^-l - 1 + l of log ratios l: an unbiased estimate of KL(policy || reference), never negative, with low variance.

    Schulman 2020. Log ratios are first clamped to +-MAX_LOG_RATIO, outside which the gradient is 0; inside, it is exact.
    """
    clamped = at_least_float32(log_ratio).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return (torch.expm1(-clamped) + clamped).clamp(min=0.0)  # the difference of two nearly equal numbers may be -1e-14


def sequence_kl(log_ratio: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """KL of each sequence [b], nats per sequence. The mask is True at response tokens, the end token included.

    The sum of `k1`: unbiased, so that of a single sequence may be negative. Masked entries change nothing; 0.0 for a
    sequence without tokens.
    """
    return torch.where(mask, k1(log_ratio), 0.0).sum(dim=1)


@dataclass(frozen=True, slots=True)
class AdaptiveKL:
    """The KL penalty, raised while KL is above its target and lowered while below; constant without a target.

    Ziegler et al. 2019 (arXiv 1909.08593, sec. 2.2, with the horizon of its code): beta is multiplied by
    1 + e n / horizon, with e = KL / target - 1 clamped to +-0.2. We differ in one point: n / horizon counts at most
    1, so that beta never reaches 0.

    beta: nats of reward per nat of KL; above 0 with a target, at least 0 without. target: nats per sequence. horizon:
    number of sequences over which beta reacts.
    """

    beta: float
    target: float | None = None
    horizon: float = 10_000.0

    def __post_init__(self) -> None:
        least = "at least 0" if self.target is None else "above 0"
        if not (math.isfinite(self.beta) and (self.beta > 0 or (self.beta == 0 and self.target is None))):
            raise ValueError(f"beta must be finite and {least}, got {self.beta}")
        if self.target is not None and not (math.isfinite(self.target) and self.target > 0):
            raise ValueError(f"target must be a finite KL above 0 nats per sequence, or None, got {self.target}")
        if not (math.isfinite(self.horizon) and self.horizon > 0):
            raise ValueError(f"horizon must be a finite number of sequences above 0, got {self.horizon}")

    def update(self, kl: float, n: int) -> "AdaptiveKL":
        """The penalty after n more sequences with this mean KL, nats per sequence."""
        if not math.isfinite(kl) or n < 0:
            raise ValueError(f"kl must be finite and n at least 0, got KL {kl} of {n} sequences")
        if self.target is None:
            return self
        error = min(0.2, max(-0.2, kl / self.target - 1.0))
        return replace(self, beta=self.beta * (1.0 + error * min(1.0, n / self.horizon)))
