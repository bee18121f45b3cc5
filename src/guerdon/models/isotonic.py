"""Margins mapped through a monotone curve: odds that one temperature cannot correct. A judge, never a reward model.

A curve on margins does not come from any curve on rewards: the mapped odds of a over b and of b over c do not add up to those of
a over c. So best-of-n, RL and rankings keep the rewards; what needs probabilities (soft labels, abstention) uses the judge.
Axes: n comparisons, k points of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, final

import numpy as np

from guerdon.contracts import GuerdonError, Judge, RewardModel, digest
from guerdon.formulas.isotonic import IsotonicCurve, isotonic_log_odds
from guerdon.models.fingerprint import fingerprint_of
from guerdon.models.scored_pairs import reward_margins

if TYPE_CHECKING:
    from jaxtyping import Float

    from guerdon.contracts import PromptLike, ResponseLike

__all__ = ["IsotonicJudge"]


@final
class IsotonicJudge:
    """A reward model or judge whose margins go through a curve fitted to held-out preferences; see `guerdon.calibration`."""

    def __init__(self, model: RewardModel | Judge, curve: IsotonicCurve) -> None:
        if len(curve.margin) != len(curve.log_odds) or len(curve.margin) == 0:
            raise GuerdonError(
                f"isotonic: the curve must have as many margins as log-odds, and at least one, got {len(curve.margin)} and "
                f"{len(curve.log_odds)}. Fit it again."
            )
        if (np.diff(curve.margin) < 0).any() or (np.diff(curve.log_odds) < 0).any():
            raise GuerdonError("isotonic: the curve must never decrease. Fit it again.")
        self.model = model
        self.curve = curve

    @property
    def fingerprint(self) -> str:
        """Changes with whatever changes an answer."""
        return digest([fingerprint_of(self.model), self.as_dict()])

    def log_odds(
        self, prompts: Sequence[PromptLike], first: Sequence[ResponseLike], second: Sequence[ResponseLike]
    ) -> Float[np.ndarray, " n"]:
        """Log-odds, in nats, that the first response is the better one."""
        if isinstance(self.model, RewardModel):
            margins = reward_margins(self.model, prompts, first, second)
        else:
            margins = np.asarray(self.model.log_odds(prompts, first, second), dtype=np.float64)
        return isotonic_log_odds(margins, self.curve)

    def as_dict(self) -> dict[str, object]:
        """The curve as plain values for JSON."""
        return {"margin": self.curve.margin.tolist(), "log_odds": self.curve.log_odds.tolist()}

    @classmethod
    def from_dict(cls, model: RewardModel | Judge, values: Mapping[str, object]) -> IsotonicJudge:
        """The inverse of as_dict, around the model that the curve was fitted to."""
        if set(values) != {"margin", "log_odds"}:
            raise GuerdonError(
                f"isotonic: the keys must be margin and log_odds, got {', '.join(sorted(values))}. Pass what as_dict gave."
            )
        return cls(
            model, IsotonicCurve(*(np.asarray(values[name], dtype=np.float64) for name in ("margin", "log_odds")))
        )
