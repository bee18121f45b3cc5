"""guerdon inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import FILE
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    RowOptions,
    data_argument,
    given_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import print_facts, print_report
from guerdon.errors import visible


@app.command()
@with_option_groups
def inspect(
    data: Annotated[
        list[str],
        data_argument("Comparisons to look at,", "inspect.sample=500"),
    ],
    rows: RowOptions,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="Where the page goes: one file that needs no network.", show_default=False),
        FILE,
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Model whose tokenizer and max_length decide what is too long.", show_default=False
        ),
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Look at comparisons: what they are, and what is wrong.

    The page has the distributions, the findings of check with the texts they are about, the texts that give the preferred
    response away, and a sample to browse with the responses side by side.

    Example: guerdon inspect pairs.jsonl --html page.html
    """
    from guerdon.api.data import ComparisonFiles, token_counter
    from guerdon.api.data import inspect as inspect_comparisons

    files, overrides = split_words(data)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "check", "inspect", "model"],
        needs={"model": ("--model", model), "inspect": ("--html", html)},
        model=given_options(base=model),
        imports=rows.given(),
    )
    report = inspect_comparisons(
        ComparisonFiles(files, settings.imports),
        html,
        check=settings.check.model_dump(),
        tokens=token_counter(settings.model) if model else None,
        **settings.inspect.model_dump(),
    )
    if not json:
        print_facts(dict(report.about), json)
    print_report(report, json)
    if html and not json:
        print(visible(f"\npage  {html.resolve()}"))
