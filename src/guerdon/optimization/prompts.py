"""Which prompts a run asks: those that the policy can answer, and the order in which updates use them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from guerdon.contracts import GuerdonError, Prompt
from guerdon.models.engine.backbone import Texts
from guerdon.models.policy import LanguagePolicy

__all__ = ["PromptSet", "prompts_of_update", "select_prompts"]

log = logging.getLogger("guerdon")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts that the policy can answer, with their token ids; and how many were left out, by reason."""

    prompts: tuple[Prompt, ...]
    ids: Texts
    excluded: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Sequence[int]) -> PromptSet:
        """The prompts at these positions, in this order."""
        return replace(self, prompts=tuple(self.prompts[i] for i in rows), ids=[self.ids[i] for i in rows])


def select_prompts(
    policy: LanguagePolicy, prompts: Sequence[Prompt], max_tokens: int, what: str = "prompts"
) -> PromptSet:
    """The prompts that fit the policy with a reply of max_tokens; `what` names them in messages. It is an error if none does."""
    fitting: list[Prompt] = []
    ids: list[np.ndarray] = []
    excluded: dict[str, int] = {}
    refusal = ""
    for prompt in prompts:
        reason: str | None = None
        if not any(message.content.strip() for message in prompt):
            reason = "empty"
        else:
            try:
                row = policy.encode(prompt)
                if policy.prompt_problem(row, max_tokens):
                    reason = "too long for policy.max_prompt or the context"
            except GuerdonError as error:
                reason, refusal = "refused by the chat template", f" {str(error)[:1].upper()}{str(error)[1:]}"
        if reason:
            excluded[reason] = excluded.get(reason, 0) + 1
            continue
        fitting.append(prompt)
        ids.append(row)
    if excluded:
        log.warning("%s left out: %s", what, ", ".join(f"{n} {why}" for why, n in excluded.items()))
    if prompts and not fitting:
        advice = refusal or " Give other prompts."
        raise GuerdonError(
            f"{what}: at least one of {len(prompts)} must fit, got none ({'; '.join(excluded)}).{advice}"
        )
    return PromptSet(tuple(fitting), ids, excluded)


def prompts_of_update(num: int, size: int, seed: int, update: int) -> list[int]:
    """Which of `num` prompts an update uses: all are used once before any is used again, in a new order each time."""
    chosen: list[int] = []
    position = update * size
    while len(chosen) < size:
        order = np.random.default_rng([seed, position // num]).permutation(num)
        more = order[position % num : position % num + size - len(chosen)].tolist()
        chosen += more
        position += len(more)
    return chosen
