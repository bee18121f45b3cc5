"""Are values missing at random? A test of failures against categories, such as the model that wrote a text or its length.

Axes: n items, c categories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped

__all__ = ["failure_rate_test", "quantile_groups"]


SELECTIONS: Final = 25  # of one item per unit


def failure_rate_test(
    failed: Bool[np.ndarray, " n"],
    category: Shaped[np.ndarray, " n"],
    unit: Shaped[np.ndarray, " n"] | None = None,
    draws: int = 9999,
    seed: int = 0,
) -> float:
    """p-value of equal failure rates in all categories; 1.0 where none or all failed, or there is one category.

    Pearson's chi-squared statistic against its distribution with both margins fixed (Fisher's null), drawn from the
    multivariate hypergeometric distribution, so that few failures and small categories need no approximation.

    unit: what items belong to, such as a prompt; items of one unit tend to fail together. Where units have several items, one
    item of each is drawn, 25 times, and twice the median p-value is given, which is valid however the draws depend on each
    other (Rueschendorf 1982; Meinshausen, Meier and Buehlmann 2009, equation 2.2).
    """
    if unit is None or len(np.unique(unit)) == len(unit):
        return _exact_test(failed, category, draws, seed)
    _, unit_code = np.unique(unit, return_inverse=True)
    rng = np.random.default_rng(seed)
    p = []
    for selection in range(SELECTIONS):
        order = rng.permutation(len(failed))
        _, first = np.unique(unit_code[order], return_index=True)
        chosen = order[first]
        p.append(_exact_test(failed[chosen], category[chosen], draws, seed + selection))
    return min(1.0, 2 * float(np.median(p)))


def _exact_test(failed: Bool[np.ndarray, " n"], category: Shaped[np.ndarray, " n"], draws: int, seed: int) -> float:
    _, code = np.unique(category, return_inverse=True)
    size = np.bincount(code)
    observed = np.bincount(code, weights=failed).astype(np.int64)
    num_failed = int(observed.sum())
    if len(size) < 2 or num_failed in (0, len(failed)):
        return 1.0
    expected = num_failed * size / size.sum()
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(size, num_failed, size=draws)

    def statistic(counts: Int[np.ndarray, "*s c"]) -> Float[np.ndarray, "*s"]:
        total: np.ndarray = (np.square(counts - expected) / expected / (1 - num_failed / size.sum())).sum(axis=-1)
        return total

    extreme = int((statistic(drawn) >= statistic(observed) * (1 - 1e-9)).sum())
    return (1 + extreme) / (1 + draws)


def quantile_groups(values: Float[np.ndarray, " n"], num: int = 10) -> Int[np.ndarray, " n"]:
    """The quantile group of each value, 0 the lowest; equal values share one, so there may be fewer."""
    inner = np.quantile(values, np.arange(1, num) / num) if len(values) else np.zeros(0)
    groups: np.ndarray = np.searchsorted(np.unique(inner), values, side="left")
    return groups
