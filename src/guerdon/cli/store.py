"""guerdon store init, import, export, status, merge and verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli import stopping
from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    RowOptions,
    data_argument,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import exit_on_errors, note, print_facts, print_report

EXPORTED = Destination("file", ("NAME.rejected.jsonl",))
REJECTED_FILE = Destination("file")

Store = Annotated[
    str, typer.Argument(metavar="STORE", help="A file such as preferences.db, or postgresql://USER@HOST/DATABASE.")
]


@app.command("store init")
def store_init(store: Store, json: AsJson = False) -> None:
    """Create a store of judgments, or update an older one.

    Example: guerdon store init preferences.db
    """
    from guerdon.api.store import create_store

    print_facts(create_store(store), json)


@app.command("store import")
@with_option_groups
def store_import(
    store: Store,
    sources: Annotated[
        list[str],
        data_argument("Judgments", "imports.source=team", "SOURCE..."),
    ],
    rows: RowOptions,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", help="What the annotators are: human, llm, principle, rule, reward_model, simulated or unknown."
        ),
    ] = "unknown",
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="Store the rows as labels of this method, not as judgments.", show_default=False),
    ] = None,
    rejected: Annotated[
        Path | None,
        typer.Option(
            "--rejected", help="Where rows that cannot be used go; else they are counted only.", show_default=False
        ),
        REJECTED_FILE,
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Add judgments to a store.

    Each row is a judgment of its annotator; what is there already is not added again. A file that `store export` wrote is taken
    with all that it holds. A killed import goes on with the same command.

    Example: guerdon store import preferences.db votes.jsonl --kind human
    """
    from guerdon.api.store import add_to_store, import_prefs, prefs_files
    from guerdon.contracts import Comparison
    from guerdon.data.files import Rejects, count_rejects, import_files, require_usable
    from guerdon.io import writers

    stopping.set_resumable(True)  # what is stored already is not stored again
    files, overrides = split_words(sources)
    settings = settings_from(
        config, None, overrides, reads=["imports"], presets={"imports": {"judgments": "each"}}, imports=rows.given()
    )
    whole = prefs_files(files)
    facts: dict[str, int] = import_prefs(store, whole) if whole else {}
    rejects = Rejects()
    if others := [file for file in files if file not in whole]:
        read = count_rejects(import_files(others, settings.imports, note), rejects)
        usable = writers.set_aside(read, rejected) if rejected else (row for row in read if isinstance(row, Comparison))
        new = add_to_store(store, require_usable(usable, rejects), kind=kind, labels=labels)
        facts = {name: facts.get(name, 0) + count for name, count in new.items()}
    print_facts({**{f"new_{name}": count for name, count in facts.items()}, "rejected": rejects.count}, json)
    if rejects.count and not rejected:
        note(f"the first rejected row is {rejects.first_reason}")


@app.command("store export")
def store_export(
    store: Store,
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="prefs.v1.jsonl, also .jsonl.gz, .jsonl.zst or .parquet; in other forms as convert."
        ),
        EXPORTED,
    ],
    to: Annotated[
        str,
        typer.Option("--to", help="prefs, the whole store, or a form of comparisons: native, trl and all of convert."),
    ] = "prefs",
    json: AsJson = False,
) -> None:
    """Write a store to one file, in its own or another format.

    Its own format is a header, then each item with its responses, judgments and labels; the same content gives the same bytes.
    With --to, each item is one comparison, as every command reads it. For more options of the format, name the store as the
    source of convert: `guerdon convert store:preferences.db all.jsonl --ties soft`.

    Example: guerdon store export preferences.db --out prefs.v1.jsonl
    """
    from guerdon.api.store import export_store

    if to != "prefs":
        from guerdon.cli.conversion import write_converted
        from guerdon.store.location import as_source

        settings = settings_from(None, None, None, reads=["imports", "export"], export={"format": to})
        write_converted([as_source(store)], out, settings, json)
        return
    print_facts({**export_store(store, out), "out": str(out)}, json)


@app.command("store status")
def store_status(store: Store, json: AsJson = False) -> None:
    """Count what a store holds.

    Example: guerdon store status preferences.db
    """
    from guerdon.api.store import store_status as facts_of

    print_facts(facts_of(store), json)


@app.command("store merge")
def store_merge(
    store: Store,
    others: Annotated[list[str], typer.Argument(metavar="OTHER...", help="Stores whose content is added to STORE.")],
    prefer: Annotated[
        str | None,
        typer.Option(
            "--prefer",
            help="Whose judgment is the newest revision where both corrected one: ours (STORE) or theirs (OTHER).",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Add to a store all that other stores hold.

    Twice, or in another order, gives the same content. A judgment that both corrected in different ways is refused without
    --prefer; with it, the corrections of both are kept as revisions.

    Example: guerdon store merge preferences.db team.db
    """
    from guerdon.api.store import merge_stores

    stopping.set_resumable(True)
    print_facts({f"new_{name}": count for name, count in merge_stores(store, others, prefer).items()}, json)


@app.command("store verify")
def store_verify(store: Store, json: AsJson = False) -> None:
    """Check that a store is what it should be.

    Ids match contents, counters match rows, and each label rests on a judgment. Exit 1 on errors.

    Example: guerdon store verify preferences.db
    """
    from guerdon.api.store import verify_store

    report = verify_store(store)
    print_report(report, json)
    exit_on_errors(report)
