"""A batch of texts as one row of unique tokens: a token that several texts begin with is computed once, padding never.

Texts that begin alike form a tree: the shared beginning is its trunk, what differs its branches, and a branch may branch
again. All segments of all trees lie one after another in one flat row; positions restart at each branch behind its
trunk; attention is computed block by block, so that a token sees what stands before it in its own text and nothing else.

Axes: n texts, t tokens of the flat row, b blocks of a group, q queries and k keys of a block, h query heads, g key heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface

from guerdon.models.engine.device import copy_to_device

NAME = "guerdon_prefix_tree"
MIN_SHARED = 8  # a shared beginning shorter than this is not worth a block of its own
CHUNK = 128  # queries of one block: a long text is cut, so that its upper triangle is not computed
KEEP_KEYS = (
    1024  # up to this many keys the attention weights are kept for the backward pass; beyond they are made again
)
GROUP_ELEMENTS = 1 << 22  # most attention weights of one product
MOST_KINDS = 40  # sizes of block told apart when groups are formed
CALLS = 4096  # what a group's calls cost, in attention weights of one head


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries [start, stop) of the flat row and the runs of keys they may see, the last of which ends at stop."""

    start: int
    stop: int
    keys: tuple[tuple[int, int], ...]

    @property
    def num_queries(self) -> int:
        """Queries in the block."""
        return self.stop - self.start

    @property
    def num_keys(self) -> int:
        """Keys in the block: as many as the position of its last query, plus one."""
        return sum(stop - start for start, stop in self.keys)


class LastLayer(Protocol):
    """The layer whose queries are only read at the ends; it is told which forest it computes."""

    index: int
    planted: Forest | None


@dataclass(frozen=True, slots=True)
class Forest:
    """Texts laid out as trees. `ends` are the places in the row that are read, `which` says which of them is each reading.

    A text is read at its last token, or from a token of its own on; readings stand text by text. `places` are the ends on
    the host, where plans are made. `last`, where given, is the layer that computes its queries at the ends only. `varlen`
    allows torch's kernel. `kept`, where given, receives each layer's keys and values.
    """

    input_ids: Int[Tensor, "1 t"]
    position_ids: Int[Tensor, "1 t"]
    ends: Int[Tensor, " m"]
    which: Int[Tensor, " r"]
    blocks: tuple[Block, ...]
    places: Int[np.ndarray, " m"]
    last: LastLayer | None = None
    varlen: bool = True
    kept: dict[int, tuple[Tensor, Tensor]] | None = None
    plans: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Unique tokens: what is computed."""
        return self.input_ids.shape[1]

    @property
    def read(self) -> Int[Tensor, " r"]:
        """Where in the row each reading is taken."""
        return self.ends[self.which]

    def attended(
        self,
        layer: int | None,
        q: Float[Tensor, "t h d"],
        k: Float[Tensor, "t g d"],
        v: Float[Tensor, "t g d"],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "t h d"]:
        """One layer's attention: each token sees its own text up to itself."""
        if self.kept is not None and layer is not None:
            self.kept[layer] = (k, v)
        only_read = self.last is not None and layer == self.last.index
        if self.last and only_read:
            self.last.planted = self
        if self.varlen and has_varlen(q, v, softcap):
            return attend_varlen(q, k, v, runs(self, window, only_read=only_read), scale, window)
        walk = plan(self, q.shape[1], k.shape[1], window, q, only_read=only_read)
        with torch.autocast(q.device.type, enabled=False):
            out: Tensor = TreeAttention.apply(q, k, v, walk, scale, softcap)  # type: ignore[no-untyped-call]
        return out


class Layout(Protocol):
    """What a row of tokens is, so that each may see the right others."""

    def attended(
        self,
        layer: int | None,
        q: Float[Tensor, "t h d"],
        k: Float[Tensor, "t g d"],
        v: Float[Tensor, "t g d"],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "t h d"]:
        """One layer's attention over the row."""
        ...


def build_forest(
    texts: Sequence[Int[np.ndarray, " t"]],
    device: torch.device | str = "cpu",
    *,
    last: LastLayer | None = None,
    since: Sequence[int] | None = None,
    varlen: bool = True,
) -> Forest:
    """Lay texts of at least one token out as trees; shared beginnings are found by comparing tokens.

    Text i is read from its token since[i] on, or at its last token only.
    """
    row = _Row()
    row.grow([(i, texts[i]) for i in prefix_order(texts)])
    read = [np.empty(0, dtype=np.int64)] * len(texts)
    for i, path in row.paths:
        places = path[-1:] if since is None else path
        read[i] = np.concatenate([np.arange(*run) for run in places])[-1 if since is None else since[i] :]
    ends, which = np.unique(np.concatenate(read), return_inverse=True)

    ids, positions = np.concatenate(row.ids), np.concatenate(row.positions)

    def tensor(values: np.ndarray) -> Tensor:
        return copy_to_device(values.astype(np.int64), device)

    return Forest(
        tensor(ids[None]), tensor(positions[None]), tensor(ends), tensor(which), tuple(row.blocks), ends, last, varlen
    )


def prefix_order(texts: Sequence[Int[np.ndarray, " t"]]) -> list[int]:
    """Indices that sort texts token by token, so that those which begin alike stand together."""
    keys = [text.astype(">u4").tobytes() for text in texts]
    return sorted(range(len(texts)), key=keys.__getitem__)


def batch_by_unique_tokens(texts: Sequence[Int[np.ndarray, " t"]], tokens: int) -> list[list[int]]:
    """Divide texts into batches of at most `tokens` unique tokens, but at least one text each; alike ones stay together."""
    batches: list[list[int]] = []
    used = 0  # never less than it is: of what two neighbors share, a trunk may miss less than MIN_SHARED
    for i in prefix_order(texts):
        if batches:
            shared = common_prefix_length(texts[batches[-1][-1]], texts[i]) - MIN_SHARED + 1
            used += len(texts[i]) - max(0, shared)
            if used > tokens:
                used = count_unique_tokens([texts[j] for j in (*batches[-1], i)])
            if used <= tokens:
                batches[-1].append(i)
                continue
        batches.append([i])
        used = len(texts[i])
    return batches


def count_unique_tokens(texts: Sequence[Int[np.ndarray, " t"]]) -> int:
    """Tokens of these texts' forest."""
    row = _Row()
    row.grow([(i, texts[i]) for i in prefix_order(texts)])
    return row.size


class _Row:
    """The flat row while it is being filled."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.positions: list[np.ndarray] = []
        self.blocks: list[Block] = []
        self.paths: list[tuple[int, tuple[tuple[int, int], ...]]] = []
        self.size = 0

    def grow(self, texts: list[tuple[int, np.ndarray]]) -> None:
        """Add sorted texts: what a family of them shares, then what is left of each behind it."""
        left: list[tuple[list[tuple[int, np.ndarray]], int, tuple[tuple[int, int], ...]]] = [(texts, 0, ())]
        while left:
            some, depth, above = left.pop()
            for family in families(some, depth):
                stop = common_prefix_length(
                    family[0][1], family[-1][1]
                )  # of sorted texts the first and the last differ earliest
                runs = self.add(family[0][1], depth, stop, above)
                self.paths += [(i, runs) for i, text in family if len(text) == stop]
                if below := [(i, text) for i, text in family if len(text) > stop]:
                    left.append((below, stop, runs))

    def add(
        self, text: np.ndarray, start: int, stop: int, above: tuple[tuple[int, int], ...]
    ) -> tuple[tuple[int, int], ...]:
        """Append tokens [start, stop) of a text as one segment; returns the runs that hold the text up to there."""
        if start == stop:
            return above
        at, size = self.size, stop - start
        self.ids.append(text[start:stop])
        self.positions.append(np.arange(start, stop))
        step = -(-size // -(-size // CHUNK))  # equal pieces
        for lo in range(0, size, step):
            hi = min(lo + step, size)
            self.blocks.append(Block(at + lo, at + hi, (*above, (at, at + hi))))
        self.size += size
        return (*above, (at, at + size))


def families(texts: list[tuple[int, np.ndarray]], depth: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Cut sorted texts into runs whose shared beginning goes on for at least MIN_SHARED tokens; identical ones stay together."""
    begin = 0
    for at in range(1, len(texts) + 1):
        if at < len(texts):
            one, other = texts[begin][1], texts[at][1]
            shared = common_prefix_length(one, other)
            if shared - depth >= MIN_SHARED or shared == len(one) == len(other):
                continue
        yield texts[begin:at]
        begin = at


def common_prefix_length(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens two texts agree in from the beginning."""
    size = min(len(one), len(other))
    differ = one[:size] != other[:size]
    return int(differ.argmax()) if differ.any() else size


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks of similar size, computed as one batched product: what pads them is masked, or never read.

    A row is one head of one token. `queries` [b, g, h/g, q] and `keys` [b, g, k] gather rows; `last` [b, q] is each query's
    place among its block's keys. `bias` masks what a query may not see; for many keys it is made when needed.
    """

    blocks: tuple[Block, ...]
    num_queries: int
    num_keys: int
    queries: Int[Tensor, " rows"]
    keys: Int[Tensor, " rows"]
    last: Int[Tensor, "b q"]
    window: int | None
    bias: Float[Tensor, "b 1 q k"] | None = None

    def mask(self, dtype: torch.dtype) -> Float[Tensor, "b 1 q k"]:
        """0 where a query may see a key, else the least number."""
        if self.bias is not None:
            return self.bias
        column, last = torch.arange(self.num_keys, device=self.last.device), self.last[..., None]
        hidden = column > last
        if self.window:
            hidden |= column <= last - self.window
        bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        return bias.masked_fill_(hidden, torch.finfo(dtype).min)[:, None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How one kind of attention layer walks a forest.

    `back` says where among all groups' queries each row's result stands (behind the last: nowhere, it is zero).
    """

    groups: tuple[Group, ...]
    back: Int[Tensor, " t_h"]


def plan(
    forest: Forest, heads: int, key_heads: int, window: int | None, like: Tensor, *, only_read: bool = False
) -> Plan:
    """The plan of a forest for one kind of attention layer, made once and kept with it."""
    key = (window, heads, key_heads, like.dtype, only_read)
    if key not in forest.plans:
        blocks = read_blocks(forest) if only_read else forest.blocks
        if window:
            blocks = tuple(trimmed(block, window) for block in blocks)
        forest.plans[key] = _plan(forest.tokens, alike(blocks, heads), heads, key_heads, window, like)
    made: Plan = forest.plans[key]
    return made


def read_blocks(forest: Forest) -> tuple[Block, ...]:
    """Blocks whose queries are the tokens that are read, neighbors together."""
    wanted = forest.places
    home = np.searchsorted([block.start for block in forest.blocks], wanted, side="right") - 1
    cuts = np.flatnonzero((np.diff(wanted) > 1) | (np.diff(home) > 0)) + 1
    blocks = []
    for run, at in zip(np.split(wanted, cuts), home[np.r_[0, cuts]], strict=True):
        start, stop, keys = int(run[0]), int(run[-1]) + 1, forest.blocks[at].keys
        blocks.append(Block(start, stop, (*keys[:-1], (keys[-1][0], stop))))
    return tuple(blocks)


def trimmed(block: Block, window: int) -> Block:
    """The block without keys that lie before its first query's window."""
    spare = block.num_keys - block.num_queries - (window - 1)
    keys = []
    for start, stop in block.keys:
        cut = max(0, min(spare, stop - start))
        spare -= cut
        if cut < stop - start:
            keys.append((start + cut, stop))
    return Block(block.start, block.stop, tuple(keys))


def alike(blocks: Sequence[Block], heads: int) -> list[list[Block]]:
    """Gather blocks of similar size: a merged group pays for padding, a group of its own for its calls."""
    for parts in (8, 4, 2, 1):
        kinds: dict[tuple[int, int], list[Block]] = {}
        for block in blocks:
            kinds.setdefault((_round(block.num_queries, parts), _round(block.num_keys, parts)), []).append(block)
        if len(kinds) <= MOST_KINDS:
            break
    groups = [(_size(kinds[kind]), kinds[kind]) for kind in sorted(kinds)]
    while True:
        gain, i, j = max(
            (
                (_area(x) + _area(y) + CALLS - _area(_both(x, y)), i, j)
                for i, (x, _) in enumerate(groups)
                for j, (y, _) in enumerate(groups[:i])
            ),
            default=(0, 0, 0),
        )
        if gain <= 0:
            break
        size, more = groups.pop(i)
        groups[j] = (_both(groups[j][0], size), groups[j][1] + more)
    cut = []
    for (_, queries, keys), group in groups:
        most = max(1, GROUP_ELEMENTS // (heads * queries * keys))
        cut += [group[at : at + most] for at in range(0, len(group), most)]
    return cut


_Size = tuple[int, int, int]  # blocks, most queries, most keys


def _size(blocks: list[Block]) -> _Size:
    return len(blocks), max(b.num_queries for b in blocks), max(b.num_keys for b in blocks)


def _both(one: _Size, other: _Size) -> _Size:
    return one[0] + other[0], max(one[1], other[1]), max(one[2], other[2])


def _area(size: _Size) -> int:
    return size[0] * size[1] * size[2]


def _round(size: int, parts: int) -> int:
    """Sizes of one kind: up to one part of an octave apart."""
    step = max(1, (1 << size.bit_length() - 1) // parts)
    return -(-size // step) * step


def _plan(tokens: int, groups: list[list[Block]], heads: int, key_heads: int, window: int | None, like: Tensor) -> Plan:
    head, key_head = np.arange(heads).reshape(key_heads, -1), np.arange(key_heads)
    back = np.full(tokens * heads, -1, dtype=np.int64)
    made, total = [], 0

    for blocks in groups:
        _, num_queries, num_keys = _size(blocks)
        q = np.full((len(blocks), num_queries), -1, dtype=np.int64)
        k = np.zeros((len(blocks), num_keys), dtype=np.int64)
        last = np.empty((len(blocks), num_queries), dtype=np.int64)
        for i, block in enumerate(blocks):
            n, m = block.num_queries, block.num_keys
            q[i, :n] = np.arange(block.start, block.stop)
            k[i, :m] = np.concatenate([np.arange(*run) for run in block.keys])
            last[i] = np.arange(m - n, m - n + num_queries)
        rows = np.where(q[:, None, None] < 0, -1, q[:, None, None] * heads + head[:, :, None]).reshape(-1)
        back[rows[rows >= 0]] = total + np.flatnonzero(rows >= 0)
        total += len(rows)
        keys = (k[:, None] * key_heads + key_head[:, None]).reshape(-1)
        group = Group(
            tuple(blocks),
            num_queries,
            num_keys,
            copy_to_device(np.maximum(rows, 0), like.device),
            copy_to_device(keys, like.device),
            copy_to_device(last, like.device),
            window,
        )
        if num_keys <= KEEP_KEYS:
            group = replace(group, bias=group.mask(like.dtype))
        made.append(group)
    back[back < 0] = total
    return Plan(tuple(made), copy_to_device(back, like.device))


class TreeAttention(torch.autograd.Function):
    """Softmax attention over the blocks of a forest. Inputs [t, h, d] and [t, g, d]; output [t, h, d]; linear memory in t."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Plan, scale: float, softcap: float | None) -> Tensor:
        """Group by group: gather, two products with a softmax between them, put back."""
        parts, kept, key_heads = [], [], k.shape[1]
        for group in plan.groups:
            q_, k_, v_ = _gather(group, key_heads, q, k, v)
            weights = _weights(q_, k_, group, scale, softcap)
            parts.append(torch.bmm(weights, v_).view(-1, v.shape[-1]))
            kept.append(weights if group.num_keys <= KEEP_KEYS and ctx.needs_input_grad[0] else None)
        ctx.plan, ctx.scale, ctx.softcap = plan, scale, softcap
        ctx.save_for_backward(q, k, v, *kept)
        return _put_back(parts, plan).view(*q.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The same walk; a key's gradient is the sum over all blocks that see it."""
        q, k, v, *kept = ctx.saved_tensors
        plan, scale, softcap, key_heads = ctx.plan, ctx.scale, ctx.softcap, k.shape[1]
        wide = torch.promote_types(k.dtype, torch.float32)  # a trunk's gradient is a sum over all its branches
        parts, grad_k, grad_v = [], torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for group, weights in zip(plan.groups, kept, strict=True):
            q_, k_, v_ = _gather(group, key_heads, q, k, v)
            if weights is None:
                weights = _weights(q_, k_, group, scale, softcap)
            g_ = _rows(grad, group.queries).view(len(group.blocks) * key_heads, -1, grad.shape[-1])
            by_query = g_.view(len(group.blocks), -1, group.num_queries, grad.shape[-1])
            for i, block in enumerate(group.blocks):
                by_query[i, :, block.num_queries :] = 0  # padded queries teach nothing
            to_weights = torch.bmm(g_, v_.transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            if softcap is not None:
                capped = torch.bmm(q_, k_.transpose(1, 2)).mul_(scale / softcap).tanh_()
                to_scores = to_scores * (1 - capped * capped)
            to_scores *= scale
            parts.append(torch.bmm(to_scores, k_).view(-1, q.shape[-1]))
            to_keys = torch.bmm(to_scores.transpose(1, 2), q_).unflatten(0, (-1, key_heads))
            to_values = torch.bmm(weights.transpose(1, 2), g_).unflatten(0, (-1, key_heads))
            for i, block in enumerate(group.blocks):
                at = 0
                for start, stop in block.keys:
                    grad_k[start:stop] += to_keys[i, :, at : at + stop - start].transpose(0, 1)
                    grad_v[start:stop] += to_values[i, :, at : at + stop - start].transpose(0, 1)
                    at += stop - start
        return _put_back(parts, plan).view_as(q), grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def _rows(x: Float[Tensor, "t h d"], index: Tensor) -> Float[Tensor, "rows d"]:
    return x.reshape(-1, x.shape[-1]).index_select(0, index)


def _gather(group: Group, key_heads: int, q: Tensor, k: Tensor, v: Tensor) -> list[Float[Tensor, "b_g rows d"]]:
    """A group's queries, keys and values; query heads of one key head lie below one another as rows of one product."""
    batch = len(group.blocks) * key_heads
    return [
        _rows(x, rows).view(batch, -1, x.shape[-1])
        for x, rows in ((q, group.queries), (k, group.keys), (v, group.keys))
    ]


def _put_back(parts: list[Float[Tensor, "rows d"]], plan: Plan) -> Float[Tensor, "t_h d"]:
    """The groups' results in the order of the row; zeros where nothing was computed."""
    nothing = parts[0].new_zeros((1, parts[0].shape[-1]))
    return torch.cat([*parts, nothing]).index_select(0, plan.back)


def _weights(q: Tensor, k: Tensor, group: Group, scale: float, softcap: float | None) -> Float[Tensor, "b_g hq k"]:
    """Attention weights of one group."""
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    by_block = scores.view(len(group.blocks), -1, group.num_queries, group.num_keys)
    by_block += group.mask(q.dtype)
    return torch.softmax(scores, -1)


@dataclass(frozen=True, slots=True)
class Runs:
    """A forest as unequal sequences for a variable-length kernel: keys are laid out anew for each run of queries."""

    queries: Int[Tensor, " q"]
    keys: Int[Tensor, " k"]
    q_starts: Int[Tensor, " b_plus_1"]
    k_starts: Int[Tensor, " b_plus_1"]
    longest_q: int
    longest_k: int


def runs(forest: Forest, window: int | None, *, only_read: bool = False) -> Runs:
    """Each segment's queries with the keys of its trunk and itself: causal, with the last query at the last key."""
    key = (window, only_read)
    if key not in forest.plans:
        blocks = read_blocks(forest) if only_read else joined(forest.blocks)
        if window:
            blocks = tuple(trimmed(block, window) for block in blocks)
        num_queries, num_keys = [b.num_queries for b in blocks], [b.num_keys for b in blocks]

        device = forest.input_ids.device
        forest.plans[key] = Runs(
            copy_to_device(np.concatenate([np.arange(b.start, b.stop) for b in blocks]), device),
            copy_to_device(np.concatenate([np.arange(*run) for b in blocks for run in b.keys]), device),
            copy_to_device(np.cumsum([0, *num_queries]).astype(np.int32), device),
            copy_to_device(np.cumsum([0, *num_keys]).astype(np.int32), device),
            max(num_queries),
            max(num_keys),
        )
    made: Runs = forest.plans[key]
    return made


def joined(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks of one segment as one again."""
    whole: list[Block] = []
    for block in blocks:
        if whole and whole[-1].stop == block.start and whole[-1].keys[:-1] == block.keys[:-1]:
            if whole[-1].keys[-1][0] == block.keys[-1][0]:
                block = Block(whole.pop().start, block.stop, block.keys)
        whole.append(block)
    return tuple(whole)


class Laid(torch.autograd.Function):
    """Rows picked by an index that may name one many times; its gradient is summed in float32, as a trunk's must be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        """x[index]."""
        ctx.save_for_backward(index)
        ctx.size, ctx.dtype = len(x), x.dtype
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The sum over all copies of a row."""
        (index,) = ctx.saved_tensors
        total = grad.new_zeros((ctx.size, *grad.shape[1:]), dtype=torch.promote_types(ctx.dtype, torch.float32))
        return total.index_add_(0, index, grad.to(total.dtype)).to(ctx.dtype), None


@cache
def kernel() -> tuple[Callable[..., Any], frozenset[str]] | None:
    """torch's attention for sequences of unequal length (there since 2.10, of use since 2.11), and the names of what it takes."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def has_varlen(q: Tensor, v: Tensor, softcap: float | None) -> bool:
    """Whether torch's flash kernel for sequences of unequal length takes these tensors (CUDA, half precision)."""
    if not (q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and softcap is None):
        return False
    found = kernel()
    return q.shape[-1] == v.shape[-1] <= 256 and found is not None and {"scale", "window_size"} <= found[1]


def attend_varlen(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "t g d"],
    v: Float[Tensor, "t g d"],
    made: Runs,
    scale: float,
    window: int | None,
) -> Float[Tensor, "t h d"]:
    """One call of torch's flash kernel over all runs."""
    found = kernel()
    assert found is not None
    attention, takes = found
    grouped = {"enable_gqa": q.shape[1] != k.shape[1]} if "enable_gqa" in takes else {}  # before 2.12 it just does
    everything = len(made.queries) == len(q)  # then they stand in order
    keys, values = Laid.apply(k, made.keys), Laid.apply(v, made.keys)  # type: ignore[no-untyped-call]
    out = attention(
        q.contiguous() if everything else q.index_select(0, made.queries),
        keys,
        values,
        made.q_starts,
        made.k_starts,
        made.longest_q,
        made.longest_k,
        scale=scale,
        window_size=((window or 0) - 1, 0),
        **grouped,
    )
    if everything:
        return out  # type: ignore[no-any-return]
    return torch.zeros_like(q).index_copy(0, made.queries, out)


def attend(
    module: torch.nn.Module,
    query: Float[Tensor, "1 h t d"],
    key: Float[Tensor, "1 g t d"],
    value: Float[Tensor, "1 g t d"],
    attention_mask: Tensor | None,
    *,
    forest: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 t h d"], None]:
    """The attention that transformers calls under NAME: each token sees its own text only, whatever the row holds."""
    if s_aux is not None or position_bias is not None:
        raise NotImplementedError("attention sinks and position biases are not computed over a forest")
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    q, k, v = (x.transpose(1, 2).squeeze(0).to(dtype) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    layer = getattr(module, "layer_idx", None)
    return forest.attended(layer, q, k, v, scale, sliding_window, softcap)[None], None


AttentionInterface.register(NAME, attend)
