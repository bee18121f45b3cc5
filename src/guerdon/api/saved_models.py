"""Load, save, examine and repair saved reward models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import ModelOptions, make
from guerdon.config.training import refuse_options_of_new_models

if TYPE_CHECKING:
    from guerdon.contracts import Report
    from guerdon.models.calibrated import CalibratedModel
    from guerdon.models.card import Calibration
    from guerdon.models.ensemble import Ensemble
    from guerdon.models.reward_model import ScalarRewardModel


def load(folder: str | Path, *, with_uncertainty: bool = True, **options: Any) -> CalibratedModel:
    """A saved reward model or ensemble, with its calibration. Keywords are ModelOptions, such as device or truncation.

    It includes the uncertainty that `measure_uncertainty` stored; `with_uncertainty=False` leaves that out, for example to
    measure it again.
    """
    from guerdon.models.directory import loading

    refuse_options_of_new_models(options)
    return loading.load(folder, make(ModelOptions, options), with_uncertainty=with_uncertainty)


def save(model: CalibratedModel | ScalarRewardModel | Ensemble, folder: str | Path) -> None:
    """Write the directory that every reader loads; calibration goes to reward.json and never into the weights.

    An ensemble is a directory of such directories, with ensemble.json next to them.
    """
    from guerdon.models.directory import saving

    saving.save(model, folder)


def repair(folder: str | Path, out: str | Path, **options: Any) -> None:
    """Write a copy of a reward model, from Guerdon or elsewhere, that every reader loads. Keywords are ModelOptions."""
    from guerdon.io.writers import refuse_to_replace
    from guerdon.models.directory.foreign import load_foreign
    from guerdon.models.directory.loading import load_reward_model
    from guerdon.models.engine.pretrained import is_classifier, read_config

    chosen = make(ModelOptions, options)
    refuse_to_replace([folder], [out])
    read = load_reward_model if is_classifier(read_config(str(folder), chosen)) else load_foreign
    save(read(folder, chosen), out)


def bake(folder: str | Path, out: str | Path) -> Calibration:
    """Write a copy with its temperature, and the mean of heads on one backbone, in the weights of a single head.

    Readers that know no calibration then give nats up to a constant, which is the reference mean of the calibration that is returned.
    """
    from guerdon.io.directories import refuse_other_kind
    from guerdon.io.writers import refuse_to_replace
    from guerdon.models.directory.baking import baked
    from guerdon.models.directory.formats import CARD_FILE

    refuse_to_replace([folder], [out])
    refuse_other_kind(Path(out), CARD_FILE)
    model = baked(load(folder, with_uncertainty=False), str(folder))
    save(model, out)
    return model.calibration


def doctor(
    folder: str | Path, *, readers: bool = False, urls: Sequence[str] = (), pythons: Sequence[str | Path] = ()
) -> Report:
    """Whether every reader gives a saved reward model the same scores, and how to fix what differs.

    readers: also score five conversations with every reader of this environment; they are a section of the report. urls: with servers
    of the model too (vLLM, SGLang, `guerdon serve`). pythons: and with the readers of other environments, each under its own Python.
    """
    from dataclasses import replace

    from guerdon.errors import GuerdonError
    from guerdon.io.server_url import normalize_url
    from guerdon.models.directory.doctor import examine, unscorable
    from guerdon.models.directory.reader_scores import compare_readers, refuse_missing

    refuse_missing(pythons)
    for url in urls:
        normalize_url(url)  # a mistake in an address is the caller's, and no finding about the model
    report = examine(folder)
    if not (readers or urls or pythons):
        return report
    try:
        return replace(report, sections=(compare_readers(folder, urls, pythons),))
    except GuerdonError as error:
        if any(finding.severity == "error" for finding in report.findings):  # which say why
            return report
        return replace(report, findings=(*report.findings, unscorable(error)))
