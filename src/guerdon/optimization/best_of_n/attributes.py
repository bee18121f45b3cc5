"""Which attributes of a reward, such as the criteria of a rubric, best-of-n selects for, next to what gold says of the choice.

Axes: p prompts, N responses per prompt. Gains are over the mean response to the same prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from guerdon.contracts import Estimate, Finding, Quantity, Rollouts
from guerdon.formulas import best_of_n as formulas
from guerdon.formulas.clustered import clustered_mean

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["attribute_gains", "attribute_quantities", "gamed_attributes"]


def attribute_gains(rollouts: Rollouts, n: int, groups: Sequence[str], level: float = 0.95) -> dict[str, Estimate]:
    """How much choosing the best of n raises each attribute, on the prompts for which it is known."""
    gains = {}
    for name, values in rollouts.attributes.items():
        gain, known = _gain(rollouts, rollouts.by_prompt(values), n)
        kept = [group for group, is_known in zip(groups, known, strict=True) if is_known]
        gains[name] = Estimate(*clustered_mean(gain[known], kept, level=level))
    return gains


def attribute_quantities(gains: Mapping[str, Estimate]) -> dict[str, Quantity]:
    """How to read the gains."""
    return {
        f"attribute/{name}": Quantity(
            f"gain of {name}", "number", "By attribute", "mean of the chosen replies, above that of all replies"
        )
        for name in gains
    }


def gamed_attributes(rollouts: Rollouts, n: int, groups: Sequence[str]) -> Iterator[Finding]:
    """A warning for each attribute that is selected for while gold loses by the choice (all intervals together at 95 %)."""
    if rollouts.gold is None or not rollouts.attributes:
        return
    level = 1 - 0.05 / len(rollouts.attributes)
    gold, known = _gain(rollouts, rollouts.by_prompt(rollouts.gold), n)
    kept = [group for group, is_known in zip(groups, known, strict=True) if is_known]
    loss = Estimate(*clustered_mean(gold[known], kept, level=level))
    if not loss.high < 0:
        return
    for name, gain in attribute_gains(rollouts, n, groups, level).items():
        if gain.low > 0:
            yield Finding(
                "warning",
                f"{name} rises while gold falls",
                f"the best of {n} has {name} higher by {gain} and gold lower, by {loss}",
                f"Read chosen replies for ways to meet {name} without being better. Tighten its text, or lower its weight.",
            )


def _gain(
    rollouts: Rollouts, values: Float[np.ndarray, "p N"], n: int
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """The gain by prompt, and which prompts have the number for every response."""
    known = np.isfinite(values).all(axis=1)
    filled = np.where(known[:, None], values, 0.0)
    by_n = formulas.curve(rollouts.reward_by_prompt, filled, [1, n])
    return by_n[:, 1] - by_n[:, 0], known
