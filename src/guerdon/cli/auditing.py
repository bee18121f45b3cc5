"""guerdon audit and compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guerdon.cli.app import app
from guerdon.cli.destinations import REPORT_FILES, Destination
from guerdon.cli.judges import CallStore, JudgeInstead, exit_on_failed_judges, judge_changes
from guerdon.cli.options import (
    ANY_FORMAT,
    AsJson,
    ConfigFile,
    FailOn,
    Full,
    ModelOrScores,
    Overrides,
    ReportFolder,
    RowOptions,
    Scored,
    model_and_overrides,
    saved_model_options,
    settings_from,
    split_words,
    with_option_groups,
)
from guerdon.cli.output import exit_on_errors, note, print_report

if TYPE_CHECKING:
    from guerdon.api.judges import MeteredJudge
    from guerdon.auditing.fail_rules import FailRule
    from guerdon.config import Config
    from guerdon.contracts import Comparison, Report
    from guerdon.models.judges.calls import CallLog


@app.command()
@with_option_groups
def audit(
    model: ModelOrScores = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help=f"Comparisons {ANY_FORMAT}; repeatable.", show_default=False),
    ] = None,
    *,
    rows: RowOptions,
    instead: JudgeInstead,
    scores: Scored = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder for report.html, report.md and report.json; the same command resumes a killed run.",
            show_default=False,
        ),
        Destination("folder", (*REPORT_FILES, ".guerdon-parts/"), resumes=True),
    ] = None,
    pushed: Annotated[
        str | None,
        typer.Option(
            "--pushed",
            help="Run folder of `optimize`, or a best-of-n file: shows how hard the model may be optimized against.",
            show_default=False,
        ),
    ] = None,
    fail_on: FailOn = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Say how far a reward model can be trusted.

    The gate's decision with the rules behind it, what the model gets wrong and what that costs, and every number with its
    interval. With --out, a saved model also gets its model card. Exit 1 if a score depends on the rest of its batch, because
    then no number is meaningful, and if a rule of --fail-on holds; exit 3 if a judge has no verdict on too many pairs.

    Example: guerdon audit runs/mine/model --data audit.jsonl --out runs/mine
    """
    from guerdon.api import auditing
    from guerdon.auditing.fail_rules import parse_rules
    from guerdon.auditing.known_estimates import names_of_audit
    from guerdon.contracts import GuerdonError

    model, overrides = model_and_overrides(model, overrides)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["imports", "model", "judge", "audit"],
        needs={"model": ("MODEL", model), "judge": ("--judge", instead.judge)},
        imports=rows.given(),
    )
    rules = parse_rules(fail_on or (), names_of_audit(is_pushed=pushed is not None), has_gate=True)
    if sum(source is not None for source in (model, instead.judge, scores)) != 1 or (scores is None and not data):
        sources = (("MODEL", model), ("--judge", instead.judge), ("--data", data), ("--from", scores))
        given = [name for name, value in sources if value]
        raise GuerdonError(
            f"audit: MODEL with --data FILE, or --from FILE, must be given, got {' and '.join(given) or 'neither'}. "
            "Give MODEL or --judge FILE with --data FILE, or --from FILE of scores, with --data FILE where it holds no texts."
        )
    with instead.opened(settings, overrides) as metered:
        audited, comparisons = _audited(model, metered, data, scores, settings, overrides)
        report = auditing.audit(audited, comparisons, out=out, pushed=pushed, **settings.audit.model_dump())
        report = metered.described(report) if metered else report
    audited_name = metered.name if metered else auditing.name_of_model(str(model))
    what = f"Scores in {scores.name}" if scores else f"{audited_name} on {_file_names(data)}"
    report = replace(report, title=f"{what}: how far to trust them" if scores else f"{what}: how far to trust it")
    if out:
        auditing.write_report(report, out)
        if model is not None and Path(model).is_dir():
            write_card(report, Path(model))
    print_report(report, json, out, is_full=full)
    exit_on_errors(report)
    exit_on_matching(report, rules)
    exit_on_failed_judges([metered])


def _audited(
    model: str | None,
    judge: MeteredJudge | None,
    data: list[str] | None,
    scores: Path | None,
    settings: Config,
    overrides: list[str] | None,
) -> tuple[Any, list[Comparison]]:
    """What is audited and on which comparisons, from a model or a judge with data or from a file of scores."""
    from guerdon.api import auditing, saved_models
    from guerdon.api.data import stream_comparisons

    if scores is not None:
        comparisons, recorded = auditing.read_scores(scores, data or (), **settings.imports.model_dump())
        return recorded, comparisons
    loaded: Any = judge.judge if judge else saved_models.load(str(model), **saved_model_options(settings, overrides))
    return loaded, list(stream_comparisons(data or [], settings.imports))


@app.command()
@with_option_groups
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Two or more: directories of reward models, hub names, judge.yaml or files of scores; then any options such as "
            "audit.draws=500.",
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Held-out comparisons; a score file may bring its own.", show_default=False),
    ] = None,
    *,
    rows: RowOptions,
    store: CallStore = None,
    out: ReportFolder = None,
    fail_on: FailOn = None,
    config: ConfigFile = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Say which of several reward models are better, and where.

    On the same comparisons, pair by pair: accuracy, log loss, calibration, agreement, and the texts on which they
    disagree most. With more than two, p-values are corrected for the number of pairs of models. Takes the options of the
    audit.

    Example: guerdon compare my-model runs/mine/model --data audit.jsonl --out runs/comparison
    """
    from guerdon.api import auditing
    from guerdon.api.judges import call_log
    from guerdon.auditing.fail_rules import parse_rules
    from guerdon.auditing.known_estimates import names_of_comparison
    from guerdon.contracts import GuerdonError

    names, overrides = split_words(names)
    settings = settings_from(
        config, None, overrides, reads=["imports", "model", "judge", "audit"], imports=rows.given()
    )
    if len(names) < 2:
        raise GuerdonError(f"compare: MODEL must be two or more, got {len(names)}. Name the model to compare with.")
    rules = parse_rules(fail_on or (), names_of_comparison(len(names)), has_gate=False)
    with call_log(store) as log:
        models, comparisons, judges = _compared(names, data, settings, overrides, log)
        options = settings.audit.model_dump()
        if len(models) == 2:
            report = auditing.compare(models[0], models[1], comparisons, names=(names[0], names[1]), **options)
        else:
            report = auditing.compare_many(models, comparisons, names=names, **options)
    report = replace(report, title=f"{report.title}, on {_file_names(data)}" if data else report.title)
    for judge in judges:
        facts = {f"{judge.name}: {key}": fact for key, fact in judge.facts().items()}
        report = replace(report, about={**report.about, **facts})
    if out:
        auditing.write_report(report, out)
    print_report(report, json, out, is_full=full)
    exit_on_matching(report, rules)
    exit_on_failed_judges(judges)


def _compared(
    names: list[str], data: list[str] | None, settings: Config, overrides: list[str], log: CallLog
) -> tuple[list[Any], list[Comparison], list[MeteredJudge]]:
    """The models of these names, the comparisons to compare them on, and which of the models are judges."""
    from guerdon.api import auditing, saved_models
    from guerdon.api.data import stream_comparisons
    from guerdon.api.judges import MeteredJudge, judge_options
    from guerdon.contracts import GuerdonError

    models: list[Any] = []
    judges: list[MeteredJudge] = []
    comparisons: list[Comparison] = []
    for name in names:
        if name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".json", ".csv", ".tsv", ".parquet")):
            scored, model = auditing.read_scores(name, data or (), **settings.imports.model_dump())
            comparisons = comparisons or scored
        elif name.endswith((".yaml", ".yml")):
            judges.append(MeteredJudge(judge_options(name, **judge_changes(settings, overrides)), log))
            model = judges[-1].judge
        else:
            model = saved_models.load(name, **saved_model_options(settings, overrides))
        models.append(model)
    if data and not comparisons:
        comparisons = list(stream_comparisons(data, settings.imports))
    if not comparisons:
        raise GuerdonError(
            "compare: comparisons must be given, got none. Add --data FILE, or name a file of scored comparisons."
        )
    return models, comparisons, judges


def _file_names(data: list[str] | None) -> str:
    return ", ".join(Path(name).name for name in data or [])


def exit_on_matching(report: Report, rules: list[FailRule]) -> None:
    """Exit 1 if a rule of --fail-on holds, with one line on stderr per rule."""
    from guerdon.auditing.fail_rules import matching_rules

    if lines := matching_rules(report, rules):
        note("\n".join(f"failed: {line}" for line in lines))
        raise typer.Exit(1)


def write_card(report: Report, folder: Path) -> None:
    """Write the audit into the model's README, unless a person wrote that README or it cannot be written."""
    from guerdon.api import auditing
    from guerdon.contracts import GuerdonError

    try:
        if not auditing.write_card(report, folder):
            note(f"{folder / 'README.md'}: left as it is, since it was not written by Guerdon")
    except GuerdonError as error:
        note(f"no model card: {error}")
