"""guerdon ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.options import AsJson, ConfigFile, settings_from
from guerdon.cli.output import print_report


@app.command()
def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Directories of saved reward models; options may stand behind them."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the ensemble goes, or the average: a directory.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Held-out comparisons that put the members on one scale, and show whether they err together.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option("--rule", help="Makes one reward of the members': mean, min, uncertainty, soft_min.")
    ] = "mean",
    strength: Annotated[
        float | None,
        typer.Option("--strength", help="Of rule uncertainty (0.5) or soft_min (1 nat).", show_default=False),
    ] = None,
    average: Annotated[
        bool,
        typer.Option("--average", help="One model of the mean of their weights instead; --data shows if it may be."),
    ] = False,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Make one reward model of several.

    A directory of members that each load alone, for `guerdon score`, `calibrate` and `audit` as any model. With --average,
    one model at the cost of one, where the members are fine-tunings of the same start.

    Example: guerdon ensemble my-model old-model --out both --data calibrate.jsonl --rule uncertainty
    """
    from guerdon.api import ensembles
    from guerdon.config import Config
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers

    overrides = [word for word in models if word.partition(".")[0] in Config.model_fields and "=" in word]
    settings = settings_from(config, None, overrides)
    members = [word for word in models if word not in overrides]
    if unread := [word for word in overrides if not word.startswith("audit.")]:
        raise GuerdonError(
            f"{unread[0]}: ensemble reads audit.* only; remedy: leave it out, members load as they were saved"
        )
    held_out = list(readers.read_comparisons(data)) if data else []
    measured = settings.audit.model_dump()
    if not average:
        print_report(
            ensembles.ensemble(members, out, comparisons=held_out, rule=rule, strength=strength, **measured), json
        )
        return
    if not held_out:
        raise GuerdonError(
            "ensemble: whether weights may be averaged shows on held-out comparisons; remedy: --data FILE"
        )
    if rule != "mean" or strength is not None:
        raise GuerdonError(f"ensemble: an average has no rule, got --rule {rule}; remedy: leave it out")
    _, report = ensembles.warm(members, held_out, out=out, **measured)
    print_report(report, json)
