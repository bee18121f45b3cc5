"""The order in which training sees comparisons, and batches of them as tensors.

Axes: c comparisons, r responses, k responses of one comparison padded to the most in the batch, a attributes, h heads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from guerdon.config import TrainOptions
from guerdon.models.engine import prefix_tree
from guerdon.models.engine.backbone import Backbone
from guerdon.models.engine.device import copy_to_device
from guerdon.training.dataset import TokenizedComparisons


@dataclass(frozen=True, slots=True)
class Batch:
    """Some comparisons as tensors. rows: which of the texts is response k of comparison c; 0 where present is False."""

    texts: list[np.ndarray]
    rows: Int[Tensor, "c k"]
    present: Bool[Tensor, "c k"]
    ranks: Int[Tensor, "c k"]
    q: Float[Tensor, " c"]
    margin: Float[Tensor, " c"]
    outcome: Float[Tensor, "c 3"]
    weight: Float[Tensor, " c"]
    ratings: Float[Tensor, "r a"]
    head_share: Float[Tensor, "c h"] | None = None


def epoch_order(size: int, seed: int, epoch: int) -> Int[np.ndarray, " c"]:
    """The order of one epoch, which depends on seed and epoch only: not on the machine or the number of processes."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def step_rows(size: int, batch_size: int, seed: int, step: int) -> Int[np.ndarray, " b"]:
    """The comparisons of optimizer step `step`, counted over all epochs; the last step of an epoch may be smaller."""
    per_epoch = math.ceil(size / batch_size)
    epoch, within = divmod(step, per_epoch)
    return epoch_order(size, seed, epoch)[within * batch_size : (within + 1) * batch_size]


def rows_of_process(
    table: TokenizedComparisons, rows: Int[np.ndarray, " b"], process: int, num_processes: int
) -> Int[np.ndarray, " m"]:
    """One process's share of a step. The longest comparison that is left goes to the process with the fewest tokens."""
    tokens = [0] * num_processes
    chosen = []
    sizes = (
        {int(row): prefix_tree.count_unique_tokens(table.texts(row)) for row in rows}
        if num_processes > 1
        else dict.fromkeys(rows, 0)
    )
    for row in sorted(sizes, key=lambda row: (-sizes[row], row)):
        lightest = tokens.index(min(tokens))
        tokens[lightest] += sizes[row]
        if lightest == process:
            chosen.append(row)
    return np.array(chosen, dtype=np.int64)


def micro_batches(
    table: TokenizedComparisons, rows: Iterable[int], max_tokens: int, backbone: Backbone
) -> list[list[int]]:
    """One step's comparisons in passes of at most `max_tokens` computed tokens each, but at least one comparison."""
    chunks: list[list[int]] = []
    texts: list[np.ndarray] = []
    for row in sorted((int(r) for r in rows), key=lambda r: (-max(map(len, table.texts(r))), r)):
        more = table.texts(row)
        if chunks and backbone.count_tokens(texts + more) <= max_tokens:
            chunks[-1].append(row)
            texts += more
        else:
            chunks.append([row])
            texts = more
    return chunks


def collate(table: TokenizedComparisons, rows: Sequence[int], device: torch.device) -> Batch:
    """The given comparisons as tensors on the device."""
    spans = [range(int(table.first[r]), int(table.first[r + 1])) for r in rows]
    responses = [i for span in spans for i in span]
    width = max(map(len, spans))
    text_rows = np.zeros((len(rows), width), dtype=np.int64)
    present = np.zeros((len(rows), width), dtype=bool)
    ranks = np.full((len(rows), width), -1, dtype=np.int64)
    start = 0
    for i, span in enumerate(spans):
        text_rows[i, : len(span)] = np.arange(start, start + len(span))
        present[i, : len(span)] = True
        ranks[i, : len(span)] = table.ranks[span.start : span.stop]
        start += len(span)
    index = np.asarray(rows, dtype=np.int64)

    def floats(values: np.ndarray) -> Tensor:
        return copy_to_device(values.astype(np.float32), device)

    return Batch(
        texts=[table.response_ids(i) for i in responses],
        rows=copy_to_device(text_rows, device),
        present=copy_to_device(present, device),
        ranks=copy_to_device(ranks, device),
        q=floats(table.q[index]),
        margin=floats(table.margin[index]),
        outcome=floats(table.outcome[index]),
        weight=floats(table.weight[index]),
        ratings=floats(table.ratings[np.asarray(responses, dtype=np.int64)]),
        head_share=None if table.head_share is None else floats(table.head_share[index]),
    )


@dataclass(frozen=True, slots=True)
class EpochTokens:
    """Tokens of one epoch: computed, if prompts were not shared, and if each step were one padded batch."""

    computed: int
    unshared: int
    padded: int

    def __str__(self) -> str:
        """A one-line summary for the log."""
        return (
            f"{self.computed:,} tokens per epoch: {self.unshared / self.computed:.2f}x fewer than without prefix sharing, "
            f"{self.padded / self.computed:.1f}x fewer than with padding"
        )


def count_epoch_tokens(table: TokenizedComparisons, options: TrainOptions, backbone: Backbone) -> EpochTokens:
    """The tokens of an epoch, as they are computed and as they would be without prefix sharing."""
    computed = unshared = padded = 0
    for step in range(math.ceil(len(table) / options.batch_size)):
        rows = step_rows(len(table), options.batch_size, options.seed, step)
        comparisons = [table.texts(row) for row in rows]
        lengths = [len(text) for texts in comparisons for text in texts]
        computed += sum(backbone.count_tokens(texts) for texts in comparisons)
        unshared += sum(lengths)
        padded += len(lengths) * max(lengths)
    return EpochTokens(computed, unshared, padded)
