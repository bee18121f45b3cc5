"""Attention over a forest of prefix trees: each token attends to its own text up to itself, and no [t, t] mask is built.

On CPUs, and wherever torch's variable-length kernel does not apply, blocks of similar size are gathered into groups; a group
is two batched products with a softmax between them. On GPUs in half precision the whole row is one variable-length flash call.

Axes: t tokens of the row, b blocks of a group, q queries and k keys of a block, h query heads, g key heads, d head size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import AttentionInterface

from guerdon.models.engine.device import copy_to_device
from guerdon.models.engine.prefix_tree import Block, Forest, clip_to_window, merge_blocks, output_blocks

ATTENTION_NAME = "guerdon_prefix_tree"  # under which transformers finds layout_attention
MAX_SAVED_KEYS = 1024  # attention weights over more keys are recomputed in the backward pass instead of saved
MAX_GROUP_WEIGHTS = 1 << 22  # attention weights of one batched product
MAX_SIZE_CLASSES = 40  # different sizes of blocks before groups are merged
GROUP_COST = 4096  # the fixed cost of one more group, in attention weights of one head


class AttentionLayout(Protocol):
    """What the tokens of a row are to each other. A model passes it to layout_attention unchanged."""

    def attend(
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


class LastLayer(Protocol):
    """The layer that computes its queries at the output positions only. It must know which forest is being computed."""

    index: int
    forest: Forest | None


@dataclass(frozen=True, slots=True)
class ForestAttention:
    """Attention over a forest.

    last_layer: the layer that computes its queries at the output positions only; None where every layer computes all.
    allow_varlen: whether torch's variable-length kernel may be used.
    kv_by_layer: where given, receives each layer's keys and values.
    earlier: by layer, the keys and values that blocks find behind those of the row.
    plans: plans of this forest by window and kind of layer, filled on first use.
    """

    forest: Forest
    last_layer: LastLayer | None = None
    allow_varlen: bool = True
    kv_by_layer: dict[int, tuple[Tensor, Tensor]] | None = None
    earlier: Mapping[int, tuple[Tensor, Tensor]] | None = None
    plans: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def windows(self) -> set[int | None]:
        """The sliding windows that layers have asked for."""
        return {key[0] for key in self.plans}

    def attend(
        self,
        layer: int | None,
        q: Float[Tensor, "t h d"],
        k: Float[Tensor, "t g d"],
        v: Float[Tensor, "t g d"],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "t h d"]:
        """One layer's attention. In the last layer, rows that are not output positions are 0.0 where it computes outputs only."""
        if self.kv_by_layer is not None and layer is not None:
            self.kv_by_layer[layer] = (k, v)
        if self.earlier is not None:
            if layer is None:
                raise NotImplementedError("a layer without an index has no earlier keys")
            earlier_k, earlier_v = self.earlier[layer]
            k, v = torch.cat([k, earlier_k]), torch.cat([v, earlier_v])
        outputs_only = self.last_layer is not None and layer == self.last_layer.index
        if self.last_layer and outputs_only:
            self.last_layer.forest = self.forest
        if self.allow_varlen and supports_varlen(q, v, softcap):
            return attend_varlen(q, k, v, plan_varlen(self, window, outputs_only=outputs_only), scale, window)
        plan = plan_groups(self, q.shape[1], k.shape[1], window, q, outputs_only=outputs_only)
        with torch.autocast(q.device.type, enabled=False):
            out: Tensor = BlockAttention.apply(q, k, v, plan, scale, softcap)  # type: ignore[no-untyped-call]
        return out


def layout_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "1 h t d"],
    key: Float[Tensor, "1 g t d"],
    value: Float[Tensor, "1 g t d"],
    attention_mask: Tensor | None,
    *,
    attention_layout: AttentionLayout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 t h d"], None]:
    """The attention that transformers calls by ATTENTION_NAME. The layout alone decides who sees whom, not attention_mask."""
    if s_aux is not None or position_bias is not None:
        raise NotImplementedError("attention sinks and position biases are not supported over a forest")
    device = query.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    q, k, v = (x.transpose(1, 2).squeeze(0).to(dtype) for x in (query, key, value))
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    layer = getattr(module, "layer_idx", None)
    return attention_layout.attend(layer, q, k, v, scale, sliding_window, softcap)[None], None


# ---- Planning groups of blocks -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockGroup:
    """Blocks of similar size, computed as one batched product. What pads a block is masked, or its result is not used.

    A row is one head of one token. `query_rows` [b, g, h/g, q] and `key_rows` [b, g, k], flattened, gather rows;
    `query_index` [b, q] is the index of each query among its block's keys. `bias` masks the keys that a query must not see;
    for more than MAX_SAVED_KEYS keys it is built when needed.
    """

    blocks: tuple[Block, ...]
    max_queries: int
    max_keys: int
    query_rows: Int[Tensor, " rows"]
    key_rows: Int[Tensor, " rows"]
    query_index: Int[Tensor, "b q"]
    window: int | None
    bias: Float[Tensor, "b 1 q k"] | None = None

    def mask(self, dtype: torch.dtype) -> Float[Tensor, "b 1 q k"]:
        """0.0 where a query may see a key, elsewhere the lowest number of the dtype."""
        if self.bias is not None:
            return self.bias
        column, query_index = torch.arange(self.max_keys, device=self.query_index.device), self.query_index[..., None]
        hidden = column > query_index
        if self.window:
            hidden |= column <= query_index - self.window
        bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        return bias.masked_fill_(hidden, torch.finfo(dtype).min)[:, None]


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one kind of attention layer computes a forest.

    result_rows: for each row (token and head), the index of its result among all groups' query rows; one past the last
    where nothing is computed, and the result is 0.0.
    """

    groups: tuple[BlockGroup, ...]
    result_rows: Int[Tensor, " t_h"]


def plan_groups(
    attention: ForestAttention,
    heads: int,
    key_heads: int,
    window: int | None,
    like: Tensor,
    *,
    outputs_only: bool = False,
) -> GroupPlan:
    """The plan for one kind of attention layer, built on first use. Dtype and device are those of `like`."""
    key = (window, heads, key_heads, like.dtype, outputs_only)
    if key not in attention.plans:
        forest = attention.forest
        blocks = output_blocks(forest) if outputs_only else forest.blocks
        if window:
            blocks = tuple(clip_to_window(block, window) for block in blocks)
        groups = group_blocks(blocks, heads)
        attention.plans[key] = build_plan(forest.num_tokens, groups, heads, key_heads, window, like)
    plan: GroupPlan = attention.plans[key]
    return plan


def build_plan(
    num_tokens: int, groups: list[list[Block]], heads: int, key_heads: int, window: int | None, like: Tensor
) -> GroupPlan:
    """Index tensors and masks of the groups, on the device of `like`."""
    head, key_head = np.arange(heads).reshape(key_heads, -1), np.arange(key_heads)
    result_rows = np.full(num_tokens * heads, -1, dtype=np.int64)
    planned, total = [], 0

    for blocks in groups:
        _, max_queries, max_keys = _size(blocks)
        q = np.full((len(blocks), max_queries), -1, dtype=np.int64)
        k = np.zeros((len(blocks), max_keys), dtype=np.int64)
        query_index = np.empty((len(blocks), max_queries), dtype=np.int64)
        for i, block in enumerate(blocks):
            n, m = block.num_queries, block.num_keys
            q[i, :n] = np.arange(block.start, block.stop)
            k[i, :m] = np.concatenate([np.arange(*run) for run in block.keys])
            query_index[i] = np.arange(m - n, m - n + max_queries)
        rows = np.where(q[:, None, None] < 0, -1, q[:, None, None] * heads + head[:, :, None]).reshape(-1)
        result_rows[rows[rows >= 0]] = total + np.flatnonzero(rows >= 0)
        total += len(rows)
        key_rows = (k[:, None] * key_heads + key_head[:, None]).reshape(-1)
        group = BlockGroup(
            tuple(blocks),
            max_queries,
            max_keys,
            copy_to_device(np.maximum(rows, 0), like.device),
            copy_to_device(key_rows, like.device),
            copy_to_device(query_index, like.device),
            window,
        )
        if max_keys <= MAX_SAVED_KEYS:
            group = replace(group, bias=group.mask(like.dtype))
        planned.append(group)
    result_rows[result_rows < 0] = total
    return GroupPlan(tuple(planned), copy_to_device(result_rows, like.device))


def group_blocks(blocks: Sequence[Block], heads: int) -> list[list[Block]]:
    """Group blocks of similar size. Two groups are merged where the padding that adds costs less than a group's fixed cost."""
    for parts in (8, 4, 2, 1):
        classes: dict[tuple[int, int], list[Block]] = {}
        for block in blocks:
            size_class = (_round_up(block.num_queries, parts), _round_up(block.num_keys, parts))
            classes.setdefault(size_class, []).append(block)
        if len(classes) <= MAX_SIZE_CLASSES:
            break
    groups = [(_size(classes[size_class]), classes[size_class]) for size_class in sorted(classes)]
    while True:
        gain, i, j = max(
            (
                (_num_weights(x) + _num_weights(y) + GROUP_COST - _num_weights(_merged(x, y)), i, j)
                for i, (x, _) in enumerate(groups)
                for j, (y, _) in enumerate(groups[:i])
            ),
            default=(0, 0, 0),
        )
        if gain <= 0:
            break
        size, more = groups.pop(i)
        groups[j] = (_merged(groups[j][0], size), groups[j][1] + more)
    cut = []
    for (_, max_queries, max_keys), group in groups:
        most = max(1, MAX_GROUP_WEIGHTS // (heads * max_queries * max_keys))
        cut += [group[at : at + most] for at in range(0, len(group), most)]
    return cut


_Size = tuple[int, int, int]  # blocks, most queries, most keys


def _size(blocks: list[Block]) -> _Size:
    return len(blocks), max(b.num_queries for b in blocks), max(b.num_keys for b in blocks)


def _merged(one: _Size, other: _Size) -> _Size:
    return one[0] + other[0], max(one[1], other[1]), max(one[2], other[2])


def _num_weights(size: _Size) -> int:
    return size[0] * size[1] * size[2]


def _round_up(size: int, parts: int) -> int:
    """The next multiple of 1/parts of the power of two below size."""
    step = max(1, (1 << size.bit_length() - 1) // parts)
    return -(-size // step) * step


# ---- Batched products ----------------------------------------------------------------------------------------------


class BlockAttention(torch.autograd.Function):
    """Softmax attention over the blocks of a forest. Inputs [t, h, d] and [t, g, d], output [t, h, d]; memory linear in t."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: GroupPlan, scale: float, softcap: float | None
    ) -> Tensor:
        """Per group: gather rows, two products with a softmax between them; then put results back in order."""
        parts, saved_weights, key_heads = [], [], k.shape[1]
        for group in plan.groups:
            q_, k_, v_ = _gather(group, key_heads, q, k, v)
            weights = _attention_weights(q_, k_, group, scale, softcap)
            parts.append(torch.bmm(weights, v_).view(-1, v.shape[-1]))
            is_saved = group.max_keys <= MAX_SAVED_KEYS and ctx.needs_input_grad[0]
            saved_weights.append(weights if is_saved else None)
        ctx.plan, ctx.scale, ctx.softcap = plan, scale, softcap
        ctx.save_for_backward(q, k, v, *saved_weights)
        return _in_row_order(parts, plan).view(*q.shape[:2], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The same groups again. A key's gradient is the sum over all blocks that see it."""
        q, k, v, *saved_weights = ctx.saved_tensors
        plan, scale, softcap, key_heads = ctx.plan, ctx.scale, ctx.softcap, k.shape[1]
        # float32 at least: the gradient of a shared prefix is a sum over all its branches
        sum_dtype = torch.promote_types(k.dtype, torch.float32)
        parts, grad_k, grad_v = [], torch.zeros_like(k, dtype=sum_dtype), torch.zeros_like(v, dtype=sum_dtype)
        for group, weights in zip(plan.groups, saved_weights, strict=True):
            q_, k_, v_ = _gather(group, key_heads, q, k, v)
            if weights is None:
                weights = _attention_weights(q_, k_, group, scale, softcap)
            g_ = _rows(grad, group.query_rows).view(len(group.blocks) * key_heads, -1, grad.shape[-1])
            by_query = g_.view(len(group.blocks), -1, group.max_queries, grad.shape[-1])
            for i, block in enumerate(group.blocks):
                by_query[i, :, block.num_queries :] = 0  # padding repeats row 0 and must not add to any gradient
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
        return _in_row_order(parts, plan).view_as(q), grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None


def _rows(x: Float[Tensor, "t h d"], index: Tensor) -> Float[Tensor, "rows d"]:
    return x.reshape(-1, x.shape[-1]).index_select(0, index)


def _gather(group: BlockGroup, key_heads: int, q: Tensor, k: Tensor, v: Tensor) -> list[Float[Tensor, "b_g rows d"]]:
    """A group's queries, keys and values. Query heads that share a key head are rows of the same product."""
    batch = len(group.blocks) * key_heads
    return [
        _rows(x, rows).view(batch, -1, x.shape[-1])
        for x, rows in ((q, group.query_rows), (k, group.key_rows), (v, group.key_rows))
    ]


def _in_row_order(parts: list[Float[Tensor, "rows d"]], plan: GroupPlan) -> Float[Tensor, "t_h d"]:
    """The groups' results in the order of the row; 0.0 where nothing was computed."""
    zero = parts[0].new_zeros((1, parts[0].shape[-1]))
    return torch.cat([*parts, zero]).index_select(0, plan.result_rows)


def _attention_weights(
    q: Tensor, k: Tensor, group: BlockGroup, scale: float, softcap: float | None
) -> Float[Tensor, "b_g hq k"]:
    """Attention weights of one group."""
    scores = torch.bmm(q, k.transpose(1, 2)).mul_(scale)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    by_block = scores.view(len(group.blocks), -1, group.max_queries, group.max_keys)
    by_block += group.mask(q.dtype)
    return torch.softmax(scores, -1)


# ---- torch's variable-length kernel --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VarlenPlan:
    """A forest as sequences of unequal length: each segment's queries, with the keys of its prefix and its own copied out."""

    query_index: Int[Tensor, " q"]
    key_index: Int[Tensor, " k"]
    query_starts: Int[Tensor, " b_plus_1"]
    key_starts: Int[Tensor, " b_plus_1"]
    max_queries: int
    max_keys: int


def plan_varlen(attention: ForestAttention, window: int | None, *, outputs_only: bool = False) -> VarlenPlan:
    """The plan for one kind of layer, built on first use. Causal attention aligns a sequence's last query with its last key."""
    key = (window, outputs_only)
    if key not in attention.plans:
        forest = attention.forest
        blocks = output_blocks(forest) if outputs_only else merge_blocks(forest.blocks)
        if window:
            blocks = tuple(clip_to_window(block, window) for block in blocks)
        num_queries, num_keys = [b.num_queries for b in blocks], [b.num_keys for b in blocks]

        device = forest.input_ids.device
        attention.plans[key] = VarlenPlan(
            copy_to_device(np.concatenate([np.arange(b.start, b.stop) for b in blocks]), device),
            copy_to_device(np.concatenate([np.arange(*run) for b in blocks for run in b.keys]), device),
            copy_to_device(np.cumsum([0, *num_queries]).astype(np.int32), device),
            copy_to_device(np.cumsum([0, *num_keys]).astype(np.int32), device),
            max(num_queries),
            max(num_keys),
        )
    plan: VarlenPlan = attention.plans[key]
    return plan


class GatherRows(torch.autograd.Function):
    """x[index], where the index may name a row many times. The gradient is summed in float32, as a shared prefix needs."""

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
def varlen_kernel() -> tuple[Callable[..., Any], frozenset[str]] | None:
    """torch's variable-length attention and the names of its parameters; None before torch 2.10. Usable from 2.11 on."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def supports_varlen(q: Tensor, v: Tensor, softcap: float | None) -> bool:
    """Whether torch's variable-length flash kernel takes these tensors: CUDA, half precision, no soft cap, heads up to 256."""
    if not (q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and softcap is None):
        return False
    kernel = varlen_kernel()
    return q.shape[-1] == v.shape[-1] <= 256 and kernel is not None and {"scale", "window_size"} <= kernel[1]


def attend_varlen(
    q: Float[Tensor, "t h d"],
    k: Float[Tensor, "t g d"],
    v: Float[Tensor, "t g d"],
    plan: VarlenPlan,
    scale: float,
    window: int | None,
) -> Float[Tensor, "t h d"]:
    """One call of torch's variable-length kernel for the whole row; 0.0 at tokens whose queries are not in the plan."""
    kernel = varlen_kernel()
    assert kernel is not None
    varlen_attn, parameters = kernel
    # before 2.12 the parameter does not exist, and grouped heads are always accepted
    gqa = {"enable_gqa": q.shape[1] != k.shape[1]} if "enable_gqa" in parameters else {}
    is_complete = len(plan.query_index) == len(q)  # then the queries are in order
    keys, values = GatherRows.apply(k, plan.key_index), GatherRows.apply(v, plan.key_index)  # type: ignore[no-untyped-call]
    out = varlen_attn(
        q.contiguous() if is_complete else q.index_select(0, plan.query_index),
        keys,
        values,
        plan.query_starts,
        plan.key_starts,
        plan.max_queries,
        plan.max_keys,
        scale=scale,
        window_size=((window or 0) - 1, 0),
        **gqa,
    )
    if is_complete:
        return out  # type: ignore[no-any-return]
    return torch.zeros_like(q).index_copy(0, plan.query_index, out)


AttentionInterface.register(ATTENTION_NAME, layout_attention)
