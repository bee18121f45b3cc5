"""guerdon audit tax."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FILES, Destination
from guerdon.cli.options import AsJson, ConfigFile, Full, Overrides, given_options, settings_from
from guerdon.cli.output import print_report


@app.command("audit tax")
def tax(
    place: Annotated[
        str,
        typer.Argument(metavar="RUN_OR_POLICY", help="Run folder of `optimize`, or a policy's directory or hub name."),
    ],
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", help="The starting policy; read from the run folder if there is one.", show_default=False
        ),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", help="Another run or policy with the same reference; repeatable.", show_default=False),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Held-out texts: rows with text, or paragraphs of a .txt.", show_default=False),
    ] = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", help="A task of lm-evaluation-harness to add; repeatable.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for report.html, .md and .json, and results.json.", show_default=False),
        Destination("folder", (*REPORT_FILES, "results.json")),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Measure what an optimized policy can no longer do.

    Tasks: held-out text, grammar, last words, sums, copying and sampled replies. The policy and its reference, the policy
    before optimization, get the same items. For a run the report adds its gain in reward and gold and its KL.

    Example: guerdon audit tax runs/ppo --out runs/ppo/tax
    """
    from guerdon.api import alignment_tax, auditing

    settings = settings_from(config, None, overrides, reads=["tax", "policy"], tax=given_options(lm_eval=lm_eval))
    report = alignment_tax.measure_alignment_tax(
        place, reference=reference, also=also or (), texts=texts, out=out, config=settings
    )
    if out:
        auditing.write_report(report, out)
    print_report(report, json, is_full=full)
