"""Replies drawn token by token: each prompt is computed once, without padding, and kept once for all its replies.

Axes: p prompts, n replies that still grow, s replies of one prompt, t tokens, v vocabulary, h query heads, g key heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from guerdon.contracts import FinishReason
from guerdon.models.engine import prefix_tree
from guerdon.models.engine.backbone import Backbone, Texts

SHELF = 1500  # tokens of padding, computed at each step, that one more shelf's calls cost as much as
SHED = 0.75  # when this share or fewer still grow, what ended is dropped; until then it is computed and not looked at
BEGIN = 32  # tokens of room for replies at first; doubled when full


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """Replies as token ids, those of one prompt together; an end token is a reply's last.

    The engine knows no text, so this is all it can say; `LanguagePolicy.sample_encoded` makes it `contracts.Rollouts`.
    log_prob: nats of each reply under the distribution that it was drawn from, at temperature 0 under that of temperature 1 [n].
    """

    replies: list[Int[np.ndarray, " t"]]
    finish: list[FinishReason]
    log_prob: Float[np.ndarray, " n"]

    @classmethod
    def concatenate(cls, parts: Sequence[SampledTokens]) -> SampledTokens:
        """The replies of all parts, part by part."""
        return cls(
            [reply for part in parts for reply in part.replies],
            [finish for part in parts for finish in part.finish],
            np.concatenate([part.log_prob for part in parts]) if parts else np.zeros(0),
        )

    def select(self, rows: Int[np.ndarray, " m"]) -> SampledTokens:
        """Of these rows, in their order."""
        return SampledTokens([self.replies[i] for i in rows], [self.finish[i] for i in rows], self.log_prob[rows])


def generate(
    backbone: Backbone,
    logits: Callable[[Float[Tensor, "n x"]], Float[Tensor, "n v"]],
    prompts: Texts,
    chance: Float[np.ndarray, "n t"],
    *,
    temperature: float,
    stops: Sequence[int],
    advance: Callable[[int], None] = lambda count: None,
) -> SampledTokens:
    """Draw replies, as many to each prompt, by their chances in [0, 1). Temperature 0 takes the likeliest token.

    Prompts stand alike to a turn of the positions (`side`): what a pass computes depends on its longest text there.
    """
    uniform = torch.from_numpy(chance).to(backbone.device)
    max_tokens = chance.shape[1]
    ends = torch.tensor(sorted(stops), device=backbone.device)
    tokens = torch.full(chance.shape, -1, device=backbone.device)
    nats = torch.zeros(len(tokens), dtype=torch.float64, device=backbone.device)
    across = {longrope_side(len(prompt), max_tokens, backbone.longrope_threshold) for prompt in prompts} == {"across"}
    memory: Memory | Anew
    memory, hidden = (begin_anew if across else remember)(backbone, prompts, len(chance) // len(prompts))
    grows = torch.ones(len(tokens), dtype=torch.bool, device=backbone.device)
    for t in range(max_tokens):
        chosen, log_prob = sample_token(logits(hidden), uniform[memory.alive, t], temperature)
        at = memory.alive[grows]
        tokens[at, t] = chosen[grows]
        nats[at] += log_prob[grows]
        grows = grows & ~torch.isin(chosen, ends)
        advance(len(at) if t + 1 == max_tokens else len(at) - int(grows.sum()))
        if t + 1 == max_tokens or not grows.any():
            break
        if grows.double().mean() <= SHED:
            memory, chosen, grows = memory.only(grows), chosen[grows], grows[grows]
        memory, hidden = memory.step(backbone, chosen)
    return _drawn(tokens.cpu().numpy(), nats.cpu().numpy(), set(stops))


def token_uniforms(prompts: Texts, n: int, max_tokens: int, seeds: Sequence[int]) -> Float[np.ndarray, "n t"]:
    """A uniform number for every token that may be drawn.

    Those of a prompt depend on its seed, the prompt and how often both were given before, not on its company.
    """
    given: dict[tuple[int, bytes], int] = {}
    rows = np.empty((len(prompts) * n, max_tokens))
    for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        key = (seed, prompt.astype("<u4").tobytes())
        time = given[key] = given.get(key, -1) + 1
        entropy = [seed, time, n, *prompt.tolist()]
        rows[i * n : (i + 1) * n] = np.random.default_rng(entropy).random((n, max_tokens))
    return rows


def sample_token(
    logits: Float[Tensor, "n v"], chance: Float[Tensor, " n"], temperature: float
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """One token a row by inverting its distribution at a chance in [0, 1), with its log-probability (nats)."""
    logits = logits.float()
    if temperature not in (0, 1):
        logits = logits / temperature
    share = torch.softmax(logits, -1)
    if temperature == 0:
        chosen = logits.argmax(-1)
    else:
        total = share.cumsum(-1)
        whole = total[:, -1]
        # In single precision a chance may round to 1, which no token's place reaches: the last that can come takes it
        aim = torch.minimum(chance.to(total.dtype) * whole, torch.nextafter(whole, torch.zeros_like(whole)))
        chosen = torch.searchsorted(total, aim[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return chosen, share.gather(-1, chosen[:, None])[:, 0].double().log()


@dataclass(slots=True)
class Shelf:
    """Prompts of similar length padded to one width: keys and values by layer.

    `of` [m] is the prompt of each reply to them, as an index into the shelf. Where every prompt has as many replies they
    stand in order; else `slots` [p s] says which reply stands in each slot (a missing one repeats another) and `back` [m] where.
    """

    prompts: Int[np.ndarray, " p"]
    lengths: Int[Tensor, " p"]
    keys: dict[int, Float[Tensor, "p g t d"]]
    values: dict[int, Float[Tensor, "p g t d"]]
    of: Int[np.ndarray, " m"]
    slots: Tensor | None = None
    back: Tensor | None = None
    hidden: dict[int | None, tuple[int, Tensor | None, Tensor | None]] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Tokens of the longest prompt."""
        return next(iter(self.keys.values())).shape[2]

    def only(self, rows: Int[Tensor, " m"]) -> Shelf:
        """With these replies only, and without prompts that none of them answers, once those are many."""
        of = self.of[rows.cpu().numpy()]
        needed = np.isin(np.arange(len(self.prompts)), of)
        keep = np.flatnonzero(needed if needed.mean() <= SHED else np.ones_like(needed))
        index = torch.from_numpy(keep).to(self.lengths.device)
        cut = len(keep) < len(needed)
        return Shelf(
            self.prompts[keep],
            self.lengths[index],
            {layer: x[index] for layer, x in self.keys.items()} if cut else self.keys,
            {layer: x[index] for layer, x in self.values.items()} if cut else self.values,
            np.searchsorted(keep, of),
        ).arranged()

    def arranged(self) -> Shelf:
        """With a slot for each reply."""
        counts = np.bincount(self.of, minlength=len(self.prompts))
        most = int(counts.max())
        if not (counts == most).all():
            first = np.cumsum(counts) - counts
            place = np.arange(len(self.of)) - first[self.of]
            slots = np.zeros((len(self.prompts), most), dtype=np.int64)
            slots[self.of, place] = np.arange(len(self.of))
            self.slots = torch.from_numpy(slots.reshape(-1)).to(self.lengths.device)
            self.back = torch.from_numpy(self.of * most + place).to(self.lengths.device)
        return self

    def seen(
        self, layer: int, q: Float[Tensor, "m g r d"], size: int, scale: float, window: int | None, cap: float | None
    ) -> tuple[Float[Tensor, "m g r d"], Float[Tensor, "m g r 1"]]:
        """What the next token of each reply sees of its prompt, and the log of the sum of its weights there."""
        bias, none = self._hidden(size, window, q.dtype)
        out, total = glance(self._by_prompt(q), self.keys[layer], self.values[layer], scale, cap, bias)
        if none is not None:
            out, total = out.masked_fill(none, 0), total.masked_fill(none, -torch.inf)
        return self._by_reply(out), self._by_reply(total)

    def _by_prompt(self, x: Float[Tensor, "m g r x"]) -> Float[Tensor, "p g sr x"]:
        x = x if self.slots is None else x[self.slots]
        found: Tensor = x.unflatten(0, (len(self.prompts), -1)).transpose(1, 2).flatten(2, 3)
        return found

    def _by_reply(self, x: Float[Tensor, "p g sr x"]) -> Float[Tensor, "m g r x"]:
        num = len(self.of) if self.slots is None else len(self.slots)
        x = x.unflatten(2, (num // len(self.prompts), -1)).transpose(1, 2).flatten(0, 1)
        return x if self.back is None else x[self.back]

    def _hidden(self, size: int, window: int | None, dtype: torch.dtype) -> tuple[Tensor | None, Tensor | None]:
        """What to add to scores: -inf at places that a prompt's replies may not see [p 1 1 t]; where that is all of them [p 1 1 1].

        None where nothing is hidden, or never all. The same for all layers of a window.
        """
        at, bias, none = self.hidden.get(window, (-1, None, None))
        if at == size or (at >= 0 and not window):
            return bias, none
        place = torch.arange(self.width, device=self.lengths.device)
        hidden = place >= self.lengths[:, None]
        if window:
            hidden |= place <= self.lengths[:, None] + size - window
        hidden = hidden[:, None, None]
        bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
        bias, none = (bias if hidden.any() else None), hidden.all(-1, keepdim=True)
        self.hidden[window] = (size, bias, none if none.any() else None)
        return self.hidden[window][1:]


@dataclass(frozen=True, slots=True)
class Memory:
    """What the replies that still grow can see: their prompts by shelf, and their own keys and values by layer.

    Rows stand shelf by shelf; `alive` [n] are their numbers among all replies. Room for tokens to come is part of `keys`.
    """

    shelves: tuple[Shelf, ...]
    alive: Int[Tensor, " n"]
    lengths: Int[Tensor, " n"]
    size: int = 0
    keys: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)

    def step(self, backbone: Backbone, tokens: Int[Tensor, " n"]) -> tuple[Memory, Float[Tensor, "n x"]]:
        """Compute one more token of each reply; returns what can be seen then, and the tokens' hidden states."""
        hidden = backbone.base_model(
            input_ids=tokens[None], position_ids=(self.lengths + self.size)[None], use_cache=False, forest=self
        ).last_hidden_state[0]
        return replace(self, size=self.size + 1), hidden

    def only(self, grows: Tensor) -> Memory:
        """Without the replies that ended."""
        sizes = [len(shelf.of) for shelf in self.shelves]
        kept = [part.nonzero()[:, 0] for part in grows.split(sizes)]
        shelves = tuple(shelf.only(rows) for shelf, rows in zip(self.shelves, kept, strict=True) if len(rows))
        keys, values = ({layer: x[grows] for layer, x in part.items()} for part in (self.keys, self.values))
        return Memory(shelves, self.alive[grows], self.lengths[grows], self.size, keys, values)

    def attended(
        self,
        layer: int | None,
        q: Float[Tensor, "n h d"],
        k: Float[Tensor, "n g d"],
        v: Float[Tensor, "n g d"],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Float[Tensor, "n h d"]:
        """One layer's attention: each new token sees its prompt, and its own reply up to itself."""
        assert layer is not None
        _write(self.keys, layer, k, self.size)
        _write(self.values, layer, v, self.size)
        q = q.unflatten(1, (k.shape[1], -1))
        parts = zip(self.shelves, q.split([len(shelf.of) for shelf in self.shelves]), strict=True)
        far = [shelf.seen(layer, rows, self.size, scale, window, softcap) for shelf, rows in parts]
        prompt, above = (torch.cat(x) for x in zip(*far, strict=True))
        own = slice(max(0, self.size + 1 - window) if window else 0, self.size + 1)
        reply, below = glance(q, self.keys[layer][:, :, own], self.values[layer][:, :, own], scale, softcap)
        return torch.lerp(reply, prompt, torch.sigmoid(above - below).to(q.dtype)).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class Anew:
    """Texts of which nothing is remembered: each step computes them whole, a prompt once for all its replies.

    For texts that pass a turn of the positions, behind which keys from before are void.
    """

    texts: list[Int[np.ndarray, " t"]]
    alive: Int[Tensor, " n"]

    def step(self, backbone: Backbone, tokens: Int[Tensor, " n"]) -> tuple[Anew, Float[Tensor, "n x"]]:
        """The same texts with one more token each, and the hidden states there."""
        new = tokens.cpu().numpy().astype(self.texts[0].dtype)
        texts = [np.append(text, token) for text, token in zip(self.texts, new, strict=True)]
        return replace(self, texts=texts), backbone.hidden_states(texts)

    def only(self, grows: Tensor) -> Anew:
        """Without the replies that ended."""
        return Anew([text for text, kept in zip(self.texts, grows.tolist(), strict=True) if kept], self.alive[grows])


def begin_anew(backbone: Backbone, prompts: Texts, n: int) -> tuple[Anew, Float[Tensor, "n x"]]:
    """As `remember`, with nothing remembered."""
    texts = [prompt for prompt in prompts for _ in range(n)]
    return Anew(texts, torch.arange(len(texts), device=backbone.device)), backbone.hidden_states(texts)


def longrope_side(size: int, max_tokens: int, turn: int | None) -> str:
    """Where a prompt of so many tokens and its replies stand to a length from which a model turns all positions another way."""
    if turn is None or size + max_tokens <= turn:
        return "before"
    return "behind" if size > turn else "across"


def glance(
    q: Float[Tensor, "n g r d"],
    k: Float[Tensor, "n g t d"],
    v: Float[Tensor, "n g t d"],
    scale: float,
    cap: float | None,
    bias: Float[Tensor, "n 1 1 t"] | None = None,
) -> tuple[Float[Tensor, "n g r d"], Float[Tensor, "n g r 1"]]:
    """Attention to some of what may be seen, and the log of the sum of its weights, by which parts are put together.

    On a CPU torch's own kernel, where it computes what is asked, took a third of the time of plain products in bfloat16.
    """
    if has_kernel(q, v, cap):
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, total = kernel(q, k, v, attn_mask=bias, scale=scale)
        return out, total[..., None]
    scores = torch.matmul(q, k.transpose(2, 3)).to(torch.promote_types(q.dtype, torch.float32)) * scale
    if cap is not None:
        scores.div_(cap).tanh_().mul_(cap)
    if bias is not None:
        scores += bias
    total = scores.logsumexp(-1, keepdim=True)
    return torch.matmul((scores - total).exp_().to(v.dtype), v), total


def has_kernel(q: Tensor, v: Tensor, cap: float | None) -> bool:
    """Whether torch's fused attention for CPUs computes what is asked."""
    return cap is None and q.device.type == "cpu" and q.shape[-1] == v.shape[-1]


def remember(backbone: Backbone, prompts: Texts, n: int) -> tuple[Memory, Float[Tensor, "n x"]]:
    """Compute the prompts as a forest; returns what replies see of them, and the hidden state that each reply begins from."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    planted = replace(
        prefix_tree.build_forest(prompts, backbone.device, last=backbone.last_layer, varlen=backbone.allow_varlen),
        kept=kept,
    )
    hidden = backbone.base_model(
        input_ids=planted.input_ids, position_ids=planted.position_ids, use_cache=False, forest=planted
    ).last_hidden_state[0]
    hidden = hidden[planted.which if backbone.last_layer else planted.read]
    places = prefix_tree.build_forest(prompts, since=[0] * len(prompts)).read.split([len(prompt) for prompt in prompts])
    shelves = tuple(_shelf(some, places, kept, n) for some in alike([len(p) for p in prompts]))
    order = torch.from_numpy(np.concatenate([shelf.prompts[shelf.of] for shelf in shelves])).to(backbone.device)
    turn = torch.arange(n, device=backbone.device).repeat(len(prompts))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=backbone.device)
    return Memory(shelves, order * n + turn, lengths[order]), hidden[order]


def alike(lengths: Sequence[int]) -> list[list[int]]:
    """Divide texts by length so that padding within a shelf costs less than a shelf more would."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups = [[i] for i in order]
    while len(groups) > 1:  # neighbors that lose least by being padded to one width
        loss = [len(b) * (lengths[a[0]] - lengths[b[0]]) for a, b in pairwise(groups)]
        at = int(np.argmin(loss))
        if loss[at] > SHELF:
            break
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return groups


def _shelf(some: list[int], places: Sequence[Tensor], kept: dict[int, tuple[Tensor, Tensor]], n: int) -> Shelf:
    device = next(iter(kept.values()))[0].device
    lengths = torch.tensor([len(places[i]) for i in some])
    index = torch.zeros((len(some), int(lengths.max())), dtype=torch.long)
    for row, i in enumerate(some):
        index[row, : len(places[i])] = places[i]
    flat = index.flatten().to(device)

    def gathered(x: Tensor) -> Tensor:
        return x.index_select(0, flat).view(*index.shape, *x.shape[1:]).transpose(1, 2).contiguous()

    return Shelf(
        np.array(some),
        lengths.to(device),
        {layer: gathered(k) for layer, (k, _) in kept.items()},
        {layer: gathered(v) for layer, (_, v) in kept.items()},
        np.repeat(np.arange(len(some)), n),
    )


def _write(kept: dict[int, Tensor], layer: int, new: Float[Tensor, "m g d"], size: int) -> None:
    """Put a token behind the ones before it; room is doubled when it is full."""
    if layer not in kept:
        kept[layer] = new.new_empty((*new.shape[:2], BEGIN, new.shape[2]))
    elif kept[layer].shape[2] == size:
        kept[layer] = torch.cat([kept[layer], torch.empty_like(kept[layer])], 2)
    kept[layer][:, :, size] = new


def _drawn(tokens: Int[np.ndarray, "n t"], nats: Float[np.ndarray, " n"], stops: set[int]) -> SampledTokens:
    replies: list[Int[np.ndarray, " t"]] = []
    finish: list[FinishReason] = []
    for row in tokens:
        ids = row[row >= 0].astype(np.int32)
        replies.append(ids)
        finish.append("stop" if int(ids[-1]) in stops else "length")
    return SampledTokens(replies, finish, nats)
