"""The command `guerdon loop`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FILES, Destination
from guerdon.cli.options import AsJson, ConfigFile, Full, Overrides, PolicyName, given_options, settings_from
from guerdon.cli.output import note, print_report
from guerdon.errors import GuerdonError

STAGES = ["policy", "model", "split", "train", "calibrate", "audit", "best_of_n", "optimize", "loop"]
LOOP_FOLDER = Destination("folder", ("config.yaml", "state.json", "rounds/", *REPORT_FILES), resumes=True)
WAITS = 3  # exit code where people must label before the loop can go on


@app.command()
def loop(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the loop. The same command resumes and goes on."), LOOP_FOLDER
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="Rows with a prompt or messages; the same as loop.prompts=.", show_default=False
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge", help="judge.yaml of the AI judge that labels; the same as loop.judge=.", show_default=False
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", help="Store in whose project people label; the same as loop.store=.", show_default=False
        ),
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            "--gold",
            help="What policies are compared by: a reward model, FILE.py:FUNCTION or judge.yaml; the same as loop.gold=.",
            show_default=False,
        ),
    ] = None,
    policy: PolicyName = None,
    pick_checkpoint: Annotated[
        bool,
        typer.Option(
            "--pick-checkpoint",
            help="Run nothing: compare the reward models of all rounds, and those of --reward, on labeled replies of the newest "
            "policy.",
        ),
    ] = False,
    reward: Annotated[
        list[Path] | None,
        typer.Option(
            "--reward",
            help="Another reward model for --pick-checkpoint, by its directory; repeatable.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Label, train and optimize in rounds, and see what pays.

    Each round labels replies of the newest policy (by a judge, people, or both), trains a reward model on all labels, audits it
    and optimizes the policy against it. Where people label, the command ends while it waits for them, with exit code 3; the same
    command goes on. The report says over rounds how right the reward model is on the policy's own replies, what gold and KL came
    to, and whether another round pays.

    Example: guerdon loop --prompts prompts.jsonl --judge judge.yaml --gold gold.py:score --out runs/loop loop.rounds=3
    """
    from guerdon.api import loop as api

    if pick_checkpoint:
        _refuse_idle(
            {
                "--prompts": prompts, "--judge": judge, "--store": store, "--gold": gold, "--policy": policy, "--config": config,
                "options": overrides,
            }
        )  # fmt: skip
        print_report(api.pick_checkpoint(out, reward or ()), json, is_full=full)
        return
    if reward:
        raise GuerdonError("--reward must come with --pick-checkpoint, got it without. Leave it out.")
    flags = given_options(prompts=prompts and str(prompts), judge=judge and str(judge), store=store, gold=gold)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=STAGES,
        runs=["policy", "optimize", "loop"],
        loop=flags,
        policy=given_options(base=policy),
    )
    result = api.loop(settings, out, log=note)
    print_report(result.report, json, is_full=full)
    if result.waiting is not None:
        note(result.waiting)
        raise typer.Exit(WAITS)


def _refuse_idle(options: Mapping[str, object]) -> None:
    """Raise GuerdonError for an option that --pick-checkpoint would ignore."""
    for name, value in options.items():
        if value:
            raise GuerdonError(f"--pick-checkpoint must come without {name}, got both. Leave {name} out.")
