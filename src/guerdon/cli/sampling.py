"""guerdon sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli import stopping
from guerdon.cli.app import app
from guerdon.cli.destinations import CANDIDATES_FILE
from guerdon.cli.options import AsJson, ConfigFile, NumResponses, Overrides, given_options, settings_from
from guerdon.cli.output import UNRESOLVED, print_facts, print_rows

if TYPE_CHECKING:
    from guerdon.config import Config


@app.command()
def sample(
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="Hub name or directory of a causal language model, or a file like judge.yaml of a model behind a server; "
            "repeatable. The starter model by default.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Rows with a prompt or messages; each distinct prompt once.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="JSONL: one row per prompt with its responses.", show_default=False),
        CANDIDATES_FILE,
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="One prompt, instead of --prompts.", show_default=False)
    ] = None,
    n: NumResponses = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            help="Store for the replies, as items that nobody has judged, and for the calls.",
            show_default=False,
        ),
    ] = None,
    items: Annotated[
        str,
        typer.Option("--items", help="Items of a store: pairs, each two replies to a prompt, or all of them together."),
    ] = "pairs",
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Sample responses from a policy, without a reward.

    `guerdon score` reads the file. Nothing but the temperature shapes the distribution. The same command resumes a killed run.
    With several policies, a file that names one, or a store, each reply has its author and its settings, and a call that fails
    is no reply: it is counted, and exit code 3 says that too many failed.

    Example: guerdon sample --policy org/model --prompt "Write a tweet about rain." --n 4 best_of_n.max_tokens=40
    """
    from guerdon.api.candidates import is_policy_file

    policies = policy or []
    has_several = len(policies) > 1 or store is not None or any(map(is_policy_file, policies))
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["policy", "best_of_n"],
        runs=["policy"],
        best_of_n=given_options(n=n),
        policy=given_options(base=None if has_several else next(iter(policies), None)),
    )
    if has_several:
        _sample_candidates(policies or ["starter"], prompts, prompt, out, store, items, settings, json)
    else:
        _sample_one(prompts, prompt, out, settings, json)


def _sample_one(prompts: Path | None, prompt: str | None, out: Path | None, settings: Config, as_json: bool) -> None:
    """Replies of one policy, in the form of a pool without rewards, or on the screen."""
    from guerdon.api import optimization
    from guerdon.contracts import GuerdonError
    from guerdon.io import readers

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
        print_facts({**counts, "out": str(out)}, as_json)
        return
    drawn = model.sample([prompt or ""], options.n, options.max_tokens, options.temperature, options.seed)
    if as_json:
        print_facts({"responses": [{"text": r.text, "finish": r.finish} for r in drawn.responses]}, as_json)
        return
    print_rows((r.finish or "", r.text.strip()) for r in drawn.responses)


def _sample_candidates(
    policies: list[str],
    prompts: Path | None,
    prompt: str | None,
    out: Path | None,
    store: str | None,
    items: str,
    settings: Config,
    as_json: bool,
) -> None:
    """Replies of several policies by calls that are kept, into a file and a store."""
    from guerdon.api.candidates import sample_candidates
    from guerdon.contracts import GuerdonError
    from guerdon.errors import field_error
    from guerdon.io import readers

    if prompts is None or prompt is not None:
        raise GuerdonError(
            "sample: --prompts must be given, and no --prompt, with several policies, a file that names one, or a store. "
            "Give --prompts FILE."
        )
    own = settings.policy.model_dump(exclude_unset=True)
    for name in ("base", "server"):
        if own.pop(name, None) is not None:
            advice = "Name each policy with --policy, a server by a file with its url and model."
            raise field_error(f"policy.{name}", "left out here", getattr(settings.policy, name), advice)
    stopping.set_resumable(True)
    sampling = sample_candidates(
        policies, readers.read_prompts(prompts), out=out, store=store, items=items, policy_options=own,
        **settings.best_of_n.model_dump(),
    )  # fmt: skip
    places = given_options(store=store, out=str(out) if out else None)
    if as_json:
        print_facts({**sampling.facts, "policies": sampling.by_policy, **places}, as_json)
    else:
        by_policy = {
            f"{name}: {key}": value for name, facts in sampling.by_policy.items() for key, value in facts.items()
        }
        print_facts({**sampling.facts, **by_policy, **places}, as_json)
    if sampling.has_failed:
        raise typer.Exit(UNRESOLVED)
