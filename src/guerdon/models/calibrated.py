"""A reward model and its calibration: the same rankings, on a scale whose unit is the nat.

Axes: n responses, p pairs. Raw units are the wrapped model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from guerdon.contracts import GuerdonError, Scores, digest
from guerdon.formulas.normalization import zscore_global
from guerdon.models.card import Calibration
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.scored_pairs import ComparesByReward, PairScorer

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from guerdon.contracts import PromptLike, ResponseLike, RewardModel


@final
class CalibratedModel(ComparesByReward):
    """A reward model in nats: (raw - reference mean) / temperature. Attributes and shift_p pass through unchanged."""

    def __init__(self, model: RewardModel, calibration: Calibration) -> None:
        self.model = model
        self.calibration = calibration

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes a score."""
        return digest([fingerprint_of(self.model), self.calibration.as_dict()])

    def score(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Scores:
        """Rewards in nats of preference log-odds."""
        return self.in_nats(self.model.score(prompts, responses))

    def score_pairs(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[ResponseLike],
        first: Int[np.ndarray, " p"],
        second: Int[np.ndarray, " p"],
    ) -> tuple[Scores, Float[np.ndarray, " p"] | None]:
        """Rewards, and the standard deviation of the margins between responses first[i] and second[i], in nats; None if unknown."""
        if not isinstance(self.model, PairScorer):
            return self.score(prompts, responses), None
        scores, spread = self.model.score_pairs(prompts, responses, first, second)
        return self.in_nats(scores), None if spread is None else spread / self.calibration.temperature

    def normalized(self, prompts: Sequence[PromptLike], responses: Sequence[ResponseLike]) -> Float[np.ndarray, " n"]:
        """Rewards [n] with mean 0 and variance 1 over the reference policy's samples (Ziegler 2019): the scale for RL."""
        if not self.calibration.provenance:
            raise GuerdonError(
                "calibration: a reference mean and spread are needed, none were measured. "
                "Calibrate with samples of the policy to be trained."
            )
        raw = self.model.score(prompts, responses).value
        return zscore_global(raw, self.calibration.reference_mean, self.calibration.reference_spread)

    def in_nats(self, raw: Scores) -> Scores:
        """Scores of the wrapped model, in nats."""
        return replace(
            raw,
            value=self.values_in_nats(raw.value),
            std=None if raw.std is None else raw.std / self.calibration.temperature,
            members=None if raw.members is None else self.values_in_nats(raw.members),
        )

    def values_in_nats(self, raw: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
        """Rewards of the wrapped model, of any shape, in nats."""
        return (raw - self.calibration.reference_mean) / self.calibration.temperature


def strip_calibration(model: Any) -> Any:
    """The model inside a CalibratedModel; any other model as it is."""
    return model.model if isinstance(model, CalibratedModel) else model


def components(model: Any) -> list[Any]:
    """What a model consists of, down to models without members: a model without its calibration, an ensemble's members."""
    inner = strip_calibration(model)
    return [part for member in getattr(inner, "models", ()) for part in components(member)] or [inner]


def calibration_of(model: Any) -> Calibration:
    """A calibrated model's calibration; for a model without one, that on its card."""
    calibration: Calibration = model.calibration if isinstance(model, CalibratedModel) else model.card.calibration
    return calibration
