"""Options that several commands share, and how flags become a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from guerdon.config import Config


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[STAGE.NAME=VALUE]...", help="Options, such as train.lr=1e-5.", show_default=False),
]


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="YAML with options; the config.yaml of a run is accepted back.", show_default=False),
]


RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Named configuration: starter, quickstart, small, reference.", show_default=False),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


Data = Annotated[
    Path, typer.Option("--data", help="Comparisons: .jsonl, .jsonl.gz or .parquet, as `guerdon import` writes them.")
]


ModelDir = Annotated[str, typer.Argument(metavar="MODEL", help="Directory of a saved reward model, or a hub name.")]


FailOn = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        help="Exit 1 where this holds: preference=not_fit, warning, accuracy<0.6, accuracy.low<0.6; repeatable.",
        show_default=False,
    ),
]


Scored = Annotated[
    Path | None,
    typer.Option("--from", help="File of scored comparisons instead of MODEL and --data.", show_default=False),
]


PolicyName = Annotated[
    str | None,
    typer.Option(
        "--policy", help="Hub name or directory of a causal language model; starter unless given.", show_default=False
    ),
]


Rule = Annotated[
    str,
    typer.Option(
        "--rule", help="Makes one of several --reward: sum, or an ensemble's mean, min, uncertainty, soft_min."
    ),
]


Rewards = Annotated[
    list[str],
    typer.Option("--reward", help="Reward model's directory, or FILE.py:FUNCTION(prompts, responses); repeatable."),
]


Weights = Annotated[
    list[float] | None, typer.Option("--weight", help="Of each --reward, in order; 1 unless given.", show_default=False)
]


Gold = Annotated[
    str | None,
    typer.Option(
        "--gold", help="A second judge that nothing learns from, as --reward; shows when the reward stops being true.",
        show_default=False,
    ),
]  # fmt: skip


Prompts = Annotated[
    Path, typer.Option("--prompts", help="Rows with a prompt or messages; comparisons are taken too, each prompt once.")
]


RunOut = Annotated[Path, typer.Option("--out", help="Run folder; the same command goes on from a killed run.")]


HeldOut = Annotated[
    Path | None,
    typer.Option("--held-out", help="Prompts that are only looked at; else a tenth by hash.", show_default=False),
]


def settings_from(
    path: Path | None, recipe: str | None, overrides: list[str] | None, **given: dict[str, Any]
) -> Config:
    """Defaults, then the recipe, then the file, then flags, then dotted overrides."""
    from guerdon.config import build
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers
    from guerdon.recipes import RECIPES

    if recipe is not None and recipe not in RECIPES:
        raise GuerdonError(f"--recipe {recipe}: no such recipe; known are {', '.join(RECIPES)}")
    layers = [RECIPES[recipe]()] if recipe else []
    layers += [readers.read_config(path)] if path else []
    return build(*layers, {stage: options for stage, options in given.items() if options}, overrides=overrides or [])


def given_options(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def reward_from(named: list[str], weights: list[float] | None = None, rule: str = "sum") -> Any:
    """One reward from directories of reward models and FILE.py:FUNCTION, with their weights."""
    from guerdon.api import saved_models
    from guerdon.contracts import GuerdonError
    from guerdon.optimization import combined
    from guerdon.optimization.rewards import from_file

    if weights and len(weights) != len(named):
        raise GuerdonError(f"--weight: {len(weights)} for {len(named)} --reward; remedy: one each, or none")
    if len(set(named)) < len(named):
        raise GuerdonError(f"--reward: {max(named, key=named.count)} is given twice; remedy: once, with --weight")
    sources: dict[str, Any] = {}
    for name in named:
        file, function = reward_source(name)
        sources[name] = from_file(file, function) if function else saved_models.load(name, truncation="left")
    return combined(sources, dict(zip(sources, weights, strict=True)) if weights else None, rule)


def reward_source(name: str) -> tuple[str, str]:
    """FILE.py and FUNCTION, or a directory and nothing."""
    file, _, function = name.rpartition(":")
    return (file, function) if file.endswith(".py") else (name, "")


def column_map(pairs: list[str] | None) -> dict[str, str] | None:
    from guerdon.contracts import GuerdonError

    if pairs is None:
        return None
    for pair in pairs:
        if "=" not in pair:
            raise GuerdonError(f"--column {pair}: write OURS=THEIRS, such as prompt=question")
    return dict(pair.split("=", 1) for pair in pairs)
