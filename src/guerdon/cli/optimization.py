"""guerdon optimize best-of-n, ppo, rloo and grpo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from guerdon.cli.app import app
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    Gold,
    HeldOut,
    Overrides,
    PolicyName,
    Prompts,
    Rewards,
    Rule,
    RunOut,
    Weights,
    given_options,
    reward_from,
    reward_source,
    settings_from,
)
from guerdon.cli.output import print_facts, print_report


@app.command("optimize best-of-n")
def best_of_n(
    reward: Rewards,
    prompts: Prompts,
    out: Annotated[
        Path, typer.Option("--out", help="JSONL: a row a prompt with all its replies, rewards and the best.")
    ],
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Replies a prompt; same as best_of_n.n=.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Folder for report.html, .md and .json.", show_default=False)
    ] = None,
    sft: Annotated[
        Path | None,
        typer.Option("--sft", help="Write the best replies here as {prompt, response} rows.", show_default=False),
    ] = None,
    comparisons: Annotated[
        Path | None,
        typer.Option("--comparisons", help="Write best against worst here as comparisons.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Draw N replies to each prompt and keep the best.

    The curve over n is unbiased, with intervals by prompt; with --gold it shows where more choice stops helping. A
    killed run goes on where it was when the same command is given again.

    Example: guerdon optimize best-of-n --policy org/model --reward my-model --prompts prompts.jsonl --n 64 --out pool.jsonl
    """
    from guerdon.api import auditing, optimization
    from guerdon.io import readers, writers
    from guerdon.optimization import read_pool, to_comparisons, to_sft_rows

    judged_by = {Path(reward_source(name)[0]).resolve() for name in (*reward, *([gold] if gold else []))}
    taken = [*judged_by, *(place.resolve() for place in (prompts, out, sft, comparisons, config) if place)]
    if len(set(taken)) < len(taken):
        from guerdon.contracts import GuerdonError

        raise GuerdonError(
            "--reward, --gold, --prompts, --config, --out, --sft and --comparisons are files of their own; "
            "remedy: another name for each"
        )
    settings = settings_from(config, None, overrides, best_of_n=given_options(n=n), policy=given_options(base=policy))
    speaker = optimization.load_policy(**settings.policy.model_dump(exclude_unset=True))
    chosen = settings.best_of_n.model_dump()
    found = optimization.best_of_n(
        speaker,
        reward_from(reward, weight, rule),
        readers.read_prompts(prompts),
        out,
        gold=reward_from([gold]) if gold else None,
        **chosen,
    )
    if report:
        auditing.write_report(found, report)
    if sft or comparisons:
        pool = read_pool(out)
        if sft:
            writers.write_jsonl(sft, to_sft_rows(pool))
        if comparisons:
            writers.write_comparisons(comparisons, to_comparisons(pool))
    print_report(found, json)


def _optimize(
    baseline: str,
    reward: list[str],
    prompts: Path,
    out: Path,
    policy: str | None,
    weight: list[float] | None,
    rule: str,
    gold: str | None,
    held_out: Path | None,
    config: Path | None,
    overrides: list[str] | None,
    json: bool,
) -> None:
    from guerdon.api import optimization, overoptimization
    from guerdon.io import readers

    settings = settings_from(
        config, None, overrides, optimize={"baseline": baseline}, policy=given_options(base=policy)
    )
    if settings.optimize.baseline != baseline:
        from guerdon.contracts import GuerdonError

        raise GuerdonError(
            f"optimize.baseline={settings.optimize.baseline}: this command is {baseline}'s; remedy: the other command"
        )
    given = settings.policy.model_dump(exclude_unset=True)
    speaker = optimization.load_policy(**given, adapters=True, seed=settings.optimize.seed)
    done = optimization.optimize(
        speaker,  # type: ignore[arg-type]
        reward_from(reward, weight, rule),
        readers.read_prompts(prompts),
        gold=reward_from([gold]) if gold else None,
        held_out=readers.read_prompts(held_out) if held_out else (),
        out=out,
        config=settings,
    )
    facts: dict[str, Any] = {"updates": done.updates, "policy": str(out / "policy"), "weights_of_update": done.kept}
    facts |= {"stopped": done.stopped} if done.stopped else {}
    facts |= {f"left out ({why})": num for why, num in done.excluded.items()}
    if json:
        print_facts(facts, json)
        return
    if len(done.checks) > 1:
        print_report(overoptimization.run_report(out), False)
        facts["report"] = str((out / "report.html").resolve())
    print_facts(facts, False)


@app.command("optimize ppo")
def ppo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy toward more reward with PPO.

    Policy, reference and value head share one model with adapters; policy.lora_rank=0 trains every weight beside a frozen
    copy. Now and then held-out prompts are answered and judged by the reward and by --gold.

    Example: guerdon optimize ppo --policy org/model --reward my-model --gold old-model --prompts prompts.jsonl --out runs/ppo
    """
    _optimize("value", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)


@app.command("optimize rloo")
def rloo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy toward more reward with RLOO.

    As `optimize ppo`, but a reply's baseline is the mean of its prompt's other replies: no value model, and
    optimize.samples is at least 2.

    Example: guerdon optimize rloo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/rloo optimize.samples=4
    """
    _optimize("leave_one_out", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)


@app.command("optimize grpo")
def grpo(
    reward: Rewards,
    prompts: Prompts,
    out: RunOut,
    policy: PolicyName = None,
    weight: Weights = None,
    rule: Rule = "sum",
    gold: Gold = None,
    held_out: HeldOut = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
) -> None:
    """Move a policy toward more reward with GRPO's baseline.

    As `optimize ppo`, but a reply's advantage is its reward in standard deviations from its prompt's mean: no value model,
    and optimize.samples is at least 2.

    Example: guerdon optimize grpo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/grpo optimize.samples=4
    """
    _optimize("group", reward, prompts, out, policy, weight, rule, gold, held_out, config, overrides, json)
