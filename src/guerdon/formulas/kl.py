"""How far the policy is from its reference: estimators from its own samples, and the price that holds it there.

Axes: b sequences, t tokens. A log ratio is log policy - log reference of a token that the policy drew, in nats.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.formulas.masks import at_least_float32

__all__ = ["LARGEST_LOG_RATIO", "AdaptiveKL", "k1", "k2", "k3", "sequence_kl"]

LARGEST_LOG_RATIO = 20.0
"""Nats beyond which a log ratio is held before it is exponentiated: e^20 is 5e8, and nothing overflows in float32."""


def k1(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Log ratios in, themselves out: unbiased for KL(policy || reference), of either sign, of high variance.

    Schulman 2020, "Approximating KL divergence".
    """
    return at_least_float32(log_ratio)


def k2(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Log ratios in, half their squares out: never negative, of low variance, biased beyond second order.

    Schulman 2020. As a loss its gradient, unlike those of `k1` and `k3`, is in expectation that of KL(policy || reference).
    """
    return at_least_float32(log_ratio).square() / 2.0


def k3(log_ratio: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Log ratios in, e^-l - 1 + l out: unbiased for KL(policy || reference), never negative, of low variance.

    Schulman 2020. Log ratios are held within +-LARGEST_LOG_RATIO first, where the gradient is then 0; within, it is exact.
    """
    held = at_least_float32(log_ratio).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    return (torch.expm1(-held) + held).clamp(min=0.0)  # two nearly equal numbers may leave -1e-14


def sequence_kl(log_ratio: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Log ratios and a mask that is True at response tokens, the end token included, in; nats a sequence [b] out.

    The sum of `k1`: unbiased, so a single sequence's may be negative. What a masked place holds changes nothing; 0.0 for
    a sequence without tokens.
    """
    return torch.where(mask, k1(log_ratio), 0.0).sum(dim=1)


@dataclass(frozen=True, slots=True)
class AdaptiveKL:
    """The price of a nat of KL, raised where KL is above its target and lowered where below; fixed without a target.

    Ziegler et al. 2019 (arXiv 1909.08593, sec. 2.2, with the horizon of its code): beta is multiplied by
    1 + e n / horizon, with e = KL / target - 1 held within +-0.2. Differs from there in that n / horizon counts at most
    1, so that beta can never reach 0.

    beta: nats of reward for a nat of KL; above 0 with a target, at least 0 without. target: nats a sequence. horizon:
    sequences over which beta reacts.
    """

    beta: float
    target: float | None = None
    horizon: float = 10_000.0

    def __post_init__(self) -> None:
        least = "at least 0" if self.target is None else "above 0"
        if not (math.isfinite(self.beta) and (self.beta > 0 or (self.beta == 0 and self.target is None))):
            raise ValueError(f"beta is a finite price {least}, got {self.beta}")
        if self.target is not None and not (math.isfinite(self.target) and self.target > 0):
            raise ValueError(f"target is a finite KL above 0 nats a sequence, or None, got {self.target}")
        if not (math.isfinite(self.horizon) and self.horizon > 0):
            raise ValueError(f"horizon is a finite number of sequences above 0, got {self.horizon}")

    def update(self, kl: float, n: int) -> "AdaptiveKL":
        """The mean KL (nats a sequence) of the n latest sequences in, the price for the next ones out."""
        if not math.isfinite(kl) or n < 0:
            raise ValueError(f"an update takes a finite KL and a count of at least 0, got KL {kl} of {n} sequences")
        if self.target is None:
            return self
        error = min(0.2, max(-0.2, kl / self.target - 1.0))
        return replace(self, beta=self.beta * (1.0 + error * min(1.0, n / self.horizon)))
