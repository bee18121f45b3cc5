"""Load, save, examine and repair saved reward models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import (
    ModelOptions,
    make,
)
from guerdon.contracts import (
    GuerdonError,
    Report,
)
from guerdon.models.calibrated import CalibratedModel
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from guerdon.models.ensemble import Ensemble


def load(folder: str | Path, *, with_uncertainty: bool = True, **options: Any) -> CalibratedModel:
    """A saved reward model, with its calibration. Keywords are ModelOptions, such as device or truncation.

    With what `measure_uncertainty` found, unless `with_uncertainty` says not to look: to measure it anew, say.
    """
    from guerdon.models.directory import layout
    from guerdon.models.ensemble import load as load_ensemble
    from guerdon.models.reward_model import load as load_scalar

    layout.recover(Path(folder))
    if layout.is_ensemble(folder):
        return load_ensemble(folder, make(ModelOptions, options), with_uncertainty=with_uncertainty)
    model = load_scalar(folder, make(ModelOptions, options), with_uncertainty=with_uncertainty)
    return CalibratedModel(model, model.card.calibration)


def save(model: CalibratedModel | ScalarRewardModel | Ensemble, folder: str | Path) -> None:
    """Write the directory that every reader loads; calibration goes to reward.json and never into the weights.

    An ensemble is a directory of such directories, with ensemble.json beside them.
    """
    from guerdon.models.ensemble import Ensemble
    from guerdon.models.ensemble import save as save_ensemble
    from guerdon.models.reward_model import save as save_scalar

    inner = model.model if isinstance(model, CalibratedModel) else model
    if isinstance(inner, Ensemble):
        return save_ensemble(inner, folder, model.calibration if isinstance(model, CalibratedModel) else None)
    if not isinstance(inner, ScalarRewardModel):
        raise GuerdonError(f"save: {type(inner).__name__} is no model of ours; remedy: save it the way it was made")
    if isinstance(model, CalibratedModel):
        card = dataclasses.replace(inner.card, calibration=model.calibration)
        inner = ScalarRewardModel(
            inner.network, inner.text, card, autocast=inner.autocast, uncertainty=inner.uncertainty
        )
    save_scalar(inner, folder)


def repair(folder: str | Path, out: str | Path, **options: Any) -> None:
    """Write a copy of a reward model, ours or another's, in the layout that every reader loads. Keywords are ModelOptions."""
    from guerdon.models.directory.foreign import load_foreign
    from guerdon.models.directory.layout import is_classifier
    from guerdon.models.reward_model import load as load_scalar

    given = make(ModelOptions, options)
    if is_classifier(str(folder), given):
        model = load_scalar(folder, given)
        save(CalibratedModel(model, model.card.calibration), out)
        return
    foreign, calibration = load_foreign(folder, given)
    save(CalibratedModel(foreign, calibration), out)


def doctor(folder: str | Path) -> Report:
    """Whether a saved reward model is read the same by everyone, and the remedy where it is not."""
    from guerdon.models.directory.doctor import examine

    return examine(folder)
