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

from assay.contracts import FinishReason
from assay.models import tree
from assay.models.trunk import Texts, Trunk

SHELF = 1500  # tokens of padding, computed at each step, that one more shelf's calls cost as much as
SHED = 0.75  # when this share or fewer still grow, what ended is dropped; until then it is computed and not looked at
BEGIN = 32  # tokens of room for replies at first; doubled when full


@dataclass(frozen=True, slots=True)
class Drawn:
    """Replies as token ids, those of one prompt together; an end token is a reply's last.

    log_prob: nats of each reply under the distribution that it was drawn from [n].
    """

    replies: list[Int[np.ndarray, " t"]]
    finish: list[FinishReason]
    log_prob: Float[np.ndarray, " n"]


def draw(
    trunk: Trunk,
    logits: Callable[[Float[Tensor, "n x"]], Float[Tensor, "n v"]],
    prompts: Texts,
    chance: Float[np.ndarray, "n t"],
    *,
    temperature: float,
    stops: Sequence[int],
    advance: Callable[[int], None] = lambda count: None,
) -> Drawn:
    """Draw replies, as many to each prompt, by their chances in [0, 1). Temperature 0 takes the likeliest token."""
    uniform = torch.from_numpy(chance).to(trunk.device)
    max_tokens = chance.shape[1]
    ends = torch.tensor(sorted(stops), device=trunk.device)
    tokens = torch.full(chance.shape, -1, device=trunk.device)
    nats = torch.zeros(len(tokens), dtype=torch.float64, device=trunk.device)
    memory, hidden = remember(trunk, prompts, len(chance) // len(prompts))
    grows = torch.ones(len(tokens), dtype=torch.bool, device=trunk.device)
    for t in range(max_tokens):
        chosen, log_prob = pick(logits(hidden), uniform[memory.alive, t], temperature)
        at = memory.alive[grows]
        tokens[at, t] = chosen[grows]
        nats[at] += log_prob[grows]
        grows = grows & ~torch.isin(chosen, ends)
        advance(len(at) if t + 1 == max_tokens else len(at) - int(grows.sum()))
        if t + 1 == max_tokens or not grows.any():
            break
        if grows.double().mean() <= SHED:
            memory, chosen, grows = memory.only(grows), chosen[grows], grows[grows]
        memory, hidden = memory.step(trunk, chosen)
    return _drawn(tokens.cpu().numpy(), nats.cpu().numpy(), set(stops))


def chances(prompts: Texts, n: int, max_tokens: int, seeds: Sequence[int]) -> Float[np.ndarray, "n t"]:
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


def pick(
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
    """Prompts of similar length padded to one width, and the replies to them: keys and values by layer.

    `of` [m] is the prompt of each reply, as an index into the shelf. Where every prompt has as many replies they
    stand in order; else `slots` [p s] says which reply stands in each slot (a missing one repeats another) and `back` [m] where.
    """

    prompts: Int[np.ndarray, " p"]
    lengths: Int[Tensor, " p"]
    keys: dict[int, Float[Tensor, "p g t d"]]
    values: dict[int, Float[Tensor, "p g t d"]]
    of: Int[np.ndarray, " m"]
    reply_keys: dict[int, Float[Tensor, "m g t d"]] = field(default_factory=dict)
    reply_values: dict[int, Float[Tensor, "m g t d"]] = field(default_factory=dict)
    slots: Tensor | None = None
    back: Tensor | None = None
    masks: dict[int | None, tuple[int, Tensor | None]] = field(default_factory=dict)

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
            {layer: x[rows] for layer, x in self.reply_keys.items()},
            {layer: x[rows] for layer, x in self.reply_values.items()},
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

    def attended(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        size: int,
        scale: float,
        window: int | None,
        cap: float | None,
    ) -> Float[Tensor, "m h d"]:
        """Each new token sees its prompt and its own reply up to itself."""
        m, g, d = k.shape
        _write(self.reply_keys, layer, k, size)
        _write(self.reply_values, layer, v, size)
        own = slice(max(0, size + 1 - window) if window else 0, size + 1)
        q = q.reshape(m, g, -1, d)
        seen = torch.matmul(self._by_prompt(q), self.keys[layer].transpose(2, 3))
        scores = torch.cat(
            [self._by_reply(seen), torch.matmul(q, self.reply_keys[layer][:, :, own].transpose(2, 3))], 3
        ).float()
        scores *= scale
        if cap is not None:
            scores.div_(cap).tanh_().mul_(cap)
        if (hidden := self._hidden(size, window)) is not None:
            scores[..., : self.width].masked_fill_(hidden, -torch.inf)
        weights = torch.softmax(scores, -1).to(v.dtype)
        out = torch.matmul(weights[..., self.width :], self.reply_values[layer][:, :, own])
        out += self._by_reply(torch.matmul(self._by_prompt(weights[..., : self.width]), self.values[layer]))
        return out.flatten(1, 2)

    def _by_prompt(self, x: Float[Tensor, "m g r x"]) -> Float[Tensor, "p g sr x"]:
        x = x if self.slots is None else x[self.slots]
        found: Tensor = x.unflatten(0, (len(self.prompts), -1)).transpose(1, 2).flatten(2, 3)
        return found

    def _by_reply(self, x: Float[Tensor, "p g sr x"]) -> Float[Tensor, "m g r x"]:
        num = len(self.of) if self.slots is None else len(self.slots)
        x = x.unflatten(2, (num // len(self.prompts), -1)).transpose(1, 2).flatten(0, 1)
        return x if self.back is None else x[self.back]

    def _hidden(self, size: int, window: int | None) -> Tensor | None:
        """True where a reply's next token may not see a place of the prompt's row; None where it may see all. Same for all layers."""
        at, hidden = self.masks.get(window, (-1, None))
        if at == size or (at >= 0 and not window):
            return hidden
        place = torch.arange(self.width, device=self.lengths.device)
        by_prompt = place >= self.lengths[:, None]
        if window:
            by_prompt |= place <= self.lengths[:, None] + size - window
        if by_prompt.any():
            hidden = by_prompt[torch.from_numpy(self.of).to(by_prompt.device)][:, None, None]
        self.masks[window] = (size, hidden)
        return hidden


@dataclass(frozen=True, slots=True)
class Memory:
    """What the replies that still grow can see. Rows stand shelf by shelf; `alive` [n] are their numbers among all replies."""

    shelves: tuple[Shelf, ...]
    alive: Int[Tensor, " n"]
    lengths: Int[Tensor, " n"]
    size: int = 0

    def step(self, trunk: Trunk, tokens: Int[Tensor, " n"]) -> tuple[Memory, Float[Tensor, "n x"]]:
        """Compute one more token of each reply; returns what can be seen then, and the tokens' hidden states."""
        hidden = trunk.body(
            input_ids=tokens[None], position_ids=(self.lengths + self.size)[None], use_cache=False, forest=self
        ).last_hidden_state[0]
        return replace(self, size=self.size + 1), hidden

    def only(self, grows: Tensor) -> Memory:
        """Without the replies that ended."""
        sizes = [len(shelf.of) for shelf in self.shelves]
        kept = [part.nonzero()[:, 0] for part in grows.split(sizes)]
        shelves = tuple(shelf.only(rows) for shelf, rows in zip(self.shelves, kept, strict=True) if len(rows))
        return Memory(shelves, self.alive[grows], self.lengths[grows], self.size)

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
        """One layer's attention, shelf by shelf."""
        assert layer is not None
        sizes = [len(shelf.of) for shelf in self.shelves]
        parts = zip(self.shelves, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
        return torch.cat([s.attended(layer, q, k, v, self.size, scale, window, softcap) for s, q, k, v in parts])


def remember(trunk: Trunk, prompts: Texts, n: int) -> tuple[Memory, Float[Tensor, "n x"]]:
    """Compute the prompts as a forest; returns what replies see of them, and the hidden state that each reply begins from."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    planted = replace(tree.plant(prompts, trunk.device, last=trunk.reads, varlen=trunk.varlen), kept=kept)
    hidden = trunk.body(
        input_ids=planted.input_ids, position_ids=planted.position_ids, use_cache=False, forest=planted
    ).last_hidden_state[0]
    hidden = hidden[planted.which if trunk.reads else planted.read]
    places = tree.plant(prompts, since=[0] * len(prompts)).read.split([len(prompt) for prompt in prompts])
    shelves = tuple(_shelf(some, places, kept, n) for some in alike([len(p) for p in prompts], n))
    order = torch.from_numpy(np.concatenate([shelf.prompts[shelf.of] for shelf in shelves])).to(trunk.device)
    turn = torch.arange(n, device=trunk.device).repeat(len(prompts))
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=trunk.device)
    return Memory(shelves, order * n + turn, lengths[order]), hidden[order]


def alike(lengths: Sequence[int], n: int) -> list[list[int]]:
    """Divide texts by length so that padding within a shelf costs less than a shelf more would."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups = [[i] for i in order]
    while len(groups) > 1:  # neighbours that lose least by being padded to one width
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


def _drawn(tokens: Int[np.ndarray, "n t"], nats: Float[np.ndarray, " n"], stops: set[int]) -> Drawn:
    replies: list[Int[np.ndarray, " t"]] = []
    finish: list[FinishReason] = []
    for row in tokens:
        ids = row[row >= 0].astype(np.int32)
        replies.append(ids)
        finish.append("stop" if int(ids[-1]) in stops else "length")
    return Drawn(replies, finish, nats)
