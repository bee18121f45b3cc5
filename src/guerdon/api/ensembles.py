"""Train ensembles, bind saved models into one, and average weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import (
    AuditOptions,
    Config,
    ModelOptions,
    make,
)
from guerdon.contracts import (
    Comparison,
    GuerdonError,
    Report,
    digest,
)
from guerdon.errors import did_you_mean, field_error
from guerdon.io import (
    readers,
    writers,
)
from guerdon.io.run_folder import refuse_other_run
from guerdon.models.calibrated import CalibratedModel, strip_calibration
from guerdon.models.reward_model import ScalarRewardModel

if TYPE_CHECKING:
    from guerdon.models.ensemble_rules import EnsembleRule

from guerdon.api.saved_models import load, save
from guerdon.api.training import train, with_options
from guerdon.progress import ProgressBar


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
    """Several reward models of the same comparisons, as one. Keywords are ModelOptions and TrainOptions together.

    by: "seed" draws each member's head and order of the data, "bootstrap" a resample of the data too, "heads" puts them on one
    backbone for the cost of one pass (with bootstrap=True on resamples). They meet on the scale of the held-out comparisons, else
    of those they learned from; `rule` and `strength` are `guerdon.optimization.ensemble_rule`'s. With `out`, a run folder for each
    member (for heads, one) and the ensemble in `model`; the same call goes on from a killed one, member by member.
    """
    from accelerate import PartialState

    from guerdon.models.card import Calibration
    from guerdon.models.directory.saving import save_members
    from guerdon.models.ensemble import Ensemble, scale_by_comparisons
    from guerdon.training.ensemble import member_configs

    chosen, folder = _rule(rule, strength), Path(out) if out else None
    plans = member_configs(with_options(config or Config(), options), members, by)
    places = [folder and (folder if by == "heads" else folder / f"member-{i + 1}") for i in range(len(plans))]
    trained = [_member(comparisons, held_out, plan, place) for plan, place in zip(plans, places, strict=True)]
    whole = Ensemble([CalibratedModel(model, model.card.calibration) for model in trained], chosen)
    name = "held-out comparisons" if held_out else "comparisons of the training"
    whole = scale_by_comparisons(whole, held_out or comparisons, name)
    if folder and PartialState().is_main_process:
        if by == "heads":
            save(whole, folder / "model")
        else:
            save_members([place / "model" for place in places if place], folder / "model", whole)
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
    """Bind saved reward models into one directory, and report what that gains. Keywords are AuditOptions.

    Held-out comparisons put the members on one scale and say whether they err together; without any they meet as they are.
    """
    from guerdon.auditing.measures.ensemble import measure_ensemble
    from guerdon.contracts import Finding
    from guerdon.models.directory.saving import save_members
    from guerdon.models.ensemble import Ensemble, scale_by_comparisons
    from guerdon.models.scored_pairs import score_comparisons

    if len({Path(model).resolve() for model in models}) != len(models) or len(models) < 2:
        names = ", ".join(map(str, models)) or "none"
        raise GuerdonError(f"ensemble: models must be two or more different ones, got {names}. Name another.")
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
    **options: Any,
) -> tuple[CalibratedModel, Report]:
    """One model of the mean of several fine-tunings' weights, and whether they lie close enough for that. Not calibrated.

    Comparisons that none was trained on show it; see `measure_weight_averaging`. Keywords are AuditOptions.
    """
    from guerdon.auditing.measures.weight_averaging import measure_weight_averaging

    loaded = [load(model) if isinstance(model, str | Path) else model for model in models]
    inner = [strip_calibration(model) for model in loaded]
    for model in inner:
        if not isinstance(model, ScalarRewardModel):
            raise GuerdonError(
                f"average: every model must have weights of its own, got {type(model).__name__}. Pass single models."
            )
    average, report = measure_weight_averaging(inner, comparisons, make(AuditOptions, options))
    if out:
        save(average, out)
    return CalibratedModel(average, average.card.calibration), report


def _rule(name: str, strength: float | None) -> EnsembleRule:
    from guerdon.formulas.ensemble import RULES
    from guerdon.models.ensemble_rules import ensemble_rule

    if name not in RULES:
        raise field_error("ensemble: rule", f"one of {', '.join(RULES)}", name, did_you_mean(name, RULES))
    return ensemble_rule(name, strength)


def _member(
    comparisons: Sequence[Comparison], held_out: Sequence[Comparison], config: Config, place: Path | None
) -> ScalarRewardModel:
    """Train a member of an ensemble, or load the one that an earlier call finished in its folder."""
    from accelerate import PartialState

    from guerdon.io.schema import comparisons_digest
    from guerdon.models.directory.loading import load_reward_model

    if place is None or config.model.heads > 1:  # heads are one run, which knows by itself whether it is done
        return train(comparisons, held_out=held_out, out=place, config=config)
    harmless = {"save_every", "report_to", "micro_tokens", "shard"}
    told = [config.model.model_dump(mode="json"), config.train.model_dump(mode="json", exclude=harmless)]
    identity = digest([*told, comparisons_digest(comparisons), comparisons_digest(held_out)])
    done = place / "done.json"
    if not done.exists():
        model = train(comparisons, held_out=held_out, out=place, config=config)
        if PartialState().is_main_process:
            writers.write_json(done, {"identity": identity})
        return model
    stored = readers.read_json(done)
    known = stored.get("identity") if isinstance(stored, dict) else None
    refuse_other_run(place, {"options or data": identity}, {"options or data": known})
    running = {"device", "autocast", "attention"} & config.model.model_fields_set
    return load_reward_model(
        place / "model", make(ModelOptions, {name: getattr(config.model, name) for name in running})
    )
