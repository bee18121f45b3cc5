"""Rewards relative to reference samples of the same prompt: a scale that prompts share.

Axes: n responses, k ensemble members, m reference samples of one prompt. Raw units are the wrapped model's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, final, get_args

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Prompt,
    Scores,
    as_prompt,
    as_response,
    digest,
    prompt_digest,
    response_identity,
)
from guerdon.formulas.normalization import centered, logsigmoid_centered, quantile, within_prompt_std, zscore_prompt
from guerdon.models.fingerprint import fingerprint_of

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel

MIN_REFERENCES: Final = 2  # per prompt
NormalizationRule = Literal["center", "zscore", "quantile", "logsigmoid"]


@dataclass(frozen=True, slots=True)
class ReferenceScores:
    """Reference samples of one prompt.

    responses: the identity of each. scores [1 + k, m]: the value first, then each member's.
    """

    responses: tuple[Hashable, ...]
    scores: Float[np.ndarray, "rows m"]


@final
class PromptNormalizedModel:
    """A reward model whose rewards are taken relative to reference samples of the same prompt.

    `rule` center subtracts their mean and keeps the units; zscore also divides by their spread, shrunk toward that within all
    prompts; quantile is the rank among them; logsigmoid is log sigmoid of the centered reward, in nats. No rule changes the order
    within a prompt, though quantile ties all responses that beat the best sample. A response that is itself a reference sample
    is left out of its own reference. std passes through center, is scaled by zscore, and is None otherwise; shift_p passes through.
    """

    def __init__(
        self, model: RewardModel, references: Mapping[str, ReferenceScores], rule: NormalizationRule = "center"
    ) -> None:
        self.model = model
        self.references = references
        self.rule = rule

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        samples = {
            prompt: [reference.responses, reference.scores.tolist()] for prompt, reference in self.references.items()
        }
        return digest([fingerprint_of(self.model), self.rule, samples])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards relative to the prompt's reference samples; under center, in the wrapped model's units."""
        identities = [response_identity(as_response(response)) for response in responses]
        references = [self._reference(as_prompt(prompt)) for prompt in prompts]
        raw = self.model.score(prompts, responses)
        if not identities:
            return raw
        table = _reference_table(references, identities)
        rows = _value_and_members(raw)
        spread = self._spread() if self.rule == "zscore" else np.ones(len(rows))
        normalized = np.stack(
            [
                _normalize(self.rule, row, row_references, float(row_spread))
                for row, row_references, row_spread in zip(rows, table, spread, strict=True)
            ]
        )
        std = raw.std
        if self.rule == "zscore" and std is not None:  # scaled by what one raw unit is worth
            std = std * (zscore_prompt(raw.value + 1.0, table[0], float(spread[0])) - normalized[0])
        elif self.rule in ("quantile", "logsigmoid"):
            std = None
        members = None if raw.members is None else normalized[1:]
        return replace(raw, value=normalized[0], members=members, std=std)

    def _spread(self) -> Float[np.ndarray, " rows"]:
        """Of the value and of each member, within prompts, over all references."""
        rows = np.concatenate([reference.scores for reference in self.references.values()], axis=1)
        prompts = [prompt for prompt, reference in self.references.items() for _ in reference.responses]
        spread = np.array([within_prompt_std(row, prompts) for row in rows])
        if not (spread > 0).all():
            raise GuerdonError(
                "baseline: the rewards of a prompt's reference samples must differ for rule='zscore', "
                "they are equal for every prompt. Use rule='center'."
            )
        return spread

    def _reference(self, prompt: Prompt) -> ReferenceScores:
        try:
            return self.references[prompt_digest(prompt)]
        except KeyError:
            raise GuerdonError(
                f"baseline: prompt {_last_turn(prompt)!r:.80} has no reference samples. Sample it, and call per_prompt_baseline again."
            ) from None


def per_prompt_baseline(
    model: RewardModel,
    prompts: Sequence[PromptLike],
    responses: Sequence[ResponseLike],
    rule: NormalizationRule = "center",
) -> PromptNormalizedModel:
    """The model with its rewards normalized by reference samples: responses[i] to prompts[i], in any order, 2 or more per prompt.

    For the rules see PromptNormalizedModel.
    """
    if rule not in (rules := get_args(NormalizationRule)):
        raise GuerdonError(f"baseline: rule must be one of {', '.join(rules)}, got {rule!r}. Choose one.")
    rows = _value_and_members(model.score(prompts, responses))
    indices: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        indices.setdefault(prompt_digest(as_prompt(prompt)), []).append(i)
    for own in indices.values():
        if len(own) < MIN_REFERENCES:
            prompt_text = _last_turn(as_prompt(prompts[own[0]]))
            raise GuerdonError(
                f"baseline: prompt {prompt_text!r:.80} must have {MIN_REFERENCES} reference samples or more, got {len(own)}. "
                "Draw more."
            )
    references = {
        prompt: ReferenceScores(tuple(response_identity(as_response(responses[i])) for i in own), rows[:, own])
        for prompt, own in indices.items()
    }
    return PromptNormalizedModel(model, references, rule)


def _value_and_members(scores: Scores) -> Float[np.ndarray, "rows n"]:
    value = scores.value[None]
    return value if scores.members is None else np.concatenate([value, scores.members])


def _reference_table(
    references: Sequence[ReferenceScores], identities: Sequence[Hashable]
) -> Float[np.ndarray, "rows n m"]:
    """Each response's reference scores; NaN past the end of a shorter list, and where a sample is the response itself."""
    longest = max(len(reference.responses) for reference in references)
    table = np.full((len(references[0].scores), len(references), longest), np.nan)
    for i, (reference, identity) in enumerate(zip(references, identities, strict=True)):
        table[:, i, : len(reference.responses)] = reference.scores
        if identity in reference.responses:
            table[:, i, reference.responses.index(identity)] = np.nan
    return table


def _normalize(
    rule: str, reward: Float[np.ndarray, " n"], references: Float[np.ndarray, "n m"], spread: float
) -> Float[np.ndarray, " n"]:
    if rule == "zscore":
        return zscore_prompt(reward, references, spread)
    return {"center": centered, "quantile": quantile, "logsigmoid": logsigmoid_centered}[rule](reward, references)


def _last_turn(prompt: Prompt) -> str:
    return prompt[-1].content if prompt else ""
