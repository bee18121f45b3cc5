"""guerdon doctor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson, ConfigFile, Overrides, saved_model_options, settings_from
from guerdon.cli.output import exit_on_errors, print_facts, print_report, show
from guerdon.errors import GuerdonError, visible

if TYPE_CHECKING:
    from guerdon.contracts import Report


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
    urls: Annotated[
        list[str] | None,
        typer.Option(
            "--url",
            help="Address of a server of the model: vLLM, SGLang or `guerdon serve`. Repeat it.",
            show_default=False,
        ),
    ] = None,
    pythons: Annotated[
        list[Path] | None,
        typer.Option(
            "--python",
            help="Python of another environment, whose transformers, TRL or vLLM score too. Repeat it.",
            show_default=False,
        ),
    ] = None,
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Examine the files; score no conversations with other readers.")
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Check that every reader scores a saved model alike.

    Checks pad token, RoPE keys, template, dtypes, labels, weights and stored scores; then scores five conversations with Guerdon and
    with every other reader: transformers, and TRL and vLLM where they are installed. Exit 1 on errors.

    Example: guerdon doctor old-model --repair new-model
    """
    from guerdon.api import saved_models

    settings = settings_from(config, None, overrides, reads=["model"], needs={"model": ("--repair", repair)})
    if files_only and (urls or pythons):
        raise GuerdonError(
            "--files-only scores nothing, so --url and --python would be ignored. Leave one of them out."
        )
    if repair:
        saved_models.repair(folder, repair, **saved_model_options(settings, overrides))
        folder = repair
    report = saved_models.doctor(folder, readers=not files_only, urls=urls or (), pythons=pythons or ())
    if json:
        print_report(report, json)
    else:
        print_report(replace(report, sections=()), json)
        _print_readers(report.sections)
    exit_on_errors(report)


@app.command()
def bake(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of a reward model, or of heads on one backbone.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Directory for the copy."), Destination("directory")],
    json: AsJson = False,
) -> None:
    """Put a model's calibration into its weights.

    The temperature, and the mean of an ensemble whose members share one backbone, become part of a single head, so that readers
    without calibration, such as TRL or vLLM, give nats as well. They miss the constant that is printed; vLLM takes it as an option.

    Example: guerdon bake runs/mine/model --out baked
    """
    from guerdon.api import saved_models

    mean = saved_models.bake(folder, out).reference_mean
    mean += 0.0  # no -0.0
    option = f'--pooler-config \'{{"logit_mean": {mean!r}, "logit_sigma": 1.0}}\''
    print_facts({"model": str(out), "subtract from its scores": f"{mean!r} nats", "in vLLM": option}, json)


def _print_readers(sections: Sequence[Report]) -> None:
    """One table: a row for each reader, its score of each conversation, and the largest difference from Guerdon's."""
    from rich.table import Table
    from rich.text import Text

    for section in sections:
        print(visible(f"\n{section.title}: {section.summary}."))
        width = max((len(curve.y) for curve in section.curves.values()), default=0)
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("reader")
        for number in range(1, width + 1):
            table.add_column(str(number), justify="right")
        table.add_column("largest difference", justify="right")
        for reader, curve in section.curves.items():
            distance = section.estimates.get(reader)
            last = "" if distance is None else f"{distance.value:.1e}"
            table.add_row(Text(reader), *(f"{score.value:.4f}" for score in curve.y), last)
        show(table)
        for finding in section.findings:
            note_finding = f"{finding.severity}: {finding.title}: {finding.evidence}"
            print(visible(note_finding))
