"""The commands `guerdon calibrate` and `guerdon uncertainty`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import (
    ANY_FORMAT,
    AsJson,
    ConfigFile,
    ModelDir,
    ModelOrScores,
    Overrides,
    RowOptions,
    Scored,
    model_and_overrides,
    saved_model_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import print_facts, print_report

MODEL_OR_COPY = Destination("directory", instead="model")


@app.command()
@with_option_groups
def calibrate(
    model: ModelOrScores = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help=f"Comparisons {ANY_FORMAT}; repeatable.", show_default=False),
    ] = None,
    *,
    rows: RowOptions,
    scores: Scored = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory for the calibrated model; MODEL itself by default.", show_default=False),
        MODEL_OR_COPY,
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Samples of the policy to be optimized: their rewards get mean 0.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Fit a temperature to held-out comparisons.

    Afterward a difference of 1 in reward means odds of e to 1. No ranking changes, and no weight is rewritten. The
    comparisons must be ones that the model was not trained on. The report compares the odds before and after. With --from,
    the temperature of a file of scores is printed and no model changes.

    Example: guerdon calibrate runs/mine/model --data calibrate.jsonl
    """
    from guerdon.api import auditing, calibration, saved_models
    from guerdon.api.data import stream_comparisons
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers

    model, overrides = model_and_overrides(model, overrides)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "model", "calibrate"],
        needs={"model": ("MODEL", model)},
        imports=rows.given(),
    )
    if scores is not None and not (model or out or reference):
        held_out, recorded = auditing.read_scores(scores, data or (), **settings.imports.model_dump())
        print_report(calibration.calibrate(recorded, held_out, **settings.calibrate.model_dump())[1], json)
        return
    if scores is not None or model is None or not data:
        given = {"MODEL": model, "--data": data, "--from": scores, "--out": out, "--reference": reference}
        names = " and ".join(name for name, value in given.items() if value) or "none"
        raise GuerdonError(
            f"calibrate: MODEL with --data FILE, or --from FILE without a model, must be given, got {names}. "
            "Give MODEL --data FILE, or --from FILE of scores."
        )
    loaded = saved_models.load(model, **saved_model_options(settings, overrides))
    _check_destination(model, out)
    rollouts = readers.read_rollouts(reference) if reference else None
    held_out = list(stream_comparisons(data, settings.imports))
    calibrated, report = calibration.calibrate(loaded, held_out, reference=rollouts, **settings.calibrate.model_dump())
    calibration.store_calibration(calibrated, model, out)
    print_report(report, json)


@app.command()
@with_option_groups
def uncertainty(
    model: ModelDir,
    data: Annotated[
        list[str], typer.Option("--data", help="The comparisons that the model was trained on; repeatable.")
    ],
    held_out: Annotated[
        list[str],
        typer.Option("--held-out", help="Comparisons of the same kind that the model was not trained on; repeatable."),
    ],
    rows: RowOptions,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Directory for the result; MODEL itself by default.", show_default=False),
        MODEL_OR_COPY,
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Measure how certain a reward model is of its scores.

    Afterward every score has a standard deviation, and a p-value of its text being in-distribution. No score and no weight
    changes.

    Example: guerdon uncertainty runs/mine/model --data train.jsonl --held-out calibrate.jsonl
    """
    from guerdon.api import saved_models, uncertainty
    from guerdon.api.data import stream_comparisons

    settings = settings_from(config, None, overrides, reads=["imports", "model", "uncertainty"], imports=rows.given())
    _check_destination(model, out)
    loaded = saved_models.load(model, with_uncertainty=False, **saved_model_options(settings, overrides))
    measured = uncertainty.measure_uncertainty(
        loaded,
        list(stream_comparisons(data, settings.imports)),
        held_out=list(stream_comparisons(held_out, settings.imports)),
        **settings.uncertainty.model_dump(),
    )
    uncertainty.store_uncertainty(measured, model, out)
    values = measured.model.card.uncertainty.items()  # type: ignore[attr-defined]
    facts = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in values}
    print_facts({**facts, "model": str(out or model)}, json)


def _check_destination(model: str, out: Path | None) -> None:
    """Raise GuerdonError if the result would be written into a model of the hub."""
    from guerdon.contracts import GuerdonError

    if out is None and not Path(model).is_dir():
        raise GuerdonError(
            f"{model}: MODEL must be a directory to be changed in place, got a hub name. Pass --out DIR."
        )
