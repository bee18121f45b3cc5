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
from guerdon.models.calibrated import Scaled
from guerdon.models.reward_model import ScalarModel

if TYPE_CHECKING:
    from guerdon.models.ensemble import Ensemble


def load(folder: str | Path, *, uncertain: bool = True, **options: Any) -> Scaled:
    """A saved reward model, with its calibration. Keywords are ModelOptions, such as device or truncation.

    With what `measure_uncertainty` found, unless `uncertain` says not to look: to measure it anew, say.
    """
    from guerdon.models.directory import layout
    from guerdon.models.ensemble import load as load_ensemble
    from guerdon.models.reward_model import load as load_scalar

    layout.recover(Path(folder))
    if layout.is_ensemble(folder):
        return load_ensemble(folder, make(ModelOptions, options), uncertain=uncertain)
    model = load_scalar(folder, make(ModelOptions, options), uncertain=uncertain)
    return Scaled(model, model.card.calibration)


def save(model: Scaled | ScalarModel | Ensemble, folder: str | Path) -> None:
    """Write the directory that every reader loads; calibration goes to reward.json and never into the weights.

    An ensemble is a directory of such directories, with ensemble.json beside them.
    """
    from guerdon.models.ensemble import Ensemble
    from guerdon.models.ensemble import save as save_ensemble
    from guerdon.models.reward_model import save as save_scalar

    inner = model.model if isinstance(model, Scaled) else model
    if isinstance(inner, Ensemble):
        return save_ensemble(inner, folder, model.calibration if isinstance(model, Scaled) else None)
    if not isinstance(inner, ScalarModel):
        raise GuerdonError(f"save: {type(inner).__name__} is no model of ours; remedy: save it the way it was made")
    if isinstance(model, Scaled):
        card = dataclasses.replace(inner.card, calibration=model.calibration)
        inner = ScalarModel(inner.network, inner.text, card, autocast=inner.autocast, uncertainty=inner.uncertainty)
    save_scalar(inner, folder)


def mend(folder: str | Path, out: str | Path, **options: Any) -> None:
    """Write a copy of a reward model, ours or another's, in the layout that every reader loads. Keywords are ModelOptions."""
    from guerdon.models.directory.foreign import load_foreign
    from guerdon.models.directory.layout import is_classifier
    from guerdon.models.reward_model import load as load_scalar

    given = make(ModelOptions, options)
    if is_classifier(str(folder), given):
        model = load_scalar(folder, given)
        save(Scaled(model, model.card.calibration), out)
        return
    foreign, calibration = load_foreign(folder, given)
    save(Scaled(foreign, calibration), out)


def doctor(folder: str | Path) -> Report:
    """Whether a saved reward model is read the same by everyone, and the remedy where it is not."""
    from guerdon.models.directory.doctor import examine

    return examine(folder)
