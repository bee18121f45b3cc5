"""Batches of rollouts: replies drawn, scored, read by the policy and by its reference, and turned into advantages.

Axes: b replies, t tokens of a reply (an end token is a reply's last). Places behind a reply's last token hold 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from guerdon.config import OptimizeOptions
from guerdon.contracts import GuerdonError, Prompt, Response
from guerdon.formulas import advantage
from guerdon.formulas.advantage import RunningScale
from guerdon.models.engine.backbone import Texts
from guerdon.models.policy import LanguagePolicy, PolicyOutput
from guerdon.models.reward_model import ScalarNetwork
from guerdon.optimization.rewards import Reward, Rewarded
from guerdon.runtime import distributed


@dataclass(frozen=True, slots=True)
class Turns:
    """Replies as they were drawn. `place` is where each stands among all replies of all processes."""

    asked: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    prompts: Texts
    replies: Texts
    place: Int[np.ndarray, " b"]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each reply."""
        return [len(reply) for reply in self.replies]

    @property
    def finished(self) -> Bool[np.ndarray, " b"]:
        """Whether each reply ended by itself."""
        return np.array([response.finish == "stop" for response in self.responses], dtype=bool)


@dataclass(frozen=True, slots=True)
class Batch:
    """Turns with all that the update needs, fixed while it lasts. `mask` leaves out replies whose score was unusable.

    score [b]: what is optimized, after scaling, clipping and the charge for a missing end. kl [b]: k1, nats a reply.
    """

    turns: Turns
    rewarded: Rewarded
    score: Float[Tensor, " b"]
    mask: Bool[Tensor, "b t"]
    log_prob: Float[Tensor, "b t"]
    reference: Float[Tensor, "b t"]
    entropy: Float[Tensor, "b t"]
    value: Float[Tensor, "b t"]
    advantage: Float[Tensor, "b t"]
    returns: Float[Tensor, "b t"]

    @property
    def log_ratio(self) -> Float[Tensor, "b t"]:
        """Policy over reference, nats a token."""
        return (self.log_prob - self.reference) * self.mask

    @property
    def kl(self) -> Float[Tensor, " b"]:
        """k1 of each reply: what the reward is charged for."""
        return self.log_ratio.sum(1)


class ValueModel(Protocol):
    """Expects the rest of a reply's reward before each of its tokens."""

    def of(
        self, prompts: Texts, replies: Texts, reading: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """Values in units of the optimized score, token after token, reply after reply."""
        ...


class ValueHead(nn.Module):
    """A linear head on the policy's own hidden states; it begins at 0 everywhere."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def of(
        self, prompts: Texts, replies: Texts, reading: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """Values; `detached` teaches the head alone."""
        hidden = reading.hidden.detach() if detached else reading.hidden
        with torch.autocast(hidden.device.type, enabled=False):
            values: Tensor = self.head(hidden.float())[:, 0]
        return values


class ValueNetwork(nn.Module):
    """A reward model that is asked before each token; (its output - mean) x scale is in units of the optimized score."""

    def __init__(self, network: ScalarNetwork, mean: float, scale: float) -> None:
        super().__init__()
        self.network, self.mean, self.scale = network, mean, scale

    def of(
        self, prompts: Texts, replies: Texts, reading: PolicyOutput, *, detached: bool = False
    ) -> Float[Tensor, " r"]:
        """Values of the texts before each token of the replies."""
        texts = [np.concatenate([p, r[:-1]]) for p, r in zip(prompts, replies, strict=True)]
        found = self.network.read_from(texts, [len(p) - 1 for p in prompts])[:, 0]
        return (found - self.mean) * self.scale


def take_turns(
    policy: LanguagePolicy,
    asked: Sequence[Prompt],
    prompts: Texts,
    options: OptimizeOptions,
    update: int,
    accelerator: Accelerator,
) -> Turns:
    """This process's share of the prompts, answered. A prompt that comes twice is answered anew, whoever holds it."""
    mine = range(accelerator.process_index, len(asked), accelerator.num_processes)
    k = options.samples
    seeds = [seed_of(options.seed, update, i) for i in mine]
    drawn = policy.generate([prompts[i] for i in mine], k, options.max_tokens, options.temperature, seeds)
    return Turns(
        tuple(asked[i] for i in mine for _ in range(k)),
        tuple(policy.response(r, f) for r, f in zip(drawn.replies, drawn.finish, strict=True)),
        [prompts[i] for i in mine for _ in range(k)],
        drawn.replies,
        np.array([i * k + j for i in mine for j in range(k)], dtype=np.int64),
    )


def seed_of(*place: int) -> int:
    """A seed of its own for every place."""
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])


def everyone(values: Sequence[Any]) -> list[Any]:
    """The values of all processes, each of which may have another number of them; one process after another."""
    found: list[Any] = gather_object(list(values))
    return found


@dataclass(frozen=True, slots=True)
class Scale:
    """How raw rewards become scores: (raw - mean) / spread, then clipped; `running` divides by what it has seen instead."""

    mean: float = 0.0
    spread: float = 1.0
    running: RunningScale | None = None

    def seen(self, raw: Float[np.ndarray, " b"]) -> Scale:
        """After one more batch of raw rewards, of all processes."""
        if self.running is None:
            return self
        return replace(self, running=self.running.update(torch.tensor(everyone(raw.tolist()), dtype=torch.float64)))

    def apply(self, raw: Float[np.ndarray, " b"], finished: Bool[np.ndarray, " b"], options: OptimizeOptions) -> Tensor:
        """Scores; a reply that was cut pays `unfinished`."""
        scores = torch.from_numpy((raw - self.mean) / self.spread)
        if self.running is not None:
            scores = self.running.apply(scores)
        if options.reward_clip:
            scores = scores.clamp(-options.reward_clip, options.reward_clip)
        return (scores - options.unfinished * torch.from_numpy(~finished)).float()


def read_all(
    policy: LanguagePolicy, value: ValueModel | None, turns: Turns, options: OptimizeOptions
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Log-probabilities, entropies and values of all replies, without gradients, on the CPU."""
    found: list[tuple[Tensor, Tensor, Tensor]] = [(torch.empty(0),) * 3] * len(turns.replies)
    with torch.no_grad():
        for rows in passes(policy, turns, range(len(turns.replies)), options.micro_tokens):
            prompts, replies = [turns.prompts[i] for i in rows], [turns.replies[i] for i in rows]
            reading = policy.forward(prompts, replies, options.temperature)
            values = torch.zeros_like(reading.log_prob)
            if value is not None:
                values = value.of(prompts, replies, reading)
            sizes = [len(reply) for reply in replies]
            parts = [x.float().cpu().split(sizes) for x in (reading.log_prob, reading.entropy, values)]
            for at, row in enumerate(rows):
                found[row] = (parts[0][at], parts[1][at], parts[2][at])
    if not found:  # a process without a prompt
        return (torch.zeros(0, 1),) * 3
    one, two, three = (pad_sequence([f[i] for f in found], batch_first=True) for i in range(3))
    return one, two, three


def passes(policy: LanguagePolicy, turns: Turns, rows: Sequence[int] | range, tokens: int) -> list[list[int]]:
    """Divide replies into forward passes of at most `tokens` computed tokens; replies to one prompt stay together."""
    rows = list(rows)
    texts = [np.concatenate([turns.prompts[i], turns.replies[i][:-1]]) for i in rows]
    return [[rows[i] for i in some] for some in policy.batches(texts, tokens)] if rows else []


def prepare(
    policy: LanguagePolicy,
    reference: LanguagePolicy,
    value: ValueModel | None,
    turns: Turns,
    reward: Reward,
    scale: Scale,
    beta: float,
    options: OptimizeOptions,
    accelerator: Accelerator,
) -> tuple[Batch, Scale]:
    """Score and read the turns, and compute advantages; also the scale with these rewards in it."""
    rewarded = reward.score(turns.asked, turns.responses, strict=False)
    usable = np.asarray(rewarded.usable, dtype=bool)
    if options.baseline != "value":  # a group is judged whole or not at all
        usable = np.repeat(usable.reshape(-1, options.samples).all(1), options.samples)
    raw = np.where(usable, rewarded.value, 0.0)
    scale = scale.seen(raw[usable])
    score = scale.apply(raw, turns.finished, options)
    log_prob, entropy, values = read_all(policy, value, turns, options)
    with reference.as_reference():
        refs, _, _ = read_all(reference, None, turns, options)
    lengths = torch.tensor(turns.lengths, dtype=torch.long)
    mask = (torch.arange(log_prob.shape[1]) < lengths[:, None]) & torch.from_numpy(usable)[:, None]
    if not torch.isfinite(log_prob[mask]).all():
        raise GuerdonError("optimize: the policy's log-probabilities are not finite; remedy: a smaller optimize.lr")
    adv, returns = _advantages(score, (log_prob - refs) * mask, values * mask, mask, beta, options, accelerator)
    return Batch(turns, rewarded, score, mask, log_prob, refs, entropy, values, adv, returns), scale


def _advantages(
    score: Float[Tensor, " b"],
    log_ratio: Float[Tensor, "b t"],
    values: Float[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    beta: float,
    options: OptimizeOptions,
    accelerator: Accelerator,
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Advantages [b, t] and returns [b, t]: GAE over token rewards (PPO), or one number a reply against its siblings'."""
    if options.baseline == "value":
        usable = mask.any(1)
        rewards = torch.zeros_like(log_ratio)
        rewards[usable] = advantage.token_rewards(log_ratio[usable], mask[usable], score[usable], beta)
        if options.whiten_rewards:
            rewards = advantage.whiten(rewards, mask, shift_mean=False, moments=_moments(rewards, mask, accelerator))
        found, returns = advantage.gae(rewards, values, mask, options.gamma, options.lam)
        return advantage.whiten(found, mask, moments=_moments(found, mask, accelerator)), returns
    whole = (score - beta * log_ratio.sum(1)).view(-1, options.samples)
    if options.baseline == "leave_one_out":
        per_reply = advantage.leave_one_out(whole)
    else:
        per_reply = advantage.group_normalized(whole, 1e-4)
    return per_reply.reshape(-1, 1) * mask, torch.zeros_like(values)


def _moments(x: Tensor, mask: Tensor, accelerator: Accelerator) -> Tensor:
    """Count, sum and sum of squares over all processes."""
    mine = torch.stack([torch.as_tensor(m, dtype=torch.float64) for m in advantage.moments(x, mask)])
    if accelerator.num_processes == 1:
        return mine
    return distributed.sum_over_processes(mine.to(accelerator.device), accelerator).cpu()
