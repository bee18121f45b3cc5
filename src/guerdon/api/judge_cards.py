"""Judge cards: a judge measured against people, written as files, kept in a store, and applied to its labels."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guerdon.config import ImportOptions, JudgeOptions
from guerdon.contracts import GuerdonError, Report, digest
from guerdon.errors import field_error
from guerdon.progress import ProgressBar

if TYPE_CHECKING:
    from guerdon.feedback.card import JudgeCard, JudgeMap
    from guerdon.feedback.judging import Judged
    from guerdon.feedback.spending import CostEstimate
    from guerdon.store.database import Database

CARD_TITLE = "The AI judge, measured against people"
VERSION = 1
CARD_EVENT = "judge card"  # in the log of a store
ADVICE = "Write one with `guerdon judge-card`."
FILES = ("card.json", "card.md", "card.html")


def make_judge_card(
    sources: Sequence[str | Path],
    judge: JudgeOptions,
    *,
    out: str | Path | None = None,
    store: str | Path | None = None,
    imports: ImportOptions | None = None,
    paraphrase: str | None = None,
    again: bool = True,
    confirm: Callable[[CostEstimate], None] = lambda estimate: None,
) -> Report:
    """Measure a judge on pairs that people judged, and fit the map from its log-odds to theirs.

    Each pair is asked three times: as it is, with another seed, and in other words (`paraphrase`, a template); with again=False
    once. The card goes to a folder, to the log of a store, or both; calls are kept in the store, or in the folder's calls.db.
    """
    from guerdon.api.data import stream_comparisons
    from guerdon.feedback.card import judge_card
    from guerdon.feedback.card_run import ask_for_card, pooled, rounds_of_card
    from guerdon.feedback.judging import Unjudged
    from guerdon.feedback.spending import costs, estimate_cost
    from guerdon.io.price_table import priced
    from guerdon.models.judges.build import build_judge
    from guerdon.models.judges.metering import CountedLog
    from guerdon.store.calls import open_call_log

    if out is None and store is None:
        raise GuerdonError("a judge card must have somewhere to go, got neither out nor store. Give --out or --store.")
    judge = priced(judge)
    comparisons = pooled(stream_comparisons(sources, imports or ImportOptions()))
    if len(comparisons) < 2:
        raise field_error("--data", "two or more pairs of responses that people judged", len(comparisons))
    if costs(judge):
        rounds = 3 if again else 1
        confirm(estimate_cost(judge, [Unjudged(c.prompt, c.responses) for c in comparisons] * rounds))
    with ExitStack() as stack:
        place = Path(out) / "calls.db" if store is None and out is not None else store
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
        log = stack.enter_context(open_call_log(place, create=store is None))
        counted = CountedLog(log)
        model = build_judge(judge, counted)
        total = len(comparisons) * rounds_of_card(model, paraphrase, again)
        bar = stack.enter_context(ProgressBar(total, "judge card", "verdicts"))
        answers = ask_for_card(
            model, comparisons, paraphrase=paraphrase, again=again,
            advance=lambda number: bar.advance(number, **counted.spent(judge.currency)),
        )  # fmt: skip
        about = {"data": ", ".join(map(str, sources)), **counted.facts(judge.currency, is_priced=costs(judge))}
        card = judge_card(answers, model.name, model.fingerprint, about, seed=judge.seed)
        if store is not None:
            _keep(log.database, card, model.fingerprint)
    if out is not None:
        _write(Path(out), card)
    return card.report


def _write(folder: Path, card: JudgeCard) -> None:
    from guerdon.io import writers
    from guerdon.reporting import to_html, to_markdown

    texts = (json.dumps(card_row(card), ensure_ascii=False, indent=1), to_markdown(card.report), to_html(card.report))
    with writers.renamed_together() as renames:
        for name, text in zip(FILES, texts, strict=True):
            with writers.atomic_write(folder / name, "w", renames) as file:
                file.write(text)


def card_row(card: JudgeCard) -> dict[str, Any]:
    """The card as plain values: what card.json holds."""
    from guerdon.io.reports import to_json

    fitted = None if card.map is None else card.map.to_row()
    return {"format": "judge card", "version": VERSION, "map": fitted, "report": to_json(card.report)}


def _keep(database: Database, card: JudgeCard, fingerprint: str) -> None:
    from guerdon.store.writer import record_event

    with database.writing() as connection:
        record_event(connection, CARD_EVENT, fingerprint, card_row(card), time.time())


# ---- The map, applied ------------------------------------------------------------------------------------------------------


def read_judge_map(path: str | Path) -> JudgeMap:
    """The map of a card.json. Raises GuerdonError where it is no card, or a card without a map."""
    from guerdon.feedback.card import JudgeMap

    row = _card_object(path)
    fitted = row.get("map")
    if not isinstance(fitted, dict):
        raise GuerdonError(f"{path}: must have a map to people, got none: too few pairs had a verdict. Use more.")
    try:
        if fitted["kind"] == "temperature":
            return JudgeMap(str(fitted["judge"]), temperature=_positive(fitted["temperature"]))
        margin, log_odds = (tuple(float(value) for value in fitted[name]) for name in ("margin", "log_odds"))
        if len(margin) != len(log_odds) or not margin or list(margin) != sorted(margin):
            raise ValueError
        return JudgeMap(str(fitted["judge"]), margin=margin, log_odds=log_odds)
    except (KeyError, TypeError, ValueError):
        raise GuerdonError(
            f"{path}: map must be what `guerdon judge-card` wrote, got something else. {ADVICE}"
        ) from None


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError
    return float(value)


def mapped(judged: Iterable[Judged], judge_map: JudgeMap) -> Iterator[Judged]:
    """The same verdicts with people's probabilities in place of the judge's; what each call said stays, and rankings stay."""
    from guerdon.feedback.card import mapped_q
    from guerdon.models.judges.verdicts import PairVerdict

    for each in judged:
        if not isinstance(each.verdict, PairVerdict) or each.verdict.q is None:
            yield each
            continue
        q, log_odds = mapped_q(judge_map, each.verdict.log_odds)
        yield replace(each, verdict=replace(each.verdict, q=q, log_odds=log_odds))


def map_id(judge_map: JudgeMap) -> str:
    """A hash of the map, for the parameters of labels."""
    return digest(judge_map.to_row())


def require_card_of(fingerprint: str, of_card: str, path: str | Path) -> None:
    """Raise GuerdonError where the card is of another judge than that of this fingerprint."""
    if of_card != fingerprint:
        raise GuerdonError(
            f"{path}: must be the card of this judge ({fingerprint}), got that of {of_card}. "
            "A model, a template or an option has changed: write a new card."
        )


# ---- The report, shown -----------------------------------------------------------------------------------------------------


def read_card_report(path: str | Path) -> Report:
    """What a card.json says of its judge. Raises GuerdonError where it is no card."""
    from guerdon.io.reports import from_json

    report = _card_object(path).get("report")
    if not isinstance(report, dict):
        raise GuerdonError(f"{path}: report must be that of a judge card, got something else. {ADVICE}")
    try:
        return from_json(report)
    except GuerdonError as error:
        raise GuerdonError(f"{path}: {error}") from None


def latest_card(database: Database, fingerprint: str) -> Report | None:
    """What the latest card of a judge in a store says; None where there is none that this version can read."""
    from guerdon.io.reports import from_json
    from guerdon.store.reader import latest_event

    row = latest_event(database, CARD_EVENT, fingerprint)
    if row is None or row.get("version") != VERSION or not isinstance(row.get("report"), dict):
        return None
    return from_json(row["report"])


def _card_object(path: str | Path) -> dict[str, Any]:
    from guerdon.io.json_files import read_object

    row = read_object(Path(path), ADVICE)
    if row.get("format") != "judge card" or row.get("version") != VERSION:
        raise GuerdonError(f"{path}: must be a judge card of version {VERSION}, got something else. {ADVICE}")
    return dict(row)
