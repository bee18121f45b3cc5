"""Comparisons as token ids and targets, and the order in which training sees them.

Axes: c comparisons, r responses (all comparisons' responses one after the other), k responses of one comparison padded to
the batch's widest, a attributes, h heads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import poisson
from torch import Tensor

from guerdon.config import TrainOptions
from guerdon.contracts import Comparison, GuerdonError
from guerdon.models.chat import Text
from guerdon.models.engine import prefix_tree
from guerdon.models.engine.backbone import Backbone
from guerdon.models.engine.device import copy_to_device
from guerdon.progress import Bar


@dataclass(frozen=True, slots=True)
class TokenizedComparisons:
    """Every comparison tokenized once. Ids of all responses lie in one flat array; `starts` cuts it.

    q and outcome hold 0.5 and zeros where a comparison has more than two responses; ratings are NaN where missing. share says
    how a comparison's weight is divided between heads that were bootstrapped, and sums to 1; None divides it evenly.
    """

    ids: Int[np.ndarray, " tokens"]
    starts: Int[np.ndarray, " r_plus_1"]
    first: Int[np.ndarray, " c_plus_1"]
    ranks: Int[np.ndarray, " r"]
    q: Float[np.ndarray, " c"]
    margin: Float[np.ndarray, " c"]
    outcome: Float[np.ndarray, "c 3"]
    weight: Float[np.ndarray, " c"]
    group: tuple[str, ...]
    ratings: Float[np.ndarray, "r a"]
    dropped: int
    share: Float[np.ndarray, "c h"] | None = None

    def __len__(self) -> int:
        return len(self.weight)

    def tokens(self, response: int) -> np.ndarray:
        """Ids of one response with its prompt."""
        return self.ids[self.starts[response] : self.starts[response + 1]]

    def texts(self, comparison: int) -> list[np.ndarray]:
        """Ids of each response of a comparison with its prompt."""
        return [self.tokens(i) for i in range(self.first[comparison], self.first[comparison + 1])]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some comparisons as tensors. `rows` says which of the texts is response k of comparison c (0 where absent)."""

    texts: list[np.ndarray]
    rows: Int[Tensor, "c k"]
    present: Bool[Tensor, "c k"]
    ranks: Int[Tensor, "c k"]
    q: Float[Tensor, " c"]
    margin: Float[Tensor, " c"]
    outcome: Float[Tensor, "c 3"]
    weight: Float[Tensor, " c"]
    ratings: Float[Tensor, "r a"]
    share: Float[Tensor, "c h"] | None = None


def tokenize_comparisons(
    text: Text,
    comparisons: Sequence[Comparison],
    options: TrainOptions,
    attributes: Sequence[str] = (),
    bootstrapped: int = 0,
) -> TokenizedComparisons:
    """Tokenize, apply the truncation policy, and refuse what cannot teach anything.

    `bootstrapped` heads each see a resample of their own; what none of them drew is left out.

    Raises GuerdonError, with counts, for texts longer than the model sees (policy "refuse"), for comparisons that become
    identical after truncation, for verdicts the loss cannot use, and when nothing is left.
    """
    builder = _Builder(text, options, attributes)
    bar = Bar(len(comparisons), "tokens", "comparisons")
    for at in range(0, len(comparisons), 512):
        chunk = comparisons[at : at + 512]
        builder.add(chunk)
        bar.advance(len(chunk))
    bar.close()
    table = builder.table()
    return table if not bootstrapped else resampled(table, [c.id for c in builder.kept], bootstrapped, options.seed)


def resampled(table: TokenizedComparisons, ids: Sequence[str], heads: int, seed: int) -> TokenizedComparisons:
    """The table with each comparison's weight multiplied by the mean of its heads' draws, and divided as they drew it."""
    counts = draws(ids, heads, seed)
    mean = counts.mean(axis=1)
    drawn = np.flatnonzero(mean > 0)
    if not len(drawn):
        raise GuerdonError(
            f"train.bootstrap=True: none of {len(ids)} comparisons was drawn; remedy: give more, or another train.seed"
        )
    weight = table.weight * mean
    share = counts / np.where(mean > 0, mean * heads, 1.0)[:, None]
    return _only(dataclasses.replace(table, weight=weight, share=share), drawn)


def draws(ids: Sequence[str], heads: int, seed: int) -> Float[np.ndarray, "c h"]:
    """How often each head's resample holds each comparison: Poisson draws of mean 1, by a hash of seed, head and id.

    The bootstrap for data that come in any order and number (Oza & Russell 2001): a comparison's draw depends on nothing but
    itself, so neither batches nor processes nor the other comparisons change it. Head i of seed s draws as head 0 of s + i.
    """
    place = [[f"{seed + head}\0{id}".encode("utf-8", "surrogatepass") for head in range(heads)] for id in ids]
    whole = [[int.from_bytes(hashlib.sha256(each).digest()[:8]) for each in row] for row in place]
    uniform = (np.array(whole, dtype=np.float64).reshape(len(ids), heads) + 0.5) / 2.0**64
    found: np.ndarray = poisson.ppf(np.minimum(uniform, 1 - 1e-12), 1.0)
    return found


class _Builder:
    """Gathers the columns of a TokenizedComparisons chunk by chunk, so that only token ids are held, never the padded texts."""

    def __init__(self, text: Text, options: TrainOptions, attributes: Sequence[str]) -> None:
        self.text, self.options, self.attributes = text, options, list(attributes)
        self.ids: list[np.ndarray] = []
        self.lengths: list[int] = []
        self.sizes: list[int] = []
        self.long: list[int] = []
        self.same: list[str] = []
        self.kept: list[Comparison] = []
        self.dropped = self.seen = 0
        # under "refuse" the count over all data makes the error useful, so the chunks are cut and the error raised at the end
        self.cutter = Text(text.tokenizer, 10**9, "left", text.template, text.system, text.encoder)

    def add(self, comparisons: Sequence[Comparison]) -> None:
        prompts = [c.prompt for c in comparisons for _ in c.responses]
        encoded = iter(self.cutter.encode(prompts, [r for c in comparisons for r in c.responses]))
        for comparison in comparisons:
            _refuse_preference(comparison, self.options, self.attributes)
            rows = [next(encoded).ids for _ in comparison.responses]
            self.seen += 1
            longest = max(map(len, rows))
            if longest > self.text.max_length:
                self.long.append(longest)
                if self.text.truncation != "left":
                    self.dropped += 1
                    continue
                rows = [self.text._cut(row).ids for row in rows]
            if self.options.loss != "attributes" and all(np.array_equal(rows[0], row) for row in rows[1:]):
                self.same.append(comparison.id)
                continue
            self.ids += rows
            self.lengths += map(len, rows)
            self.sizes.append(len(rows))
            self.kept.append(comparison)

    def table(self) -> TokenizedComparisons:
        if self.long and self.text.truncation == "refuse":
            raise GuerdonError(
                f"model.max_length={self.text.max_length}: {len(self.long)} of {self.seen} comparisons are longer "
                f"(longest {max(self.long)} tokens); remedy: model.max_length={max(self.long)} if the model's context allows it, "
                "or model.truncation=drop or left"
            )
        if self.same:
            raise GuerdonError(
                f"{len(self.same)} of {self.seen} comparisons have identical responses as the model sees them (first {self.same[0]}); "
                "remedy: drop them (`guerdon check` lists them), or raise model.max_length if truncation made them so"
            )
        if not self.kept:
            raise GuerdonError(
                f"no comparison to train on ({self.seen} given, {self.dropped} too long); remedy: give data, or raise model.max_length"
            )
        if self.options.loss not in ("attributes", "rao_kupper") and all(len(set(c.ranks)) == 1 for c in self.kept):
            raise GuerdonError(
                f"all {len(self.kept)} comparisons are ties: nothing says which response is better; remedy: give some that are decided"
            )
        return TokenizedComparisons(
            ids=np.concatenate(self.ids),
            starts=np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64),
            first=np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64),
            ranks=np.array([rank for c in self.kept for rank in c.ranks], dtype=np.int64),
            q=np.array([0.5 if c.q is None else c.q for c in self.kept]),
            margin=np.array([_margin(c, self.options) for c in self.kept]),
            outcome=np.array([_outcome(c) for c in self.kept]).reshape(-1, 3),
            weight=np.array([c.weight for c in self.kept]),
            group=tuple(c.group for c in self.kept),
            ratings=np.array(
                [[r.ratings.get(name, math.nan) for name in self.attributes] for c in self.kept for r in c.responses],
                dtype=np.float64,
            ).reshape(sum(self.sizes), len(self.attributes)),
            dropped=self.dropped,
        )


def order(size: int, seed: int, epoch: int) -> Int[np.ndarray, " c"]:
    """The order of one epoch: the same for the same seed, whatever the machine or the number of processes."""
    return np.random.default_rng([seed, epoch]).permutation(size)


def step_rows(size: int, batch: int, seed: int, step: int) -> Int[np.ndarray, " b"]:
    """Comparisons of optimizer step `step`, counted over epochs: an epoch's last step may be short."""
    per_epoch = math.ceil(size / batch)
    epoch, within = divmod(step, per_epoch)
    return order(size, seed, epoch)[within * batch : (within + 1) * batch]


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one pass over the data: computed, had no prompt been shared, and had each step been one padded batch."""

    computed: int
    unshared: int
    padded: int

    def __str__(self) -> str:
        """One sentence."""
        fewer = (
            f"{self.unshared / self.computed:.2f}x fewer tokens than unshared, "
            f"{self.padded / self.computed:.1f}x fewer than padded"
        )
        return f"{self.computed:,} tokens an epoch: {fewer}"


def work(table: TokenizedComparisons, options: TrainOptions, backbone: Backbone) -> Work:
    """What an epoch costs, and what it would cost without sharing prompts and with padded steps."""
    computed = unshared = padded = 0
    for step in range(math.ceil(len(table) / options.batch_size)):
        rows = step_rows(len(table), options.batch_size, options.seed, step)
        each = [table.texts(row) for row in rows]
        lengths = [len(text) for texts in each for text in texts]
        computed += sum(backbone.count_tokens(texts) for texts in each)
        unshared += sum(lengths)
        padded += len(lengths) * max(lengths)
    return Work(computed, unshared, padded)


def share(
    table: TokenizedComparisons, rows: Int[np.ndarray, " b"], process: int, num_processes: int
) -> Int[np.ndarray, " m"]:
    """One process's part of a step: the longest comparison left goes to whoever has fewest tokens so far."""
    load = [0] * num_processes
    mine = []
    sizes = (
        {int(row): prefix_tree.count_unique_tokens(table.texts(row)) for row in rows}
        if num_processes > 1
        else dict.fromkeys(rows, 0)
    )
    for row in sorted(sizes, key=lambda row: (-sizes[row], row)):
        lightest = load.index(min(load))
        load[lightest] += sizes[row]
        if lightest == process:
            mine.append(row)
    return np.array(mine, dtype=np.int64)


def micro_batches(table: TokenizedComparisons, rows: Iterable[int], tokens: int, backbone: Backbone) -> list[list[int]]:
    """Cut one step's comparisons into passes that compute at most `tokens` tokens each, but at least one comparison."""
    chunks: list[list[int]] = []
    texts: list[np.ndarray] = []
    for row in sorted((int(r) for r in rows), key=lambda r: (-max(map(len, table.texts(r))), r)):
        more = table.texts(row)
        if chunks and backbone.count_tokens(texts + more) <= tokens:
            chunks[-1].append(row)
            texts += more
        else:
            chunks.append([row])
            texts = more
    return chunks


def collate(table: TokenizedComparisons, rows: Sequence[int], device: torch.device) -> Batch:
    """Tensors of the given comparisons."""
    spans = [range(int(table.first[r]), int(table.first[r + 1])) for r in rows]
    flat = [i for span in spans for i in span]
    k = max(map(len, spans))
    where = np.zeros((len(rows), k), dtype=np.int64)
    present = np.zeros((len(rows), k), dtype=bool)
    ranks = np.full((len(rows), k), -1, dtype=np.int64)
    at = 0
    for i, span in enumerate(spans):
        where[i, : len(span)] = np.arange(at, at + len(span))
        present[i, : len(span)] = True
        ranks[i, : len(span)] = table.ranks[span.start : span.stop]
        at += len(span)
    index = np.asarray(rows, dtype=np.int64)

    def numbers(values: np.ndarray) -> Tensor:
        return copy_to_device(values.astype(np.float32), device)

    share = None if table.share is None else numbers(table.share[index])
    return Batch(
        [table.tokens(i) for i in flat],
        copy_to_device(where, device),
        copy_to_device(present, device),
        copy_to_device(ranks, device),
        numbers(table.q[index]),
        numbers(table.margin[index]),
        numbers(table.outcome[index]),
        numbers(table.weight[index]),
        numbers(table.ratings[np.asarray(flat, dtype=np.int64)]),
        share,
    )


def _only(table: TokenizedComparisons, rows: Int[np.ndarray, " m"]) -> TokenizedComparisons:
    """The table of some of its comparisons."""
    spans = [np.arange(table.first[row], table.first[row + 1]) for row in rows]
    responses = np.concatenate(spans)
    tokens = [table.tokens(response) for response in responses]
    return dataclasses.replace(
        table,
        ids=np.concatenate(tokens),
        starts=np.concatenate([[0], np.cumsum([len(ids) for ids in tokens])]).astype(np.int64),
        first=np.concatenate([[0], np.cumsum([len(span) for span in spans])]).astype(np.int64),
        ranks=table.ranks[responses],
        ratings=table.ratings[responses],
        group=tuple(table.group[row] for row in rows),
        **{name: getattr(table, name)[rows] for name in ("q", "margin", "outcome", "weight", "share")},
    )


def _margin(comparison: Comparison, options: TrainOptions) -> float:
    """Signed nats by which the first should lead: the strength of the verdict, toward the better response."""
    strength, q = comparison.preference.strength, comparison.q
    if not options.margin_scale or strength is None or q is None:
        return 0.0
    return options.margin_scale * strength * float(np.sign(q - 0.5))


def _outcome(comparison: Comparison) -> tuple[float, float, float]:
    """P(first better), P(tie), P(second better): counted votes where there are any, else the verdict itself."""
    votes, q = comparison.preference.votes, comparison.q
    if votes is not None and any(votes):
        total = votes[0] + votes[1] + votes[2]
        return votes[0] / total, votes[1] / total, votes[2] / total
    if q is None:
        return 0.0, 0.0, 0.0
    return (0.0, 1.0, 0.0) if q == 0.5 else (q, 0.0, 1.0 - q)


def _refuse_preference(comparison: Comparison, options: TrainOptions, attributes: Sequence[str]) -> None:
    k = len(comparison.responses)
    if options.loss in ("bradley_terry", "rao_kupper") and k > 2:
        raise GuerdonError(
            f"comparison {comparison.id}: train.loss={options.loss} takes 2 responses, got {k}; "
            "remedy: train.loss=plackett_luce or all_pairs"
        )
    if options.loss in ("plackett_luce", "all_pairs") and comparison.preference.q not in (None, 0.0, 0.5, 1.0):
        raise GuerdonError(
            f"comparison {comparison.id}: train.loss={options.loss} takes rankings, got a soft label q={comparison.preference.q}; "
            "remedy: train.loss=bradley_terry"
        )
    if options.loss == "attributes" and not any(name in r.ratings for r in comparison.responses for name in attributes):
        raise GuerdonError(
            f"comparison {comparison.id}: nothing is rated for model.attributes={list(attributes)}; remedy: name rated attributes"
        )
