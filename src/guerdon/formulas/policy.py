"""PPO's losses, and measures of whether the policy still learns. One value per token; the caller masks and averages.

Axes: s any shape of tokens (a padded [b, t], or one packed row), v vocabulary. Log-probs are nats.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.formulas.kl import MAX_LOG_RATIO
from guerdon.formulas.masks import at_least_float32, masked_var

__all__ = ["clip_fraction", "clipped_policy_loss", "clipped_value_loss", "entropy", "explained_variance"]


def clipped_policy_loss(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """max(-A ratio, -A clipped ratio) per token, from log-probs now and at sampling and advantages A; lower is better.

    Schulman et al. 2017 (arXiv 1707.06347, eq. 7), negated. `clip` is how far the ratio may move from 1. The log ratio is
    clamped to +-20, outside which the gradient is 0. Every argument that requires a gradient gets one: pass the log-probs
    at sampling and the advantages detached.
    """
    free, clipped = _surrogates(log_prob, old_log_prob, advantage, clip)
    return torch.maximum(free, clipped)


def clip_fraction(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """1.0 where the clip decides a token's loss in `clipped_policy_loss` (and stops its gradient), else 0.0.

    Fewer than the tokens whose ratio is outside 1 +- clip: those on the losing side are pulled back unclipped.
    """
    with torch.no_grad():
        free, clipped = _surrogates(log_prob, old_log_prob, advantage, clip)
        return (clipped > free).to(free.dtype)


def clipped_value_loss(
    value: Float[Tensor, "*s"], old_value: Float[Tensor, "*s"], returns: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """Half the larger of the free and the clipped squared error, from values now and at sampling and returns.

    As in OpenAI's PPO2: the value may move by `clip` (in units of the return) from the old one before the loss stops
    pulling it further.
    """
    value, old_value = at_least_float32(value), at_least_float32(old_value)
    near = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum((value - returns).square(), (near - returns).square()) / 2.0


def explained_variance(
    values: Float[Tensor, "*s"], returns: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """1 - Var(returns - values) / Var(returns) where the mask is True: 1 is perfect, 0 no better than a constant.

    Negative if the values are worse than a constant; NaN if the returns do not vary.
    """
    returns = at_least_float32(returns)
    spread = masked_var(returns, mask)
    share = 1.0 - masked_var(returns - values, mask) / torch.where(spread > 0, spread, 1.0)
    return torch.where(spread > 0, share, torch.nan)


def entropy(logits: Float[Tensor, "*s v"]) -> Float[Tensor, "*s"]:
    """Entropy of the softmax of logits, in nats: 0 for a certain token, log v for a uniform distribution.

    A logit of -inf is a token with probability 0 and adds nothing.
    """
    log_prob = torch.log_softmax(at_least_float32(logits), dim=-1)
    return -(log_prob.exp() * log_prob.masked_fill(log_prob == -torch.inf, 0.0)).sum(dim=-1)


def _surrogates(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """-A times the ratio, free and clipped."""
    log_ratio = at_least_float32(log_prob) - at_least_float32(old_log_prob)
    ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    return -advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip)
