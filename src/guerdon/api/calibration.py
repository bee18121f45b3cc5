"""Fit a reward model's odds to held-out comparisons, and store the fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from guerdon.config import make
from guerdon.contracts import Comparison, GuerdonError, Judge, Report, RewardModel, Rollouts
from guerdon.models.calibrated import CalibratedModel
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.models.isotonic import IsotonicJudge


@overload
def calibrate(
    model: RewardModel,
    comparisons: Sequence[Comparison],
    *,
    reference: Rollouts | None = None,
    method: Literal["temperature"] = "temperature",
    **options: Any,
) -> tuple[CalibratedModel, Report]: ...


@overload
def calibrate(
    model: RewardModel | Judge, comparisons: Sequence[Comparison], *, method: Literal["isotonic"], **options: Any
) -> tuple[IsotonicJudge, Report]: ...


def calibrate(
    model: Any, comparisons: Sequence[Comparison], *, reference: Rollouts | None = None, **options: Any
) -> tuple[Any, Report]:
    """The model with its odds fitted to held-out comparisons, in nats, and a report of what changed.

    reference: samples of the policy to be optimized; their rewards get mean 0. Keywords are CalibrateOptions. With
    method="isotonic" the result is a judge: its odds are bent, so they belong to no rewards.
    """
    from guerdon.calibration import fit_calibrated_model, fit_isotonic_judge
    from guerdon.config import CalibrateOptions

    settings = make(CalibrateOptions, options)
    if settings.method == "isotonic" and reference is not None:
        raise GuerdonError(
            "calibrate.method=isotonic: reference must be absent, because a judge has no rewards. Leave the reference out."
        )
    with ProgressBar(len(comparisons), "calibrate", "comparisons") as bar:
        if settings.method == "isotonic":
            return fit_isotonic_judge(model, comparisons, settings, progress=bar.update)
        return fit_calibrated_model(model, comparisons, settings, reference=reference, progress=bar.update)


def store_calibration(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a calibration in the saved model. In place, only reward.json or ensemble.json is rewritten; with `out`, all is."""
    from guerdon.models.directory.saving import save_calibration

    if not isinstance(model, CalibratedModel):
        raise GuerdonError(
            "calibrate.method must be temperature to be stored, got isotonic, which gives a judge and not a reward model. "
            "Use calibrate.method=temperature, or use the judge in Python."
        )
    save_calibration(model, folder, out)
