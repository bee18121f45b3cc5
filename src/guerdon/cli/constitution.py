"""guerdon constitution run and lint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FILES, Destination
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    RowOptions,
    data_argument,
    given_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import UNRESOLVED, print_report

OUTPUTS = Destination(
    "folder",
    (
        "chains.jsonl", "sft.jsonl", "comparisons.jsonl", "unverified.jsonl", "checks.jsonl", "by_principle.jsonl",
        "calls.db", "drafts.jsonl", *REPORT_FILES,
    ),
    resumes=True,
)  # fmt: skip

ConstitutionFile = Annotated[
    str,
    typer.Option("--constitution", help="A YAML file of principles, or guerdon, the one that comes with the package."),
]


@app.command("constitution run")
@with_option_groups
def constitution_run(
    data: Annotated[
        list[str],
        data_argument("Prompts with responses, or prompts alone with --policy,", "constitution.revisions=4"),
    ],
    rows: RowOptions,
    critic: Annotated[
        Path, typer.Option("--critic", help="The model that criticizes and rewrites: a file like judge.yaml.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder. The same command resumes a run that was stopped."), OUTPUTS
    ],
    judge: Annotated[
        Path | None,
        typer.Option("--judge", help="The judge of pairs, a judge.yaml; the critic unless given.", show_default=False),
    ] = None,
    constitution: ConstitutionFile = "guerdon",
    flow: Annotated[
        str | None,
        typer.Option("--flow", help="revise or compare; the same as constitution.flow=.", show_default=False),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", help="Policy that writes the first responses, as in sample.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Revise or compare responses under principles.

    revise: each response is criticized and rewritten step by step; supervised rows and pairs come of it, and each pair is judged
    before it counts. compare: each pair is judged under several principles, in both orders. Every call is kept: the same command
    asks again only for what failed. Exit code 3 says that more failed than the critic's or judge's unresolved_max.

    Example: guerdon constitution run replies.jsonl --critic critic.yaml --out revised
    """
    from guerdon.api import constitution as api
    from guerdon.api.optimization import load_policy
    from guerdon.contracts import GuerdonError
    from guerdon.io.judge_file import read_judge

    files, overrides = split_words(data)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "constitution", "policy", "best_of_n"],
        needs={"policy": ("--policy", policy), "best_of_n": ("--policy", policy)},
        runs=["constitution"],
        imports=rows.given(),
        constitution=given_options(flow=flow),
        policy=given_options(base=policy),
    )
    options = settings.constitution.model_dump()
    critics = read_judge(critic)
    judges = read_judge(judge) if judge else None
    if policy is not None:
        if settings.constitution.flow == "compare":
            raise GuerdonError(
                "--policy must be left out with constitution.flow=compare, which judges given responses."
            )
        model = load_policy(**settings.policy.model_dump(exclude_unset=True))
        drawn = settings.best_of_n.model_dump(include={"max_tokens", "temperature", "seed"})
        files = [str(api.draw_drafts(files, out, model, **drawn))]
    report = api.run_constitution(
        files, out, critic=critics, judge=judges, constitution=constitution, imports=settings.imports, **options
    )
    print_report(report, json, out)
    failed = max(report.estimates[key].value for key in ("failed", "unresolved") if key in report.estimates)
    if failed > (judges or critics).unresolved_max:
        raise typer.Exit(UNRESOLVED)


@app.command("constitution lint")
def constitution_lint(
    constitution: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file of principles.")] = "guerdon",
    json: AsJson = False,
) -> None:
    """Say what is wrong with a constitution.

    Principles that can do nothing, duplicates, positions, a missing license. Exit code 1 if there are errors.

    Example: guerdon constitution lint principles.yaml
    """
    from guerdon.api import constitution as api
    from guerdon.contracts import Report

    text = api.load_constitution(constitution)
    findings = api.lint_constitution(text)
    report = Report(
        f"Constitution {text.id}",
        about={"principles": str(len(text.principles)), "hash": text.fingerprint},
        findings=tuple(findings),
        summary="The constitution was read" if findings else "Nothing to correct",
    )
    print_report(report, json)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)
