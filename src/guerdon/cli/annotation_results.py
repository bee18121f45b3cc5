"""guerdon annotation status, labels, export and adjudicate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.options import AsJson, given_options
from guerdon.cli.output import note, print_facts, print_json, print_rows, show
from guerdon.errors import visible

EXPORTED = Destination("file", ("NAME.rejected.jsonl",))
LONGEST_LINE = 300  # characters of a text in the queue

Store = Annotated[
    str, typer.Argument(metavar="STORE", help="A file such as annotations.db, or postgresql://USER@HOST/DATABASE.")
]
ProjectName = Annotated[
    str | None, typer.Option("--project", help="Name of the project; the only one by default.", show_default=False)
]


@app.command("annotation status")
def annotation_status(
    store: Store,
    project: ProjectName = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute agreement and abilities first.")] = False,
    json: AsJson = False,
) -> None:
    """Show how far a project is, and how its people work.

    Items by state, the rate and the hours left with their intervals, agreement, and one line per person. Agreement and abilities
    are those that the server computed last.

    Example: guerdon annotation status team.db --fresh
    """
    from guerdon.api.annotation_results import annotation_status as status_of
    from guerdon.api.annotation_results import summarize_annotation

    if fresh:
        summarize_annotation(store, project)
    status = status_of(store, project)
    if json:
        print_json(status)
        return
    print_rows(_overview(status))
    if status["people"]:
        show("", _people(status["people"]))
    if status["agreement"] is None:
        note("agreement and abilities have not been computed yet; pass --fresh")


@app.command("annotation labels")
def annotation_labels(
    store: Store,
    project: ProjectName = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="ability, majority or dawid_skene; by default ability where people judged the same items, else majority.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Write one label per judged item into the store.

    Labels are soft where votes differ, and replace those written before. What an adjudicator decided stays. `guerdon train --data
    store:team.db` then trains on them.

    Example: guerdon annotation labels team.db --method ability
    """
    from guerdon.api.annotation_results import label_annotation

    print_facts(label_annotation(store, project, method), json)


@app.command("annotation export")
def annotation_export(
    store: Store,
    out: Annotated[Path, typer.Option("--out", help="Where the rows go: .jsonl, .jsonl.gz or .parquet."), EXPORTED],
    project: ProjectName = None,
    to: Annotated[str, typer.Option("--to", help="Format to write; docs/convert.md lists them.")] = "native",
    each: Annotated[bool, typer.Option("--each", help="One row per judgment, not per item.")] = False,
    all_revisions: Annotated[
        bool, typer.Option("--all-revisions", help="Judgments that were replaced too; implies --each.")
    ] = False,
    names: Annotated[bool, typer.Option("--names", help="Names of people in place of pseudonyms.")] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            help="gold, attention, training or repeat, which are left out unless named; repeatable.",
            show_default=False,
        ),
    ] = None,
    ties: Annotated[
        str | None, typer.Option("--ties", help="What happens to ties: drop, soft or margin0.", show_default=False)
    ] = None,
    json: AsJson = False,
) -> None:
    """Write what people said, in the format of a trainer.

    One row per item: its label, or else its votes together. What the format cannot hold is counted.

    Example: guerdon annotation export team.db --out pairs.parquet --to trl
    """
    from guerdon.api.annotation_results import export_annotation
    from guerdon.io import writers

    rejected_file = writers.rejected_path(out)
    done = export_annotation(
        store, out, project, each=each or all_revisions, all_revisions=all_revisions, names=names,
        purposes=include or (), rejected_file=rejected_file, format=to, **given_options(ties=ties),
    )  # fmt: skip
    if done.losses:
        note(f"lost: {done.losses}")
    print_facts({"rows": done.rows, "comparisons": done.comparisons, "out": str(out)}, json)
    if done.usage and not json:
        print(visible(f"\nread it with {done.usage}"))


@app.command("annotation adjudicate")
def annotation_adjudicate(
    store: Store,
    item: Annotated[
        str | None,
        typer.Argument(
            metavar="[ITEM]", help="Id of the item to decide; without it, the queue is listed.", show_default=False
        ),
    ] = None,
    project: ProjectName = None,
    answer: Annotated[
        str | None,
        typer.Option(
            "--answer", help="1 or 2, tie, or bad; of more responses an order such as 2>1=3.", show_default=False
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Login of who decides; the owner by default.", show_default=False),
    ] = None,
    rationale: Annotated[
        str | None, typer.Option("--rationale", help="Why, kept with the judgment.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Items of the queue that are listed.")] = 20,
    json: AsJson = False,
) -> None:
    """List the items on which people disagree, or decide one.

    A decision is the item's label, whatever people voted. On which items people are split is as `status --fresh` computed it last.

    Example: guerdon annotation adjudicate team.db 5d0c81b6b6a9b9a9a0f2a6f1d2c3b4a5 --answer 2
    """
    from guerdon.api.annotation_results import adjudicate, adjudication_queue
    from guerdon.errors import GuerdonError

    if (item is None) != (answer is None):
        raise GuerdonError(
            "an item to decide must come with --answer, got one of the two. Give both, or neither to list the queue."
        )
    if item is not None and answer is not None:
        decided = adjudicate(store, item, answer, project, by, rationale)
        print_facts(decided if json else {**decided, "label": _verdict(decided["label"])}, json)
        return
    queue = adjudication_queue(store, project, limit)
    if json:
        print_json({"items": queue})
        return
    for each in queue:
        print(visible(_case(each)))
    if not queue:
        note("nothing waits for a decision")


# ---- What is printed -----------------------------------------------------------------------------------------------


def _overview(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("project", f"{status['project']}, {status['state']}")]
    rows += [(f"items, {state}", f"{number:,}") for state, number in sorted(status["tasks"].items())]
    rows.append(("judgments", f"{status['judgments']:,}"))
    if status["all_bad"]:
        rows.append(("no response is good", f"{status['all_bad']:,}"))
    rows.append(("judgments left", f"{status['remaining_judgments']:,}"))
    if status["judgments_per_hour"] is not None:
        rows.append(("judgments per hour", interval(status["judgments_per_hour"], 1)))
    if status["hours_left"] is not None and status["remaining_judgments"]:
        hours = status["hours_left"]
        rows.append(("hours left", interval(hours, 1 if hours["value"] >= 0.1 else 2)))
    if status["held"]:
        rows.append(("held now", f"{len(status['held']):,}"))
    if status["skips"]:
        rows.append(("skips", ", ".join(f"{reason} {number:,}" for reason, number in status["skips"].items())))
    people = ((status["agreement"] or {}).get("content") or {}).get("people") or {}
    for name, title in (("raw_agreement", "two people agree"), ("alpha_nominal", "Krippendorff's alpha")):
        if name in people:
            rows.append((title, interval(people[name], 3)))
    return rows


def _people(people: list[dict[str, Any]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("person", "role", "done", "seconds", "gold", "same again", "ability", "flags"):
        table.add_column(heading, header_style="dim")
    for row in people:
        seconds = "" if row["mean_seconds"] is None else f"{row['mean_seconds']:.1f}"
        cells = (
            row["name"], row["role"] or "", f"{row['submitted']:,}", seconds, interval(row["gold"], 2),
            interval(row["same_again"], 2), interval(row["ability"], 2), ", ".join(row["flags"]),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    return table


def _case(case: Mapping[str, Any]) -> str:
    """A case in a few lines."""
    lines = [f"{case['item']}  {case['reason']}", f"  prompt  {_short(case['prompt'])}"]
    lines += [f"  {number}  {_short(text)}" for number, text in enumerate(case["responses"], start=1)]
    for opinion in case["opinions"]:
        why = f" ({_short(opinion['rationale'])})" if opinion.get("rationale") else ""
        lines.append(f"  {opinion['name']}: {_verdict(opinion)}{why}")
    return "\n".join(lines) + "\n"


def _verdict(opinion: Mapping[str, Any]) -> str:
    if "skipped" in opinion:
        return f"skipped, {opinion['skipped']}"
    if opinion.get("all_bad"):
        return "both bad" if len(opinion["groups"][0]) == 2 else "all bad"
    groups = opinion.get("groups")
    if groups is None:
        return f"q {opinion.get('q')}"
    return " > ".join(" = ".join(str(i + 1) for i in group) for group in groups)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"


def interval(estimate: Mapping[str, Any] | None, digits: int) -> str:
    """An estimate with its interval; "" where it is unknown."""
    if estimate is None or estimate["value"] is None:
        return ""
    low, high = (f"{v:,.{digits}f}" if (v := estimate[end]) is not None else "?" for end in ("low", "high"))
    return f"{estimate['value']:,.{digits}f} ({low} to {high})"
