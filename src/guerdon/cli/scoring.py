"""guerdon score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import RESUMABLE_FILE
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
from guerdon.cli.output import print_facts, print_rows


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
    from guerdon.api.scoring import score_file
    from guerdon.contracts import GuerdonError
    from guerdon.scoring.bulk_scorer import BulkScorer

    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "model", "score"],
        needs={"imports": ("--data", data)},
        score=given_options(workers=workers),
        imports=rows.given(),
    )
    is_file = bool(data) and out is not None and prompt is None and not response
    is_text = not data and prompt is not None and response and out is None and workers is None
    if not (is_file or is_text):
        options = {"--data": data, "--out": out, "--prompt": prompt, "--response": response, "--workers": workers}
        given = [name for name, value in options.items() if value]
        raise GuerdonError(
            f"score: a file or a prompt must be given, got {' and '.join(given) or 'neither'}. "
            "Give --data FILE with --out FILE, or --prompt TEXT with one or more --response TEXT."
        )
    scorer_options = settings.score.model_dump(exclude={"workers"})
    scorer = BulkScorer(model, **saved_model_options(settings, overrides), **scorer_options)
    if data and out is not None:
        counts = score_file(scorer, data, out, workers=settings.score.workers, imports=settings.imports)
        print_facts({**counts, "out": str(out)}, json)
        return
    answers = response or []
    scores = scorer.score([prompt or ""] * len(answers), answers)
    values, truncated = scores.value.tolist(), scores.truncated.tolist()
    if json:
        print_facts({"rewards": values, "truncated": truncated}, json)
        return
    scored = zip(answers, values, truncated, strict=True)
    print_rows((answer[:60], f"{value:+.4f}" + "  (truncated)" * cut) for answer, value, cut in scored)
