"""The command `guerdon train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import RUN_FOLDER
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    Data,
    Overrides,
    RecipeName,
    RowOptions,
    given_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import print_facts


@app.command()
@with_option_groups
def train(
    data: Data,
    rows: RowOptions,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="Run folder: config, metrics, checkpoint and model. The same command resumes a stopped run."
        ),
        RUN_FOLDER,
    ],
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            "--held-out",
            help="Comparisons for evaluation while training, and for early stopping; repeatable.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Model to start from; same as model.base=.", show_default=False)
    ] = None,
    recipe: RecipeName = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Train a reward model on comparisons.

    Fine-tunes a language model with a scalar head. The model of the run is OUT/model; metrics.jsonl has the loss of every
    step. Options such as train.lr and model.lora_rank go at the end. The same command resumes a run that was stopped.

    Example: guerdon train --data train.jsonl --out runs/mine --base org/model
    """
    from accelerate import PartialState

    from guerdon.api import training
    from guerdon.api.data import stream_comparisons

    settings = settings_from(
        config,
        recipe,
        overrides,
        reads=["imports", "model", "train"],
        model=given_options(base=base),
        imports=rows.given(),
    )
    training.refuse_conflicts(settings)  # before reading the data
    comparisons = list(stream_comparisons(data, settings.imports))
    held_out_comparisons = list(stream_comparisons(held_out, settings.imports)) if held_out else []
    training.train(comparisons, held_out=held_out_comparisons, out=out, config=settings)
    if PartialState().is_main_process:
        metrics = last_metrics(out)
        print_facts({"comparisons": len(comparisons), **metrics, "model": str(out / "model")}, json)


def last_metrics(folder: Path) -> dict[str, Any]:
    """The last step, and the last value of each loss and accuracy, of a run."""
    from guerdon.io.run_folder import RunFolder

    last: dict[str, Any] = {}
    for row in RunFolder(folder).read_metrics():
        last |= {k: row[k] for k in ("step", "loss", "held_out_loss", "held_out_accuracy") if k in row}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in last.items()}
