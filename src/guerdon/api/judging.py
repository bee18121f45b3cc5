"""AI judges label comparisons: files or stores in, labels, verdicts and a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guerdon.config import ImportOptions, JudgeOptions
from guerdon.contracts import GuerdonError, Report
from guerdon.progress import ProgressBar, note

if TYPE_CHECKING:
    from guerdon.data.files import Rejects
    from guerdon.feedback.judging import ComparesPairs, Judged, Unjudged
    from guerdon.feedback.spending import CostEstimate
    from guerdon.store.database import Database

STORED_AT_ONCE = 256  # verdicts in one transaction of a store
KINDS_OF_ANNOTATORS = {"reward_model": "reward_model", "implicit": "reward_model", "python": "rule"}


class Judging(NamedTuple):
    """What came of a run. unresolved_share: of pairs without a verdict, which have no label."""

    report: Report
    unresolved_share: float


def judge_files(
    sources: Sequence[str | Path],
    judge: JudgeOptions,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    imports: ImportOptions | None = None,
    hard: bool = False,
    card: str | Path | None = None,
    confirm: Callable[[CostEstimate], None] = lambda estimate: None,
) -> Judging:
    """Label the pairs of files or stores, labeled or not. The same call again asks only what was not answered.

    Labels go to `out` (with what each call said beside it, in NAME.verdicts.jsonl, and pairs without a verdict in
    NAME.failures.jsonl), to a store, or both. Calls are kept in the store, or else in NAME.calls.db. hard: write preferred
    responses, without pairs whose two orders disagree. card: a judge card, whose map turns the judge's probabilities into
    people's. confirm: called with an estimate before a judge that costs is asked;
    it may raise.
    """
    from guerdon.api.judge_cards import (
        CARD_TITLE,
        latest_card,
        map_id,
        mapped,
        read_card_report,
        read_judge_map,
        require_card_of,
    )  # fmt: skip
    from guerdon.feedback.judging import JudgingTally, judge_pairs, judging_report
    from guerdon.feedback.spending import costs, estimate_cost
    from guerdon.io.price_table import priced
    from guerdon.models.judges.build import build_judge
    from guerdon.models.judges.metering import CountedLog
    from guerdon.store.calls import open_call_log

    if out is None and store is None:
        raise GuerdonError(
            "a run of a judge must have somewhere to go, got neither out nor store. Give --out or --store."
        )
    judge = priced(judge)
    rows = UnjudgedRows(sources, imports or ImportOptions())
    judge_map = read_judge_map(card) if card is not None else None
    estimate = estimate_cost(judge, rows)
    if costs(judge):
        confirm(estimate)
    tally = JudgingTally()
    with ExitStack() as stack:
        place = store if store is not None else calls_path(out or "")
        if out is not None:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context(open_call_log(place, create=store is None))
        counted = CountedLog(log)
        model: ComparesPairs = build_judge(judge, counted)
        judged: Iterable[Judged] = judge_pairs(model, rows, tally)
        params = {}
        if judge_map is not None:
            require_card_of(model.fingerprint, judge_map.judge, card or "")
            judged, params = mapped(judged, judge_map), {"card": map_id(judge_map)}
        if store is not None:
            judged = _stored(judged, log.database, stored_judge(judge, model, params))
        if out is not None:
            judged = _written(judged, Path(out), model, hard)
        bar = stack.enter_context(ProgressBar(estimate.pairs, "judge", "pairs"))
        for each in judged:
            bar.advance(1, failed=tally.unresolved, **counted.spent(judge.currency))
            del each
        shown = read_card_report(card) if card is not None else latest_card(log.database, model.fingerprint)
        about = {
            "judge": model.name,
            "fingerprint": model.fingerprint,
            **counted.facts(judge.currency, is_priced=costs(judge)),
        }
    if rows.rejects.count:
        note(
            f"{', '.join(map(str, sources))}: {rows.rejects.number} left out; the first is {rows.rejects.first_reason}"
        )
    report = judging_report(tally, {**about, **rows.facts()}, judge.unresolved_max)
    sections = (replace(shown, title=CARD_TITLE),) if shown else ()
    return Judging(replace(report, sections=sections), tally.unresolved_share)


def calls_path(out: str | Path) -> Path:
    """Where calls are kept without a store: next to the labels and named after them."""
    path = Path(out)
    return path.with_name(f"{path.name.partition('.')[0]}.calls.db")


def offline(judge: JudgeOptions) -> JudgeOptions:
    """The judge without its server: it reads what is kept, and asks nothing."""
    if judge.kind not in ("endpoint", "jury"):
        raise GuerdonError(
            f"--offline must come with a judge behind a server, got kind {judge.kind}, which needs none. Leave it out."
        )
    of_servers = ("max_calls", "max_cost", "max_total_tokens", "executor", "folder", "workers", "poll_seconds")
    members = [{name: value for name, value in member.items() if name not in of_servers} for member in judge.judges]
    here = {name: getattr(JudgeOptions(), name) for name in ("executor", "folder", "workers", "poll_seconds")}
    return judge.model_copy(update={"max_calls": 0, "judges": members, **here})


def judge_template(mode: str) -> str:
    """The shipped template of a mode, as text to copy and edit."""
    from importlib.resources import files

    from guerdon.models.judges.prompts import SHIPPED

    names = {"pair_samples": "pair_with_ties", "pair_reasons": "pair_with_reasons"}
    name = names.get(mode, mode)
    if name not in SHIPPED:
        known = ", ".join(("pair", "pair_samples", "pair_reasons", "score", "ranking", "criterion"))
        raise GuerdonError(f"MODE must be one of {known}, got {mode!r}. Choose one of these.")
    return files("guerdon.models.judges.templates").joinpath(f"{name}.txt").read_text("utf-8")


class UnjudgedRows:
    """The pairs of files or stores, read anew each time they are iterated, in constant memory. rejects: of the first time."""

    def __init__(self, sources: Sequence[str | Path], imports: ImportOptions) -> None:
        from guerdon.data.files import Rejects

        self.sources, self.imports, self.rejects = sources, imports, Rejects()
        self._is_first = True

    def __iter__(self) -> Iterator[Unjudged]:
        """Each row with two responses or more; others are counted. Of a store, every item, judged or not."""
        from guerdon.data.files import Rejects, require_usable
        from guerdon.store.location import is_store

        is_first, self._is_first = self._is_first, False
        rejects = self.rejects if is_first else Rejects()
        say = note if is_first else lambda line: None
        files = [source for source in self.sources if not is_store(source)]
        for source in self.sources:
            if is_store(source):
                yield from _items(source)
        if files:
            yield from require_usable(_rows(files, self.imports, rejects, say), rejects)

    def facts(self) -> dict[str, str]:
        """How many rows could not be used, for a report."""
        return {"rows left out": f"{self.rejects.count:,}"} if self.rejects.count else {}


def _rows(
    files: Sequence[str | Path], imports: ImportOptions, rejects: Rejects, say: Callable[[str], None]
) -> Iterator[Unjudged]:
    from guerdon.data.files import scorable_rows
    from guerdon.feedback.judging import Unjudged
    from guerdon.io.schema import Rejected, conversation_from_row

    for location, row in scorable_rows(files, imports, rejects, say):
        prompt, responses, _ = conversation_from_row(location, row)
        if len(responses) < 2:
            rejects.add(Rejected(location, "responses must be two or more, got one. Judges compare.", row))
            continue
        names = {name: row[name] for name in ("id", "group", "source") if isinstance(row.get(name), str)}
        weight = row.get("weight")
        yield Unjudged(prompt, tuple(responses), **names, weight=weight if isinstance(weight, float) else 1.0)


def _items(source: str | Path) -> Iterator[Unjudged]:
    from guerdon.feedback.judging import Unjudged
    from guerdon.store.database import open_database
    from guerdon.store.location import locate
    from guerdon.store.reader import read_items

    location = locate(source)
    with open_database(location) as database:
        for item_id, item in read_items(database):
            groups = sorted({judgment.group or "" for judgment in item.judgments})
            prompt = item.prompt.at(f"{location}: item {item_id}")
            yield Unjudged(prompt, item.responses, item_id, groups[0] if groups else "", facts=item.facts)


def stored_judge(options: JudgeOptions, judge: ComparesPairs, params: Mapping[str, str] | None = None) -> Any:
    """The judge as an annotator of a store. params: more parameters of its labels."""
    from guerdon.store.items import Annotator
    from guerdon.store.verdicts import StoredJudge

    annotator = Annotator(KINDS_OF_ANNOTATORS.get(options.kind, "llm"), judge.name, judge.fingerprint)
    mode = getattr(getattr(judge, "interview", None), "mode", options.kind)
    return StoredJudge(
        annotator, {"judge": judge.fingerprint, "mode": mode, "combine": options.combine, **(params or {})}
    )


def _stored(judged: Iterable[Judged], database: Database, judge: Any) -> Iterator[Judged]:
    """The same; each is in the store when it comes, some at a time."""
    waiting: list[Judged] = []
    for each in judged:
        waiting.append(each)
        if len(waiting) == STORED_AT_ONCE:
            _store(waiting, database, judge)
            yield from waiting
            waiting = []
    _store(waiting, database, judge)
    yield from waiting


def _store(some: Sequence[Judged], database: Database, judge: Any) -> None:
    from guerdon.store.items import unjudged_item
    from guerdon.store.verdicts import write_verdicts

    entries = []
    for each in some:
        item, position = unjudged_item(each.pair.prompt, each.pair.responses)
        entries.append((replace(item, facts=each.pair.facts), position, each.verdict))
    if entries:
        write_verdicts(database, judge, entries)


def _written(judged: Iterable[Judged], out: Path, judge: ComparesPairs, hard: bool) -> Iterator[Judged]:
    """The same; all files appear together when the last one has come."""
    from guerdon.io import writers

    with writers.renamed_together() as renames, ExitStack() as stack:
        write = stack.enter_context(writers.comparison_writer(out, renames))
        verdicts, failures = (
            stack.enter_context(writers.atomic_write(writers.beside(out, name), "wb", renames))
            for name in ("verdicts", "failures")
        )
        for each in judged:
            comparison = each.comparison(hard)
            if comparison is not None:
                write(comparison)
            verdicts.write(writers.encode_json(each.details(judge.fingerprint)) + b"\n")
            if not each.verdict.is_resolved:
                failures.write(writers.encode_json(each.failure()) + b"\n")
            yield each
