"""guerdon import, check and split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.options import AsJson, ConfigFile, Overrides, given_options, settings_from
from guerdon.cli.output import exit_on_errors, note, print_facts, print_report


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="File (.jsonl, .json, .csv, .tsv, .parquet, also .gz) or a hub data set's name.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Where the comparisons go: .jsonl, .jsonl.gz or .parquet.")],
    format: Annotated[
        str | None,
        typer.Option("--format", help="Format of the source; docs/collect.md lists them.", show_default=False),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="OURS=THEIRS, such as prompt=question; repeatable.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad row instead of writing it to rejected.jsonl.")
    ] = False,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Turn a file in any known format into comparisons.

    Bad rows go to rejected.jsonl beside the output, each with its reason. docs/collect.md shows a row of each format.

    Example: guerdon import pairs.csv --out all.jsonl --column prompt=question
    """
    from guerdon.contracts import GuerdonError
    from guerdon.data.importers import import_rows
    from guerdon.io import readers, writers

    settings = settings_from(
        config, None, overrides, imports=given_options(format=format, strict=strict or None, columns=column_map(column))
    )
    rejects = out.parent / "rejected.jsonl"
    if out.name == rejects.name:
        raise GuerdonError(
            f"--out must not be rejected.jsonl, which holds the rejected rows, got {out}. Use another name."
        )
    rows = import_rows(readers.read_rows(source, settings.imports), settings.imports, note)
    kept = writers.write_comparisons(out, writers.set_aside(rows, rejects))
    with rejects.open("rb") as file:
        rejected = sum(1 for _ in file)
    if not kept:
        out.unlink()
        raise GuerdonError(
            f"{source}: at least one row must be usable, got none of {rejected}. Read the reasons in {rejects}."
        )
    print_facts({"comparisons": kept, "rejected": rejected, "out": str(out), "rejected_file": str(rejects)}, json)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="Comparisons to check.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against", help="Another part, which must share nothing with it; repeatable.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Model whose tokenizer and max_length decide what truncation makes identical.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Find what is wrong with comparisons before training on them.

    Duplicates, contradictions, leaks between parts, empty or identical responses, length imbalance. Exit 1 on errors.

    Example: guerdon check parts/train.jsonl --against parts/audit.jsonl
    """
    from guerdon.api.data import check as check_comparisons
    from guerdon.api.data import token_counter
    from guerdon.io import readers

    settings = settings_from(config, None, overrides, model=given_options(base=model))
    others = {str(path): readers.read_comparisons(path) for path in against or []}
    tokens = token_counter(settings.model) if model else None
    report = check_comparisons(
        readers.read_comparisons(data), against=others, tokens=tokens, **settings.check.model_dump()
    )
    print_report(report, json)
    exit_on_errors(report)


@app.command()
def split(
    data: Annotated[Path, typer.Argument(help="Comparisons to split.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl, calibrate.jsonl and audit.jsonl.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Split comparisons into train, calibrate and audit parts.

    By a hash of the prompt group: each prompt is in one part only, the same one on any machine.

    Example: guerdon split all.jsonl --out parts
    """
    from guerdon.api.data import PARTS
    from guerdon.data.split import split as split_comparisons
    from guerdon.io import readers, writers

    settings = settings_from(config, None, overrides)
    counts = writers.write_parts(out, split_comparisons(readers.read_comparisons(data), settings.split), PARTS)
    print_facts({**counts, "out": str(out)}, json)


def column_map(pairs: list[str] | None) -> dict[str, str] | None:
    """Our column name -> the file's, from OURS=THEIRS; None where no --column was given."""
    from guerdon.contracts import GuerdonError

    if pairs is None:
        return None
    for pair in pairs:
        if "=" not in pair:
            raise GuerdonError(f"--column must be OURS=THEIRS, got {pair}. Write, for example, prompt=question.")
    return dict(pair.split("=", 1) for pair in pairs)
