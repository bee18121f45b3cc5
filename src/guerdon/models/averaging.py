"""One model whose weights are the mean of several fine-tunings' weights (WARM; Ramé et al. 2024, arXiv 2401.12187)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch

from guerdon.contracts import GuerdonError, digest_all
from guerdon.models.card import Calibration
from guerdon.models.engine.modules import unwrap_peft
from guerdon.models.reward_model import ScalarRewardModel

ADVICE = "Average fine-tunings of one base, trained with the same model options."


def average_weights(models: Sequence[ScalarRewardModel], shares: Sequence[float] | None = None) -> ScalarRewardModel:
    """Models in, one model out whose weights are the mean of theirs, or their mix by `shares` (which sum to 1).

    For fine-tunings that started from the same weights, head included, it predicts as the ensemble does to first order, at
    the cost of one model (WARM, eq. 2); `auditing.measures.weight_averaging` measures whether they are close enough for that.
    The result is not calibrated: each member had its own temperature. Models that do not match are refused.
    """
    mix = [1 / len(models)] * len(models) if shares is None else list(shares)
    if len(models) < 2 or len(mix) != len(models) or abs(sum(mix) - 1) > 1e-9:
        raise GuerdonError(
            f"average: there must be two or more models, and shares that sum to 1, got {len(models)} and {mix}. "
            "Give one share per model, or none."
        )
    first, *others = models
    for number, other in enumerate(others, start=2):
        _refuse_mismatch(first, other, number)
    network = copy.deepcopy(first.network)
    tensors = [dict(model.network.named_parameters()) for model in models]
    with torch.no_grad():
        for name, weight in network.named_parameters():
            # In float64, so that half of a weight plus half of it is the weight itself.
            total = sum(share * own[name].detach().double().cpu() for share, own in zip(mix, tensors, strict=True))
            weight.copy_(total)  # type: ignore[arg-type]
    ties = [model.card.tie_threshold for model in models]
    tie = None if None in ties else sum(share * own for share, own in zip(mix, ties, strict=True) if own is not None)
    card = dataclasses.replace(
        first.card,
        calibration=Calibration(),
        self_test=(),
        tie_threshold=tie,
        data_hash=digest_all(model.card.data_hash for model in models),
    )
    return ScalarRewardModel(network, first.text, card, autocast=first.autocast, batch_tokens=first.batch_tokens)


def _refuse_mismatch(first: ScalarRewardModel, other: ScalarRewardModel, number: int) -> None:
    """Weights can be averaged only if they mean the same: one architecture, one tokenizer, one rendering of conversations."""
    where = f"average: member {number}"
    config, other_config = (unwrap_peft(model.network.classifier).config for model in (first, other))
    if config.model_type != other_config.model_type:
        raise GuerdonError(
            f"{where} must be a {config.model_type} like the first, got {other_config.model_type}. {ADVICE}"
        )
    shapes, other_shapes = (
        {name: tuple(weight.shape) for name, weight in model.network.named_parameters()} for model in (first, other)
    )
    for name in (*shapes, *other_shapes):
        if shapes.get(name) != other_shapes.get(name):
            raise GuerdonError(
                f"{where}: weight {name.removeprefix('classifier.')} must have shape {shapes.get(name)} like the first, "
                f"got {other_shapes.get(name)}. {ADVICE}"
            )
    if first.text.tokenizer.get_vocab() != other.text.tokenizer.get_vocab():
        raise GuerdonError(f"{where} must have the first one's tokenizer, got another. {ADVICE}")
    for name in ("template_hash", "read_out", "attributes"):
        own, others = getattr(first.card, name), getattr(other.card, name)
        if own != others:
            raise GuerdonError(f"{where} must have {name} {own} like the first, got {others}. {ADVICE}")
