"""guerdon import, check and split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
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
from guerdon.cli.output import exit_on_errors, note, print_facts, print_report

IMPORTED = Destination("file", ("NAME.rejected.jsonl",))
FIXED = Destination("file", ("NAME.fixes.jsonl",))
PARTS_FOLDER = Destination("folder", ("train.jsonl", "calibrate.jsonl", "audit.jsonl"))


@app.command("import")
@with_option_groups
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.jsonl, .json, .csv, .tsv, .parquet, also compressed) or names of hub data sets, "
            "then any options such as imports.hub_split=test.",
        ),
    ],
    rows: RowOptions,
    out: Annotated[
        Path, typer.Option("--out", help="Where the comparisons go: .jsonl, .jsonl.gz or .parquet."), IMPORTED
    ],
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Turn files in any known format into comparisons.

    Bad rows go to a file next to the output (all.rejected.jsonl for all.jsonl), each with its reason. docs/formats.md shows a
    row of each format.

    Example: guerdon import pairs.csv --out all.jsonl --column prompt=question
    """
    from guerdon.data.files import Rejects, count_rejects, import_files, require_usable
    from guerdon.io import writers

    files, overrides = split_words(sources)
    settings = settings_from(config, None, overrides, reads=["imports"], imports=rows.given())
    rejected_file, rejects = writers.rejected_path(out), Rejects()
    advice = f" Read the reasons in {rejected_file}."
    with writers.renamed_together() as renames:
        read = count_rejects(import_files(files, settings.imports, note), rejects)
        usable = require_usable(writers.set_aside(read, rejected_file, renames), rejects, advice)
        kept = writers.write_comparisons(out, usable, renames)
    facts = {"comparisons": kept, "rejected": rejects.count, "out": str(out), "rejected_file": str(rejected_file)}
    print_facts(facts, json)


@app.command()
@with_option_groups
def check(
    data: Annotated[
        list[str],
        data_argument("Comparisons to check,", "check.max_examples=9"),
    ],
    rows: RowOptions,
    against: Annotated[
        list[str] | None,
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
    benchmark: Annotated[
        list[str] | None,
        typer.Option(
            "--benchmark", help="File of prompts that must not be trained on; repeatable.", show_default=False
        ),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", help="Write the data without these faults: .jsonl, .jsonl.gz or .parquet."),
        FIXED,
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Find what is wrong with comparisons before training on them.

    Duplicates, contradictions, leaks between parts, public benchmarks' prompts, template leakage, empty or identical responses,
    length imbalance and more. Exit 1 on errors. --fix drops or merges the rows, and says row by row what it did in
    NAME.fixes.jsonl next to the output.

    Example: guerdon check parts/train.jsonl --against parts/audit.jsonl
    """
    from guerdon.api import data as api
    from guerdon.data.files import Rejects
    from guerdon.io import writers
    from guerdon.io.readers import read_prompts

    files, overrides = split_words(data)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "check", "model"],
        needs={"model": ("--model", model)},
        model=given_options(base=model),
        imports=rows.given(),
    )
    given: dict[str, Any] = {
        "against": {name: api.stream_comparisons([name], settings.imports) for name in against or []},
        "evaluations": {name: read_prompts(name) for name in benchmark or []},
        "tokens": api.token_counter(settings.model) if model else None,
        **settings.check.model_dump(),
    }
    if fix is None:
        rejects = Rejects()
        report = api.check(api.stream_comparisons(files, settings.imports, rejects), rejects=rejects, **given)
        print_report(report, json)
        exit_on_errors(report)
        return
    fixed = api.fix(files, fix, settings.imports, **given)
    print_report(fixed.report, json)
    counts = f"{fixed.kept:,} kept, {fixed.dropped:,} dropped, {fixed.merged:,} merged"
    note(f"rows: {counts}. {fix} is the result; {writers.fixes_path(fix)} says what was done.")
    if fixed.remaining_errors:
        note(f"not repaired: {', '.join(fixed.remaining_errors)}")
        raise typer.Exit(1)


@app.command()
@with_option_groups
def split(
    data: Annotated[
        list[str],
        data_argument("Comparisons to split,", "split.train=0.7"),
    ],
    rows: RowOptions,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for train.jsonl, calibrate.jsonl and audit.jsonl."), PARTS_FOLDER
    ],
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Split comparisons into train, calibrate and audit parts.

    By a hash of the prompt group: each prompt is in one part only, the same one on any machine, and so are near-duplicates of
    it.

    Example: guerdon split all.jsonl --out parts
    """
    from guerdon.api.data import PARTS, ComparisonFiles
    from guerdon.data.split import split as split_comparisons
    from guerdon.io import writers

    files, overrides = split_words(data)
    settings = settings_from(config, None, overrides, reads=["imports", "split"], imports=rows.given())
    comparisons = ComparisonFiles(files, settings.imports)
    counts = writers.write_parts(out, split_comparisons(comparisons, settings.split, note), PARTS)
    if comparisons.rejects.count:
        note(f"{comparisons.rejects.number} set aside; the first is {comparisons.rejects.first_reason}")
    for name in PARTS:
        if not counts[name] and getattr(settings.split, name):
            reason = "parts are drawn by a hash of the prompt group"
            note(f"the {name} part is empty: {reason}. Give more prompts, or a larger split.{name}.")
    print_facts({**counts, "out": str(out)}, json)
