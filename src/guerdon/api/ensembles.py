"""Train ensembles, combine saved models into one, and average weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.saved_models import load, save
from guerdon.api.training import train, with_options
from guerdon.config import AuditOptions, Config, ModelOptions, make
from guerdon.contracts import Comparison, Finding, GuerdonError, Report, digest
from guerdon.errors import did_you_mean, field_error
from guerdon.io import readers, writers
from guerdon.io.run_folder import RunFolder, refuse_other_run
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.models.ensemble_rules import EnsembleRule


def train_ensemble(
    comparisons: Sequence[Comparison],
    *,
    members: int = 5,
    by: str = "seed",
    held_out: Sequence[Comparison] = (),
    out: str | Path | None = None,
    config: Config | None = None,
    rule: str = "mean",
    strength: float | None = None,
    **options: Any,
) -> CalibratedModel:
    """An ensemble of reward models trained on the same comparisons. Keywords are ModelOptions and TrainOptions together.

    by: "seed" gives each member its own head and order of the data; "bootstrap" its own bootstrap sample too; "heads" puts all on
    one backbone for the cost of one pass (on bootstrap samples with bootstrap=True). Members are put on one scale by the
    held-out comparisons, or by the training comparisons if there are none. rule, strength: how their rewards become one. out:
    gets a run folder per member (one for heads), and the ensemble in `model`; the same call resumes, member by member.
    """
    from accelerate import PartialState

    from guerdon.models.card import Calibration
    from guerdon.models.directory.saving import save_members
    from guerdon.models.ensemble import Ensemble, scale_by_comparisons
    from guerdon.training.ensemble import member_configs

    ensemble_rule, folder = _rule(rule, strength), Path(out) if out else None
    configs = member_configs(with_options(config or Config(), options), members, by)
    folders = [folder and (folder if by == "heads" else folder / f"member-{i + 1}") for i in range(len(configs))]
    RunFolder(folder).refuse_foreign("model")
    trained = [_train_member(comparisons, held_out, *member) for member in zip(configs, folders, strict=True)]
    whole = Ensemble([CalibratedModel(model, model.card.calibration) for model in trained], ensemble_rule)
    name = "held-out comparisons" if held_out else "comparisons of the training"
    whole = scale_by_comparisons(whole, held_out or comparisons, name)
    if folder and PartialState().is_main_process:
        if by == "heads":
            save(whole, folder / "model")
        else:
            save_members([path / "model" for path in folders if path], folder / "model", whole)
    return CalibratedModel(whole, Calibration())


def ensemble(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    comparisons: Sequence[Comparison] = (),
    rule: str = "mean",
    strength: float | None = None,
    **options: Any,
) -> Report:
    """Combine saved reward models into an ensemble directory, and report what that gains. Keywords are AuditOptions.

    Held-out comparisons put the members on one scale and show whether their errors correlate. Without any, their rewards are
    combined as they are.
    """
    from guerdon.auditing.measures.ensemble import measure_ensemble
    from guerdon.models.directory.saving import save_members
    from guerdon.models.ensemble import Ensemble, scale_by_comparisons
    from guerdon.models.scored_pairs import score_comparisons

    if len({os.path.realpath(model) for model in models}) != len(models) or len(models) < 2:
        names = ", ".join(map(str, models)) or "none"
        raise GuerdonError(f"ensemble: models must be two or more different ones, got {names}. Name another.")
    writers.refuse_to_replace(models, [out])
    loaded = [load(model) for model in models]
    for name, model in zip(models, loaded, strict=True):
        if not Path(name).is_dir() or not isinstance(model.model, ScalarRewardModel):
            raise GuerdonError(
                f"{name}: a member must be the directory of one saved reward model. Give such directories, one by one."
            )
    whole = Ensemble(loaded, _rule(rule, strength))
    about = {"members": ", ".join(map(str, models)), "rule": rule, "directory": str(out)}
    if not comparisons:
        save_members(models, out, whole)
        remedy = "Give held-out comparisons (--data), or calibrate each member first."
        missing = Finding("warning", "The members are not on one scale", "no comparisons were given", remedy)
        return Report("Ensemble", about, findings=(missing,))
    whole = scale_by_comparisons(whole, comparisons, "held-out comparisons")
    save_members(models, out, whole)
    with ProgressBar(len(comparisons), "ensemble", "comparisons") as bar:
        pairs = score_comparisons(whole, comparisons, progress=bar.update)
    report = measure_ensemble(whole, comparisons, pairs, make(AuditOptions, options))
    return dataclasses.replace(report, about={**about, **report.about})


def warm(
    models: Sequence[str | Path | CalibratedModel | ScalarRewardModel],
    comparisons: Sequence[Comparison],
    *,
    out: str | Path | None = None,
) -> tuple[CalibratedModel, Report]:
    """One model with the mean of several fine-tuned models' weights, and whether they are close enough for that (WARM).

    comparisons: ones that no model was trained on; see `measure_weight_averaging`. The result is not calibrated.
    """
    from guerdon.auditing.measures.weight_averaging import measure_weight_averaging

    loaded = [load(model) if isinstance(model, str | Path) else model for model in models]
    inner = [strip_calibration(model) for model in loaded]
    for model in inner:
        if not isinstance(model, ScalarRewardModel):
            raise GuerdonError(
                f"average: every model must have weights of its own, got {type(model).__name__}. Pass single models."
            )
    average, report = measure_weight_averaging(inner, comparisons)
    if out:
        save(average, out)
    return CalibratedModel(average, average.card.calibration), report


def _rule(name: str, strength: float | None) -> EnsembleRule:
    from guerdon.formulas.ensemble import RULES
    from guerdon.models.ensemble_rules import ensemble_rule

    if name not in RULES:
        raise field_error("ensemble: rule", f"one of {', '.join(RULES)}", name, did_you_mean(name, RULES))
    return ensemble_rule(name, strength)


def _train_member(
    comparisons: Sequence[Comparison], held_out: Sequence[Comparison], config: Config, folder: Path | None
) -> ScalarRewardModel:
    """Train a member of an ensemble, or load it if an earlier call finished it in its folder."""
    from accelerate import PartialState

    from guerdon.io.schema import comparisons_digest
    from guerdon.models.directory.loading import load_reward_model
    from guerdon.training.run import HARMLESS

    if folder is None or config.model.heads > 1:  # heads are one run, which resumes by itself
        return train(comparisons, held_out=held_out, out=folder, config=config)
    options = [config.model.model_dump(mode="json"), config.train.model_dump(mode="json", exclude=set(HARMLESS))]
    identity = digest([*options, comparisons_digest(comparisons), comparisons_digest(held_out)])
    done = folder / "done.json"
    if not done.exists():
        model = train(comparisons, held_out=held_out, out=folder, config=config)
        if PartialState().is_main_process:
            writers.write_json(done, {"identity": identity})
        return model
    stored = readers.read_json(done)
    known = stored.get("identity") if isinstance(stored, dict) else None
    refuse_other_run(folder, {"options or data": identity}, {"options or data": known})
    runtime_options = {"device", "autocast", "attention"} & config.model.model_fields_set
    return load_reward_model(
        folder / "model", make(ModelOptions, {name: getattr(config.model, name) for name in runtime_options})
    )
