"""Fit a reward model's odds to held-out comparisons, and store the fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from guerdon.config import (
    make,
)
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Judge,
    Report,
    RewardModel,
    Rollouts,
)
from guerdon.io import (
    writers,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from guerdon.models.isotonic import IsotonicJudge

from guerdon.api.saved_models import save
from guerdon.progress import bar


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
    """The model in nats, with odds fitted to held-out comparisons, and the report of what changed. Keywords are CalibrateOptions.

    With method="isotonic" a judge instead: the odds are bent, so no rewards belong to them.
    """
    from guerdon.calibration import fit
    from guerdon.calibration.isotonic import fit_isotonic_judge
    from guerdon.config import CalibrateOptions

    chosen = make(CalibrateOptions, options)
    if chosen.method == "isotonic" and reference is not None:
        raise GuerdonError(
            "calibrate.method=isotonic: a judge has no scale for a reference; remedy: leave the reference out"
        )
    with bar("calibrate", len(comparisons)) as progress:
        if chosen.method == "isotonic":
            return fit_isotonic_judge(model, comparisons, chosen, progress=progress)
        return fit(model, comparisons, chosen, reference=reference, progress=progress)


def store_calibration(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store a calibration: in place only reward.json (ensemble.json) is rewritten, elsewhere the whole directory is."""
    if not isinstance(model, CalibratedModel):
        raise GuerdonError(
            "calibrate.method=isotonic gives a judge, which a saved reward model cannot hold; "
            "remedy: calibrate.method=temperature, or use the judge in Python"
        )
    from guerdon.models.directory.layout import ENSEMBLE
    from guerdon.models.ensemble import Ensemble, recalibrated

    inner = model.model
    several = (
        isinstance(inner, ScalarRewardModel) and inner.heads > 1
    )  # each head is a member with a reward.json of its own
    if several or (out is not None and Path(out) != Path(folder)):
        save(model, out or folder)
        return
    if isinstance(inner, Ensemble):
        writers.write_text(Path(folder) / ENSEMBLE, recalibrated(folder, model.calibration))
        return
    assert isinstance(inner, ScalarRewardModel)
    card = dataclasses.replace(inner.card, calibration=model.calibration)
    writers.write_json(Path(folder) / "reward.json", card.as_dict())
