"""The policy on held-out prompts, while it learns: one reply each, judged by the reward and by gold."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from guerdon.config import OptimizeOptions
from guerdon.contracts import Prompt, prompt_digest
from guerdon.formulas.overoptimization import MIN_PROMPTS
from guerdon.models.policy import LanguagePolicy
from guerdon.optimization.batch import derive_seed, forward_rollouts
from guerdon.optimization.checks import Check
from guerdon.optimization.learner import Learner
from guerdon.optimization.prompts import PromptSet, select_prompts
from guerdon.optimization.rewards import Reward

__all__ = ["evaluate", "select_held_out"]

log = logging.getLogger("guerdon")


def select_held_out(
    policy: LanguagePolicy, prompts: Sequence[Prompt], options: OptimizeOptions, gold: Reward | None
) -> PromptSet:
    """The first check_prompts of the held-out prompts that fit; a warning if they are too few for a trend of gold."""
    fitting = select_prompts(policy, prompts, options.max_tokens, "held-out prompts")
    held_out = fitting.select(range(min(len(fitting), options.check_prompts)))
    if gold is not None and (num := len(set(held_out.prompts))) < MIN_PROMPTS:
        log.warning("gold judges %d distinct prompts; a trend needs %d or more", num, MIN_PROMPTS)
    return held_out


def evaluate(
    learner: Learner, held_out: PromptSet, reward: Reward, gold: Reward | None, *, update: int, kl_coef: float
) -> Check:
    """One reply to each held-out prompt, drawn with the same seeds every time: reward, gold, KL, length and text."""
    options = learner.options
    seeds = [derive_seed(options.seed, i) for i in range(len(held_out))]
    rollouts = learner.policy.sample_encoded(
        held_out.prompts, held_out.ids, 1, options.max_tokens, options.temperature, seeds
    )
    assert rollouts.length is not None
    log_prob, _, _ = forward_rollouts(learner.policy, None, rollouts, options)
    with learner.reference.as_reference():
        reference, _, _ = forward_rollouts(learner.reference, None, rollouts, options)
    # A judge without any finite number is broken if that is so at the start; later it is no reason to lose the run
    judged = reward.score(rollouts.prompts, rollouts.responses, strict=update == 0)
    by_gold = gold.score(rollouts.prompts, rollouts.responses, strict=update == 0) if gold is not None else None
    return Check(
        update=update,
        kl_coef=kl_coef,
        prompts=tuple(prompt_digest(prompt) for prompt in held_out.prompts),
        proxy=np.asarray(judged.value, dtype=np.float64),
        gold=None if by_gold is None else np.asarray(by_gold.value, dtype=np.float64),
        kl=(log_prob - reference).double().sum(1).numpy(),
        length=rollouts.length.astype(np.float64),
        finished=~rollouts.cut,
        std=judged.std,
        shift_p=judged.shift_p,
        texts=tuple(response.text for response in rollouts.responses),
        truncated=judged.truncated | (by_gold.truncated if by_gold is not None else False),
        attributes=judged.attributes,
    )
