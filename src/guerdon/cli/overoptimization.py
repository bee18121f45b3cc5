"""guerdon audit overoptimization."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.options import AsJson, ConfigFile, Full, Overrides, ReportFolder, settings_from
from guerdon.cli.output import print_report


@app.command("audit overoptimization")
def measure_overoptimization(
    place: Annotated[Path, typer.Argument(metavar="PLACE", help="Run folder of `optimize`, or a best-of-n file.")],
    pool: Annotated[
        Path | None,
        typer.Option(
            "--pool", help="A best-of-n file; the report compares its forecast with the run.", show_default=False
        ),
    ] = None,
    out: ReportFolder = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Measure whether a higher reward still means better replies.

    A second judge, the gold, decides: the report gives its trend and the KL from which it fell. Without gold scores in the run
    or the file there are only warnings.

    Example: guerdon audit overoptimization runs/ppo --out runs/ppo
    """
    from guerdon.api import auditing, overoptimization

    settings = settings_from(config, None, overrides, reads=["best_of_n"])
    report = overoptimization.measure_overoptimization(
        place, pool=pool, **settings.best_of_n.model_dump(exclude_unset=True)
    )
    if out:
        auditing.write_report(report, out)
    print_report(report, json, is_full=full)
