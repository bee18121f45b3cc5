"""guerdon judge, judge-card and judge-prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli import stopping
from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.judges import read_judge_options
from guerdon.cli.options import (
    ANY_FORMAT,
    AsJson,
    ConfigFile,
    Data,
    Full,
    Overrides,
    RowOptions,
    given_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import UNRESOLVED, note, print_report, print_rows

if TYPE_CHECKING:
    from guerdon.contracts import Report
    from guerdon.feedback.spending import CostEstimate

ASK_ABOVE_COST, ASK_ABOVE_CALLS = 1.0, 10_000  # what is worth a question; calls where the price is unknown
LABELS = Destination("file", ("NAME.verdicts.jsonl", "NAME.failures.jsonl", "NAME.calls.db"), resumes=True)

CARD_FOLDER = Destination("folder", ("card.html", "card.md", "card.json", "calls.db"), resumes=True)

JudgeFile = Annotated[Path, typer.Option("--judge", help="judge.yaml: who judges, and how; see docs/judge.md.")]


@app.command()
@with_option_groups
def judge(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help=f"Pairs of responses, labeled or not, {ANY_FORMAT}, or store:STORE; then any options such as judge.mode=score.",
        ),
    ],
    rows: RowOptions,
    judge_file: JudgeFile,
    store: Annotated[
        str | None, typer.Option("--store", help="Store for calls, judgments and labels.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where labeled pairs go: .jsonl, .jsonl.gz or .parquet.", show_default=False),
        LABELS,
    ] = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Write preferred responses, without pairs whose two orders disagree.")
    ] = False,
    card: Annotated[
        Path | None,
        typer.Option("--card", help="card.json of this judge, whose map to people is applied.", show_default=False),
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", help="Same as judge.max_cost=.", show_default=False)
    ] = None,
    max_calls: Annotated[
        int | None, typer.Option("--max-calls", help="Same as judge.max_calls=.", show_default=False)
    ] = None,
    max_total_tokens: Annotated[
        int | None, typer.Option("--max-total-tokens", help="Same as judge.max_total_tokens=.", show_default=False)
    ] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", help="api, batch or ray; same as judge.executor=.", show_default=False)
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Read the answers that are kept, and ask nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a run that costs.")] = False,
    config: ConfigFile = None,
    full: Full = False,
    json: AsJson = False,
) -> None:
    """Label pairs with an AI judge.

    Each pair is judged in both orders. A call that fails is no label: the pair is counted, and exit code 3 says that too many
    have no verdict. The same command again asks only what was not answered. docs/judge.md describes judges and costs.

    Example: guerdon judge pairs.jsonl --judge judge.yaml --out labeled.jsonl
    """
    from guerdon.api.judging import judge_files
    from guerdon.api.judging import offline as without_server

    stopping.set_resumable(True)
    files, overrides = split_words(data)
    limits = given_options(max_cost=max_cost, max_calls=max_calls, max_total_tokens=max_total_tokens, executor=executor)
    settings = settings_from(config, None, overrides, reads=("imports", "judge"), imports=rows.given(), judge=limits)
    options = read_judge_options(judge_file, settings, overrides)
    if offline:
        options = without_server(options)

    result = judge_files(
        files, options, out=out, store=store, imports=settings.imports, hard=hard, card=card,
        confirm=lambda estimate: _confirm(estimate, yes or offline),
    )  # fmt: skip
    _print(result.report, json, full)
    if out is not None and not json:
        note(f"labels in {out}")
    if result.unresolved_share > options.unresolved_max:
        raise typer.Exit(UNRESOLVED)


@app.command("judge-card")
@with_option_groups
def judge_card(
    overrides: Overrides = None,
    *,
    data: Data,
    rows: RowOptions,
    judge_file: JudgeFile,
    store: Annotated[
        str | None, typer.Option("--store", help="Store for calls and the card.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for card.html, card.md and card.json.", show_default=False),
        CARD_FOLDER,
    ] = None,
    paraphrase: Annotated[
        str | None,
        typer.Option(
            "--paraphrase", help="Template in other words; by default the shipped paraphrase.", show_default=False
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Ask once, not also with another seed and in other words: a third of the cost."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before a run that costs.")] = False,
    config: ConfigFile = None,
    full: Full = False,
    json: AsJson = False,
) -> None:
    """Measure an AI judge against people.

    Agreement against the human ceiling, consistency, position, length, style and family bias, and calibration, each with its
    interval; and the map from the judge's probabilities to people's, which `judge --card` applies. docs/judge.md explains each.

    Example: guerdon judge-card --judge judge.yaml --data votes.jsonl --out card
    """
    from guerdon.api.judge_cards import make_judge_card

    stopping.set_resumable(True)
    settings = settings_from(config, None, overrides, reads=("imports", "judge"), imports=rows.given())
    options = read_judge_options(judge_file, settings, overrides)
    report = make_judge_card(
        data, options, out=out, store=store, imports=settings.imports, paraphrase=paraphrase, again=not once,
        confirm=lambda estimate: _confirm(estimate, yes),
    )  # fmt: skip
    _print(report, json, full)
    if out is not None and not json:
        note(f"card in {out}")


def _print(report: Report, as_json: bool, is_full: bool) -> None:
    """Print a report, its facts first: failures by code and what was spent."""
    if as_json or is_full:
        print_report(report, as_json, is_full=is_full)
        return
    print_rows(report.about.items())
    print_report(report, False, is_full=False)


def _confirm(estimate: CostEstimate, is_agreed: bool) -> None:
    """Print what a run costs at most, and ask, on a terminal, where that is much."""
    note(str(estimate))
    is_dear = estimate.calls > ASK_ABOVE_CALLS if estimate.cost is None else estimate.cost > ASK_ABOVE_COST
    if is_dear and not is_agreed and sys.stdin.isatty():
        typer.confirm("Go on?", abort=True, err=True)


@app.command("judge-prompt")
def judge_prompt(
    mode: Annotated[
        str, typer.Argument(metavar="MODE", help="pair, pair_samples, pair_reasons, score, ranking or criterion.")
    ],
) -> None:
    """Print the template of a judge's mode, to copy and edit.

    Example: guerdon judge-prompt pair
    """
    from guerdon.api.judging import judge_template

    print(judge_template(mode), end="")
