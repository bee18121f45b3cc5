"""Whether the pairs on which a judge has no verdict are missing at random: for audits, and for labels.

Axes: n pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from guerdon.contracts import Finding
from guerdon.formulas.missingness import failure_rate_test, quantile_groups

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped

ALPHA: Final = 0.01


def missingness_findings(
    failed: Bool[np.ndarray, " n"],
    author: Shaped[np.ndarray, " n"],
    length: Float[np.ndarray, " n"],
    prompt: Shaped[np.ndarray, " n"],
    seed: int = 0,
) -> Iterator[Finding]:
    """A warning for each of author and length (characters of both responses) on which failures depend, p < 0.01.

    prompt: of each pair; the pairs of one are not independent.
    """
    for name, category in (("the model that wrote a response", author), ("length", quantile_groups(length))):
        p = failure_rate_test(failed, category, prompt, seed=seed)
        if p < ALPHA:
            yield _not_at_random(name, p, failed, category)


def _not_at_random(name: str, p: float, failed: Bool[np.ndarray, " n"], category: Shaped[np.ndarray, " n"]) -> Finding:
    rates = {label: float(failed[category == label].mean()) for label in np.unique(category).tolist()}
    low, high = min(rates, key=lambda label: rates[label]), max(rates, key=lambda label: rates[label])
    words = (
        f"from {100 * rates[low]:.1f} % in tenth {int(low) + 1} of lengths to {100 * rates[high]:.1f} % in tenth {int(high) + 1}"
        if name == "length"
        else f"from {100 * rates[low]:.1f} % ({low or 'not named'}) to {100 * rates[high]:.1f} % ({high or 'not named'})"
    )
    return Finding(
        "warning",
        f"Failures depend on {name}",
        f"the share of pairs without a verdict goes {words}; p = {p:.2g}",
        "What is left is no fair sample: find out why these fail before the numbers are used.",
    )
