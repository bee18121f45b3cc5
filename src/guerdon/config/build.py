"""All options together, and how they are put together: defaults, then a recipe, a YAML file, and dotted overrides."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from guerdon.config.annotation import AnnotationOptions
from guerdon.config.auditing import AuditOptions, BenchmarkOptions, ScoreOptions, TaxOptions
from guerdon.config.base import Options
from guerdon.config.data import (
    AggregateOptions,
    CheckOptions,
    ExportOptions,
    ImportOptions,
    InspectOptions,
    SelectOptions,
    SplitOptions,
)
from guerdon.config.feedback import ConstitutionOptions, DraftOptions
from guerdon.config.judging import JudgeOptions
from guerdon.config.loop import LoopOptions
from guerdon.config.optimization import BestOfNOptions, OptimizeOptions, PolicyOptions
from guerdon.config.serving import ServingOptions
from guerdon.config.training import CalibrateOptions, ModelOptions, TrainOptions, UncertaintyOptions
from guerdon.config.yaml_text import parse_yaml
from guerdon.errors import GuerdonError, field_error, show_value


class QuickstartOptions(Options):
    """The main job, end to end."""

    comparisons: int = Field(2000, ge=20, description="Comparisons to build from the starter kit's human ratings.")
    feedback: Literal["people", "ai"] = Field(
        "people",
        description="Whose judgments the model learns from: people's, or those of an AI judge on this machine (ai), which labels "
        "replies that are drawn first; the audit is on people's judgments either way.",
    )
    ai_prompts: int = Field(80, ge=20, description="Prompts with feedback=ai.")
    ai_replies: int = Field(3, ge=2, description="Replies to each prompt with feedback=ai; all their pairs are judged.")
    card_pairs: int = Field(
        200, ge=20, description="People's comparisons that the judge is measured on with feedback=ai."
    )
    audit_pairs: int = Field(400, ge=20, description="People's comparisons in the audit with feedback=ai.")
    samples: int = Field(16, ge=2, description="Replies drawn per prompt to show best-of-n.")
    sample_tokens: int = Field(40, ge=1, description="Maximum tokens in a sampled reply.")
    sample_prompts: int = Field(3, ge=0, description="Prompts to show best-of-n on; 0 skips it.")

    def refuse_conflicts(self) -> None:
        """Refuse a card that leaves no comparisons for the audit."""
        if self.feedback == "ai" and self.card_pairs + self.audit_pairs > self.comparisons:
            claim = f"at most quickstart.comparisons={self.comparisons} less quickstart.card_pairs={self.card_pairs}"
            raise field_error("quickstart.audit_pairs", claim, self.audit_pairs, "Raise comparisons.")


class Config(Options):
    """The options of all stages: what a run writes as config.yaml and --config reads back."""

    imports: ImportOptions = Field(default_factory=ImportOptions, description="Reading files of other formats.")
    export: ExportOptions = Field(default_factory=ExportOptions, description="Writing the formats of other tools.")
    check: CheckOptions = Field(default_factory=CheckOptions, description="Checks of the data.")
    inspect: InspectOptions = Field(default_factory=InspectOptions, description="Looking at the data.")
    split: SplitOptions = Field(default_factory=SplitOptions, description="Train, calibrate and audit parts.")
    aggregate: AggregateOptions = Field(default_factory=AggregateOptions, description="Many votes to one label.")
    select: SelectOptions = Field(default_factory=SelectOptions, description="Which comparisons to label next.")
    judge: JudgeOptions = Field(default_factory=JudgeOptions, description="A judge, as in judge.yaml.")
    annotation: AnnotationOptions = Field(
        default_factory=AnnotationOptions, description="People who compare, as in annotation.yaml."
    )
    constitution: ConstitutionOptions = Field(
        default_factory=ConstitutionOptions, description="Critique, revision and comparison under a constitution."
    )
    draft: DraftOptions = Field(default_factory=DraftOptions, description="Drafting a rubric from comparisons.")
    model: ModelOptions = Field(default_factory=ModelOptions, description="The model.")
    train: TrainOptions = Field(default_factory=TrainOptions, description="Training.")
    calibrate: CalibrateOptions = Field(default_factory=CalibrateOptions, description="Calibration.")
    uncertainty: UncertaintyOptions = Field(default_factory=UncertaintyOptions, description="Uncertainty of one model.")
    audit: AuditOptions = Field(default_factory=AuditOptions, description="The audit.")
    benchmark: BenchmarkOptions = Field(default_factory=BenchmarkOptions, description="Public benchmarks.")
    score: ScoreOptions = Field(default_factory=ScoreOptions, description="Scoring.")
    serving: ServingOptions = Field(default_factory=ServingOptions, description="Serving rewards.")
    policy: PolicyOptions = Field(default_factory=PolicyOptions, description="The policy.")
    best_of_n: BestOfNOptions = Field(default_factory=BestOfNOptions, description="Best-of-N.")
    optimize: OptimizeOptions = Field(default_factory=OptimizeOptions, description="Reinforcement learning.")
    tax: TaxOptions = Field(default_factory=TaxOptions, description="The alignment tax.")
    loop: LoopOptions = Field(default_factory=LoopOptions, description="The loop of labels, training and optimization.")
    quickstart: QuickstartOptions = Field(default_factory=QuickstartOptions, description="The quickstart.")


def build(*layers: Mapping[str, Any], overrides: Sequence[str] = (), runs: Sequence[str] = ()) -> Config:
    """A Config from nested mappings, a later one over an earlier one, then overrides such as "train.lr=1e-5".

    Names and types are checked in every stage, conflicts between options in the stages that the caller `runs`. Only the
    result is checked, so that a layer may resolve a conflict of an earlier one. GuerdonError names the key, the value and
    the closest known key.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
        for stage, name in REMOVED:
            if isinstance(merged.get(stage), dict):
                merged[stage].pop(name, None)
    for override in overrides:
        _merge(merged, _parse_override(override))
    _refuse_unknown(merged)
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise _first_error(error) from None
    for stage in runs:
        getattr(config, stage).refuse_conflicts()
    return config


REMOVED = (("tax", "draws"),)
"""Options of earlier versions that changed no number but intervals: files that hold them are still read."""

Kind = TypeVar("Kind", bound=Options)


def make(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """One stage's options from keywords; GuerdonError names the key, the value and the closest known key."""
    for name in values:
        if name not in kind.model_fields:
            raise GuerdonError(f"{name} is not an option in {kind.__name__}. {_suggest(name, list(kind.model_fields))}")
    try:
        options = kind.model_validate(dict(values))
    except ValidationError as error:
        raise _first_error(error) from None
    options.refuse_conflicts()
    return options


def known_keys() -> Iterator[tuple[str, Any]]:
    """Each dotted option with its pydantic field."""
    for stage, field in Config.model_fields.items():
        for name, option in field.annotation.model_fields.items():  # type: ignore[union-attr]
            yield f"{stage}.{name}", option


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict) and key in Config.model_fields:
            into[key].update(value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _parse_override(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        raise field_error("override", "STAGE.NAME=VALUE", text, "Write it as in train.lr=1e-5.")
    try:
        parsed = parse_yaml(value)
    except ValueError as error:
        claim = f"STAGE.NAME=VALUE with a value in YAML ({error})"
        raise field_error("override", claim, text, "Correct or quote the value.") from None
    stage, _, name = key.partition(".")
    return {stage: {name: parsed}}


def _first_error(error: ValidationError) -> GuerdonError:
    """The first of pydantic's errors in our form."""
    first = error.errors()[0]
    option = ".".join(str(part) if isinstance(part, str) else f"[{part}]" for part in first["loc"]).replace(".[", "[")
    message = first["msg"]
    claim = message.removeprefix("Input should be ").partition(", unable to ")[0]
    if claim == message:
        return GuerdonError(f"{option}: {message}, got {show_value(first['input'])}. See docs/options.md.")
    return field_error(option, claim, first["input"], "See docs/options.md.")


def _refuse_unknown(merged: Mapping[str, Any]) -> None:
    keys = [key for key, _ in known_keys()]
    for stage, options in merged.items():
        stage = _short_name(stage)
        if stage not in Config.model_fields:
            raise GuerdonError(f"{stage} is not an option. {_suggest(stage, [*Config.model_fields, *keys])}")
        if not isinstance(options, Mapping):
            raise field_error(stage, "a mapping of options", options, f"Write {stage}.NAME=VALUE.")
        for name in options:
            option = f"{stage}.{_short_name(name)}"
            if option not in keys:
                raise GuerdonError(f"{option} is not an option. {_suggest(option, keys)}")


def _short_name(name: object) -> str:
    """A key as text: YAML's keys may be numbers, and as long as the file."""
    return name if isinstance(name, str) and len(name) <= 80 else show_value(name, 80)


NAMES_IN_OTHER_TRAINERS = {
    "learning_rate": "train.lr",
    "num_train_epochs": "train.epochs",
    "per_device_train_batch_size": "train.batch_size",
    "max_grad_norm": "train.clip",
    "warmup_ratio": "train.warmup",
    "lr_scheduler_type": "train.schedule",
    "center_rewards_coefficient": "train.centering",
    "max_seq_length": "model.max_length",
    "model_name_or_path": "model.base",
}


def _suggest(key: str, known: Sequence[str]) -> str:
    """A sentence with the same name in another stage, our name for another trainer's option, or the closest spelling."""
    stage, _, name = key.rpartition(".")
    own = [k.removeprefix(f"{stage}.") for k in known if stage and k.startswith(f"{stage}.")]
    if nearly := difflib.get_close_matches(
        name, own, n=1, cutoff=0.8
    ):  # a slip of the keys, before another stage's name
        return f"Did you mean {stage}.{nearly[0]}?"
    by_name = {k.rsplit(".", 1)[-1]: k for k in known}
    exact = by_name.get(name) or NAMES_IN_OTHER_TRAINERS.get(name)
    if exact in known:
        return f"Did you mean {exact}?"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    close = close or [by_name[n] for n in difflib.get_close_matches(name, list(by_name), n=1, cutoff=0.5)]
    if close:
        return f"Did you mean {close[0]}?"
    return f"Choose from {', '.join(known[:9])}{', ...' if len(known) > 9 else '.'}"
