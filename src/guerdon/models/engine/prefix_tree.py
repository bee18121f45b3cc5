"""Lays a batch of texts out as prefix trees in one row: a shared prefix is computed once, and nothing is padded.

Texts with the same beginning form a tree. The tokens they share are one segment, each continuation is a branch, and a
branch may branch again. The segments of all trees follow one another in one row, the forest. Positions in a branch continue
those of its prefix. A block lists the keys that its queries may attend to: the tokens of their own text, up to themselves.

Axes: n texts, t tokens of the row, m positions whose hidden state is read, r hidden states returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from guerdon.models.engine.device import copy_to_device

MIN_SHARED_TOKENS = 8  # a shorter shared prefix is not worth a block of its own
MAX_BLOCK_QUERIES = 128  # longer segments are cut, so that little above the causal diagonal is computed

_BEYOND = 1 << 40  # no row is this long

Run = tuple[int, int]  # consecutive positions [start, stop) of the row, or of earlier keys behind it
Text = tuple[int, np.ndarray]  # a text's index and its tokens


@dataclass(frozen=True, slots=True)
class Block:
    """Queries [start, stop) of the row, and the runs of keys that they may attend to. The last run ends at stop."""

    start: int
    stop: int
    keys: tuple[Run, ...]

    @property
    def num_queries(self) -> int:
        """Queries in the block."""
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        """Keys in the block: the position of its last query in its text, plus one."""
        return sum(stop - start for start, stop in self.keys)


@dataclass(frozen=True, slots=True)
class Forest:
    """Texts laid out as prefix trees in one row.

    output_positions: the positions in the row whose hidden state is read, ascending and without duplicates.
    output_index: for each hidden state returned, text by text, its index in output_positions.
    host_output_positions: output_positions in host memory, where attention is planned.
    paths: of each text, the runs of keys that hold its tokens. Runs at num_tokens and beyond are keys that were computed before.
    """

    input_ids: Int[Tensor, "1 t"]
    position_ids: Int[Tensor, "1 t"]
    output_positions: Int[Tensor, " m"]
    output_index: Int[Tensor, " r"]
    blocks: tuple[Block, ...]
    host_output_positions: Int[np.ndarray, " m"]
    paths: tuple[tuple[Run, ...], ...]

    @property
    def num_tokens(self) -> int:
        """Unique tokens: what is computed."""
        return self.input_ids.shape[1]

    @property
    def read_positions(self) -> Int[Tensor, " r"]:
        """Position in the row of each hidden state returned."""
        return self.output_positions[self.output_index]


def build_forest(
    texts: Sequence[Int[np.ndarray, " t"]],
    device: torch.device | str = "cpu",
    *,
    read_from: Sequence[int] | None = None,
    known: Sequence[tuple[Run, ...]] | None = None,
) -> Forest:
    """Lay out texts of at least one token each. Shared prefixes come from comparing tokens.

    The hidden states of text i are read from its token read_from[i] on; by default at its last token only. known: for each
    text, the runs of earlier keys that hold its beginning, never all of it; the forest then has the rest of it alone. Texts
    that go on in the same way must have the same runs. With them, only last tokens can be read.
    """
    builder = _RowBuilder()
    order = prefix_order(texts)
    starts = {() if known is None else known[i] for i in order}
    for start in sorted(starts):
        members = [(i, texts[i]) for i in order if known is None or known[i] == start]
        builder.add_texts(members, sum(stop - begin for begin, stop in start), tuple(map(_beyond_row, start)))
    paths = [_in_keys(path, builder.size) for _, path in sorted(builder.paths)]
    read = [np.empty(0, dtype=np.int64)] * len(texts)
    for i, path in enumerate(paths):
        runs = path[-1:] if read_from is None else path
        read[i] = np.concatenate([np.arange(*run) for run in runs])[-1 if read_from is None else read_from[i] :]
    positions, index = np.unique(np.concatenate(read), return_inverse=True)

    def tensor(values: np.ndarray) -> Tensor:
        return copy_to_device(values.astype(np.int64), device)

    return Forest(
        input_ids=tensor(np.concatenate(builder.ids)[None]),
        position_ids=tensor(np.concatenate(builder.positions)[None]),
        output_positions=tensor(positions),
        output_index=tensor(index),
        blocks=tuple(replace(block, keys=_in_keys(block.keys, builder.size)) for block in builder.blocks),
        host_output_positions=positions,
        paths=tuple(paths),
    )


def _beyond_row(run: Run) -> Run:
    """A run of earlier keys, while the length of the row that they will follow is not known."""
    return run[0] + _BEYOND, run[1] + _BEYOND


def _in_keys(path: tuple[Run, ...], num_tokens: int) -> tuple[Run, ...]:
    """The path with its runs of earlier keys right after the row."""
    shift = num_tokens - _BEYOND
    return tuple((start + shift, stop + shift) if start >= _BEYOND else (start, stop) for start, stop in path)


def count_unique_tokens(texts: Sequence[Int[np.ndarray, " t"]]) -> int:
    """Tokens in the forest of these texts."""
    count = 0
    pending: list[tuple[list[Text], int]] = [([(i, texts[i]) for i in prefix_order(texts)], 0)]
    while pending:
        siblings, depth = pending.pop()
        for group in _split_by_prefix(siblings, depth):
            stop, longer = _shared_by(group)
            count += stop - depth
            if longer:
                pending.append((longer, stop))
    return count


def batch_by_unique_tokens(texts: Sequence[Int[np.ndarray, " t"]], max_tokens: int) -> list[list[int]]:
    """Divide texts into batches of at most max_tokens unique tokens, at least one text each. Texts that share stay together."""
    batches: list[list[int]] = []
    used = 0  # an upper bound: up to MIN_SHARED_TOKENS - 1 tokens that two neighbors share may be computed twice
    for i in prefix_order(texts):
        if batches:
            shared = common_prefix_length(texts[batches[-1][-1]], texts[i]) - MIN_SHARED_TOKENS + 1
            used += len(texts[i]) - max(0, shared)
            most_saved = (MIN_SHARED_TOKENS - 1) * len(batches[-1])
            if max_tokens < used <= max_tokens + most_saved:
                used = count_unique_tokens([texts[j] for j in (*batches[-1], i)])
            if used <= max_tokens:
                batches[-1].append(i)
                continue
        batches.append([i])
        used = len(texts[i])
    return batches


def prefix_order(texts: Sequence[Int[np.ndarray, " t"]]) -> list[int]:
    """Indices that sort texts token by token, so that texts with the same prefix are neighbors."""
    keys = [text.astype(">u4").tobytes() for text in texts]
    return sorted(range(len(texts)), key=keys.__getitem__)


def common_prefix_length(one: np.ndarray, other: np.ndarray) -> int:
    """Number of leading tokens that two texts share."""
    size = min(len(one), len(other))
    if size == 0:
        return 0
    differs = one[:size] != other[:size]
    first = int(differs.argmax())
    return first if differs[first] else size


class _RowBuilder:
    """The row while it is being filled. `paths` holds, per finished text, its index and its runs in the row."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.blocks: list[Block] = []
        self.paths: list[tuple[int, tuple[Run, ...]]] = []
        self.size = 0

    def add_texts(self, texts: list[Text], depth: int = 0, prefix: tuple[Run, ...] = ()) -> None:
        """Add sorted texts: the prefix of each subtree first, then what follows it in each of its texts.

        Their first `depth` tokens are in the runs of `prefix` already.
        """
        pending: list[tuple[list[Text], int, tuple[Run, ...]]] = [(texts, depth, prefix)]
        while pending:
            siblings, depth, prefix = pending.pop()
            for group in _split_by_prefix(siblings, depth):
                stop, longer = _shared_by(group)
                runs = self.add_segment(group[0][1], depth, stop, prefix)
                self.paths += [(i, runs) for i, text in group if len(text) == stop]
                if longer:
                    pending.append((longer, stop, runs))

    def add_segment(self, text: np.ndarray, start: int, stop: int, prefix: tuple[Run, ...]) -> tuple[Run, ...]:
        """Append tokens [start, stop) of a text as one segment; returns the runs that hold the text up to stop."""
        if start == stop:
            return prefix
        offset, size = self.size, stop - start
        self.ids.append(text[start:stop])
        self.positions.append(np.arange(start, stop))
        step = -(-size // -(-size // MAX_BLOCK_QUERIES))  # equal pieces
        for low in range(0, size, step):
            high = min(low + step, size)
            self.blocks.append(Block(offset + low, offset + high, (*prefix, (offset, offset + high))))
        self.size += size
        return (*prefix, (offset, offset + size))


def _split_by_prefix(texts: list[Text], depth: int) -> Iterator[list[Text]]:
    """Cut sorted texts into groups that share at least MIN_SHARED_TOKENS tokens beyond depth. Identical texts stay together."""
    begin = 0
    for at in range(1, len(texts) + 1):
        if at < len(texts):
            one, other = texts[begin][1], texts[at][1]
            shared = common_prefix_length(one, other)
            if shared - depth >= MIN_SHARED_TOKENS or shared == len(one) == len(other):
                continue
        yield texts[begin:at]
        begin = at


def _shared_by(group: list[Text]) -> tuple[int, list[Text]]:
    """The number of leading tokens that all sorted texts of a group share, and the texts that go on after them."""
    stop = len(group[0][1])
    if len(group) > 1:
        stop = common_prefix_length(group[0][1], group[-1][1])  # the first and the last diverge earliest
    return stop, [member for member in group if len(member[1]) > stop]


def output_blocks(forest: Forest) -> tuple[Block, ...]:
    """Blocks whose queries are the output positions only; neighboring positions share a block."""
    wanted = forest.host_output_positions
    home = np.searchsorted([block.start for block in forest.blocks], wanted, side="right") - 1
    cuts = np.flatnonzero((np.diff(wanted) > 1) | (np.diff(home) > 0)) + 1
    blocks = []
    for run, at in zip(np.split(wanted, cuts), home[np.r_[0, cuts]], strict=True):
        start, stop, keys = int(run[0]), int(run[-1]) + 1, forest.blocks[at].keys
        blocks.append(Block(start, stop, (*keys[:-1], (keys[-1][0], stop))))
    return tuple(blocks)


def clip_to_window(block: Block, window: int) -> Block:
    """The block without the keys that lie before its first query's sliding window."""
    excess = block.num_keys - block.num_queries - (window - 1)
    keys = []
    for start, stop in block.keys:
        cut = max(0, min(excess, stop - start))
        excess -= cut
        if cut < stop - start:
            keys.append((start + cut, stop))
    return Block(block.start, block.stop, tuple(keys))


def merge_blocks(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks of each segment merged into one: the inverse of cutting at MAX_BLOCK_QUERIES."""
    merged: list[Block] = []
    for block in blocks:
        if merged and merged[-1].stop == block.start and merged[-1].keys[:-1] == block.keys[:-1]:
            if merged[-1].keys[-1][0] == block.keys[-1][0]:
                block = Block(merged.pop().start, block.stop, block.keys)
        merged.append(block)
    return tuple(merged)
