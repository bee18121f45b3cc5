"""Means and variances over the real entries of a padded tensor, and the index of the last real token.

Axes: b rows of a batch, t token positions. A mask is True (or 1) where an entry is real.
"""

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

__all__ = ["at_least_float32", "last_real_token", "masked_mean", "masked_var"]


def last_real_token(attention_mask: Bool[Tensor, "b t"] | Int[Tensor, "b t"]) -> Int[Tensor, " b"]:
    """Attention mask [b, t] in, index [b] of each row's last real token out, whichever side the padding is on.

    Raises:
        ValueError: a row has no real token.
    """
    real = attention_mask.bool()
    empty = (~real.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"every row of the attention mask must have a real token, got none in rows {empty}. Drop these rows."
        )
    positions = torch.arange(real.shape[1], device=real.device)
    return torch.where(real, positions, 0).amax(dim=1)


def masked_mean(values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"], dim: int | None = None) -> Float[Tensor, "..."]:
    """Values and mask in, mean of the values where the mask is True out: over everything, or along `dim`.

    0.0 where the mask has no True. A masked entry, even NaN, changes neither the mean nor its gradient.
    """
    present = torch.where(mask, at_least_float32(values), 0.0)
    if dim is None:
        return present.sum() / mask.sum().clamp(min=1)
    return present.sum(dim) / mask.sum(dim).clamp(min=1)


def masked_var(values: Float[Tensor, "*s"], mask: Bool[Tensor, "*s"]) -> Float[Tensor, ""]:
    """Values and mask in, their population variance (divided by n, not n - 1) where the mask is True out.

    0.0 where the mask has no True. Two passes: a one-pass sum of squares cancels when the mean is large.
    """
    values = torch.where(mask, at_least_float32(values), 0.0)
    deviation = values - masked_mean(values, mask)
    return masked_mean(deviation.square(), mask)


def at_least_float32(values: Num[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """The values as float32, or float64 if they are: half precision has too few bits for a loss."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
