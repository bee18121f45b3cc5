"""Replies drawn token by token: each prompt is computed once, without padding, and kept once for all its replies.

Axes: p prompts, n replies that still grow, s replies of one prompt, t tokens, v vocabulary, h query heads, g key heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from assay.contracts import FinishReason
from assay.models import tree
from assay.models.trunk import Texts, Trunk

ALIKE = 0.6  # prompts at least this long, as a share of the longest, are padded to one width
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
    n: int,
    max_tokens: int,
    *,
    temperature: float,
    seed: int,
    stops: Sequence[int],
    advance: Callable[[int], None] = lambda count: None,
) -> Drawn:
    """Draw n replies to each prompt. Temperature 0 takes the likeliest token.

    What is drawn for a prompt depends on the seed, the prompt and how often it was given before, not on its company.
    """
    chance = torch.from_numpy(chances(prompts, n, max_tokens, seed)).to(trunk.device)
    ends = torch.tensor(sorted(stops), device=trunk.device)
    tokens = torch.full((len(prompts) * n, max_tokens), -1, device=trunk.device)
    nats = torch.zeros(len(tokens), dtype=torch.float64, device=trunk.device)
    memory, hidden = remember(trunk, prompts, n)
    grows = torch.ones(len(tokens), dtype=torch.bool, device=trunk.device)
    for t in range(max_tokens):
        chosen, log_prob = pick(logits(hidden), chance[memory.alive, t], temperature)
        at = memory.alive[grows]
        tokens[at, t] = chosen[grows]
        nats[at] += log_prob[grows]
        grows = grows & ~torch.isin(chosen, ends)
        advance(len(at) if t + 1 == max_tokens else len(at) - int(grows.sum()))
        if t + 1 == max_tokens or not grows.any():
            break
        if grows.double().mean() <= SHED:
            memory, chosen, grows = memory.only(grows), chosen[grows], grows[grows]
        hidden = memory.step(trunk, chosen)
    return _drawn(tokens.cpu().numpy(), nats.cpu().numpy(), set(stops))


def chances(prompts: Texts, n: int, max_tokens: int, seed: int) -> Float[np.ndarray, "n t"]:
    """A uniform number for every token that may be drawn."""
    given: dict[bytes, int] = {}
    rows = np.empty((len(prompts) * n, max_tokens))
    for i, prompt in enumerate(prompts):
        key = prompt.astype("<u4").tobytes()
        time = given[key] = given.get(key, -1) + 1
        entropy = [seed, time, n, *np.frombuffer(key, dtype="<u4").tolist()]
        rows[i * n : (i + 1) * n] = np.random.default_rng(entropy).random((n, max_tokens))
    return rows


def pick(
    logits: Float[Tensor, "n v"], chance: Float[Tensor, " n"], temperature: float
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """One token a row by inverting its distribution at a chance in [0, 1), with its log-probability (nats)."""
    if temperature == 0:
        log_probs = torch.log_softmax(logits.float(), -1)
        best = log_probs.argmax(-1)
        return best, log_probs.gather(-1, best[:, None])[:, 0].double()
    log_probs = torch.log_softmax(logits.float() / temperature, -1)
    total = log_probs.exp().cumsum(-1)
    aim = chance.to(total.dtype) * total[:, -1]
    chosen = torch.searchsorted(total, aim[:, None], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return chosen, log_probs.gather(-1, chosen[:, None])[:, 0].double()


@dataclass(frozen=True, slots=True)
class Shelf:
    """Prompts of similar length, padded to one width. `slots` [p, s] are their replies' rows; a missing one repeats a row.

    `back` says which slots are a row's own, and `rows` whose they are.
    """

    prompts: Int[np.ndarray, " p"]
    lengths: Int[Tensor, " p"]
    keys: dict[int, Float[Tensor, "p_g t d"]]
    values: dict[int, Float[Tensor, "p_g t d"]]
    slots: Int[Tensor, " p_s"]
    rows: Int[Tensor, " n"]
    back: Int[Tensor, " n"]

    def seen(self, position: Int[Tensor, " p"], window: int | None) -> Float[Tensor, "p 1 1 t"]:
        """0 where the next token of a prompt's replies may see the prompt's token, else minus infinity."""
        place = torch.arange(next(iter(self.keys.values())).shape[1], device=self.lengths.device)
        hidden = place >= self.lengths[:, None]
        if window:
            hidden |= place <= position[:, None] - window
        return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, -torch.inf)[:, None, None]


@dataclass(slots=True)
class Memory:
    """Keys and values of prompts and of the replies that still grow. `alive` [n] are the rows of these among all replies."""

    shelves: list[Shelf]
    alive: Int[Tensor, " n"]
    prompt_of: Int[np.ndarray, " n"]
    lengths: Int[Tensor, " n"]
    keys: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)
    values: dict[int, Float[Tensor, "n g t d"]] = field(default_factory=dict)
    size: int = 0
    masks: dict[Any, Any] = field(default_factory=dict)

    def step(self, trunk: Trunk, tokens: Int[Tensor, " n"]) -> Float[Tensor, "n x"]:
        """Compute one more token of each reply; returns its hidden state."""
        self.masks = {}
        hidden = trunk.body(
            input_ids=tokens[None], position_ids=(self.lengths + self.size)[None], use_cache=False, forest=self
        ).last_hidden_state[0]
        self.size += 1
        return hidden  # type: ignore[no-any-return]

    def only(self, grows: Tensor) -> Memory:
        """Without the replies that ended."""
        keep = grows.nonzero()[:, 0]
        kept = keep.cpu().numpy()
        prompt_of = self.prompt_of[kept]
        return replace(
            self,
            alive=self.alive[keep],
            prompt_of=prompt_of,
            lengths=self.lengths[keep],
            shelves=[_filled(s, prompt_of) for s in (_culled(s, prompt_of) for s in self.shelves) if s is not None],
            keys={layer: x[keep] for layer, x in self.keys.items()},
            values={layer: x[keep] for layer, x in self.values.items()},
        )

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
        """Each new token sees its prompt, its own reply and itself: two softmaxes, joined by what each of them sums to."""
        assert layer is not None
        self._write(layer, k, v)
        first = max(0, self.size + 1 - window) if window else 0
        own, nats = _attend(
            q.reshape(*k.shape[:2], -1, q.shape[-1]),
            self.keys[layer][:, :, first : self.size + 1],
            self.values[layer][:, :, first : self.size + 1],
            scale,
            softcap,
        )
        for i, shelf in enumerate(self.shelves):
            mask = self._mask(i, window)
            p = len(shelf.prompts)
            asked = q[shelf.slots].view(p, -1, k.shape[1], q.shape[1] // k.shape[1], q.shape[-1]).transpose(1, 2)
            found, weight = _attend(asked.flatten(2, 3), shelf.keys[layer], shelf.values[layer], scale, softcap, mask)
            s = len(shelf.slots) // p
            found = found.unflatten(2, (s, -1)).transpose(1, 2).flatten(0, 1)[shelf.back]
            weight = weight.unflatten(2, (s, -1)).transpose(1, 2).flatten(0, 1)[shelf.back]
            share = torch.sigmoid(weight - nats[shelf.rows])[..., None].to(found.dtype)
            own[shelf.rows] = torch.lerp(own[shelf.rows], found, share)
        return own.flatten(1, 2)

    def _mask(self, shelf: int, window: int | None) -> Tensor:
        if (shelf, window) not in self.masks:
            made = self.shelves[shelf]
            self.masks[shelf, window] = made.seen(made.lengths + self.size, window)
        mask: Tensor = self.masks[shelf, window]
        return mask

    def _write(self, layer: int, k: Tensor, v: Tensor) -> None:
        for kept, new in ((self.keys, k), (self.values, v)):
            if layer not in kept:
                kept[layer] = new.new_empty((*new.shape[:2], BEGIN, new.shape[2]))
            elif kept[layer].shape[2] == self.size:
                kept[layer] = torch.cat([kept[layer], torch.empty_like(kept[layer])], 2)
            kept[layer][:, :, self.size] = new


def remember(trunk: Trunk, prompts: Texts, n: int) -> tuple[Memory, Float[Tensor, "n x"]]:
    """Compute the prompts as a forest; returns what replies see of them, and the hidden state that each reply begins from."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    planted = replace(tree.plant(prompts, trunk.device, last=trunk.reads), kept=kept)
    hidden = trunk.body(
        input_ids=planted.input_ids, position_ids=planted.position_ids, use_cache=False, forest=planted
    ).last_hidden_state[0]
    hidden = hidden[planted.which if trunk.reads else planted.read]
    places = tree.plant(prompts, since=[0] * len(prompts)).read.split([len(prompt) for prompt in prompts])
    of = np.repeat(np.arange(len(prompts)), n)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=trunk.device)
    shelves = [_filled(_shelf(some, prompts, places, kept), of) for some in _alike([len(p) for p in prompts])]
    rows = torch.from_numpy(of).to(trunk.device)
    return Memory(shelves, torch.arange(len(of), device=trunk.device), of, lengths[rows]), hidden[rows]


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Indices of texts of similar length."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and lengths[i] >= ALIKE * lengths[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _shelf(some: list[int], prompts: Texts, places: Sequence[Tensor], kept: dict[int, tuple[Tensor, Tensor]]) -> Shelf:
    device = next(iter(kept.values()))[0].device
    width = max(len(prompts[i]) for i in some)
    index = torch.zeros((len(some), width), dtype=torch.long)
    for row, i in enumerate(some):
        index[row, : len(places[i])] = places[i]
    flat = index.flatten().to(device)

    def gathered(x: Tensor) -> Tensor:
        return x.index_select(0, flat).view(len(some), width, *x.shape[1:]).transpose(1, 2).contiguous()

    nothing = torch.empty(0, dtype=torch.long, device=device)
    return Shelf(
        np.array(some),
        torch.tensor([len(prompts[i]) for i in some], device=device),
        {layer: gathered(k) for layer, (k, _) in kept.items()},
        {layer: gathered(v) for layer, (_, v) in kept.items()},
        nothing,
        nothing,
        nothing,
    )


def _culled(shelf: Shelf, prompt_of: Int[np.ndarray, " n"]) -> Shelf | None:
    """The shelf without prompts that no reply grows from; kept as it is while most are needed."""
    needed = np.isin(shelf.prompts, prompt_of)
    if not needed.any():
        return None
    if needed.mean() > SHED:
        return shelf
    keep = torch.from_numpy(np.flatnonzero(needed)).to(shelf.lengths.device)
    return replace(
        shelf,
        prompts=shelf.prompts[needed],
        lengths=shelf.lengths[keep],
        keys={layer: x[keep] for layer, x in shelf.keys.items()},
        values={layer: x[keep] for layer, x in shelf.values.items()},
    )


def _filled(shelf: Shelf, prompt_of: Int[np.ndarray, " n"]) -> Shelf:
    """The shelf with a slot for each row of its prompts' replies."""
    device = shelf.lengths.device
    rows = [np.flatnonzero(prompt_of == prompt) for prompt in shelf.prompts]
    most = max(len(r) for r in rows)
    slots = np.zeros((len(rows), most), dtype=np.int64)
    for i, r in enumerate(rows):
        slots[i, : len(r)] = r
    back = np.concatenate([i * most + np.arange(len(r)) for i, r in enumerate(rows)])
    flat, own, at = (torch.from_numpy(x).to(device) for x in (slots.reshape(-1), np.concatenate(rows), back))
    return replace(shelf, slots=flat, rows=own, back=at)


def _attend(
    q: Float[Tensor, "b g r d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t d"],
    scale: float,
    softcap: float | None,
    mask: Tensor | None = None,
) -> tuple[Float[Tensor, "b g r d"], Float[Tensor, "b g r"]]:
    """Attention, and the logarithm of what its weights sum to before they are normalised; minus infinity where nothing is seen."""
    scores = torch.matmul(q, k.transpose(-1, -2)).float().mul_(scale)
    if softcap is not None:
        scores.div_(softcap).tanh_().mul_(softcap)
    if mask is not None:
        scores += mask
    nats = torch.logsumexp(scores, -1)
    weights = (scores - nats.clamp(min=torch.finfo(nats.dtype).min)[..., None]).exp_()
    return torch.matmul(weights.to(v.dtype), v), nats


def _drawn(tokens: Int[np.ndarray, "n t"], nats: Float[np.ndarray, " n"], stops: set[int]) -> Drawn:
    replies: list[Int[np.ndarray, " t"]] = []
    finish: list[FinishReason] = []
    for row in tokens:
        ids = row[row >= 0].astype(np.int32)
        replies.append(ids)
        finish.append("stop" if int(ids[-1]) in stops else "length")
    return Drawn(replies, finish, nats)
