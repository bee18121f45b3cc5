"""The rules that combine several members' rewards into one, by name: stored with an ensemble, and used by optimization.

Axes: k members, n responses.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np

from guerdon.contracts import GuerdonError
from guerdon.formulas.ensemble import PENALTY, RULES, SOFTNESS

if TYPE_CHECKING:
    from jaxtyping import Float

Rule = Callable[["Float[np.ndarray, 'k n']"], "Float[np.ndarray, ' n']"]
STRENGTHS = {"uncertainty": PENALTY, "soft_min": SOFTNESS}


@final
@dataclass(frozen=True, slots=True)
class EnsembleRule:
    """A rule of `formulas.ensemble` with its strength. Called on members' rewards [k, n], it gives one reward per response [n]."""

    name: str
    strength: float | None = None

    def __call__(self, members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
        """The combined reward."""
        combined: np.ndarray = RULES[self.name](members, *(() if self.strength is None else (self.strength,)))
        return combined


def ensemble_rule(name: str, strength: float | None = None) -> EnsembleRule:
    """A function from k members' rewards [k, n], on a common scale, to one reward per response [n].

    mean: their mean. min: the worst case (WCO). uncertainty: mean - strength x variance, the variance divided by k (UWO;
    strength 0.5 by default). soft_min: -strength log mean_k exp(-r_k / strength), which goes from min (strength to 0) to mean
    (to infinity), about mean - variance / (2 strength) in between (strength 1.0 nat by default).
    Coste et al. 2023 (2310.02743, section 3.2); they also divide by k for best-of-n.
    """
    if name not in RULES:
        raise GuerdonError(f"reward: rule must be sum, {', '.join(RULES)}, got {name!r}. Choose one of these.")
    if name not in STRENGTHS:
        if strength is not None:
            raise GuerdonError(f"reward: rule {name} takes no strength, got {strength}. Leave it out.")
        return EnsembleRule(name)
    chosen = STRENGTHS[name] if strength is None else strength
    if not (math.isfinite(chosen) and (chosen > 0 or (chosen == 0 and name == "uncertainty"))):
        raise GuerdonError(
            f"reward: the strength of rule {name} must be a finite number above 0, got {chosen}. "
            f"Leave it out for the default of {STRENGTHS[name]}."
        )
    return EnsembleRule(name, chosen)


def where_finite(rule: Rule, members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The rule where all k members are finite, NaN elsewhere, so that a minimum cannot hide a broken member."""
    is_finite = np.isfinite(members).all(axis=0)
    value = np.full(members.shape[1], math.nan)
    if is_finite.any():
        value[is_finite] = rule(members[:, is_finite])
    return value
