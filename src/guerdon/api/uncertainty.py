"""Measure and store how sure a reward model may be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guerdon.api.calibration import store_calibration
from guerdon.api.saved_models import save
from guerdon.config import (
    make,
)
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Rollouts,
)
from guerdon.io import (
    writers,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.progress import bar


def measure_uncertainty(
    model: CalibratedModel | ScalarRewardModel,
    comparisons: Sequence[Comparison],
    *,
    held_out: Sequence[Comparison] | Rollouts,
    **options: Any,
) -> CalibratedModel:
    """The model with a spread of its rewards (`std`) and a p-value of each text being like its data (`shift_p`).

    `comparisons` are those it was trained on, `held_out` comparisons or replies of the same kind that it was not. Keywords
    are UncertaintyOptions.
    """
    from guerdon.config import UncertaintyOptions
    from guerdon.models.laplace import fit_uncertainty

    chosen = make(UncertaintyOptions, options)
    inner = model.model if isinstance(model, CalibratedModel) else model
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(f"uncertainty: {type(inner).__name__} is no model of ours; remedy: a saved reward model")
    with bar("uncertainty", len(comparisons)) as progress:
        found = fit_uncertainty(inner, comparisons, held_out, chosen, progress=progress)
    card = dataclasses.replace(inner.card, uncertainty=dict(found.provenance))
    known = ScalarRewardModel(
        inner.network,
        inner.text,
        card,
        autocast=inner.autocast,
        batch_tokens=inner.batch_tokens,
        uncertainty=found,
    )
    return CalibratedModel(known, model.calibration if isinstance(model, CalibratedModel) else inner.card.calibration)


def store_uncertainty(model: CalibratedModel, folder: str | Path, out: str | Path | None = None) -> None:
    """Store what was measured: in place no weight is rewritten, elsewhere the whole directory is."""
    from guerdon.models import laplace

    inner = model.model
    assert isinstance(inner, ScalarRewardModel)
    assert inner.uncertainty is not None
    if out is not None and Path(out) != Path(folder):
        save(model, out)
        return
    with writers.atomic_write(Path(folder) / laplace.PLACE, "wb") as file:
        file.write(laplace.to_bytes(inner.uncertainty))
    store_calibration(model, folder)
