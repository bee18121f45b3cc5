"""The losses a run can choose: rewards and a batch in, one value per comparison out.

Axes: c comparisons, r responses, a attributes or heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from guerdon.config import TrainOptions
from guerdon.config.training import LOSSES_OF_RATINGS
from guerdon.formulas import preference
from guerdon.training.batches import Batch

Objective = Callable[[Float[Tensor, "r a"], Batch, TrainOptions, Float[Tensor, ""]], Float[Tensor, " c"]]


def bradley_terry(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Pairs with soft labels, margins and label smoothing."""
    first, second = _scalar(rewards)[batch.rows].unbind(1)
    return preference.bradley_terry(first, second, q=batch.q, margin=batch.margin, smoothing=options.label_smoothing)


def rao_kupper(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Pairs with ties; the threshold tau is learned with the weights."""
    first, second = _scalar(rewards)[batch.rows].unbind(1)
    return preference.rao_kupper(first, second, batch.outcome, tau)


def plackett_luce(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Rankings of any length, with ties and unranked tails."""
    return preference.plackett_luce(_scalar(rewards)[batch.rows], batch.ranks, batch.present)


def all_pairs(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Every comparable pair of a ranking, averaged within it."""
    return preference.all_pairs(
        _scalar(rewards)[batch.rows], batch.ranks, batch.present, smoothing=options.label_smoothing
    )


def attributes(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Errors of each response's rated attributes, averaged over the responses of a comparison."""
    return _mean_over_rated(preference.attribute_regression(rewards, batch.ratings), batch)


def cross_entropy(rewards: Tensor, batch: Batch, options: TrainOptions, tau: Tensor) -> Tensor:
    """Rated attributes as probabilities, each reward as log-odds; averaged over the responses of a comparison."""
    return _mean_over_rated(preference.attribute_cross_entropy(rewards, batch.ratings), batch)


OBJECTIVES: dict[str, Objective] = {
    "bradley_terry": bradley_terry,
    "rao_kupper": rao_kupper,
    "plackett_luce": plackett_luce,
    "all_pairs": all_pairs,
    "attributes": attributes,
    "cross_entropy": cross_entropy,
}


def loss(
    rewards: Float[Tensor, "r a"], batch: Batch, options: TrainOptions, tau: Float[Tensor, ""]
) -> Float[Tensor, " c"]:
    """The chosen loss of each comparison, nats, plus the centering penalty.

    With several heads, the mean of their losses, or weighted by the batch's head_share. So each head gets the gradient of its
    own loss, and the backbone the mean.
    """
    if options.loss in LOSSES_OF_RATINGS:
        return OBJECTIVES[options.loss](rewards, batch, options, tau)
    of_heads = torch.stack([_head_loss(head, batch, options, tau) for head in rewards.split(1, dim=1)], dim=1)
    return of_heads.mean(1) if batch.head_share is None else (batch.head_share * of_heads).sum(1)


def accuracy(rewards: Float[Tensor, "r a"], batch: Batch) -> Float[Tensor, " c"]:
    """Share of each comparison's decided pairs that the rewards put in the right order; equal rewards count half. NaN where no
    pair is decided."""
    r = rewards.mean(1)[batch.rows]
    rank = torch.where(batch.ranks < 0, 10**6, batch.ranks)
    decided = (rank[:, :, None] < rank[:, None, :]) & batch.present[:, :, None] & batch.present[:, None, :]
    margin = r[:, :, None] - r[:, None, :]
    hit = (margin > 0).float() + 0.5 * (margin == 0).float()
    return (hit * decided).sum((1, 2)) / decided.sum((1, 2))


def _head_loss(
    rewards: Float[Tensor, "r 1"], batch: Batch, options: TrainOptions, tau: Float[Tensor, ""]
) -> Float[Tensor, " c"]:
    values = OBJECTIVES[options.loss](rewards, batch, options, tau)
    if options.centering:
        values = values + options.centering * preference.centering(_scalar(rewards)[batch.rows], batch.present)
    return values


def _mean_over_rated(errors: Float[Tensor, " r"], batch: Batch) -> Float[Tensor, " c"]:
    rated = (~batch.ratings.isnan()).any(1)[batch.rows] & batch.present
    return (errors[batch.rows] * batch.present).sum(1) / rated.sum(1).clamp(min=1)


def _scalar(rewards: Float[Tensor, "r a"]) -> Float[Tensor, " r"]:
    return rewards[:, 0]
