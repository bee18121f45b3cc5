"""guerdon sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import POOL_FILE
from guerdon.cli.options import AsJson, ConfigFile, NumResponses, Overrides, PolicyName, given_options, settings_from
from guerdon.cli.output import print_facts, print_rows


@app.command()
def sample(
    policy: PolicyName = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Rows with a prompt or messages; each distinct prompt once.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="JSONL: one row per prompt with its responses.", show_default=False),
        POOL_FILE,
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One prompt, instead of --prompts.", show_default=False)
    ] = None,
    n: NumResponses = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Sample responses from a policy, without a reward.

    `guerdon score` reads the file. Nothing but the temperature shapes the distribution. The same command resumes a killed run.

    Example: guerdon sample --policy org/model --prompt "Write a tweet about rain." --n 4 best_of_n.max_tokens=40
    """
    from guerdon.api import optimization
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers

    settings = settings_from(
        config,
        None,
        overrides,
        reads=["policy", "best_of_n"],
        runs=["policy"],
        best_of_n=given_options(n=n),
        policy=given_options(base=policy),
    )
    options = settings.best_of_n
    is_file, is_text = prompts is not None and out is not None, prompts is None and out is None
    if not (is_file and prompt is None) and not (is_text and prompt is not None):
        given = {"--prompts": prompts, "--out": out, "--prompt": prompt}
        raise GuerdonError(
            f"sample: a file or a prompt must be given, got {' and '.join(k for k, v in given.items() if v) or 'neither'}. "
            "Give --prompts FILE with --out FILE, or --prompt TEXT."
        )
    model = optimization.load_policy(**settings.policy.model_dump(exclude_unset=True))
    if prompts is not None and out is not None:
        counts = optimization.sample(model, readers.read_prompts(prompts), out, **options.model_dump())
        print_facts({**counts, "out": str(out)}, json)
        return
    drawn = model.sample([prompt or ""], options.n, options.max_tokens, options.temperature, options.seed)
    if json:
        print_facts({"responses": [{"text": r.text, "finish": r.finish} for r in drawn.responses]}, json)
        return
    print_rows((r.finish or "", r.text.strip()) for r in drawn.responses)
