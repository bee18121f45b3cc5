"""The command `guerdon quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.options import AsJson, ConfigFile, Overrides, RunOut, settings_from
from guerdon.cli.output import note, print_report


@app.command()
def quickstart(
    out: RunOut = Path("runs/quickstart"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Your own comparisons in any known format; those of the starter kit by default.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Train, calibrate and audit a reward model, end to end.

    Takes about twelve minutes on two CPU cores, and writes the model and report.html. The first run downloads the starter
    kit (95 MB); later ones need no network. With --data, it runs on your own comparisons.

    Example: guerdon quickstart --data pairs.jsonl --out runs/mine
    """
    from guerdon.api.pipeline import quickstart as run

    settings = settings_from(config, "quickstart", overrides)
    report = run(out, data=data, config=settings, log=note)
    if json:
        print_report(report, json)
        return
    from rich.console import Console

    from guerdon.api.pipeline import FACTS, TABLE
    from guerdon.reporting.console import brief, examples

    console = Console(highlight=False)
    console.print(brief(report, TABLE, FACTS))
    for section in report.sections:
        if section.title.startswith("Best of"):
            console.print(examples(section))
    print(f"\nmodel   {out / 'model'}\nreport  {(out / 'report.html').resolve()}")
