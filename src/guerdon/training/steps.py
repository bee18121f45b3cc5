"""Gradients of one optimizer step, and held-out metrics, over passes that fit in memory.

Axes: r responses, a attributes or heads. A pass is one forward computation by one process; a comparison that is too large for
one is computed in parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from guerdon.config import TrainOptions
from guerdon.contracts import Estimate
from guerdon.formulas.clustered import clustered_mean, clustered_share
from guerdon.models.engine.device import autocast
from guerdon.models.reward_model import ScalarNetwork
from guerdon.runtime import distributed
from guerdon.training.batches import Batch, collate, micro_batches, rows_of_process
from guerdon.training.dataset import TokenizedComparisons
from guerdon.training.objectives import accuracy, loss

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Float

MeanLoss = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class HeldOutMetrics:
    """Loss (nats per comparison) and accuracy (a tie counts half) on held-out comparisons, with intervals by group."""

    loss: Estimate
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class TrainingNetwork:
    """A network in training, and how this process computes it.

    network: under DDP or sharded, if there are several processes. core: the same without DDP around it. autocast: the
    dtype of forward passes, as ModelOptions.autocast names it.
    """

    network: Any
    core: ScalarNetwork
    accelerator: Accelerator
    options: TrainOptions
    autocast: str

    @contextmanager
    def training_pass(self, *, is_last: bool) -> Iterator[None]:
        """A forward and backward pass. Under DDP processes exchange gradients in the last pass of a step, under FSDP2 in every
        one, or each process would keep all gradients whole."""
        skips_exchange = not is_last and self.accelerator.num_processes > 1 and not distributed.is_sharded(self.network)
        with ExitStack() as stack:
            if skips_exchange:
                stack.enter_context(self.accelerator.no_sync(self.network))
            stack.enter_context(autocast(self.accelerator.device, self.autocast))
            yield

    def backward(self, value: Tensor) -> None:
        """Add the gradients of a step's loss. DDP and FSDP2 average gradients over processes, hence the factor."""
        self.accelerator.backward(value * self.accelerator.num_processes)


def accumulate_gradients(training: TrainingNetwork, table: TokenizedComparisons, rows: np.ndarray) -> float:
    """Forward and backward over one step's comparisons in micro-batches; returns their mean loss over all processes.

    The denominator is the whole step's weight over all processes: a mean over micro-batches or processes would overweight
    comparisons in small ones.
    """
    denominator = float(table.weight[rows].sum())
    passes = _passes(training, table, rows, training.options.micro_tokens)
    values: list[Tensor] = []  # read at the end: each look waits for the device
    for i, (chunk, counts) in enumerate(passes):
        batch = collate(table, chunk, training.accelerator.device)
        mean_loss = _mean_loss(training, batch, denominator, counts=counts)
        is_last = i == len(passes) - 1
        parts = _parts(training, batch.texts, chunk)
        if len(parts) == 1:
            values.append(_backward(training, batch.texts, mean_loss, is_last=is_last))
        else:
            values += _backward_in_parts(training, batch.texts, parts, mean_loss, is_last=is_last)
    total = float(torch.stack(values).cpu().double().sum())
    if training.accelerator.num_processes == 1:
        return total
    summed = torch.tensor(total, device=training.accelerator.device)
    return float(distributed.sum_over_processes(summed, training.accelerator))


def evaluate(training: TrainingNetwork, table: TokenizedComparisons) -> HeldOutMetrics:
    """Loss and accuracy over all comparisons, weighted by comparison, with intervals by group.

    The processes divide the comparisons. Each value comes from one of them and is added to zeros from the others, so all
    processes see the same numbers and take the same decisions.
    """
    network, accelerator, options = training.core, training.accelerator, training.options
    values = torch.zeros((2, len(table)), dtype=torch.float64)
    network.eval()
    # no inference mode: what a sharded network gathers in it could not be trained on afterward
    with torch.no_grad(), autocast(accelerator.device, training.autocast):
        for rows, counts in _passes(training, table, np.arange(len(table)), options.micro_tokens * 2):
            batch = collate(table, rows, accelerator.device)
            rewards = _rewards(network, batch.texts, _parts(training, batch.texts, rows))
            if counts:
                values[0, rows] = loss(rewards, batch, options, network.tie_threshold).cpu().double()
                values[1, rows] = accuracy(rewards, batch).cpu().double()
    if distributed.is_sharded(network):
        network.reshard()  # type: ignore[operator]  # the root stays gathered after a pass, and would miss the next step
    network.train()
    if accelerator.num_processes > 1:
        values = distributed.sum_over_processes(values.to(accelerator.device), accelerator).cpu()
    losses, hits = values.numpy()
    return _held_out_metrics(losses, hits, table)


def _held_out_metrics(
    losses: Float[np.ndarray, " c"], hits: Float[np.ndarray, " c"], table: TokenizedComparisons
) -> HeldOutMetrics:
    """Weighted means with intervals. hits: share of each comparison's pairs in the right order, NaN where none is decided."""
    groups = np.array(table.group)
    decided = ~np.isnan(hits)
    mean_accuracy = Estimate(math.nan, math.nan, math.nan, 0)
    if decided.any():
        mean_accuracy = Estimate(*clustered_share(hits[decided], groups[decided], table.weight[decided]))
    return HeldOutMetrics(Estimate(*clustered_mean(losses, groups, table.weight)), mean_accuracy)


def _mean_loss(training: TrainingNetwork, batch: Batch, denominator: float, *, counts: bool) -> MeanLoss:
    """The batch's share of the step's mean loss, as a function of its rewards; 0 for a pass that does not count."""
    network = training.core

    def mean_loss(rewards: Tensor) -> Tensor:
        with torch.autocast(training.accelerator.device.type, enabled=False):
            losses = loss(rewards, batch, training.options, network.tie_threshold)
            return (batch.weight * losses).sum() / denominator * (1.0 if counts else 0.0)

    return mean_loss


def _backward(training: TrainingNetwork, texts: Sequence[np.ndarray], mean_loss: MeanLoss, *, is_last: bool) -> Tensor:
    """The mean loss of one pass, detached."""
    with training.training_pass(is_last=is_last):
        value = mean_loss(training.network(texts))
        training.backward(value)
    return value.detach()


def _backward_in_parts(
    training: TrainingNetwork,
    texts: Sequence[np.ndarray],
    parts: Sequence[list[int]],
    mean_loss: MeanLoss,
    *,
    is_last: bool,
) -> list[Tensor]:
    """The same for a comparison that is too large for one pass; returns one value per part, which sum to its mean loss.

    Its rewards are computed twice: once all of them, for the gradient of the loss in each, then part by part for the gradients
    of the weights.
    """
    network = training.core
    with autocast(training.accelerator.device, training.autocast):
        with torch.no_grad():
            rewards = _rewards(network, texts, parts)
        with torch.enable_grad():
            inputs = rewards.clone().requires_grad_()
            (slope,) = torch.autograd.grad(mean_loss(inputs), inputs)
    values = []
    for i, part in enumerate(parts):
        is_last_part = i == len(parts) - 1
        with training.training_pass(is_last=is_last and is_last_part):
            part_rewards = training.network([texts[k] for k in part])
            # the loss itself may have a parameter, the tie threshold, and counts once
            value = mean_loss(rewards) if is_last_part else part_rewards.new_zeros(())
            training.backward((part_rewards * slope[part]).sum() + value)
        values.append(value.detach())
    return values


def _rewards(network: ScalarNetwork, texts: Sequence[np.ndarray], parts: Sequence[Sequence[int]]) -> Tensor:
    """Rewards in the order of the texts, computed part by part."""
    computed = torch.cat([network([texts[k] for k in part]) for part in parts])
    rewards = torch.empty_like(computed)
    rewards[[k for part in parts for k in part]] = computed
    return rewards


def _parts(training: TrainingNetwork, texts: Sequence[np.ndarray], rows: Sequence[int]) -> list[list[int]]:
    """The texts of a pass, in parts: one, unless a single comparison is larger than two passes.

    Under FSDP2 always one: all processes must compute the same passes.
    """
    network, max_tokens = training.core, training.options.micro_tokens
    is_small = network.backbone.count_tokens(texts) <= 2 * max_tokens
    if len(rows) > 1 or distributed.is_sharded(network) or is_small:
        return [list(range(len(texts)))]
    return network.backbone.split_into_batches(texts, max_tokens)


def _passes(
    training: TrainingNetwork, table: TokenizedComparisons, rows: np.ndarray, max_tokens: int
) -> list[tuple[list[int], bool]]:
    """This process's passes over its share of the rows, and whether each counts."""
    network, accelerator = training.core, training.accelerator
    own = rows_of_process(table, rows, accelerator.process_index, accelerator.num_processes)
    chunks = micro_batches(table, own, max_tokens, network.backbone)
    shortest = min((int(row) for row in rows), key=lambda row: sum(map(len, table.texts(row))))
    return distributed.equalize_passes(chunks, shortest, accelerator, together=distributed.is_sharded(network))
