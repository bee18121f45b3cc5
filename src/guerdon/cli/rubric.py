"""guerdon rubric audit, draft and lint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guerdon.cli import stopping
from guerdon.cli.app import app
from guerdon.cli.destinations import Destination
from guerdon.cli.judges import read_judge_options
from guerdon.cli.options import AsJson, ConfigFile, Data, Full, Overrides, RowOptions, settings_from, with_option_groups
from guerdon.cli.output import exit_on_errors, note, print_report

if TYPE_CHECKING:
    from guerdon.config import Config, JudgeOptions

RUBRIC = Destination("file", ("NAME.report", "NAME.calls.db"), resumes=True)
RUBRIC_FOLDER = Destination("folder", ("report.html", "report.md", "report.json", "calls.db"), resumes=True)

RubricFile = Annotated[
    Path, typer.Argument(metavar="RUBRIC", help="A rubric in YAML, or JSONL of prompts with their criteria.")
]
JudgeFile = Annotated[
    Path, typer.Option("--judge", help="judge.yaml of a model behind a server or on this machine; see docs/rubrics.md.")
]


@app.command("rubric audit")
@with_option_groups
def rubric_audit(
    rubric: RubricFile,
    overrides: Overrides = None,
    *,
    data: Data,
    rows: RowOptions,
    judge_file: JudgeFile,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for the report and the calls; asked twice, it asks only what failed.",
            show_default=False,
        ),
        RUBRIC_FOLDER,
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Ask once, not also in other words: half the calls.")] = False,
    config: ConfigFile = None,
    full: Full = False,
    json: AsJson = False,
) -> None:
    """Measure each criterion of a rubric against people.

    Agreement and AUC, answers that flip when the question is reworded, criteria that say the same, and the ones that decide;
    every number has its interval by prompt.

    Example: guerdon rubric audit rubric.yaml --judge judge.yaml --data human.jsonl --out audit
    """
    from guerdon.api.data import stream_comparisons
    from guerdon.api.rubric import audit_rubric, load_rubric

    stopping.set_resumable(out is not None)
    settings = settings_from(config, None, overrides, reads=("imports", "judge"), imports=rows.given())
    judge = _judge(judge_file, settings, overrides)
    loaded = load_rubric(rubric)
    comparisons = list(stream_comparisons(data, settings.imports))
    report = audit_rubric(loaded, judge, comparisons, out=out, again=not once)
    print_report(report, json, out, is_full=full)


@app.command("rubric draft")
@with_option_groups
def rubric_draft(
    overrides: Overrides = None,
    *,
    data: Data,
    rows: RowOptions,
    judge_file: JudgeFile,
    out: Annotated[Path, typer.Option("--out", help="YAML file for the rubric."), RUBRIC],
    config: ConfigFile = None,
    full: Full = False,
    json: AsJson = False,
) -> None:
    """Draft a rubric from labeled comparisons.

    The judge's model sees some of them and proposes criteria. Each is judged on others, kept if it predicts their labels better
    than chance, and weighted by a logistic regression; a third part shows how well the rubric does. Exit 1 if no criterion
    was kept.

    Example: guerdon rubric draft --data train.jsonl --judge judge.yaml --out rubric.yaml
    """
    from guerdon.api.data import stream_comparisons
    from guerdon.api.rubric import draft_rubric

    stopping.set_resumable(True)
    settings = settings_from(config, None, overrides, reads=("imports", "judge", "draft"), imports=rows.given())
    judge = _judge(judge_file, settings, overrides)
    comparisons = list(stream_comparisons(data, settings.imports))
    drafted, report = draft_rubric(comparisons, judge, out=out, **settings.draft.model_dump())
    print_report(report, json, out.with_name(f"{out.stem}.report"), is_full=full)
    if drafted is not None and not json:
        note(f"rubric in {out}")
    exit_on_errors(report)


@app.command("rubric lint")
def rubric_lint(rubric: RubricFile, json: AsJson = False) -> None:
    """Check a rubric before anyone is asked.

    Duplicates, criteria that compare responses or cannot be checked, several criteria in one, and weights that do nothing.
    Exit 1 on errors.

    Example: guerdon rubric lint rubric.yaml
    """
    from guerdon.api.rubric import lint_rubric

    report = lint_rubric(rubric)
    print_report(report, json)
    exit_on_errors(report)


def _judge(path: Path, settings: Config, overrides: list[str] | None) -> JudgeOptions:
    """The judge of the file, without a rubric of its own: the command names the rubric."""
    options = read_judge_options(path, settings, overrides)
    return options.model_copy(update={"rubric": None})
