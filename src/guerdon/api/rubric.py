"""Rubrics: judge by one, audit it against people, draft one from labeled comparisons, and lint one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.auditing import write_report
from guerdon.config import DraftOptions, JudgeOptions, make
from guerdon.contracts import Comparison, Report
from guerdon.io import writers
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.models.judges.calls import CallLog
    from guerdon.models.judges.driver import Respondent
    from guerdon.models.judges.rubric.model import RubricModel
    from guerdon.models.judges.rubric.rubrics import Rubric


def load_rubric(path: str | Path) -> Rubric:
    """A rubric from YAML, or from JSONL rows of a prompt and its criteria. Errors name the place and the field."""
    from guerdon.models.judges.rubric.rubrics import load_rubric

    return load_rubric(path)


def rubric_model(rubric: str | Path | Rubric, judge: JudgeOptions, log: CallLog | None = None) -> RubricModel:
    """A reward model, and by subtraction a judge, that judges each criterion of a rubric by itself.

    judge: a model behind a server or on this machine. Its calls go to the log, in memory by default.
    """
    from guerdon.models.judges.build import build_respondent
    from guerdon.models.judges.calls import MemoryCallLog
    from guerdon.models.judges.rubric.model import RubricModel

    loaded = load_rubric(rubric) if isinstance(rubric, str | Path) else rubric
    return RubricModel(build_respondent(judge, MemoryCallLog() if log is None else log), loaded, judge)


def audit_rubric(
    rubric: str | Path | Rubric,
    judge: JudgeOptions,
    comparisons: Sequence[Comparison],
    *,
    out: str | Path | None = None,
    again: bool = True,
    respondent: Respondent | None = None,
) -> Report:
    """Measure each criterion against people: agreement, AUC, flips, correlations, and who decides.

    again: ask every question a second time in other words and with another seed, which doubles the calls. out: a folder for
    the report; calls are kept there, so that the same call again asks only what was not answered. respondent: who answers, in
    place of the judge's own model.
    """
    from guerdon.feedback.rubric.audit import rubric_report
    from guerdon.feedback.rubric.table import judge_comparisons
    from guerdon.models.judges.rubric.model import RubricModel

    loaded = load_rubric(rubric) if isinstance(rubric, str | Path) else rubric
    with _respondent(judge, None if out is None else Path(out) / "calls.db", respondent) as model_of:
        model = RubricModel(model_of, loaded, judge)
        with ProgressBar(None, "judge", "responses") as bar:
            table = judge_comparisons(model, comparisons, bar.update)
        second = None
        if again:
            reseeded = judge.model_copy(update={"seed": (judge.seed + 1) % 2**31})
            other = RubricModel(model_of, loaded, reseeded, wording="reworded")
            with ProgressBar(None, "judge again", "responses") as bar:
                second = judge_comparisons(other, comparisons, bar.update).responses
        report = rubric_report(loaded, table, model.tally, second, {"judge": model_of.name}, seed=judge.seed)
    if out is not None:
        write_report(report, out)
    return report


def draft_rubric(
    comparisons: Sequence[Comparison],
    judge: JudgeOptions,
    *,
    out: str | Path | None = None,
    respondent: Respondent | None = None,
    **options: Any,
) -> tuple[Rubric | None, Report]:
    """A rubric of criteria that predict held-out labels, None where there are none, and the report.

    out: a YAML file for the rubric; its report goes next to it, in NAME.report, and the calls to NAME.calls.db. Keywords are
    DraftOptions.
    """
    from guerdon.feedback.rubric.draft import draft_rubric

    chosen, path = make(DraftOptions, options), None if out is None else Path(out)
    log = None if path is None else path.with_name(f"{path.stem}.calls.db")
    with _respondent(judge, log, respondent) as model_of, ProgressBar(None, "judge", "responses") as bar:
        name = "draft" if path is None else path.stem
        draft = draft_rubric(comparisons, model_of, judge, chosen, name=name, progress=bar.update)
        report = draft.report({"judge": model_of.name})
    if path is not None:
        if draft.rubric is not None:
            write_rubric(path, draft.rubric)
        write_report(report, path.with_name(f"{path.stem}.report"))
    return draft.rubric, report


def lint_rubric(rubric: str | Path | Rubric) -> Report:
    """What is wrong with a rubric: duplicates, criteria that cannot be checked, and weights that do nothing."""
    from guerdon.feedback.rubric.lint import lint_rubric

    loaded = load_rubric(rubric) if isinstance(rubric, str | Path) else rubric
    findings = lint_rubric(loaded)
    about = {
        "rubric": f"{loaded.id} {loaded.version}",
        "hash": loaded.fingerprint,
        "criteria": str(len(loaded.criteria)),
        "prompts with their own": f"{len(loaded.prompts):,}",
    }
    return Report(
        f"Rubric {loaded.id}",
        about=about,
        findings=tuple(findings),
        summary="The rubric was read" if findings else "Nothing to correct",
    )


def write_rubric(path: str | Path, rubric: Rubric) -> None:
    """Write a rubric as YAML that load_rubric reads; what is at its default is left out."""
    import yaml

    values = rubric.model_dump(mode="json", exclude_defaults=True)
    head = {"id": rubric.id, "version": rubric.version, "combine": rubric.combine, "scale": rubric.nats}
    writers.write_text(path, yaml.safe_dump({**head, **values}, sort_keys=False, allow_unicode=True, width=120))


@contextmanager
def _respondent(judge: JudgeOptions, log: Path | None, given: Respondent | None) -> Iterator[Respondent]:
    """The judge's model, with its calls in a file, or in memory."""
    from guerdon.models.judges.build import build_respondent
    from guerdon.models.judges.calls import MemoryCallLog
    from guerdon.store.calls import open_call_log

    if given is not None:
        yield given
    elif log is None:
        yield build_respondent(judge, MemoryCallLog())
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with open_call_log(str(log)) as opened:
            yield build_respondent(judge, opened)
