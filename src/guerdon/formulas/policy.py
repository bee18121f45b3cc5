"""PPO's losses, and what says whether the policy still learns. One value a token; the caller masks and averages.

Axes: s any shape of tokens (a padded [b, t], or one packed row), v tokens of the vocabulary. Log-probs are nats.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from guerdon.formulas.kl import LARGEST_LOG_RATIO
from guerdon.formulas.masks import at_least_float32, masked_var

__all__ = ["clip_fraction", "clipped_policy_loss", "clipped_value_loss", "entropy", "explained_variance"]


def clipped_policy_loss(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """Log-probs now and at sampling, and advantages, in; max(-A ratio, -A clipped ratio) out, lower is better.

    Schulman et al. 2017 (arXiv 1707.06347, eq. 7), negated. `clip` is how far the ratio may leave 1. The log ratio is
    held within +-20, beyond which there is no gradient. Gradients reach whichever arguments want them; sampling's
    log-probs and advantages should come detached.
    """
    free, clipped = _surrogates(log_prob, old_log_prob, advantage, clip)
    return torch.maximum(free, clipped)


def clip_fraction(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """What `clipped_policy_loss` takes in; 1.0 where the clip decides a token's loss (and ends its gradient), else 0.0.

    Fewer than the tokens whose ratio has left 1 +- clip: those that left on the losing side are pulled back unclipped.
    """
    with torch.no_grad():
        free, clipped = _surrogates(log_prob, old_log_prob, advantage, clip)
        return (clipped > free).to(free.dtype)


def clipped_value_loss(
    value: Float[Tensor, "*s"], old_value: Float[Tensor, "*s"], returns: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, "*s"]:
    """Values now and at sampling, and returns, in; half the larger of the free and the clipped squared error out.

    As OpenAI's PPO2 has it: the value may move from the old one by `clip` (in units of the return) before the loss
    stops pulling it further.
    """
    value, old_value = at_least_float32(value), at_least_float32(old_value)
    near = old_value + (value - old_value).clamp(-clip, clip)
    return torch.maximum((value - returns).square(), (near - returns).square()) / 2.0


def explained_variance(
    values: Float[Tensor, "*s"], returns: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]
) -> Float[Tensor, ""]:
    """Values, returns and mask in; 1 - Var(returns - values) / Var(returns) out: 1 is perfect, 0 a constant's worth.

    Negative where the values mislead; NaN where the returns do not vary, so that there is nothing to explain.
    """
    returns = at_least_float32(returns)
    spread = masked_var(returns, mask)
    share = 1.0 - masked_var(returns - values, mask) / torch.where(spread > 0, spread, 1.0)
    return torch.where(spread > 0, share, torch.nan)


def entropy(logits: Float[Tensor, "*s v"]) -> Float[Tensor, "*s"]:
    """Logits in, entropy of their softmax in nats out: 0 for a certainty, log v for a uniform draw.

    A logit of -inf is a token that cannot come and adds nothing.
    """
    log_prob = torch.log_softmax(at_least_float32(logits), dim=-1)
    return -(log_prob.exp() * log_prob.masked_fill(log_prob == -torch.inf, 0.0)).sum(dim=-1)


def _surrogates(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """-A times the ratio, free and clipped."""
    log_ratio = at_least_float32(log_prob) - at_least_float32(old_log_prob)
    ratio = log_ratio.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    return -advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip)
