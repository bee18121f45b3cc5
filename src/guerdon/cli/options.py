"""Options that several commands share, and how flags become a configuration."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from guerdon.cli.destinations import REPORT_FOLDER, RUN_FOLDER, refuse_options_that_are_outputs

if TYPE_CHECKING:
    from guerdon.config import Config

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGE.NAME=VALUE]...", help="Any option, such as train.lr=1e-5.", show_default=False),
]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of options; a run's config.yaml works too.", show_default=False),
]

RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Named configuration: starter, quickstart, small or reference.", show_default=False),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

ANY_FORMAT = "in any known format: .jsonl, .json, .csv, .tsv, .parquet, also compressed, or a hub name"


def data_argument(what: str, option: str, metavar: str = "DATA...") -> Any:
    """An argument of one or more sources of comparisons, among which options of stages may stand, such as `option`."""
    return typer.Argument(metavar=metavar, help=f"{what} {ANY_FORMAT}; then any options such as {option}.")


Data = Annotated[list[str], typer.Option("--data", help=f"Comparisons {ANY_FORMAT}; repeatable.")]

Full = Annotated[bool, typer.Option("--full", help="Print every finding, rule and number, not just one screen.")]

ModelOrScores = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        help="Directory of a saved reward model, or a hub name; none with --from.",
        show_default=False,
    ),
]

PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="Hub name or directory of a causal language model; the starter model by default.",
        show_default=False,
    ),
]

NumResponses = Annotated[
    int | None, typer.Option("--n", help="Responses per prompt; same as best_of_n.n=.", show_default=False)
]

ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="Directory of a saved reward model, or a hub name.")]

RunOut = Annotated[
    Path, typer.Option("--out", help="Run folder. The same command resumes a run that was stopped."), RUN_FOLDER
]

ReportFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for report.html, report.md and report.json.", show_default=False),
    REPORT_FOLDER,
]

Scored = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="File of scores instead of MODEL; with --data, its rows may be ids and scores alone.",
        show_default=False,
    ),
]

FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit 1 if this holds, such as gate=not_fit, warning, accuracy<0.6 or accuracy.low<0.6; repeatable.",
        show_default=False,
    ),
]


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Options of every command that reads rows: what a file of another tool means. They are options of the stage imports."""

    format: Annotated[
        str | None,
        typer.Option("--format", help="Format of the rows; docs/formats.md lists them.", show_default=False),
    ] = None
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="OURS=THEIRS, such as prompt=question; repeatable.", show_default=False),
    ] = None
    label_means: Annotated[
        str | None,
        typer.Option(
            "--label-means",
            help="What numbers as labels mean, where the file leaves it open: first (the first is better if 1), index (if 0) "
            "or probability.",
            show_default=False,
        ),
    ] = None
    judgments: Annotated[
        str | None,
        typer.Option(
            "--judgments",
            help="Several judgments of one row: together, as one soft label, or each, as a comparison of its own.",
            show_default=False,
        ),
    ] = None
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad row instead of setting it aside.")] = (
        False
    )

    def given(self) -> dict[str, Any]:
        """Those that were given, by the names that ImportOptions has for them."""
        return given_options(
            format=self.format,
            columns=_column_map(self.column),
            label_means=self.label_means,
            judgments=self.judgments,
            strict=self.strict or None,
        )


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command in which a parameter of a dataclass type represents the options that its fields declare.

    Commands that take the same options share a dataclass: `def ppo(run: PolicyRun)` has an option for each field of
    PolicyRun, with the field's default, and is called with one PolicyRun.
    """
    groups: dict[str, type] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if isinstance(parameter.annotation, type) and dataclasses.is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation
            parameters += _field_parameters(parameter.annotation)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(**values)

    del expanded.__wrapped__  # typer would read the signature below the groups
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _field_parameters(group: Any) -> list[inspect.Parameter]:
    """The fields of a dataclass as keyword-only parameters."""
    types = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=types[field.name],
        )
        for field in dataclasses.fields(group)
    ]


def settings_from(
    path: Path | None,
    recipe: str | None,
    overrides: list[str] | None,
    *,
    reads: Sequence[str],
    needs: Mapping[str, tuple[str, object]] | None = None,
    presets: dict[str, Any] | None = None,
    runs: Sequence[str] = (),
    **flags: dict[str, Any],
) -> Config:
    """Defaults, then the recipe, the file, the command's presets, the flags of each stage, and dotted overrides.

    reads: the stages whose options the command follows; an override of another one is refused, as is one that contradicts a
    flag. A file may hold the options of all stages, as a run's config.yaml does. needs: of these stages, those that are
    followed only with an option of the command: its name and what was given for it. runs: stages whose conflicts are refused
    now, because the command would read data or load a model before it runs them.
    """
    from guerdon.config import build
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers
    from guerdon.recipes import RECIPES

    if recipe is not None and recipe not in RECIPES:
        raise GuerdonError(f"--recipe must be one of {', '.join(RECIPES)}, got {recipe}. Choose one of these.")
    layers = [RECIPES[recipe]()] if recipe else []
    layers += [readers.read_config(path)] if path else []
    layers += [presets or {}, {stage: options for stage, options in flags.items() if options}]
    _refuse_idle_overrides(overrides or [], reads, needs or {})
    settings = build(*layers, overrides=overrides or [], runs=runs)
    _refuse_contradictions(flags, settings)
    refuse_options_that_are_outputs(settings)
    return settings


def _refuse_idle_overrides(
    overrides: Sequence[str], reads: Sequence[str], needs: Mapping[str, tuple[str, object]]
) -> None:
    """Raise GuerdonError for an override that the command would ignore; unknown ones are left to `build`."""
    from guerdon.config import Config
    from guerdon.contracts import GuerdonError
    from guerdon.errors import field_error

    for override in overrides:
        stage = override.partition(".")[0]
        if stage in Config.model_fields and stage not in reads:
            *others, last = reads
            names = f"{', '.join(others)} or {last}" if others else last
            raise field_error("override", f"an option of {names}, which this command reads", override, "Leave it out.")
        option, given = needs.get(stage, ("", True))
        if not given:
            raise GuerdonError(
                f"{override} must come with {option}, got it without. Give {option}, or leave {stage}.* out."
            )


def _refuse_contradictions(flags: Mapping[str, Mapping[str, Any]], settings: Config) -> None:
    """Raise GuerdonError where an option and an override set one key to different values."""
    from guerdon.contracts import GuerdonError
    from guerdon.errors import show_value

    for stage, options in flags.items():
        for name, value in options.items():
            other = getattr(getattr(settings, stage), name)
            if other != value:
                raise GuerdonError(
                    f"{stage}.{name} must have one value, got {show_value(value)} by its own option and {show_value(other)} as "
                    "an override. Leave one of them out."
                )


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command that takes several arguments, and the STAGE.NAME=VALUE overrides among them."""
    from guerdon.config import Config

    def is_override(word: str) -> bool:
        name, equals, _ = word.partition("=")
        if name.startswith(("store:", "postgresql:", "postgres:")):  # store:STORE?labels=METHOD
            return False
        is_option = name.partition(".")[0] in Config.model_fields or not ("/" in name or os.path.exists(word))
        return bool(equals) and is_option

    overrides = [word for word in words if is_override(word)]
    return [word for word in words if word not in overrides], overrides


def model_and_overrides(model: str | None, overrides: list[str] | None) -> tuple[str | None, list[str]]:
    """MODEL, which may be left out, and the overrides: the first word is an override where it is written as one."""
    models, first = split_words([model] if model else [])
    return (models[0] if models else None), [*first, *(overrides or [])]


def given_options(**flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def _column_map(pairs: list[str] | None) -> dict[str, str] | None:
    """Our column name -> the file's, from OURS=THEIRS; None where no --column was given."""
    from guerdon.contracts import GuerdonError

    if pairs is None:
        return None
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if not ours or not theirs:
            raise GuerdonError(f"--column must be OURS=THEIRS, got {pair!r}. Write, for example, prompt=question.")
        if columns.setdefault(ours, theirs) != theirs:
            raise GuerdonError(
                f"--column {ours} must be given once, got {columns[ours]} and {theirs}. Leave one of them out."
            )
    return columns


def saved_model_options(settings: Config, overrides: list[str] | None) -> dict[str, Any]:
    """The options that loading a saved model takes. Others are an error on the command line; a run's config.yaml has them all."""
    from guerdon.config.training import OF_NEW_MODELS, refuse_options_of_new_models

    refuse_options_of_new_models(text.partition("=")[0].removeprefix("model.") for text in overrides or [])
    return settings.model.model_dump(exclude_unset=True, exclude=set(OF_NEW_MODELS))
