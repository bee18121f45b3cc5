"""guerdon calibrate and uncertainty."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.options import AsJson, ConfigFile, Data, ModelDir, Overrides, settings_from
from guerdon.cli.output import print_facts, print_report


@app.command()
def calibrate(
    model: ModelDir,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Where the calibrated model goes; the same directory unless given.", show_default=False
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Responses of the policy to be trained: their rewards get mean 0.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Fit the scale on which a margin of 1 means odds of e to 1.

    One temperature, on comparisons that were not trained on. No ranking and no weight changes.

    Example: guerdon calibrate runs/mine/model --data calibrate.jsonl
    """
    from guerdon.api import calibration, saved_models
    from guerdon.io import readers

    settings = settings_from(config, None, overrides)
    loaded = saved_models.load(model, **settings.model.model_dump(exclude_unset=True))
    if out is None and not Path(model).is_dir():
        from guerdon.contracts import GuerdonError

        raise GuerdonError(f"{model}: a hub model cannot be written in place; remedy: give --out DIR")
    rollouts = readers.read_rollouts(reference) if reference else None
    held_out = list(readers.read_comparisons(data))
    scaled, report = calibration.calibrate(loaded, held_out, reference=rollouts, **settings.calibrate.model_dump())
    calibration.store_calibration(scaled, model, out)
    print_report(report, json)


@app.command()
def uncertainty(
    model: ModelDir,
    data: Annotated[Path, typer.Option("--data", help="The comparisons that the model was trained on.")],
    held_out: Annotated[
        Path, typer.Option("--held-out", help="Comparisons of the same kind that it was not trained on.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the model goes; the same directory unless given.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Measure how sure a reward model may be.

    Afterward every score has a spread and says how likely its text is to be of the kind that was trained on. No score
    and no weight changes.

    Example: guerdon uncertainty runs/mine/model --data train.jsonl --held-out calibrate.jsonl
    """
    from guerdon.api import saved_models, uncertainty
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers

    settings = settings_from(config, None, overrides)
    if out is None and not Path(model).is_dir():
        raise GuerdonError(f"{model}: a hub model cannot be written in place; remedy: give --out DIR")
    loaded = saved_models.load(model, with_uncertainty=False, **settings.model.model_dump(exclude_unset=True))
    measured = uncertainty.measure_uncertainty(
        loaded,
        list(readers.read_comparisons(data)),
        held_out=list(readers.read_comparisons(held_out)),
        **settings.uncertainty.model_dump(),
    )
    uncertainty.store_uncertainty(measured, model, out)
    found = measured.model.card.uncertainty.items()  # type: ignore[attr-defined]
    facts = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in found}
    print_facts({**facts, "model": str(out or model)}, json)
