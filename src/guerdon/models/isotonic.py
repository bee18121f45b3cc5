"""Margins bent by a monotone curve: odds that hold where one temperature cannot mend them. A judge, never a reward model.

A curve on gaps belongs to no curve on rewards: from bent odds of a over b and b over c those of a over c do not follow by
adding. So best-of-n, RL and rankings keep the rewards; what needs probabilities (soft labels, abstention) takes the judge.
Axes: n comparisons, k points of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from guerdon.contracts import (
    GuerdonError,
    Judge,
    RewardModel,
    digest,
)
from guerdon.formulas.isotonic import IsotonicCurve, isotonic_log_odds

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["IsotonicJudge"]


@final
class IsotonicJudge:
    """A reward model or a judge whose margins go through a curve fitted to held-out verdicts; see `guerdon.calibration`."""

    def __init__(self, model: RewardModel | Judge, curve: IsotonicCurve) -> None:
        if len(curve.margin) != len(curve.log_odds) or len(curve.margin) == 0:
            raise GuerdonError(
                f"isotonic: {len(curve.margin)} margins for {len(curve.log_odds)} log-odds; remedy: fit the curve again"
            )
        if (np.diff(curve.margin) < 0).any() or (np.diff(curve.log_odds) < 0).any():
            raise GuerdonError("isotonic: the curve falls somewhere; remedy: fit it again")
        self.model = model
        self.curve = curve

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes an answer."""
        return digest([getattr(self.model, "fingerprint", type(self.model).__name__), self.as_dict()])

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one."""
        return isotonic_log_odds(self._margin(prompts, first, second), self.curve)

    def as_dict(self) -> dict[str, object]:
        """The curve as plain values that JSON can hold."""
        return {"margin": self.curve.margin.tolist(), "log_odds": self.curve.log_odds.tolist()}

    @classmethod
    def from_dict(cls, model: RewardModel | Judge, values: Mapping[str, object]) -> IsotonicJudge:
        """The inverse of as_dict, around the model that the curve was fitted to."""
        if set(values) != {"margin", "log_odds"}:
            raise GuerdonError(f"isotonic: the keys are margin and log_odds, got {', '.join(sorted(values))}")
        return cls(
            model, IsotonicCurve(*(np.asarray(values[name], dtype=np.float64) for name in ("margin", "log_odds")))
        )

    def _margin(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        if not isinstance(self.model, RewardModel):
            return np.asarray(self.model.log_odds(prompts, first, second), dtype=np.float64)
        scores = np.asarray(self.model.score([*prompts, *prompts], [*first, *second]).value, dtype=np.float64)
        margin: np.ndarray = scores[: len(prompts)] - scores[len(prompts) :]
        return margin
