"""guerdon score."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FOLDER, RESUMABLE_FILE
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    ModelDir,
    Overrides,
    RowOptions,
    given_options,
    saved_model_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import print_facts, print_page_path, print_rows
from guerdon.errors import GuerdonError

if TYPE_CHECKING:
    from guerdon.config import Config
    from guerdon.scoring.bulk_scorer import BulkScorer


@app.command()
@with_option_groups
def score(
    model: ModelDir,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Rows of prompt and response (or responses), of messages, or comparisons in any known format; repeatable.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="JSONL: each row with its reward, and if it was truncated.", show_default=False),
        RESUMABLE_FILE,
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One prompt, instead of --data.", show_default=False)
    ] = None,
    response: Annotated[
        list[str] | None, typer.Option("--response", help="A response to it; repeatable.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", help="Processes that share the file; the same as score.workers=.", show_default=False
        ),
    ] = None,
    per_token: Annotated[
        bool | None,
        typer.Option(
            "--per-token",
            help="Also the reward after every token of a reply; the same as score.per_token=true.",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option("--steps", help="Reward of a solution from its steps: min, product, last.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            help="Folder for report.html, .md and .json: where the reward was gained. Needs --per-token.",
            show_default=False,
        ),
        REPORT_FOLDER,
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    *,
    rows: RowOptions,
) -> None:
    """Score responses with a reward model.

    Rewards are nats of preference log-odds; only differences within a prompt mean anything. The same command resumes a
    killed run. A text longer than the model's max_length is an error; with model.truncation=left it loses its beginning.

    Example: guerdon score my-model --prompt "2 + 2?" --response 4 --response 5
    """
    from guerdon.scoring.bulk_scorer import BulkScorer

    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "model", "score"],
        needs={"imports": ("--data", data)},
        score=given_options(workers=workers, per_token=per_token, steps=steps),
        imports=rows.given(),
    )
    _refuse_mixed(
        {"--data": data, "--out": out, "--workers": workers, "--report": report},
        {"--prompt": prompt, "--response": response},
    )
    if report and not settings.score.per_token:
        raise GuerdonError(
            "--report must come with --per-token, got it without. Add --per-token, or leave --report out."
        )
    scorer = BulkScorer(
        model, **saved_model_options(settings, overrides), **settings.score.model_dump(exclude={"workers"})
    )
    if data and out is not None:
        _score_file(scorer, data, out, report, settings, json)
    else:
        _print_scores(scorer, prompt or "", response or [], json)


def _refuse_mixed(of_files: Mapping[str, object], of_texts: Mapping[str, object]) -> None:
    """Raise GuerdonError unless a file with its output is given, or a prompt with its responses, and nothing of the other."""
    file_options = [name for name, value in of_files.items() if value]
    text_options = [name for name, value in of_texts.items() if value is not None and value != []]
    is_file = not text_options and {"--data", "--out"} <= set(file_options)
    is_text = not file_options and len(text_options) == 2
    if not (is_file or is_text):
        raise GuerdonError(
            f"score: a file or a prompt must be given, got {' and '.join(file_options + text_options) or 'neither'}. "
            "Give --data FILE with --out FILE, or --prompt TEXT with one or more --response TEXT."
        )


def _score_file(
    scorer: BulkScorer, data: list[str], out: Path, report: Path | None, settings: Config, as_json: bool
) -> None:
    from guerdon.api.auditing import write_report
    from guerdon.api.scoring import score_file, token_rewards_report

    counts = score_file(scorer, data, out, workers=settings.score.workers, imports=settings.imports)
    if report:
        write_report(token_rewards_report(out), report)
    print_facts({**counts, "out": str(out)}, as_json)
    if report and not as_json:
        print_page_path(report)


def _print_scores(scorer: BulkScorer, prompt: str, answers: list[str], as_json: bool) -> None:
    from guerdon.contracts import as_prompt, as_response

    scores = scorer.score_texts([as_prompt(prompt)] * len(answers), [as_response(answer) for answer in answers])
    values, truncated = scores.value.tolist(), scores.truncated.tolist()
    if as_json:
        by_token = {} if scores.tokens is None else {"token_rewards": [own.as_row() for own in scores.tokens]}
        print_facts({"rewards": values, "truncated": truncated, **by_token}, as_json)
        return
    scored = zip(answers, values, truncated, strict=True)
    print_rows(
        (" ".join(answer.split())[:60], f"{value:+.4f}" + "  (truncated)" * cut) for answer, value, cut in scored
    )
    for own in scores.tokens or ():
        print()
        gains = zip(own.tokens, own.rewards.tolist(), own.gains.tolist(), strict=True)
        print_rows(
            [("(before)", f"{own.start:+.4f}"), *((text, f"{at:+.4f}  ({gain:+.4f})") for text, at, gain in gains)]
        )
