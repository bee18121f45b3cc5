"""Samples replies token by token with a KV cache: each prompt is computed once, without padding, and stored once for all its replies.

Axes: p prompts, n replies still being decoded, m replies to one group of prompts, s replies per prompt, t tokens, v vocabulary,
x hidden size, h query heads, g key heads, r query heads per key head, d head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from guerdon.contracts import FinishReason
from guerdon.models.engine import prefix_tree
from guerdon.models.engine.backbone import Backbone, Texts

GROUP_COST = 1500  # the fixed cost of one more group of prompts per decode step, in tokens of padding
COMPACT_SHARE = (
    0.75  # finished replies are dropped once this share or less is active; until then they are computed and ignored
)
INITIAL_CAPACITY = 32  # tokens of replies that the cache has room for at first; doubled when full


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Replies as token ids, those of one prompt together. An end token is a reply's last.

    log_prob [n]: nats of each reply under the distribution it was sampled from; at temperature 0, under that of temperature 1.
    """

    replies: list[Int[np.ndarray, " t"]]
    finish: list[FinishReason]
    log_prob: Float[np.ndarray, " n"]

    @classmethod
    def concatenate(cls, parts: Sequence[SampledTokens]) -> SampledTokens:
        """The replies of all parts in order."""
        return cls(
            [reply for part in parts for reply in part.replies],
            [finish for part in parts for finish in part.finish],
            np.concatenate([part.log_prob for part in parts]) if parts else np.zeros(0),
        )

    def select(self, rows: Int[np.ndarray, " m"]) -> SampledTokens:
        """The replies of these rows, in their order."""
        return SampledTokens([self.replies[i] for i in rows], [self.finish[i] for i in rows], self.log_prob[rows])


def generate(
    backbone: Backbone,
    logits: Callable[[Float[Tensor, "n x"]], Float[Tensor, "n v"]],
    prompts: Texts,
    uniforms: Float[np.ndarray, "n t"],
    *,
    temperature: float,
    stops: Sequence[int],
    advance: Callable[[int], None] = lambda count: None,
) -> SampledTokens:
    """Sample replies, the same number per prompt, from uniforms in [0, 1). Temperature 0 takes the most likely token.

    `advance` is called with the number of replies that finished at each step. All prompts must be on the same side of the
    longrope threshold (`longrope_side`), because the longest text of a pass decides the rotary factors of all.
    """
    assert backbone.choose_mode() == "prefix_tree", backbone.mode
    device, max_tokens = backbone.device, uniforms.shape[1]
    uniform = torch.from_numpy(uniforms).to(device)
    stop_ids = torch.tensor(sorted(stops), device=device)
    tokens = torch.full(uniforms.shape, -1, device=device)
    nats = torch.zeros(len(tokens), dtype=torch.float64, device=device)
    sides = {longrope_side(len(prompt), max_tokens, backbone.longrope_threshold) for prompt in prompts}
    state: KVCache | NoCache
    start = start_without_cache if sides == {"across"} else prefill
    state, hidden = start(backbone, prompts, len(uniforms) // len(prompts))
    active = torch.ones(len(tokens), dtype=torch.bool, device=device)
    for t in range(max_tokens):
        token, log_prob = sample_token(logits(hidden), uniform[state.rows, t], temperature)
        rows = state.rows[active]
        tokens[rows, t] = token[active]
        nats[rows] += log_prob[active]
        active = active & ~torch.isin(token, stop_ids)
        advance(len(rows) if t + 1 == max_tokens else len(rows) - int(active.sum()))
        if t + 1 == max_tokens or not active.any():
            break
        if active.double().mean() <= COMPACT_SHARE:
            state, token, active = state.select(active), token[active], active[active]
        state, hidden = state.step(backbone, token)
    return _sampled_tokens(tokens.cpu().numpy(), nats.cpu().numpy(), set(stops))


def _sampled_tokens(tokens: Int[np.ndarray, "n t"], nats: Float[np.ndarray, " n"], stops: set[int]) -> SampledTokens:
    replies: list[Int[np.ndarray, " t"]] = []
    finish: list[FinishReason] = []
    for row in tokens:
        ids = row[row >= 0].astype(np.int32)
        replies.append(ids)
        finish.append("stop" if int(ids[-1]) in stops else "length")
    return SampledTokens(replies, finish, nats)


def token_uniforms(prompts: Texts, n: int, max_tokens: int, seeds: Sequence[int]) -> Float[np.ndarray, "n t"]:
    """A uniform number for every token that may be sampled.

    A prompt's numbers depend on its seed, the prompt, and how often both occurred before in the list; not on other prompts.
    """
    occurrences: dict[tuple[int, bytes], int] = {}
    uniforms = np.empty((len(prompts) * n, max_tokens))
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        key = (seed, prompt.astype("<u4").tobytes())
        occurrence = occurrences[key] = occurrences.get(key, -1) + 1
        entropy = [seed, occurrence, n, *prompt.tolist()]
        uniforms[i * n : (i + 1) * n] = np.random.default_rng(entropy).random((n, max_tokens))
    return uniforms


def sample_token(
    logits: Float[Tensor, "n v"], uniform: Float[Tensor, " n"], temperature: float
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """One token per row by inverting its distribution at a uniform number in [0, 1), and its log-probability in nats."""
    logits = logits.float()
    if temperature not in (0, 1):
        logits = logits / temperature
    probability = torch.softmax(logits, -1)
    if temperature == 0:
        token = logits.argmax(-1)
    else:
        cumulative = probability.cumsum(-1)
        total = cumulative[:, -1]
        # In single precision a number close to 1 rounds to 1, which is past the last token that has any probability
        target = torch.minimum(uniform.to(cumulative.dtype) * total, torch.nextafter(total, torch.zeros_like(total)))
        token = torch.searchsorted(cumulative, target[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return token, probability.gather(-1, token[:, None])[:, 0].double().log()


def longrope_side(num_tokens: int, max_tokens: int, threshold: int | None) -> Literal["below", "above", "across"]:
    """Where a prompt of num_tokens, and its replies of at most max_tokens, are relative to the longrope threshold."""
    if threshold is None or num_tokens + max_tokens <= threshold:
        return "below"
    return "above" if num_tokens > threshold else "across"


# ---- State of decoding ---------------------------------------------------------------------------------------------


def prefill(backbone: Backbone, prompts: Texts, n: int) -> tuple[KVCache, Float[Tensor, "n x"]]:
    """Compute the prompts as prefix trees; returns a cache for n replies to each, and the hidden state each starts from."""
    kv_by_layer: dict[int, tuple[Tensor, Tensor]] = {}
    hidden = backbone.run_prefix_tree(prompts, kv_by_layer=kv_by_layer)
    every_token = prefix_tree.build_forest(prompts, read_from=[0] * len(prompts)).read_positions
    positions = every_token.split([len(prompt) for prompt in prompts])
    groups = tuple(
        _prompt_group(members, positions, kv_by_layer, n) for members in group_by_length([len(p) for p in prompts])
    )
    prompt_of_row = np.concatenate([group.prompt_index[group.prompt_of_reply] for group in groups])
    order = torch.from_numpy(prompt_of_row).to(backbone.device)
    nth_reply = torch.arange(n, device=backbone.device).repeat(len(prompts))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=backbone.device)
    return KVCache(groups, order * n + nth_reply, lengths[order]), hidden[order]


@dataclass(frozen=True, slots=True)
class KVCache:
    """What the replies being decoded attend to: their prompts by group, and their own keys and values by layer.

    rows [n]: the index of each reply among all replies, group by group. prompt_lengths [n]. num_tokens: reply tokens in the
    cache; `keys` and `values` also have room for tokens to come.
    """

    groups: tuple[PromptGroup, ...]
    rows: Int[Tensor, " n"]
    prompt_lengths: Int[Tensor, " n"]
    num_tokens: int = 0
    keys: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)

    def step(self, backbone: Backbone, tokens: Int[Tensor, " n"]) -> tuple[KVCache, Float[Tensor, "n x"]]:
        """One decode step: append a token to each reply; returns the cache with it and the tokens' hidden states."""
        positions = self.prompt_lengths + self.num_tokens
        hidden = backbone.base_model(
            input_ids=tokens[None], position_ids=positions[None], use_cache=False, attention_layout=self
        ).last_hidden_state[0]
        return replace(self, num_tokens=self.num_tokens + 1), hidden

    def select(self, active: Tensor) -> KVCache:
        """The cache with active replies only."""
        sizes = [len(group.prompt_of_reply) for group in self.groups]
        kept = [part.nonzero()[:, 0] for part in active.split(sizes)]
        groups = tuple(group.select(replies) for group, replies in zip(self.groups, kept, strict=True) if len(replies))
        keys, values = ({layer: x[active] for layer, x in part.items()} for part in (self.keys, self.values))
        return KVCache(groups, self.rows[active], self.prompt_lengths[active], self.num_tokens, keys, values)

    def attend(
        self,
        layer: int | None,
        q: Float[Tensor, "n h d"],
        k: Float[Tensor, "n g d"],
        v: Float[Tensor, "n g d"],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "n h d"]:
        """One layer's attention: each new token attends to its prompt, and to its own reply up to itself."""
        assert layer is not None
        _append_token(self.keys, layer, k, self.num_tokens)
        _append_token(self.values, layer, v, self.num_tokens)
        q = q.unflatten(1, (k.shape[1], -1))
        by_group = zip(self.groups, q.split([len(group.prompt_of_reply) for group in self.groups]), strict=True)
        parts = [group.attend(layer, rows, self.num_tokens, scale, window, softcap) for group, rows in by_group]
        prompt, prompt_sum = (torch.cat(x) for x in zip(*parts, strict=True))
        own = slice(max(0, self.num_tokens + 1 - window) if window else 0, self.num_tokens + 1)
        keys, values = self.keys[layer][:, :, own], self.values[layer][:, :, own]
        reply, reply_sum = partial_attention(q, keys, values, scale, softcap)
        return torch.lerp(reply, prompt, torch.sigmoid(prompt_sum - reply_sum).to(q.dtype)).flatten(1, 2)


def _append_token(cache: dict[int, Tensor], layer: int, new: Float[Tensor, "m g d"], num_tokens: int) -> None:
    """Write a token behind the num_tokens before it; the room is doubled when it is full."""
    if layer not in cache:
        cache[layer] = new.new_empty((*new.shape[:2], INITIAL_CAPACITY, new.shape[2]))
    elif cache[layer].shape[2] == num_tokens:
        cache[layer] = torch.cat([cache[layer], torch.empty_like(cache[layer])], 2)
    cache[layer][:, :, num_tokens] = new


@dataclass(slots=True)
class PromptGroup:
    """Prompts of similar length padded to one width, as keys and values by layer.

    prompt_index [p]: which prompts. prompt_of_reply [m]: the prompt of each reply, as an index into the group. Replies are in
    the order of their prompts. Attention needs the same number of replies per prompt; where the numbers differ,
    reply_of_slot [p s] fills the missing slots with repeats, and slot_of_reply [m] is where each reply is.
    masks: by window, the number of reply tokens that a mask is for and the mask (`_mask`).
    """

    prompt_index: Int[np.ndarray, " p"]
    lengths: Int[Tensor, " p"]
    keys: dict[int, Float[Tensor, "p g t d"]]
    values: dict[int, Float[Tensor, "p g t d"]]
    prompt_of_reply: Int[np.ndarray, " m"]
    reply_of_slot: Tensor | None = None
    slot_of_reply: Tensor | None = None
    masks: dict[int | None, tuple[int, Tensor | None, Tensor | None]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Tokens of the longest prompt."""
        return next(iter(self.keys.values())).shape[2]

    def select(self, replies: Int[Tensor, " m"]) -> PromptGroup:
        """The group with these replies only. Prompts without replies are dropped once COMPACT_SHARE or less is needed."""
        prompt_of_reply = self.prompt_of_reply[replies.cpu().numpy()]
        needed = np.isin(np.arange(len(self.prompt_index)), prompt_of_reply)
        kept = np.flatnonzero(needed if needed.mean() <= COMPACT_SHARE else np.ones_like(needed))
        index = torch.from_numpy(kept).to(self.lengths.device)
        is_cut = len(kept) < len(needed)
        return PromptGroup(
            self.prompt_index[kept],
            self.lengths[index],
            {layer: x[index] for layer, x in self.keys.items()} if is_cut else self.keys,
            {layer: x[index] for layer, x in self.values.items()} if is_cut else self.values,
            np.searchsorted(kept, prompt_of_reply),
        ).with_slots()

    def with_slots(self) -> PromptGroup:
        """The group itself, with slots assigned where prompts have different numbers of replies."""
        counts = np.bincount(self.prompt_of_reply, minlength=len(self.prompt_index))
        most = int(counts.max())
        if not (counts == most).all():
            first = np.cumsum(counts) - counts
            nth_reply = np.arange(len(self.prompt_of_reply)) - first[self.prompt_of_reply]
            reply_of_slot = np.zeros((len(self.prompt_index), most), dtype=np.int64)
            reply_of_slot[self.prompt_of_reply, nth_reply] = np.arange(len(self.prompt_of_reply))
            slot_of_reply = self.prompt_of_reply * most + nth_reply
            self.reply_of_slot = torch.from_numpy(reply_of_slot.reshape(-1)).to(self.lengths.device)
            self.slot_of_reply = torch.from_numpy(slot_of_reply).to(self.lengths.device)
        return self

    def attend(
        self,
        layer: int,
        q: Float[Tensor, "m g r d"],
        num_tokens: int,
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> tuple[Float[Tensor, "m g r d"], Float[Tensor, "m g r 1"]]:
        """Attention of the next token of each reply to its prompt, and the log of the sum of its weights there.

        0.0 and -inf where a window of the model hides the whole prompt.
        """
        bias, is_all_hidden = self._mask(num_tokens, window, q.dtype)
        out, log_sum = partial_attention(self._by_prompt(q), self.keys[layer], self.values[layer], scale, softcap, bias)
        if is_all_hidden is not None:
            out, log_sum = out.masked_fill(is_all_hidden, 0), log_sum.masked_fill(is_all_hidden, -torch.inf)
        return self._by_reply(out), self._by_reply(log_sum)

    def _by_prompt(self, x: Float[Tensor, "m g r x"]) -> Float[Tensor, "p g sr x"]:
        x = x if self.reply_of_slot is None else x[self.reply_of_slot]
        by_prompt: Tensor = x.unflatten(0, (len(self.prompt_index), -1)).transpose(1, 2).flatten(2, 3)
        return by_prompt

    def _by_reply(self, x: Float[Tensor, "p g sr x"]) -> Float[Tensor, "m g r x"]:
        num_slots = len(self.prompt_of_reply) if self.reply_of_slot is None else len(self.reply_of_slot)
        x = x.unflatten(2, (num_slots // len(self.prompt_index), -1)).transpose(1, 2).flatten(0, 1)
        return x if self.slot_of_reply is None else x[self.slot_of_reply]

    def _mask(self, num_tokens: int, window: int | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """A bias that is -inf at keys that a prompt's replies must not see [p 1 1 t], and where that is all keys [p 1 1 1].

        None where nothing is hidden, or no prompt as a whole. All layers with the same window share a mask.
        """
        masked_for, bias, is_all_hidden = self.masks.get(window, (-1, None, None))
        if masked_for == num_tokens or (masked_for >= 0 and not window):
            return bias, is_all_hidden
        position = torch.arange(self.width, device=self.lengths.device)
        hidden = position >= self.lengths[:, None]
        if window:
            hidden |= position <= self.lengths[:, None] + num_tokens - window
        hidden = hidden[:, None, None]
        bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
        bias, is_all_hidden = (bias if hidden.any() else None), hidden.all(-1, keepdim=True)
        self.masks[window] = (num_tokens, bias, is_all_hidden if is_all_hidden.any() else None)
        return self.masks[window][1:]


def group_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """Divide prompts by length so that padding within a group costs less than one more group would."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups = [[i] for i in order]
    while len(groups) > 1:  # merge the two neighbors that need the least padding
        padding = [len(b) * (lengths[a[0]] - lengths[b[0]]) for a, b in pairwise(groups)]
        at = int(np.argmin(padding))
        if padding[at] > GROUP_COST:
            break
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return groups


def _prompt_group(
    members: list[int], positions: Sequence[Tensor], kv_by_layer: dict[int, tuple[Tensor, Tensor]], n: int
) -> PromptGroup:
    """The keys and values of some prompts, copied from the row (position by position) into padded rows."""
    device = next(iter(kv_by_layer.values()))[0].device
    lengths = torch.tensor([len(positions[i]) for i in members])
    index = torch.zeros((len(members), int(lengths.max())), dtype=torch.long)
    for row, i in enumerate(members):
        index[row, : len(positions[i])] = positions[i]
    flat = index.flatten().to(device)

    def padded(x: Tensor) -> Tensor:
        return x.index_select(0, flat).view(*index.shape, *x.shape[1:]).transpose(1, 2).contiguous()

    return PromptGroup(
        np.array(members),
        lengths.to(device),
        {layer: padded(k) for layer, (k, _) in kv_by_layer.items()},
        {layer: padded(v) for layer, (_, v) in kv_by_layer.items()},
        np.repeat(np.arange(len(members)), n),
    )


def partial_attention(
    q: Float[Tensor, "n g r d"],
    k: Float[Tensor, "n g t d"],
    v: Float[Tensor, "n g t d"],
    scale: float,
    softcap: float | None,
    bias: Float[Tensor, "n 1 1 t"] | None = None,
) -> tuple[Float[Tensor, "n g r d"], Float[Tensor, "n g r 1"]]:
    """Attention to some of the keys, and the log of the sum of its weights, by which two parts are combined.

    On CPUs torch's fused kernel, where it applies, takes a third of the time of plain products in bfloat16.
    """
    if has_cpu_kernel(q, v, softcap):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, log_sum = kernel(q, k, v, attn_mask=bias, scale=scale)
        return out, log_sum[..., None]
    scores = torch.matmul(q, k.transpose(2, 3)).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    if bias is not None:
        scores += bias
    log_sum = scores.logsumexp(-1, keepdim=True)
    return torch.matmul((scores - log_sum).exp_().to(v.dtype), v), log_sum


def has_cpu_kernel(q: Tensor, v: Tensor, softcap: float | None) -> bool:
    """Whether torch's fused attention for CPUs takes these tensors."""
    return softcap is None and q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def start_without_cache(backbone: Backbone, prompts: Texts, n: int) -> tuple[NoCache, Float[Tensor, "n x"]]:
    """Like `prefill`, with nothing cached."""
    texts = [prompt for prompt in prompts for _ in range(n)]
    return NoCache(texts, torch.arange(len(texts), device=backbone.device)), backbone.hidden_states(texts)


@dataclass(frozen=True, slots=True)
class NoCache:
    """Prompts with their replies so far, recomputed at each step; a prompt is still computed once for all its replies.

    For texts that cross the longrope threshold, beyond which the keys from before are no longer valid.
    """

    texts: list[Int[np.ndarray, " t"]]
    rows: Int[Tensor, " n"]

    def step(self, backbone: Backbone, tokens: Int[Tensor, " n"]) -> tuple[NoCache, Float[Tensor, "n x"]]:
        """Append a token to each text; returns the texts with it and the hidden states there."""
        new = tokens.cpu().numpy().astype(self.texts[0].dtype)
        texts = [np.append(text, token) for text, token in zip(self.texts, new, strict=True)]
        return replace(self, texts=texts), backbone.hidden_states(texts)

    def select(self, active: Tensor) -> NoCache:
        """Active replies only."""
        return NoCache(
            [text for text, is_active in zip(self.texts, active.tolist(), strict=True) if is_active], self.rows[active]
        )
