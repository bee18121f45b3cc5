"""The command `guerdon quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import RUN_FOLDER, Destination
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    Overrides,
    RowOptions,
    given_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import note, print_page_path, print_report, show
from guerdon.errors import visible

STAGES = ["imports", "check", "split", "model", "train", "calibrate", "audit", "quickstart"]
QUICKSTART_FOLDER = Destination(
    "folder",
    (
        *RUN_FOLDER.names, "train.jsonl", "calibrate.jsonl", "audit.jsonl", "rejected.jsonl", "drafts.jsonl", "labels.jsonl",
        "people.jsonl", "card/",
    ),
    resumes=True,
)  # fmt: skip


@app.command()
@with_option_groups
def quickstart(
    out: Annotated[
        Path,
        typer.Option("--out", help="Run folder. The same command resumes a run that was stopped."),
        QUICKSTART_FOLDER,
    ] = Path("runs/quickstart"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Your own comparisons in any known format; those of the starter kit by default.",
            show_default=False,
        ),
    ] = None,
    feedback: Annotated[
        str | None,
        typer.Option(
            "--feedback",
            help="people, or ai: replies are drawn and labeled by a judge on this machine; the same as quickstart.feedback=.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    *,
    rows: RowOptions,
) -> None:
    """Train, calibrate and audit a reward model, end to end.

    Takes about twelve minutes on two CPU cores, and writes the model and report.html. The first run downloads the starter
    kit (95 MB); later ones need no network. With --data, it runs on your own comparisons. With --feedback ai, the model learns
    from a small AI judge, whose card says how far it agrees with people, and is audited on people's judgments.

    Example: guerdon quickstart --data pairs.jsonl --out runs/mine
    """
    from guerdon.api.pipeline import quickstart as run

    settings = settings_from(
        config, "quickstart", overrides, reads=STAGES, imports=rows.given(), quickstart=given_options(feedback=feedback)
    )
    report = run(out, data=data, config=settings, log=note)
    if json:
        print_report(report, json)
        return
    from guerdon.api.pipeline import FACTS, TABLE
    from guerdon.reporting.console import brief, examples

    show(brief(report, TABLE, FACTS))
    for section in report.sections:
        if section.title.startswith("Best of"):
            show(examples(section))
    print(f"\nmodel   {visible(str(out / 'model'))}")
    print_page_path(out)
