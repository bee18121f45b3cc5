"""The command `guerdon ensemble`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson, ConfigFile, RowOptions, settings_from, split_words, with_option_groups
from guerdon.cli.output import print_report


@app.command()
@with_option_groups
def ensemble(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="Directories of saved reward models, then any options such as audit.draws=500."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="Directory for the ensemble, or for the averaged model."),
        Destination("directory"),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Held-out comparisons: they put the members on one scale and show whether their errors correlate.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option("--rule", help="How the members' rewards become one: mean, min, uncertainty or soft_min.")
    ] = "mean",
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="Strength of --rule uncertainty (default 0.5) or soft_min (default 1 nat).",
            show_default=False,
        ),
    ] = None,
    average: Annotated[
        bool,
        typer.Option("--average", help="Average the members' weights into one model instead. Needs --data."),
    ] = False,
    config: ConfigFile = None,
    json: AsJson = False,
    *,
    rows: RowOptions,
) -> None:
    """Combine several reward models into one.

    The ensemble is a directory of members, which `guerdon score`, `calibrate` and `audit` take like any model. With
    --average the result is a single model, as fast as one; the members must be fine-tuned from the same start.

    Example: guerdon ensemble my-model old-model --out both --data calibrate.jsonl --rule uncertainty
    """
    from guerdon.api import ensembles
    from guerdon.api.data import stream_comparisons
    from guerdon.contracts import GuerdonError

    members, overrides = split_words(models)
    reads = ["imports"] if average else ["imports", "audit"]
    settings = settings_from(config, None, overrides, reads=reads, imports=rows.given())
    held_out = list(stream_comparisons(data, settings.imports)) if data else []
    audit_options = settings.audit.model_dump()
    if not average:
        report = ensembles.ensemble(members, out, comparisons=held_out, rule=rule, strength=strength, **audit_options)
        print_report(report, json)
        return
    if not held_out:
        raise GuerdonError("ensemble: --average must be checked on held-out comparisons, got none. Pass --data FILE.")
    if rule != "mean" or strength is not None:
        raise GuerdonError(
            f"ensemble: --rule and --strength must be absent with --average, got --rule {rule}. Leave them out."
        )
    _, report = ensembles.warm(members, held_out, out=out)
    print_report(report, json)
