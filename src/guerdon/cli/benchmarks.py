"""guerdon benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guerdon.cli.app import app
from guerdon.cli.judges import JudgeInstead, exit_on_failed_judges
from guerdon.cli.options import (
    AsJson,
    ConfigFile,
    Full,
    Overrides,
    ReportFolder,
    model_and_overrides,
    saved_model_options,
    settings_from,
    with_option_groups,
)
from guerdon.cli.output import exit_on_errors, print_page_path, print_report, show

if TYPE_CHECKING:
    from guerdon.contracts import Report


@app.command()
@with_option_groups
def benchmark(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="Directory of a saved reward model, or a hub name; none with --scores.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="The benchmark's published file, or its hub name; repeatable.", show_default=False),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="The benchmark, such as rewardbench2; auto detects it from the rows.")
    ] = "auto",
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores",
            help="File of scores from elsewhere, matched by id, instead of MODEL; repeatable.",
            show_default=False,
        ),
    ] = None,
    *,
    instead: JudgeInstead,
    out: ReportFolder = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    json: AsJson = False,
    full: Full = False,
) -> None:
    """Score a reward model on a public benchmark.

    RewardBench 1 and 2, RM-Bench, JudgeBench, RMB, RewardMATH, Plan-RewardBench, IFBench, LLMBar, EvalBiasBench, HHH, XSTest,
    pairs, and one against several, each by its own rule, with intervals and what preferring the longer answer would get; and
    ProcessBench and PRMBench, which judge the steps of solutions. Exit 1 if a score depends on the rest of its batch.

    Example: guerdon benchmark my-model --data pairs.jsonl --out runs/bench
    """
    from dataclasses import replace

    from guerdon.api import auditing, benchmarks, saved_models
    from guerdon.contracts import GuerdonError

    model, overrides = model_and_overrides(model, overrides)
    settings = settings_from(
        config,
        None,
        overrides,
        reads=["model", "judge", "benchmark"],
        needs={"model": ("MODEL", model), "judge": ("--judge", instead.judge)},
    )
    if not data or sum(map(bool, (model, instead.judge, scores))) != 1:
        sources = (("MODEL", model), ("--judge", instead.judge), ("--data", data), ("--scores", scores))
        given = [name for name, value in sources if value]
        raise GuerdonError(
            f"benchmark: --data and one of MODEL and --scores must be given, got {' and '.join(given) or 'none'}. "
            "Give MODEL --data FILE, --judge FILE --data FILE, or --data FILE --scores FILE."
        )
    names = auditing.name_of_model(model) if model else ", ".join(path.name for path in scores or ())
    with instead.opened(settings, overrides) as metered:
        loaded: Any = metered.judge if metered else None
        loaded = loaded or (saved_models.load(model, **saved_model_options(settings, overrides)) if model else None)
        report = benchmarks.benchmark(loaded, data, name, scores, **settings.benchmark.model_dump())
        subsets = report.sections
        if metered:
            report, names = metered.described(report), metered.name
    report = replace(report, title=f"{names} on {report.title}")
    if out:
        auditing.write_report(report, out)
    if json:
        print_report(report, json, is_full=full)
    else:
        print_report(replace(report, sections=()), json, is_full=full)
        print_subsets(replace(report, sections=subsets), None if full else SUBSETS)
        if out:
            print_page_path(out)
    exit_on_errors(report)
    exit_on_failed_judges([metered])


ANCHORS = {
    "score_longer": "longer wins", "score_constant": "a constant", "score_all_right": "all right",
    "score_all_wrong": "all wrong",
}  # fmt: skip
SUBSETS = 16  # on one screen, the lowest scores first


def print_subsets(report: Report, most: int | None = None) -> None:
    """Print one line per subset: its score, and those of the two anchors.

    most: of more subsets than this, only those with the lowest scores are printed.
    """
    from rich.table import Table
    from rich.text import Text

    from guerdon.reporting.words import interval, number

    table = Table(box=None, padding=(0, 2, 0, 0))
    anchors = {key: label for key, label in ANCHORS.items() if report.sections and key in report.sections[0].estimates}
    for heading in ("subset", "score", "95 % interval", *anchors.values(), "n"):
        table.add_column(heading, justify="left" if heading in ("subset", "95 % interval") else "right")
    is_cut = most is not None and len(report.sections) > most
    sections = sorted(report.sections, key=lambda s: s.estimates["score"].value)[:most] if is_cut else report.sections
    for section in sections:
        score, *others = (section.estimates[key] for key in ("score", *anchors))
        cells = (number(score.value, "share"), interval(score, "share"), *(number(a.value, "share") for a in others))
        table.add_row(*map(Text, (section.title, *cells, str(score.n))))
    if report.sections:
        show("", table)
    if is_cut:
        show(f"The {most} subsets with the lowest scores, of {len(report.sections)}. Add --full to print all.")
