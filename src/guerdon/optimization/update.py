"""One update: clipped steps on a batch, in minibatches that are computed in micro-batches.

A step's losses are means over the tokens of its minibatch on all processes, whatever the micro-batches. Axes: r tokens of a
micro-batch's replies one after another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from guerdon.config import OptimizeOptions
from guerdon.contracts import GuerdonError
from guerdon.formulas import kl
from guerdon.formulas.policy import clip_fraction, clipped_policy_loss, clipped_value_loss
from guerdon.optimization.batch import Batch, micro_batches, positions_of_process, token_rows
from guerdon.optimization.learner import Learner
from guerdon.optimization.processes import gather, sums
from guerdon.runtime import distributed
from guerdon.runtime.optimizer import TrainableWeights

__all__ = ["accumulate_gradients", "minibatches", "train_on_batch"]

# Means over a minibatch's tokens
MEANS = ("loss", "policy_loss", "value_loss", "clipped", "value_clipped", "kl_step", "ratio", "ratio_square")
HUGE_SCORE = 1e4  # scores beyond this, and not the learning rate, explain a gradient that is not finite


def train_on_batch(learner: Learner, batch: Batch, weights: TrainableWeights, update: int) -> dict[str, float]:
    """All optimizer steps on one batch; returns means over them, empty if no reply can be learned from.

    Raises GuerdonError before a NaN reaches a weight.
    """
    options = learner.options
    is_warmup = update < options.value_warmup
    rate = 1.0 - (update / options.updates)
    steps: list[dict[str, float]] = []
    kl_step = 0.0
    for epoch in range(options.epochs):
        for rows in minibatches(options, update, epoch, learner.accelerator):
            row = accumulate_gradients(learner, batch, rows, is_warmup=is_warmup)
            if row is None:
                continue
            norm = _step(weights, rate, learner.accelerator) if math.isfinite(row["loss"]) else math.nan
            if not math.isfinite(norm):
                raise _gradient_error(batch, norm, row["loss"], update, options)
            steps.append(row | {"grad_norm": norm})
            kl_step = row["kl_step"]
        if options.max_kl_step and kl_step > options.max_kl_step:
            break
    if not steps:
        return {}
    first = {"ratio_first": steps[0]["ratio"], "ratio_far": steps[0]["ratio_far"]}
    means = {name: float(np.mean([row[name] for row in steps])) for name in steps[0] if name != "ratio_far"}
    return means | first | {"steps": float(len(steps)), "lr": options.lr * rate}


def minibatches(options: OptimizeOptions, update: int, epoch: int, accelerator: Accelerator) -> list[list[int]]:
    """This process's rows of each minibatch: the same division of all replies, however many processes hold them."""
    num = options.prompts * options.samples
    order = np.random.default_rng([options.seed, update, epoch]).permutation(num)
    row_of = {position: row for row, position in enumerate(positions_of_process(options, accelerator))}
    return [[row_of[int(i)] for i in part if int(i) in row_of] for part in np.array_split(order, options.minibatches)]


def accumulate_gradients(
    learner: Learner, batch: Batch, rows: list[int], *, is_warmup: bool = False
) -> dict[str, float] | None:
    """Forward and backward over one minibatch in micro-batches; gradients are of means over all processes' tokens.

    In warmup only the value model learns. None, and no gradient, if no process has a reply with a usable reward in it.
    """
    accelerator = learner.accelerator
    (count,) = sums([float(batch.mask[rows].sum())], accelerator)
    if not count:
        return None
    policy, options = learner.policy, learner.options
    means = dict.fromkeys(MEANS, 0.0)
    ratio_far = 0.0
    for part in micro_batches(policy, batch.rollouts, rows, options.micro_tokens):
        prompt_ids, token_ids = token_rows(batch.rollouts, part)
        output = policy.forward(prompt_ids, token_ids, options.temperature)
        tokens = _flatten(batch, part, policy.device)
        per_token = clipped_policy_loss(output.log_prob, tokens.log_prob, tokens.advantage, options.clip)
        policy_loss = torch.where(tokens.mask, per_token, 0.0).sum() / count
        loss = torch.zeros_like(policy_loss) if is_warmup else policy_loss
        value_loss = value_clipped = torch.zeros_like(policy_loss)
        if learner.value_model is not None:
            value = learner.value_model.values(prompt_ids, token_ids, output, detached=is_warmup)
            value_loss, value_clipped = _value_loss(value, tokens, options.value_clip, count)
            loss = loss + (value_loss if is_warmup else options.value_coef * value_loss)
        loss.backward()
        sizes = {"loss": loss, "policy_loss": policy_loss, "value_loss": value_loss, "value_clipped": value_clipped}
        ratios, farthest = _ratio_means(output.log_prob, tokens, options.clip, count)
        for name, mean in (sizes | ratios).items():
            means[name] += float(mean.detach())
        ratio_far = max(ratio_far, farthest)
    total = dict(zip(means, sums(list(means.values()), accelerator), strict=True))
    variance = total.pop("ratio_square") - total["ratio"] ** 2
    return total | {"ratio_var": max(0.0, variance), "ratio_far": max(gather([ratio_far]))}


@dataclass(frozen=True, slots=True)
class _Tokens:
    """What a batch holds of a micro-batch's tokens, [r] each."""

    mask: Tensor
    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    returns: Tensor


def _flatten(batch: Batch, rows: list[int], device: torch.device) -> _Tokens:
    assert batch.rollouts.length is not None
    sizes = [int(batch.rollouts.length[i]) for i in rows]

    def flat(column: Tensor) -> Tensor:
        return torch.cat([column[i, :size] for i, size in zip(rows, sizes, strict=True)]).to(device)

    columns = (batch.mask, batch.log_prob, batch.advantage, batch.value, batch.returns)
    return _Tokens(*(flat(column) for column in columns))


def _value_loss(value: Float[Tensor, " r"], tokens: _Tokens, clip: float, count: float) -> tuple[Tensor, Tensor]:
    """The mean clipped loss, and the share of values whose clipped error is the larger."""
    squares = clipped_value_loss(value, tokens.value, tokens.returns, clip)
    is_clipped = tokens.mask & (squares > (value - tokens.returns).square() / 2.0)
    return torch.where(tokens.mask, squares, 0.0).sum() / count, is_clipped.sum() / count


@torch.no_grad()
def _ratio_means(
    log_prob: Float[Tensor, " r"], tokens: _Tokens, clip: float, count: float
) -> tuple[dict[str, Tensor], float]:
    """How far the policy has moved from the one that drew the batch: means over tokens, and the largest |ratio - 1|."""
    mask = tokens.mask
    log_ratio = torch.where(mask, log_prob - tokens.log_prob, 0.0)
    ratio = torch.where(mask, log_ratio.clamp(-20, 20).exp(), 0.0)
    means = {
        "clipped": (clip_fraction(log_prob, tokens.log_prob, tokens.advantage, clip) * mask).sum() / count,
        "kl_step": torch.where(mask, kl.k3(-log_ratio), 0.0).sum() / count,
        "ratio": ratio.sum() / count,
        "ratio_square": ratio.square().sum() / count,
    }
    return means, float(torch.where(mask, (ratio - 1).abs(), 0.0).max())


def _step(weights: TrainableWeights, rate: float, accelerator: Accelerator) -> float:
    """Sum gradients over processes and step; a weight that nothing reached has a gradient of 0. Returns the gradient norm."""
    for p in weights.live.values():
        if p.grad is None:
            p.grad = torch.zeros_like(p)
        if accelerator.num_processes > 1:
            p.grad = distributed.sum_over_processes(p.grad, accelerator)
    return weights.step(rate)


def _gradient_error(batch: Batch, norm: float, loss: float, update: int, options: OptimizeOptions) -> GuerdonError:
    largest = float(batch.score.abs().max())
    if largest > HUGE_SCORE:
        advice = f"Set optimize.reward_clip or rescale the reward: scores reach {largest:.3g}."
    else:
        advice = f"Lower optimize.lr, now {options.lr}, or set policy.dtype=float32."
    return GuerdonError(
        f"optimize: the gradient of update {update + 1} must be finite, got {norm} at a loss of {loss}. {advice}"
    )
