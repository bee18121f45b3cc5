"""A reward model and its calibration: the same rankings, with a scale that means something.

Axes: n responses, k ensemble members, m reference samples of one prompt. Raw units are the wrapped model's own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
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
from guerdon.formulas.normalization import (
    centered,
    logsigmoid_centered,
    quantile,
    within_prompt_std,
    zscore_prompt,
)
from guerdon.models.scored_pairs import PairScorer, margin_std

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel

FEWEST_REFERENCES: Final = 2
BaselineRule = Literal["center", "zscore", "quantile", "logsigmoid"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns raw rewards into nats, and into units of a reference policy's spread.

    temperature: raw units per nat. reference_mean, reference_spread: mean and standard deviation, in raw units, of the
    rewards of a reference policy's samples; `provenance` names that policy and its prompts, empty if nobody measured.
    """

    temperature: float = 1.0
    reference_mean: float = 0.0
    reference_spread: float = 1.0
    provenance: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse what is no scale."""
        for name in ("temperature", "reference_mean", "reference_spread"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise GuerdonError(f"calibration: {name} is a finite number, got {value!r}")
            if name != "reference_mean" and value <= 0:
                raise GuerdonError(f"calibration: {name} is above 0, got {value!r}")

    def as_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold; the caller writes the version beside them."""
        return {
            "temperature": self.temperature,
            "reference_mean": self.reference_mean,
            "reference_spread": self.reference_spread,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Calibration:
        """The inverse of as_dict. A missing or an unknown key is an error: a guessed scale is worse than none."""
        known = [f.name for f in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise GuerdonError(f"calibration: no such key {unknown[0]!r}; known are {', '.join(known)}")
        if missing := [name for name in known if name not in values]:
            raise GuerdonError(f"calibration: {missing[0]} is missing; remedy: calibrate again, or write it in")
        if not isinstance(values["provenance"], Mapping):
            raise GuerdonError(f"calibration: provenance is a mapping, got {values['provenance']!r:.80}")
        return cls(**values)  # type: ignore[arg-type]


@final
class CalibratedModel:
    """A reward model in nats: (raw - reference mean) / temperature. Attributes and shift_p pass through as they are."""

    def __init__(self, model: RewardModel, calibration: Calibration) -> None:
        self.model = model
        self.calibration = calibration

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        return digest([getattr(self.model, "fingerprint", type(self.model).__name__), self.calibration.as_dict()])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats of preference log-odds."""
        return _affine(
            self.model.score(prompts, responses), self.calibration.reference_mean, self.calibration.temperature
        )

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the spread of the margins between responses first[i] and second[i], in nats; None if not known."""
        if not isinstance(self.model, PairScorer):
            return self.score(prompts, responses), None
        scores, spread = self.model.score_pairs(prompts, responses, first, second)
        scaled = _affine(scores, self.calibration.reference_mean, self.calibration.temperature)
        return scaled, None if spread is None else spread / self.calibration.temperature

    def margin_std(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Spread of each margin in nats; an error where no uncertainty was measured."""
        return margin_std(self, prompts, first, second)

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one: a reward model judges by subtraction."""
        scores = self.score([*prompts, *prompts], [*first, *second]).value
        margin: np.ndarray = scores[: len(prompts)] - scores[len(prompts) :]
        return margin

    def normalized(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Float[np.ndarray, " n"]:
        """Rewards with mean 0 and variance 1 over the reference policy's samples (Ziegler 2019): the scale for RL."""
        if not self.calibration.provenance:
            raise GuerdonError(
                "no reference mean and spread; remedy: calibrate with samples of the policy to be trained"
            )
        raw = self.model.score(prompts, responses).value
        return (raw - self.calibration.reference_mean) / self.calibration.reference_spread


@dataclass(frozen=True, slots=True)
class ReferenceScores:
    """Reference samples of one prompt. scores [1 + k, m]: the value first, then each member's."""

    texts: tuple[Hashable, ...]
    scores: Float[np.ndarray, "rows m"]


@final
class PromptNormalizedModel:
    """A reward model on a scale that prompts share, by reference samples of the same prompt.

    `rule` center takes their mean off and keeps the units; zscore also divides by their spread, shrunk toward that within
    all prompts; quantile is the place among them; logsigmoid is log sigmoid of the centered reward, in nats. No rule changes
    the order within a prompt; quantile makes all equal that pass the best sample. A response that is itself in the bank is
    left out of its own yardstick. std passes through center, is scaled by zscore, and is None else; shift_p passes through.
    """

    def __init__(self, model: RewardModel, banks: Mapping[str, ReferenceScores], rule: BaselineRule = "center") -> None:
        self.model = model
        self.banks = banks
        self.rule = rule

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards beside the prompt's samples; under center, in the wrapped model's units."""
        texts = [response_identity(as_response(response)) for response in responses]
        banks = [self._bank(as_prompt(prompt)) for prompt in prompts]
        raw = self.model.score(prompts, responses)
        if not texts:
            return raw
        table = _table(banks, texts)
        rows = raw.value[None] if raw.members is None else np.concatenate([raw.value[None], raw.members])
        spread = self._spread() if self.rule == "zscore" else np.ones(len(rows))
        found = np.stack([_normalized(self.rule, *each) for each in zip(rows, table, spread, strict=True)])
        std = raw.std
        if self.rule == "zscore" and std is not None:
            std = std * (zscore_prompt(raw.value + 1.0, table[0], float(spread[0])) - found[0])
        elif self.rule in ("quantile", "logsigmoid"):
            std = None
        return replace(raw, value=found[0], members=None if raw.members is None else found[1:], std=std)

    def _spread(self) -> Float[np.ndarray, " rows"]:
        """Of the value and of each member, within prompts, over all banks."""
        rows = np.concatenate([bank.scores for bank in self.banks.values()], axis=1)
        names = [key for key, bank in self.banks.items() for _ in bank.texts]
        spread = np.array([within_prompt_std(row, names) for row in rows])
        if not (spread > 0).all():
            raise GuerdonError("baseline: the reference samples of each prompt are all equal; remedy: rule='center'")
        return spread

    def _bank(self, prompt: Prompt) -> ReferenceScores:
        try:
            return self.banks[prompt_digest(prompt)]
        except KeyError:
            asked = prompt[-1].content if prompt else ""
            raise GuerdonError(
                f"no reference samples for prompt {asked!r:.80}; remedy: sample it and baseline again"
            ) from None


def per_prompt_baseline(
    model: RewardModel,
    prompts: Sequence[PromptLike],
    responses: Sequence[ResponseLike],
    rule: BaselineRule = "center",
) -> PromptNormalizedModel:
    """The model with its rewards normalized by reference samples, 2 or more per prompt, each beside its prompt, in any order.

    For the rules see PromptNormalizedModel.
    """
    if rule not in (rules := get_args(BaselineRule)):
        raise GuerdonError(f"baseline: no such rule {rule!r}; known are {', '.join(rules)}")
    scores = model.score(prompts, responses)
    rows = scores.value[None] if scores.members is None else np.concatenate([scores.value[None], scores.members])
    places: dict[str, list[int]] = {}
    for i, prompt in enumerate(prompts):
        places.setdefault(prompt_digest(as_prompt(prompt)), []).append(i)
    for own in places.values():
        if len(own) < FEWEST_REFERENCES:
            asked = as_prompt(prompts[own[0]])[-1].content
            raise GuerdonError(f"prompt {asked!r:.80}: a baseline needs 2 reference samples or more, got {len(own)}")
    return PromptNormalizedModel(
        model,
        {
            key: ReferenceScores(tuple(response_identity(as_response(responses[i])) for i in own), rows[:, own])
            for key, own in places.items()
        },
        rule,
    )


def _affine(scores: Scores, shift: float, scale: float) -> Scores:
    return replace(
        scores,
        value=(scores.value - shift) / scale,
        std=None if scores.std is None else scores.std / scale,
        members=None if scores.members is None else (scores.members - shift) / scale,
    )


def _table(banks: Sequence[ReferenceScores], texts: Sequence[Hashable]) -> Float[np.ndarray, "rows n m"]:
    """Each response's bank, NaN where it is shorter than the longest, and where it holds the response itself."""
    table = np.full((len(banks[0].scores), len(banks), max(len(bank.texts) for bank in banks)), np.nan)
    for i, (bank, text) in enumerate(zip(banks, texts, strict=True)):
        table[:, i, : len(bank.texts)] = bank.scores
        if text in bank.texts:
            table[:, i, bank.texts.index(text)] = np.nan
    return table


def _normalized(
    rule: str, reward: Float[np.ndarray, " n"], bank: Float[np.ndarray, "n m"], spread: float
) -> Float[np.ndarray, " n"]:
    if rule == "zscore":
        return zscore_prompt(reward, bank, float(spread))
    return {"center": centered, "quantile": quantile, "logsigmoid": logsigmoid_centered}[rule](reward, bank)
