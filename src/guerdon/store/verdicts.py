"""Verdicts of judges into a store: one judgment for each call of a pair that is resolved, and one label for the pair.

A pair without a verdict leaves nothing but its calls. The label has the combined q, the method "judge", and the judge in its
parameters; the judgments have what each call said, in the order that was shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from guerdon.contracts import Preference, digest
from guerdon.models.judges.calls import CallRecord
from guerdon.models.judges.verdicts import PairVerdict, RankingVerdict
from guerdon.store import tables
from guerdon.store.calls import call_id, call_row
from guerdon.store.database import Database
from guerdon.store.items import Annotator, Item, Judgment, Label, complement
from guerdon.store.rows import Batch, Occurrences, Row, judgment_id_of, judgment_row, label_row
from guerdon.store.writer import write_rows

METHOD: Final = "judge"


@dataclass(frozen=True, slots=True)
class StoredJudge:
    """Who judges, as an annotator, and what its labels have as their parameters."""

    annotator: Annotator
    params: Mapping[str, Any]


def write_verdicts(
    database: Database, judge: StoredJudge, judged: Sequence[tuple[Item, Sequence[int], PairVerdict | RankingVerdict]]
) -> None:
    """Write items, and the judgments and the label of each pair that is resolved. What is there already stays as it is.

    Each verdict comes with its item, and with the position in it of the first and of the second response.
    """
    batch, occurrences = Batch(), Occurrences()
    for item, position, verdict in judged:
        item_id = batch.add(item, occurrences)
        if isinstance(verdict, RankingVerdict):
            _add_rankings(batch, item_id, position, judge, verdict)
        elif verdict.q is not None:
            _add_verdict(batch, item_id, position, judge, verdict)
    _leave_out_known(database, batch.rows["judgments"])
    write_rows(database, {name: list(rows.values()) for name, rows in batch.rows.items()})


def _add_verdict(batch: Batch, item_id: str, position: Sequence[int], judge: StoredJudge, verdict: PairVerdict) -> None:
    assert verdict.q is not None
    calls = [(order.key, tuple(position[i] for i in order.shown), order.q) for order in verdict.orders if order.key]
    if (
        not calls
    ):  # a judge that makes no calls of its own, or whose verdict is of several judges: the verdict is the answer
        record = _verdict_as_call(item_id, position, judge, verdict)
        batch.rows["judge_calls"][call_id(record.key)] = call_row(record)
        calls = [(record.key, tuple(position), verdict.q)]
    votes = [0, 0, 0]
    for key, shown, q in calls:
        _add_judgment(
            batch, item_id, key, Judgment(judge.annotator, shown, Preference(q=q), rationale=verdict.rationale or None)
        )
        of_item = q if shown == (0, 1) else complement(q)
        votes[0 if of_item > 0.5 else 2 if of_item < 0.5 else 1] += 1
    q = verdict.q if tuple(position) == (0, 1) else complement(verdict.q)
    preference = Preference(q=q, votes=(votes[0], votes[1], votes[2]))
    key, row = label_row(item_id, Label(METHOD, judge.params, preference, len(calls)))
    batch.rows["labels"][key] = {"id": key, **row}


def _add_rankings(
    batch: Batch, item_id: str, position: Sequence[int], judge: StoredJudge, verdict: RankingVerdict
) -> None:
    """A judgment for each ranking, in the order shown, and a label by mean ranks; none where the rankings cancel out."""
    for key, order, ranking in zip(verdict.keys, verdict.shown, verdict.rankings, strict=False):
        shown = tuple(position[i] for i in order)
        groups = tuple((order.index(i),) for i in ranking)
        _add_judgment(batch, item_id, key, Judgment(judge.annotator, shown, Preference(groups=groups)))
    if len(verdict.groups) > 1:
        preference = Preference(groups=tuple(tuple(sorted(position[i] for i in group)) for group in verdict.groups))
        key, row = label_row(item_id, Label(METHOD, judge.params, preference, len(verdict.rankings)))
        batch.rows["labels"][key] = {"id": key, **row}


def _add_judgment(batch: Batch, item_id: str, call: str, judgment: Judgment) -> None:
    row = judgment_row(judgment)
    basis = {
        "presentation_id": None, "presentation_state": None, "call_id": call_id(call), "call_status": "ok",
        "annotator_id": batch.add_annotator(judgment.annotator), "shown": list(judgment.shown),
    }  # fmt: skip
    key = judgment_id_of(item_id, basis, 1, row)
    revision = {"revision": 1, "supersedes_revision": None}
    batch.rows["judgments"][key] = {"id": key, "item_id": item_id, **basis, **revision, **row}


def _verdict_as_call(item_id: str, position: Sequence[int], judge: StoredJudge, verdict: PairVerdict) -> CallRecord:
    return CallRecord(
        key=digest([judge.annotator.fingerprint, item_id], 64),
        model=judge.annotator.name or "",
        request=json.dumps({"item": item_id, "judge": judge.annotator.fingerprint}),
        raw=json.dumps({"q": verdict.q, "log_odds": verdict.log_odds}),
        item=item_id,
        shown=tuple(position),
    )


def _leave_out_known(database: Database, rows: dict[Any, Row]) -> None:
    """Drop judgments that this annotator has given of these calls already, however they were read then."""
    columns = tables.judgments.c
    identity = columns.call_id, columns.item_id, columns.annotator_id
    known: set[tuple[Any, ...]] = set()
    ids = sorted({row["call_id"] for row in rows.values()})
    with database.reading() as connection:
        for start in range(0, len(ids), 500):
            query = sa.select(*identity).where(columns.call_id.in_(ids[start : start + 500]))
            known.update(tuple(row) for row in connection.execute(query))
    for key in [k for k, row in rows.items() if (row["call_id"], row["item_id"], row["annotator_id"]) in known]:
        del rows[key]
