"""guerdon optimize best-of-n, ppo, rloo and grpo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guerdon.api.rewards import combined_reward, is_judge_file
from guerdon.cli.app import app
from guerdon.cli.destinations import FILE, POOL_FILE, REPORT_FOLDER
from guerdon.cli.judges import CallStore, judge_changes
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    Full,
    NumResponses,
    Overrides,
    PolicyName,
    RunOut,
    given_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import note, print_facts, print_report
from guerdon.errors import GuerdonError

if TYPE_CHECKING:
    from guerdon.config import Config


@dataclass(frozen=True, kw_only=True)
class RewardedPolicy:
    """Options that every method of optimization shares: a policy, its prompts, and what rewards its responses."""

    reward: Annotated[
        list[str],
        typer.Option(
            "--reward",
            help="Reward model's directory, FILE.py:FUNCTION(prompts, responses), judge.yaml, or http://HOST:PORT of "
            "`guerdon serve`; repeatable.",
        ),
    ]
    prompts: Annotated[
        Path, typer.Option("--prompts", help="Rows with a prompt or messages. Comparisons work too, each prompt once.")
    ]
    policy: PolicyName = None
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", help="Weight of each --reward, in the same order; 1 by default.", show_default=False),
    ] = None
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            help="How several --reward become one: their sum, or an ensemble's mean, min, uncertainty or soft_min.",
        ),
    ] = "sum"
    gold: Annotated[
        str | None,
        typer.Option(
            "--gold",
            help="A second reward that nothing is trained on. It shows where more reward stops being better.",
            show_default=False,
        ),
    ] = None

    store: CallStore = None

    @property
    def judge_files(self) -> list[str]:
        """The rewards that are judges."""
        return [name for name in (*self.reward, self.gold or "") if is_judge_file(name)]

    @contextmanager
    def loaded(self, settings: Config, overrides: list[str] | None) -> Iterator[tuple[Any, Any]]:
        """One reward from all --reward with their weights, and that of --gold or None; calls of judges are kept in the block."""
        from guerdon.api.judges import call_log

        if self.store is not None and not self.judge_files:
            raise GuerdonError("--store must come with a judge.yaml among the rewards, got none. Leave it out.")
        changes = judge_changes(settings, overrides)
        with call_log(self.store) as log:
            reward = combined_reward(self.reward, self.weight, self.rule, changes, log)
            yield reward, combined_reward([self.gold], changes=changes, log=log) if self.gold else None


@dataclass(frozen=True, kw_only=True)
class TrainingRun(RewardedPolicy):
    """Options of ppo, rloo and grpo."""

    out: RunOut
    held_out: Annotated[
        Path | None,
        typer.Option(
            "--held-out",
            help="Prompts for evaluation, never trained on. By default a tenth of --prompts, chosen by hash.",
            show_default=False,
        ),
    ] = None
    config: ConfigFile = None
    overrides: Overrides = None
    json: AsJson = False
    full: Full = False


@app.command("optimize best-of-n")
@with_option_groups
def best_of_n(
    task: RewardedPolicy,
    out: Annotated[
        Path,
        typer.Option("--out", help="JSONL: one row per prompt with all its responses, rewards and the best one."),
        POOL_FILE,
    ],
    n: NumResponses = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Folder for report.html, .md and .json.", show_default=False),
        REPORT_FOLDER,
    ] = None,
    sft: Annotated[
        Path | None,
        typer.Option("--sft", help="Write the best responses here as {prompt, response} rows.", show_default=False),
        FILE,
    ] = None,
    comparisons: Annotated[
        Path | None,
        typer.Option("--comparisons", help="Write best against worst here as comparisons.", show_default=False),
        FILE,
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Sample N responses to each prompt and keep the best.

    The reward as a function of n is estimated without bias, with intervals over prompts; with --gold it shows where more
    samples stop helping. The same command resumes a run that was stopped.

    Example: guerdon optimize best-of-n --policy org/model --reward my-model --prompts prompts.jsonl --n 64 --out pool.jsonl
    """
    from guerdon.api import auditing, optimization
    from guerdon.io import readers, writers
    from guerdon.optimization import read_pool, to_comparisons, to_sft_rows

    settings = settings_from(
        config,
        None,
        overrides,
        reads=["policy", "judge", "best_of_n"],
        needs={"judge": ("--reward judge.yaml", task.judge_files)},
        runs=["policy", "best_of_n"],
        best_of_n=given_options(n=n),
        policy=given_options(base=task.policy),
    )
    with task.loaded(settings, overrides) as (reward, gold):
        result = optimization.best_of_n(
            optimization.load_policy(**settings.policy.model_dump(exclude_unset=True)),
            reward,
            readers.read_prompts(task.prompts),
            out,
            gold=gold,
            **settings.best_of_n.model_dump(),
        )
        note_judges(reward, gold)
    if report:
        auditing.write_report(result, report)
    if sft or comparisons:
        rollouts = read_pool(out).rollouts
        if sft:
            writers.write_jsonl(sft, to_sft_rows(rollouts))
        if comparisons:
            writers.write_comparisons(comparisons, to_comparisons(rollouts))
    print_report(result, json, is_full=full)


@app.command("optimize ppo")
@with_option_groups
def ppo(run: TrainingRun) -> None:
    """Optimize a policy for more reward with PPO.

    Policy, reference and value head share one model with adapters; policy.lora_rank=0 trains all weights next to a frozen
    copy. Every optimize.check_every updates, the policy answers held-out prompts, which the reward and --gold judge.

    Example: guerdon optimize ppo --policy org/model --reward my-model --gold old-model --prompts prompts.jsonl --out runs/ppo
    """
    _train_policy("value", run)


@app.command("optimize rloo")
@with_option_groups
def rloo(run: TrainingRun) -> None:
    """Optimize a policy for more reward with RLOO.

    Like `optimize ppo`, but the baseline of a response is the mean reward of the prompt's other responses: no value
    model, and optimize.samples must be at least 2.

    Example: guerdon optimize rloo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/rloo optimize.samples=4
    """
    _train_policy("leave_one_out", run)


@app.command("optimize grpo")
@with_option_groups
def grpo(run: TrainingRun) -> None:
    """Optimize a policy for more reward with GRPO.

    Like `optimize ppo`, but the advantage of a response is its reward minus the mean of its prompt, in standard deviations:
    no value model, and optimize.samples must be at least 2.

    Example: guerdon optimize grpo --policy org/model --reward my-model --prompts prompts.jsonl --out runs/grpo optimize.samples=4
    """
    _train_policy("group", run)


def _train_policy(baseline: str, run: TrainingRun) -> None:
    """Optimize the policy with this baseline, and print where it is and what it gained."""
    from guerdon.api import optimization, overoptimization
    from guerdon.io import readers

    for key, _, value in (override.partition("=") for override in run.overrides or []):
        if key == "optimize.baseline" and (given := value.strip(" '\"")) != baseline:
            raise GuerdonError(
                f"optimize.baseline must be {baseline} in this command, got {given}. Use the command of that baseline."
            )
    settings = settings_from(
        run.config,
        None,
        run.overrides,
        reads=["policy", "judge", "optimize"],
        needs={"judge": ("--reward judge.yaml", run.judge_files)},
        runs=["policy", "optimize"],
        optimize={"baseline": baseline},
        policy=given_options(base=run.policy),
    )
    policy_options = settings.policy.model_dump(exclude_unset=True)
    policy = optimization.load_policy(**policy_options, adapters=True, seed=settings.optimize.seed)
    with run.loaded(settings, run.overrides) as (reward, gold):
        result = optimization.optimize(
            policy,  # type: ignore[arg-type]
            reward,
            readers.read_prompts(run.prompts),
            gold=gold,
            held_out=readers.read_prompts(run.held_out) if run.held_out else (),
            out=run.out,
            config=settings,
        )
        note_judges(reward, gold)
    facts: dict[str, Any] = {
        "updates": result.updates,
        "policy": str(run.out / "policy"),
        "weights_of_update": result.kept_update,
    }
    facts |= {"stopped": result.stop_reason} if result.stop_reason else {}
    facts |= {f"left out ({why})": num for why, num in result.excluded.items()}
    if run.json:
        print_facts(facts, run.json)
        return
    if len(result.checks) > 1:
        print_report(overoptimization.run_report(run.out), False, is_full=run.full)
        facts["report"] = str((run.out / "report.html").resolve())
    print_facts(facts, False)


def note_judges(*rewards: Any) -> None:
    """One line on stderr for each judge among the rewards: what it did, and what it cost."""
    from guerdon.api.judges import JudgeAsReward

    for reward in rewards:
        for source in reward.sources.values() if reward is not None else ():
            if isinstance(source, JudgeAsReward):
                note("; ".join(f"{key}: {fact}" for key, fact in source.metered.facts().items()))
