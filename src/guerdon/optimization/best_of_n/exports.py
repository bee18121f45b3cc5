"""A pool as data for the next round: responses to fine-tune on, and comparisons to train a reward model on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from guerdon.contracts import Comparison, GuerdonError, Preference, Rollouts
from guerdon.io.schema import prompt_to_row
from guerdon.optimization.best_of_n.rows import Row

__all__ = ["to_comparisons", "to_sft_rows"]


def to_sft_rows(rollouts: Rollouts, top: int = 1) -> Iterator[Row]:
    """The `top` best distinct responses to each prompt, best first, as {prompt, response, reward} to fine-tune on.

    A response that was cut is left out: it would teach the model to stop mid-sentence. A prompt without a finished
    response has no row.
    """
    if top < 1:
        raise GuerdonError(f"to_sft_rows: top must be at least 1, got {top}. Leave it out for the best one.")
    groups = zip(rollouts.prompts_once, rollouts.responses_by_prompt, rollouts.reward_by_prompt, strict=True)
    for prompt, responses, rewards in groups:
        best: dict[str, float] = {}
        for at in np.argsort(-rewards, kind="stable").tolist():
            if len(best) < top and responses[at].finish != "length":
                best.setdefault(responses[at].text, float(rewards[at]))
        for text, reward in best.items():
            yield {**prompt_to_row(prompt), "response": text, "reward": reward}


def to_comparisons(rollouts: Rollouts, least_gap: float = 0.0) -> Iterator[Comparison]:
    """The best and the worst response to each prompt, in the order drawn, as comparisons to train on.

    `strength` is their gap in reward. A prompt whose gap is not above `least_gap`, in nats, is skipped, and so is a tie.
    """
    if not (math.isfinite(least_gap) and least_gap >= 0):
        raise GuerdonError(
            f"to_comparisons: least_gap must be a finite number >= 0, got {least_gap}. Leave it out to skip ties only."
        )
    groups = zip(rollouts.prompts_once, rollouts.responses_by_prompt, rollouts.reward_by_prompt, strict=True)
    for prompt, responses, rewards in groups:
        best, worst = int(np.argmax(rewards)), int(np.argmin(rewards))
        gap = float(rewards[best] - rewards[worst])
        if gap <= least_gap:
            continue
        order = sorted((best, worst))  # as drawn, so that the position does not give the preference away
        preference = Preference(groups=((order.index(best),), (order.index(worst),)), strength=gap)
        yield Comparison(prompt, tuple(responses[i] for i in order), preference, source="best-of-n")
