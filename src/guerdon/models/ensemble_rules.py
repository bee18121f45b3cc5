"""The rules that make one reward of several members', by name: what an ensemble stores, and what an optimizer is given."""

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
    """A rule of `formulas.ensemble` with its strength; called on members' rewards [k, n] it gives one reward each [n]."""

    name: str
    strength: float | None = None

    def __call__(self, members: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
        """The combined reward."""
        found: np.ndarray = RULES[self.name](members, *(() if self.strength is None else (self.strength,)))
        return found


def ensemble_rule(name: str, strength: float | None = None) -> EnsembleRule:
    """A function from k members' rewards [k, n] to one reward each [n]. Members are on one scale before they meet.

    mean: their mean. min: the worst case (WCO). uncertainty: mean - strength x variance, the variance divided by k (UWO;
    strength 0.5 unless given). soft_min: -strength log mean_k exp(-r_k / strength), which goes from min (strength to 0)
    to mean (to infinity), about mean - variance / (2 strength) in between (strength 1.0 nat unless given).
    Coste et al. 2023 (2310.02743, section 3.2); they also divide by k for best-of-n.
    """
    if name not in RULES:
        raise GuerdonError(f"reward: rule {name!r} is not known; known are sum, {', '.join(RULES)}")
    if name not in STRENGTHS:
        if strength is not None:
            raise GuerdonError(f"reward: rule {name} has no strength, got {strength}; remedy: leave it out")
        return EnsembleRule(name)
    chosen = STRENGTHS[name] if strength is None else strength
    if not (math.isfinite(chosen) and (chosen > 0 or (chosen == 0 and name == "uncertainty"))):
        raise GuerdonError(f"reward: the strength of rule {name} is a finite number above 0, got {chosen}")
    return EnsembleRule(name, chosen)


def where_finite(rule: Rule, rows: Float[np.ndarray, "k n"]) -> Float[np.ndarray, " n"]:
    """The rule where all k are finite; NaN elsewhere, so that no minimum hides one that is not."""
    finite = np.isfinite(rows).all(axis=0)
    value = np.full(rows.shape[1], math.nan)
    if finite.any():
        value[finite] = rule(rows[:, finite])
    return value
