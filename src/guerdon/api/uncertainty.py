"""Measure and store the uncertainty of a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import UncertaintyOptions, make
from guerdon.contracts import GuerdonError
from guerdon.models.calibrated import CalibratedModel, calibration_of, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.contracts import Comparison, Rollouts


def measure_uncertainty(
    model: CalibratedModel | ScalarRewardModel,
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] | Rollouts,
    **options: Any,
) -> CalibratedModel:
    """The model with a standard deviation of its rewards (`std`) and a p-value of each text being in-distribution (`shift_p`).

    `comparisons` are those it was trained on, `held_out` comparisons or replies of the same kind that it was not trained on.
    Keywords are UncertaintyOptions.
    """
    from guerdon.models.laplace import fit_uncertainty

    chosen = make(UncertaintyOptions, options)
    inner = strip_calibration(model)
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(
            f"uncertainty: the model must be one that Guerdon trained or loaded, got {type(inner).__name__}. "
            "Pass a saved reward model."
        )
    with ProgressBar(len(comparisons), "uncertainty", "comparisons") as bar:
        uncertainty = fit_uncertainty(inner, comparisons, held_out, chosen, progress=bar.update)
    return CalibratedModel(inner.with_uncertainty(uncertainty), calibration_of(model))


def store_uncertainty(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a measured uncertainty: in place without rewriting any weights, in another folder with the whole model."""
    from guerdon.models.directory.saving import save_uncertainty

    save_uncertainty(model, folder, out)
