"""Estimates of scored pairs: a mean or a share, resampled by group with a stage's draws and seed. Axis: n rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from guerdon.contracts import Estimate
from guerdon.formulas.resampling import bootstrap_mean, bootstrap_share, paired_difference

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from guerdon.formulas.resampling import Groups

__all__ = ["Resampling", "estimate_difference", "estimate_mean", "estimate_share"]


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


def estimate_mean(
    values: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None, options: Resampling
) -> Estimate:
    """The mean of values, weighted if `weight` is given, with its bootstrap interval by group."""
    return Estimate(*bootstrap_mean(values, groups, weight, options.draws, options.seed))


def estimate_share(
    values: Float[np.ndarray, " n"], groups: Groups, weight: Float[np.ndarray, " n"] | None, options: Resampling
) -> Estimate:
    """As `estimate_mean`, for values in [0, 1]: where all are 0 or all are 1, the exact interval."""
    return Estimate(*bootstrap_share(values, groups, weight, options.draws, options.seed))


def estimate_difference(
    a: Float[np.ndarray, " n"],
    b: Float[np.ndarray, " n"],
    groups: Groups,
    weight: Float[np.ndarray, " n"] | None,
    options: Resampling,
) -> Estimate:
    """The mean of a - b, row by row, with its bootstrap interval by group."""
    return Estimate(*paired_difference(a, b, groups, weight, options.draws, options.seed))
