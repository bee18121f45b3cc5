"""What one thing adds to an outcome beside another: slopes of least squares through the origin, with intervals over groups.

Axes: n comparisons, k regressors, d draws of groups. Outcome and regressors change sign when the two responses swap places, so
there is no constant.
"""

from typing import TYPE_CHECKING

import numpy as np

from guerdon.formulas.estimation import Interval
from guerdon.formulas.resampling import bootstrap_sums

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

__all__ = ["partial_slope"]


def partial_slope(
    outcome: "Float[np.ndarray, ' n']",
    of: "Float[np.ndarray, ' n']",
    given: "Float[np.ndarray, 'n k']",
    groups: "Shaped[np.ndarray, ' n']",
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """How much the outcome rises with a unit of `of` where `given` stays as it is; n is groups.

    Percentile interval over draws of groups. NaN where the regressors are collinear.
    """
    design = np.column_stack([of, given]).astype(np.float64)
    k = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), k * k)
    columns = np.column_stack([products, design * np.asarray(outcome, dtype=np.float64)[:, None]])

    def first_slope(sums: "Float[np.ndarray, 'd c']") -> "Float[np.ndarray, ' d']":
        gram, moment = sums[:, : k * k].reshape(-1, k, k), sums[:, k * k :]
        slopes = np.full(len(sums), np.nan)
        size = np.sqrt(np.maximum(np.einsum("dii->di", gram), 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = gram / (size[:, :, None] * size[:, None, :])
        is_solvable = np.isfinite(scaled).all(axis=(1, 2))
        is_solvable[is_solvable] = np.linalg.cond(scaled[is_solvable]) < 1e10
        solved = np.linalg.solve(gram[is_solvable], moment[is_solvable][..., None])
        slopes[is_solvable] = solved[:, 0, 0]
        return slopes

    return bootstrap_sums(columns, groups, first_slope, draws, seed)
