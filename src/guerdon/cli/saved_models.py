"""guerdon doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson, ConfigFile, Overrides, saved_model_options, settings_from
from guerdon.cli.output import exit_on_errors, print_report


@app.command()
def doctor(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of a reward model, from Guerdon or elsewhere.")
    ],
    repair: Annotated[
        Path | None,
        typer.Option(
            "--repair", help="Write a copy here that every reader loads, with equal scores.", show_default=False
        ),
        Destination("directory"),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Check that every reader scores a saved model alike.

    Checks pad token, RoPE keys, template, dtypes, labels, weights and stored scores. Exit 1 on errors.

    Example: guerdon doctor old-model --repair new-model
    """
    from guerdon.api import saved_models

    settings = settings_from(config, None, overrides, reads=["model"], needs={"model": ("--repair", repair)})
    if repair:
        saved_models.repair(folder, repair, **saved_model_options(settings, overrides))
        folder = repair
    report = saved_models.doctor(folder)
    print_report(report, json)
    exit_on_errors(report)
