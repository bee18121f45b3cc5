"""From scores to advantages: token rewards, GAE, baselines within a prompt, whitening, and a running scale.

Axes: b sequences, t tokens, p prompts, k samples per prompt, n scores. A mask is True at response tokens, the end token
included. Masked entries are 0.0 in every result, and their values in an argument change nothing.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.formulas.masks import at_least_float32, last_real_token

__all__ = [
    "MIN_SCORES",
    "RunningScale",
    "gae",
    "group_normalized",
    "leave_one_out",
    "moments",
    "potential_differences",
    "token_rewards",
    "whiten",
]

MIN_SCORES = 8
"""With fewer scores than this, a running scale leaves scores unchanged."""


def token_rewards(
    log_ratio: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"], score: Float[Tensor, " b"], beta: float
) -> Float[Tensor, "b t"]:
    """The reward of each token: -beta times its log ratio to the reference (nats), plus the sequence's score at its last token.

    Ziegler et al. 2019 (arXiv 1909.08593, eq. 2). The sum over a sequence is score - beta KL.

    Raises:
        ValueError: a sequence has no tokens, so its score would be lost.
    """
    charge = torch.where(mask, -beta * at_least_float32(log_ratio), 0.0)
    last = last_real_token(mask)[:, None]
    return charge.scatter_add(1, last, score.to(charge.dtype)[:, None])


def potential_differences(
    potential: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"], gamma: float
) -> Float[Tensor, "b t"]:
    """What a potential adds to the reward of each token: gamma Phi(after it) - Phi(before it), given Phi before each token.

    Ng, Harada and Russell 1999 (eq. 2 and theorem 1): no such addition changes which policy is optimal. A sequence's
    potentials are taken relative to the one before its first token, and the one after its last is 0 as well (Grzes 2017):
    the discounted sum over a sequence is 0, so that its return stays what it was, in a batch of finite episodes too.
    """
    potential = torch.where(mask, at_least_float32(potential), 0.0)
    first = mask.int().argmax(dim=1, keepdim=True)
    potential = torch.where(mask, potential - potential.gather(1, first), 0.0)
    following = torch.zeros_like(potential[:, 0])
    backward: list[Tensor] = []
    for t in range(mask.shape[1] - 1, -1, -1):
        backward.append(torch.where(mask[:, t], gamma * following - potential[:, t], 0.0))
        following = torch.where(mask[:, t], potential[:, t], following)
    return torch.stack(backward[::-1], dim=1)


def gae(
    rewards: Float[Tensor, "b t"], values: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"], gamma: float, lam: float
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Advantages, and returns = advantages + values, from token rewards and the values before each token.

    Schulman et al. 2015 (arXiv 1506.02438, eq. 16): A_t = sum of (gamma lam)^i (R + gamma V' - V)_(t+i), where V' is the
    value before the sequence's next token, 0 after its last. Masked entries between two tokens (another speaker's turn in
    a conversation) are skipped.
    """
    rewards = torch.where(mask, at_least_float32(rewards), 0.0)
    values = torch.where(mask, at_least_float32(values), 0.0)
    next_value, following = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    backward: list[Tensor] = []
    for t in range(mask.shape[1] - 1, -1, -1):
        present = mask[:, t]
        advantage = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * following
        backward.append(torch.where(present, advantage, 0.0))
        next_value = torch.where(present, values[:, t], next_value)
        following = torch.where(present, advantage, following)
    advantages = torch.stack(backward[::-1], dim=1)
    return advantages, advantages + values


def moments(x: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]) -> Float[Tensor, " 3"]:
    """Count, sum and sum of squares [3] of the values where the mask is True, in float64, to be summed over processes."""
    present = torch.where(mask, x, 0.0).double()
    return torch.stack([mask.sum().double(), present.sum(), present.square().sum()])


def whiten(
    x: Float[Tensor, "*s"],
    mask: Bool[Tensor, "*s"],
    shift_mean: bool = True,
    moments: Float[Tensor, " 3"] | None = None,
) -> Float[Tensor, "*s"]:
    """The values scaled to mean 0 and (population) variance 1 over all entries where the mask is True.

    Values that are all equal become 0. With `shift_mean` False the mean is added back after scaling (the reward whitening
    of Ziegler et al. 2019). `moments` must be those of all processes together: with its own, each would use another scale.
    """
    x = at_least_float32(x)
    count, total, square_total = _moments(x, mask) if moments is None else moments
    mean = total / count.clamp(min=1.0)
    variance = (square_total / count.clamp(min=1.0) - mean.square()).clamp(min=0.0)
    whitened = (x.double() - mean) * torch.rsqrt(variance + 1e-8)
    whitened = whitened if shift_mean else whitened + mean
    return torch.where(mask, whitened.to(x.dtype), 0.0)


def leave_one_out(scores: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Each score minus the mean score of its prompt's other samples; these sum to 0 per prompt.

    RLOO's advantage (Kool et al. 2019; Ahmadian et al. 2024, arXiv 2402.14740).

    Raises:
        ValueError: fewer than two samples per prompt.
    """
    k = _at_least_two(scores, "leave-one-out")
    scores = at_least_float32(scores)
    return (scores - scores.mean(dim=1, keepdim=True)) * (k / (k - 1))


def group_normalized(scores: Float[Tensor, "p k"], eps: float = 1e-4) -> Float[Tensor, "p k"]:
    """(score - mean) / (standard deviation + eps) within each prompt; 0 if all samples of a prompt have the same score.

    GRPO's advantage (Shao et al. 2024, arXiv 2402.03300, sec. 4.1.2), with k - 1 degrees of freedom, as in its public
    implementations.

    Raises:
        ValueError: fewer than two samples per prompt.
    """
    _at_least_two(scores, "group")
    wide = scores.double()  # in single precision the mean of equal scores may differ from them by more than eps hides
    normalized = (wide - wide.mean(dim=1, keepdim=True)) / (wide.std(dim=1, keepdim=True) + eps)
    return normalized.to(at_least_float32(scores).dtype)


@dataclass(frozen=True, slots=True)
class RunningScale:
    """Count, mean and sum of squared deviations (m2) of all scores so far (Welford 1962; Chan et al. 1979)."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def update(self, batch: Float[Tensor, " n"]) -> "RunningScale":
        """The moments after one more batch of scores. A score that is not finite is a ValueError."""
        batch = batch.double()
        if not bool(batch.isfinite().all()):
            raise ValueError("scores of a running scale must be finite: leave out NaN and infinite ones")
        n = len(batch)
        if n == 0:
            return self
        count, batch_mean = self.count + n, float(batch.mean())
        shift = batch_mean - self.mean
        return RunningScale(
            count=count,
            mean=self.mean + shift * n / count,
            m2=self.m2 + float((batch - batch_mean).square().sum()) + shift**2 * self.count * n / count,
        )

    def apply(self, x: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """The scores divided by the (population) standard deviation so far; the mean is not subtracted.

        Unchanged with fewer than MIN_SCORES so far, or if scores so far did not vary by more than rounding.
        """
        std = math.sqrt(self.m2 / self.count) if self.count >= MIN_SCORES else 0.0
        return x / std if std > 1e-8 * abs(self.mean) else x


def _at_least_two(scores: Tensor, what: str) -> int:
    if scores.shape[1] < 2:
        raise ValueError(f"a {what} baseline needs at least 2 samples per prompt, got {scores.shape[1]}")
    return scores.shape[1]


_moments = moments  # `whiten` has an argument of that name
