"""guerdon select."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    RowOptions,
    given_options,
    saved_model_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import note, print_facts

PICKS = Destination("file", ("NAME.test.jsonl",))


@app.command()
@with_option_groups
def select(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="PAIRS...",
            help="Rows of a prompt and two or more responses, or comparisons in any known format, whose labels are not read; "
            "then any options such as select.per_prompt=2.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="JSONL: the pairs to label, in this order."), PICKS],
    rows: RowOptions,
    num: Annotated[
        int | None,
        typer.Option("--num", help="Comparisons to pick; the same as select.num=.", show_default=False),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="random or d_optimal_half; the same as select.strategy=.", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The current reward model, for d_optimal_half.", show_default=False),
    ] = None,
    labeled: Annotated[
        list[str] | None,
        typer.Option(
            "--labeled", help="Comparisons that it was trained on, not picked again; repeatable.", show_default=False
        ),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            "--test-share",
            help="Share of prompts and of picks kept for a random test; the same as select.test_share=.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Of every random draw; the same as select.seed=.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Pick the comparisons to label next.

    At random, or with --strategy d_optimal_half half of them where a label tells the reward model most. Each pick has its
    propensity. Picks of the test stream go to a file next to the output (picks.test.jsonl for picks.jsonl): do not train on
    them. docs/select.md says when active picks help.

    Example: guerdon select candidates.jsonl --num 500 --out picks.jsonl
    """
    from guerdon.api import saved_models
    from guerdon.api.data import stream_comparisons
    from guerdon.api.selection import refuse_idle_model
    from guerdon.api.selection import select as select_pairs
    from guerdon.io import writers

    files, overrides = split_words(pairs)
    given = given_options(num=num, strategy=strategy, test_share=test_share, seed=seed)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "select", "model"],
        needs={"model": ("--model", model)},
        select=given,
        imports=rows.given(),
    )
    writers.require_jsonl_ending(out)
    refuse_idle_model(settings.select, model)
    loaded = None
    if model is not None:
        model_options = {"truncation": "left", **saved_model_options(settings, overrides)}
        loaded = saved_models.load(model, with_uncertainty=False, **model_options)
    known = stream_comparisons(labeled, settings.imports) if labeled else ()
    picks = select_pairs(files, model=loaded, labeled=known, imports=settings.imports, **settings.select.model_dump())
    test_file = writers.beside(out, "test")
    writers.write_jsonl_together({out: picks.train, test_file: picks.test})
    for line in picks.remarks(settings.select):
        note(line)
    print_facts({**picks.counts, "out": str(out), "test_file": str(test_file)}, json)
