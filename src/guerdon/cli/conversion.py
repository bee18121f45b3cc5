"""guerdon convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from guerdon.cli.output import note, print_facts
from guerdon.errors import visible

if TYPE_CHECKING:
    from guerdon.config import Config

CONVERTED = Destination("file", ("NAME.rejected.jsonl",))


class _OutputLast(typer.core.TyperCommand):
    """A command whose last word is its output, wherever the STAGE.NAME=VALUE words stand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        from guerdon.config import Config

        overrides = [word for word in args if "=" in word and word.partition(".")[0] in Config.model_fields]
        return super().parse_args(ctx, [*overrides, *(word for word in args if word not in overrides)])


@app.command(cls=_OutputLast)
@with_option_groups
def convert(
    sources: Annotated[list[str], data_argument("Comparisons", "export.ties=soft", "IN...")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where the rows go: .jsonl, .jsonl.gz or .parquet."), CONVERTED
    ],
    rows: RowOptions,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Format to write; docs/convert.md lists them. trl by default.", show_default=False),
    ] = None,
    ties: Annotated[
        str | None, typer.Option("--ties", help="What happens to ties: drop, soft or margin0.", show_default=False)
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs",
            help="Pairs that a ranking gives: all, best_vs_rest, adjacent or best_vs_worst.",
            show_default=False,
        ),
    ] = None,
    margin_scale: Annotated[
        float | None,
        typer.Option("--margin-scale", help="Margin per unit of strength; 0 writes no margin.", show_default=False),
    ] = None,
    no_extras: Annotated[bool, typer.Option("--no-extras", help="Write no columns but those of the format.")] = False,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Write comparisons in the format of another tool.

    What that format cannot hold is counted. Rows that cannot be read or written go to a file next to the output
    (pairs.rejected.jsonl for pairs.jsonl), each with its reason.

    Example: guerdon convert all.jsonl pairs.parquet --to trl
    """
    files, overrides = split_words(sources)
    given = given_options(
        format=to, ties=ties, pairs=pairs, margin_scale=margin_scale, extras=False if no_extras else None
    )
    settings = settings_from(config, None, overrides, reads=["imports", "export"], imports=rows.given(), export=given)
    write_converted(files, out, settings, json)


def write_converted(sources: Sequence[str], out: Path, settings: Config, json: bool) -> None:
    """Write what the sources hold in the format of `settings.export`, and print what came of it."""
    from json import dumps

    from guerdon.api.conversion import convert_rows
    from guerdon.data.files import Rejects, import_files
    from guerdon.io import writers

    rejects, rejected_file = Rejects(), writers.rejected_path(out)
    aside = None if settings.imports.strict else rejected_file
    done = convert_rows(import_files(sources, settings.imports, note), out, settings.export, aside, rejects)
    if done.losses:
        note(f"lost: {done.losses}")
    facts: dict[str, Any] = {
        "rows": done.rows,
        "comparisons": done.comparisons,
        "rejected": rejects.count,
        "out": str(out),
    }
    facts |= {} if aside is None else {"rejected_file": str(aside)}
    entry = {} if done.entry is None else {"dataset_info": dict(done.entry)}
    if json:
        facts |= {"lost": dict(done.lost)} | entry
    print_facts(facts, json)
    if entry and not json:
        print(visible(f"\nadd to LLaMA-Factory's dataset_info.json: {dumps(done.entry, ensure_ascii=False)}"))
    if done.usage and not json:
        print(visible(f"\nread it with {done.usage}"))
