"""Estimates for every stage: a mean, a share or a difference, with its interval by group, and how each is drawn and reads in a sentence.

Axis: n rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from guerdon.contracts import Curve, Estimate, Quantity
from guerdon.formulas.clustered import clustered_difference, clustered_mean, clustered_share
from guerdon.formulas.estimation import Interval

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from guerdon.formulas.clustered import Groups

__all__ = [
    "CORRECTNESS",
    "OPTIMIZATION",
    "SCALE",
    "SHARED_QUANTITIES",
    "Resampling",
    "describe_intervals",
    "estimate_difference",
    "estimate_mean",
    "estimate_share",
    "number",
    "percent",
    "points_by_name",
]

CORRECTNESS, SCALE, OPTIMIZATION = "How often it is right", "Scale", "While it was optimized"  # sections of the page
SHARED_QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": Quantity(
        "accuracy", "share", CORRECTNESS, "pairs ordered as the label says; a tie on either side counts half"
    ),
    "accuracy_strict": Quantity(
        "accuracy, strict", "share", CORRECTNESS, "pairs with a winner only; equal rewards count as wrong"
    ),
    "longer_wins": Quantity(
        "anchor: longer wins", "share", CORRECTNESS, "accuracy of always preferring the longer response"
    ),
    "accuracy_above_longer": Quantity(
        "above longer-wins", "share", CORRECTNESS, "accuracy minus that of longer-wins, pair by pair"
    ),
    "model_ties": Quantity(
        "equal rewards", "share", CORRECTNESS, "pairs whose two responses get exactly the same reward"
    ),
    "truncated": Quantity("truncated", "share", CORRECTNESS, "pairs of which the model did not see all the text"),
    "position_consistency": Quantity(
        "same winner when swapped", "share", CORRECTNESS, "pairs whose winner stays when the two change places"
    ),
    "proxy_gain": Quantity(
        "proxy, gain", "nats", OPTIMIZATION, "the optimized reward at the end, less that at the start"
    ),
    "gold_gain": Quantity(
        "gold, gain", "number", OPTIMIZATION, "the second judge's reward at the end, less that at the start"
    ),
    "kl": Quantity("KL", "nats", OPTIMIZATION, "nats/sequence to the policy that it began from"),
}
"""What more than one stage estimates; everything else is described where it is measured."""


class Resampling(Protocol):
    """The options that every stage with intervals has."""

    @property
    def draws(self) -> int:
        """Bootstrap draws per interval."""
        ...

    @property
    def seed(self) -> int:
        """Seeds the draws."""
        ...


def estimate_mean(values: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None) -> Estimate:
    """The mean of values, weighted if `weight` is given, with its interval by group."""
    return Estimate(*clustered_mean(values, groups, weight))


def estimate_share(values: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None) -> Estimate:
    """As `estimate_mean`, for values in [0, 1]: the interval is one of shares, exact where all are 0 or all are 1."""
    return Estimate(*clustered_share(values, groups, weight))


def estimate_difference(
    a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None
) -> Estimate:
    """The mean of a - b, row by row, for values in [0, 1], with its interval by group."""
    return Estimate(*clustered_difference(a, b, groups, weight))


def describe_intervals(draws: int, seed: int, unit: str = "group") -> str:
    """How the intervals of a report were computed, in one line; formulas/clustered.py and calibration_error.py hold the sources."""
    return (
        f"95 %, by {unit}: Student's for means and differences, Wilson's on the effective number or exact for shares, "
        f"noncentral chi-squared for the calibration error, {draws} bootstrap draws (seed {seed}) for the rest"
    )


def points_by_name(
    names: Iterable[str], y: Iterable[Estimate], x_label: str, y_label: str, *, title: str = "", caption: str = ""
) -> Curve:
    """A curve with one point per name, in this order."""
    x_names = tuple(names)
    x = tuple(float(i) for i in range(len(x_names)))
    return Curve(x, tuple(y), x_label, y_label, kind="points", x_names=x_names, caption=caption, title=title)


def percent(share: Estimate | Interval) -> str:
    """A share with its interval, for a sentence: "71.7 % [68.0, 75.5]"; "no interval" where there is none."""
    value = f"{100 * share.value:.1f}\N{NO-BREAK SPACE}%"
    if math.isnan(share.low) or math.isnan(share.high):
        return f"{value} (no interval)"
    return f"{value} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def number(estimate: Estimate | Interval) -> str:
    """A number with its interval, for a sentence: "0.31 [0.22, 0.4]"; "no interval" where there is none."""
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return f"{estimate.value:.3g} (no interval)"
    return f"{estimate.value:.3g} [{estimate.low:.3g}, {estimate.high:.3g}]"
