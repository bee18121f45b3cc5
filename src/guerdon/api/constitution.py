"""Critique and revision under a constitution, comparisons under its principles, and lint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.api.auditing import write_report
from guerdon.config import ConstitutionOptions, ImportOptions, JudgeOptions, make
from guerdon.contracts import Finding, GuerdonError, Report
from guerdon.io import readers, writers
from guerdon.progress import ProgressBar, note

if TYPE_CHECKING:
    from guerdon.feedback.constitution.principles import Constitution
    from guerdon.feedback.constitution.run import Draft
    from guerdon.models.judges.driver import Respondent
    from guerdon.models.judges.prompted import Pair

__all__ = ["draw_drafts", "lint_constitution", "load_constitution", "run_constitution"]

CHAINS, SFT, COMPARISONS, UNVERIFIED = "chains.jsonl", "sft.jsonl", "comparisons.jsonl", "unverified.jsonl"
BY_PRINCIPLE, CHECKS, CALLS, DRAFTS = "by_principle.jsonl", "checks.jsonl", "calls.db", "drafts.jsonl"


def load_constitution(name_or_path: str | Path) -> Constitution:
    """A constitution from a YAML file, or "guerdon", the one that comes with the package."""
    from guerdon.feedback.constitution import principles

    return principles.load_constitution(name_or_path)


def lint_constitution(constitution: Constitution) -> list[Finding]:
    """What is wrong with a constitution."""
    from guerdon.feedback.constitution import principles

    return principles.lint_constitution(constitution)


def run_constitution(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    critic: JudgeOptions,
    judge: JudgeOptions | None = None,
    constitution: str | Path = "guerdon",
    imports: ImportOptions | None = None,
    **options: Any,
) -> Report:
    """Run a constitution over files of prompts with responses; writes a folder and returns the report. Keywords are
    ConstitutionOptions.

    flow="revise": chains.jsonl (every step), sft.jsonl, comparisons.jsonl (verified pairs), unverified.jsonl (the others) and
    checks.jsonl. flow="compare": comparisons.jsonl (the mean over principles), by_principle.jsonl (each principle as an
    annotator) and checks.jsonl (the spread over principles, and what failed). The calls are kept in calls.db: the same call
    again costs nothing and asks only for what failed.
    judge: checks the pairs, or judges them; the critic unless given.
    """
    from guerdon.feedback.constitution.compare import PrincipleJudge
    from guerdon.models.judges.build import build_respondent
    from guerdon.store.calls import open_call_log

    chosen = make(ConstitutionOptions, options)
    text = load_constitution(constitution)
    _refuse_idle_flow(text, chosen)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with open_call_log(folder / CALLS) as log:
        writer = build_respondent(critic, log)
        checker = build_respondent(judge, log) if judge else writer
        by_principle = PrincipleJudge(checker, judge or critic, text, chosen)
        about = {"critic": writer.name, "judge": checker.name}
        imports = imports or ImportOptions()
        if chosen.flow == "compare":
            report = _compare(_pairs(sources, imports), folder, by_principle, text, about)
        else:
            report = _revise(_drafts(sources, imports), folder, writer, by_principle, text, chosen, about)
    write_report(report, folder)
    return report


def draw_drafts(sources: Sequence[str | Path], out: str | Path, policy: Any, **options: Any) -> Path:
    """Draw one response to each prompt into drafts.jsonl of the folder; the same call resumes. Keywords are BestOfNOptions."""
    from guerdon.api.optimization import sample

    target = Path(out) / DRAFTS
    target.parent.mkdir(parents=True, exist_ok=True)
    prompts = [prompt for source in sources for prompt in readers.read_prompts(source)]
    sample(policy, prompts, target, **{"n": 1, **options})
    return target


# ---- The two flows --------------------------------------------------------------------------------------------------------


def _revise(
    drafts: Iterable[Draft],
    folder: Path,
    critic: Respondent,
    judge: Any,
    constitution: Constitution,
    options: ConstitutionOptions,
    about: Mapping[str, str],
) -> Report:
    from guerdon.feedback.constitution import rows
    from guerdon.feedback.constitution.report import RevisionTally, revision_report
    from guerdon.feedback.constitution.run import run_revisions

    tally = RevisionTally()
    source = f"constitution {constitution.id}"
    with ExitStack() as stack:
        renames = stack.enter_context(writers.renamed_together())
        write = {name: stack.enter_context(_line_writer(folder / name, renames)) for name in (CHAINS, SFT, CHECKS)}
        kept, unverified = (
            stack.enter_context(writers.comparison_writer(folder / name, renames)) for name in (COMPARISONS, UNVERIFIED)
        )
        bar = stack.enter_context(ProgressBar(None, "revise", "responses"))
        for chain, pairs in run_revisions(drafts, critic, judge if options.verify else None, constitution, options):
            tally.add_chain(chain)
            write[CHAINS](rows.chain_row(chain))
            for row in rows.sft_rows(chain, options, source):
                write[SFT](row)
            for pair in pairs:
                tally.add_pair(pair)
                (kept if pair.is_verified else unverified)(pair.comparison(critic.name, source))
                write[CHECKS](rows.pair_row(pair))
            bar.advance()
    return revision_report(tally, constitution, about)


def _compare(
    pairs: Iterable[Pair], folder: Path, judge: Any, constitution: Constitution, about: Mapping[str, str]
) -> Report:
    from guerdon.feedback.constitution import rows
    from guerdon.feedback.constitution.report import PrincipleTally, principle_report
    from guerdon.feedback.constitution.run import run_comparisons

    tally = PrincipleTally()
    source, name = f"constitution {constitution.id}", f"{about['judge']}/{constitution.id}"
    with ExitStack() as stack:
        renames = stack.enter_context(writers.renamed_together())
        mean, each = (
            stack.enter_context(writers.comparison_writer(folder / file, renames))
            for file in (COMPARISONS, BY_PRINCIPLE)
        )
        bar = stack.enter_context(ProgressBar(None, "compare", "pairs"))
        details = stack.enter_context(_line_writer(folder / CHECKS, renames))
        for pair, verdict in run_comparisons(pairs, judge):
            tally.add(verdict)
            details(rows.verdict_row(pair, verdict))
            responses = (pair.first, pair.second)
            if (row := rows.mean_comparison(pair.prompt, responses, verdict, name, source)) is not None:
                mean(row)
            for comparison in rows.principle_comparisons(pair.prompt, responses, verdict, about["judge"], source):
                each(comparison)
            bar.advance()
    return principle_report(tally, constitution, about)


def _refuse_idle_flow(constitution: Constitution, options: ConstitutionOptions) -> None:
    """Raise GuerdonError for a flow that no principle can take part in."""
    can = [p.can_compare if options.flow == "compare" else p.can_revise for p in constitution.principles]
    if not any(can):
        needed = "a compare_question" if options.flow == "compare" else "a critique_request and a revision_request"
        raise GuerdonError(
            f"constitution {constitution.id}: a principle must have {needed} for flow {options.flow}, got none that has. "
            "Run guerdon constitution lint."
        )


# ---- Rows ---------------------------------------------------------------------------------------------------------------


def _drafts(sources: Sequence[str | Path], imports: ImportOptions) -> Iterator[Draft]:
    from guerdon.feedback.constitution.run import Draft

    for location, prompt, responses in _conversations(sources, imports):
        for number, response in enumerate(responses):
            yield Draft(location if len(responses) == 1 else f"{location}/{number}", prompt, response)


def _pairs(sources: Sequence[str | Path], imports: ImportOptions) -> Iterator[Pair]:
    from itertools import combinations

    from guerdon.models.judges.prompted import Pair

    is_empty = True
    for location, prompt, responses in _conversations(sources, imports):
        for first, second in combinations(responses, 2):
            is_empty = False
            yield Pair(prompt, first, second, location)
    if is_empty:
        names = ", ".join(map(str, sources))
        raise GuerdonError(
            f"{names}: a row must have two or more responses for flow compare, got none that has. "
            "Draw more with guerdon sample --n 2."
        )


def _conversations(sources: Sequence[str | Path], imports: ImportOptions) -> Iterator[tuple[str, Any, Any]]:
    """(location, prompt, responses) of each row, without its label."""
    from guerdon.data.files import Rejects, scorable_rows
    from guerdon.io.schema import conversation_from_row

    rejects, count = Rejects(), 0
    for location, row in scorable_rows(sources, imports, rejects, note):
        prompt, responses, _ = conversation_from_row(location, row)
        count += 1
        yield location, prompt, responses
    if rejects.count:
        note(f"{', '.join(map(str, sources))}: {rejects.number} left out; the first is {rejects.first_reason}")
    if not count:
        raise GuerdonError(
            rejects.first_reason
            or f"{', '.join(map(str, sources))}: at least one row must be given, got none. Give rows."
        )


def _line_writer(path: Path, renames: Any) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def writer() -> Iterator[Any]:
        with writers.atomic_write(path, "wb", renames) as file:
            yield lambda row: writers.write_all(file, writers.encode_json(row) + b"\n")

    return writer()
