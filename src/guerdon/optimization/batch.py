"""One batch of an update: replies sampled, scored, run through policy, reference and value model, and turned into advantages.

Axes: b replies, t tokens of a reply (an end token is a reply's last). Entries after a reply's last token are 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from guerdon.config import OptimizeOptions
from guerdon.contracts import GuerdonError, Rollouts
from guerdon.formulas import advantage
from guerdon.models.engine.backbone import Texts
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization.learner import Learner
from guerdon.optimization.prefix_rewards import prefix_rewards
from guerdon.optimization.prompts import PromptSet
from guerdon.optimization.reward_scale import RewardScale
from guerdon.optimization.rewards import Reward
from guerdon.optimization.value_models import ValueModel
from guerdon.runtime import distributed

__all__ = [
    "Batch",
    "build_batch",
    "derive_seed",
    "forward_rollouts",
    "micro_batches",
    "positions_of_process",
    "sample_rollouts",
    "token_rows",
]


@dataclass(frozen=True, slots=True)
class Batch:
    """Scored rollouts with everything that an update needs, fixed while it lasts.

    rollouts: with the raw reward, NaN where it is not usable. score [b]: what is optimized, after scaling, clipping and the
    charge for a missing end. mask: the tokens to learn from, all False for a reply without a usable score. reference: the
    reference's log-probabilities.
    """

    rollouts: Rollouts
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
        """Policy over reference, nats per token."""
        return (self.log_prob - self.reference) * self.mask

    @property
    def kl(self) -> Float[Tensor, " b"]:
        """k1 of each reply, nats per sequence: what the KL penalty charges."""
        return self.log_ratio.sum(1)


# ---- Sampling ----------------------------------------------------------------------------------------------------


def sample_rollouts(learner: Learner, prompts: PromptSet, update: int) -> Rollouts:
    """Replies to this process's share of the prompts. A prompt that comes twice gets new replies, whatever process has it."""
    options = learner.options
    local = prompts_of_process(len(prompts), learner.accelerator)
    seeds = [derive_seed(options.seed, update, i) for i in local]
    mine = prompts.select(local)
    if learner.engine is not None:
        return learner.engine.sample(mine, options.samples, seeds)
    return learner.policy.sample_encoded(
        mine.prompts, mine.ids, options.samples, options.max_tokens, options.temperature, seeds
    )


def derive_seed(*key: int) -> int:
    """An independent seed for every key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def prompts_of_process(num: int, accelerator: Accelerator) -> range:
    """Which of a batch's prompts this process has."""
    return range(accelerator.process_index, num, accelerator.num_processes)


def positions_of_process(options: OptimizeOptions, accelerator: Accelerator) -> list[int]:
    """The position of each of this process's replies among the replies of all processes."""
    k = options.samples
    return [i * k + j for i in prompts_of_process(options.prompts, accelerator) for j in range(k)]


# ---- Forward passes ----------------------------------------------------------------------------------------------


def forward_rollouts(
    policy: LanguagePolicy, value_model: ValueModel | None, rollouts: Rollouts, options: OptimizeOptions
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Log-probabilities, entropies and values of all replies, without gradients, on the CPU. Values are 0.0 without a model."""
    parts: list[tuple[Tensor, ...]] = [()] * len(rollouts)
    with torch.no_grad():
        for rows in micro_batches(policy, rollouts, range(len(rollouts)), options.micro_tokens):
            prompt_ids, token_ids = token_rows(rollouts, rows)
            output = policy.forward(prompt_ids, token_ids, options.temperature)
            values = torch.zeros_like(output.log_prob)
            if value_model is not None:
                values = value_model.values(prompt_ids, token_ids, output)
            sizes = [len(ids) for ids in token_ids]
            columns = (column.float().cpu().split(sizes) for column in (output.log_prob, output.entropy, values))
            for row, part in zip(rows, zip(*columns, strict=True), strict=True):
                parts[row] = part
    if not parts:  # a process without a prompt
        return (torch.zeros(0, 1),) * 3
    log_prob, entropy, value = (pad_sequence([part[i] for part in parts], batch_first=True) for i in range(3))
    return log_prob, entropy, value


def micro_batches(
    policy: LanguagePolicy, rollouts: Rollouts, rows: Sequence[int] | range, micro_tokens: int
) -> list[list[int]]:
    """Rows in forward passes of at most micro_tokens computed tokens; replies to one prompt stay together."""
    rows = list(rows)
    if not rows:
        return []
    texts = [np.concatenate([prompt, reply[:-1]]) for prompt, reply in zip(*token_rows(rollouts, rows), strict=True)]
    return [[rows[i] for i in part] for part in policy.batches(texts, micro_tokens)]


def token_rows(rollouts: Rollouts, rows: Sequence[int]) -> tuple[Texts, Texts]:
    """The token ids of these rows' prompts and of their replies."""
    assert rollouts.prompt_ids is not None, "rollouts of a LanguagePolicy have token ids"
    assert rollouts.token_ids is not None, "rollouts of a LanguagePolicy have token ids"
    return [rollouts.prompt_ids[i] for i in rows], [rollouts.token_ids[i] for i in rows]


# ---- Scores and advantages ---------------------------------------------------------------------------------------


def build_batch(
    learner: Learner, rollouts: Rollouts, reward: Reward, scale: RewardScale, beta: float
) -> tuple[Batch, RewardScale]:
    """Score the rollouts, run all models over them, and compute advantages; also the scale updated by these rewards."""
    policy, reference, options = learner.policy, learner.reference, learner.options
    rollouts = reward.score_rollouts(rollouts, strict=False)
    assert rollouts.reward is not None
    usable = np.isfinite(rollouts.reward)
    if options.baseline != "value":  # a group is used as a whole or not at all
        usable = np.repeat(usable.reshape(-1, options.samples).all(1), options.samples)
    raw = np.where(usable, rollouts.reward, 0.0)
    scale = scale.update(raw[usable])
    score = scale.apply(raw, rollouts.cut, options)
    log_prob, entropy, values = forward_rollouts(policy, learner.value_model, rollouts, options)
    with reference.as_reference():
        reference_log_prob, _, _ = forward_rollouts(reference, None, rollouts, options)
    lengths = torch.from_numpy(np.asarray(rollouts.length))
    mask = (torch.arange(log_prob.shape[1]) < lengths[:, None]) & torch.from_numpy(usable)[:, None]
    if not torch.isfinite(log_prob[mask]).all():
        raise GuerdonError("optimize: log-probabilities of the policy must be finite, got NaN. Lower optimize.lr.")
    log_ratio = (log_prob - reference_log_prob) * mask
    potential = scale.scaled(prefix_rewards(reward, rollouts, options.max_tokens), options) if options.dense else None
    adv, returns = _advantages(learner, score, log_ratio, values * mask, mask, beta, potential)
    return Batch(rollouts, score, mask, log_prob, reference_log_prob, entropy, values, adv, returns), scale


def _advantages(
    learner: Learner,
    score: Float[Tensor, " b"],
    log_ratio: Float[Tensor, "b t"],
    values: Float[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    beta: float,
    potential: Float[Tensor, "b t"] | None,
) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
    """Advantages [b, t] and returns [b, t]: GAE over token rewards (PPO), or one number per reply against its group.

    potential: before each token, float64, in units of the score; its differences are added to the token rewards.
    """
    options, accelerator = learner.options, learner.accelerator
    if options.baseline == "value":
        usable = mask.any(1)
        rewards = torch.zeros_like(log_ratio)
        rewards[usable] = advantage.token_rewards(log_ratio[usable], mask[usable], score[usable], beta)
        spread = _moments(rewards, mask, accelerator) if options.whiten_rewards else None
        if potential is not None:
            rewards = rewards.double() + advantage.potential_differences(potential, mask, options.gamma)
        if spread is not None:  # that of the rewards alone: a potential must not change what a reply is worth
            rewards = advantage.whiten(rewards, mask, shift_mean=False, moments=spread)
        raw, returns = advantage.gae(rewards, values, mask, options.gamma, options.lam)
        return advantage.whiten(raw, mask, moments=_moments(raw, mask, accelerator)).float(), returns.float()
    penalized = (score - beta * log_ratio.sum(1)).view(-1, options.samples)
    if options.baseline == "leave_one_out":
        per_reply = advantage.leave_one_out(penalized)
    else:
        per_reply = advantage.group_normalized(penalized, 1e-4)
    return per_reply.reshape(-1, 1) * mask, torch.zeros_like(values)


def _moments(x: Float[Tensor, "b t"], mask: Bool[Tensor, "b t"], accelerator: Accelerator) -> Float[Tensor, " 3"]:
    """Count, sum and sum of squares over all processes."""
    local = torch.stack([torch.as_tensor(m, dtype=torch.float64) for m in advantage.moments(x, mask)])
    if accelerator.num_processes == 1:
        return local
    return distributed.sum_over_processes(local.to(accelerator.device), accelerator).cpu()
