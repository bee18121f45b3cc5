"""Whether a store is what it should be: ids that match contents, counters, foreign keys, revisions, labels with judgments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from guerdon.contracts import Finding, Report
from guerdon.store import tables
from guerdon.store.canonical import content_id
from guerdon.store.database import Database
from guerdon.store.items import Annotator
from guerdon.store.revisions import SAYS
from guerdon.store.rows import judgment_id_of, label_id_of
from guerdon.store.schema import require_schema

ROWS_AT_ONCE: Final = 2000
EXAMPLES: Final = 5
RESTORE: Final = "Restore a backup, or export the store and import the file into a new one."


@dataclass(frozen=True, slots=True)
class Check:
    """A claim about every row, and a query or a function that gives the ids of rows for which it does not hold."""

    title: str
    wrong: Callable[[sa.Connection], Iterator[str]]
    remedy: str = RESTORE


def verify(database: Database) -> Report:
    """A report with one error per claim that does not hold, and how many rows each table has."""
    with database.reading() as connection:
        require_schema(connection, database)
        findings = list(_findings(connection, CHECKS if not database.is_sqlite else (*SQLITE_CHECKS, *CHECKS)))
        counts = {table.name: _count(connection, table) for table in tables.metadata.sorted_tables}
    return Report(
        title="Store",
        findings=tuple(findings),
        about={"store": str(database.location), **{name: f"{count:,}" for name, count in counts.items()}},
    )


def _findings(connection: sa.Connection, checks: tuple[Check, ...]) -> Iterator[Finding]:
    for check in checks:
        examples: list[str] = []
        count = 0
        for key in check.wrong(connection):
            count += 1
            if len(examples) < EXAMPLES:
                examples.append(key)
        if count:
            rest = f" and {count - len(examples):,} more" if count > len(examples) else ""
            yield Finding("error", check.title, f"{count:,}: {', '.join(examples)}{rest}", check.remedy)


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0)


# ---- Ids -----------------------------------------------------------------------------------------------------------


def _with_wrong_id(table: sa.Table, expected: Callable[[Any], str]) -> Callable[[sa.Connection], Iterator[str]]:
    """A function that gives the ids of rows whose content has another hash."""

    def wrong(connection: sa.Connection) -> Iterator[str]:
        result = connection.execute(
            sa.select(table).order_by(table.c.id), execution_options={"yield_per": ROWS_AT_ONCE}
        )
        for row in result.mappings():
            if expected(row) != row["id"]:
                yield row["id"]

    return wrong


def _wrong_items(connection: sa.Connection) -> Iterator[str]:
    """Items whose id is not the hash of their responses, whose positions have gaps, or whose responses answer another prompt."""
    items, links, responses = tables.items.c, tables.item_responses.c, tables.responses.c
    query = (
        sa.select(items.id, items.project, items.purpose, items.prompt_id, links.position, links.response_id)
        .add_columns(responses.prompt_id)
        .join_from(tables.items, tables.item_responses, links.item_id == items.id, isouter=True)
        .join(tables.responses, responses.id == links.response_id, isouter=True)
        .order_by(items.id, links.position)
    )
    key: Any = None
    parts: list[Any] = []
    for row in chain(connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}), [None]):
        if row is None or row[0] != key:
            if parts and not _is_item(parts):
                yield key
            key, parts = (row[0] if row is not None else None), []
        if row is not None:
            parts.append(row)


def _is_item(rows: list[Any]) -> bool:
    item_id, project, purpose, prompt_id = rows[0][:4]
    response_ids = [row[5] for row in rows]
    return (
        [row[4] for row in rows] == list(range(len(rows)))
        and len(rows) >= 2
        and response_ids == sorted(response_ids)
        and all(row[6] == prompt_id for row in rows)
        and content_id("item", project, purpose, prompt_id, response_ids) == item_id
    )


def _judgment_id(row: Any) -> str:
    return judgment_id_of(row["item_id"], row, row["revision"], {name: row[name] for name in SAYS})


# ---- Relations -----------------------------------------------------------------------------------------------------


def _selected(query: sa.Select[Any]) -> Callable[[sa.Connection], Iterator[str]]:
    return lambda connection: (str(key) for key in connection.scalars(query))


def _wrong_counters() -> sa.Select[Any]:
    items, presentations = tables.items.c, tables.presentations.c
    counted = (
        sa.select(sa.func.count())
        .where(presentations.item_id == items.id, presentations.state.in_(("held", "submitted")))
        .scalar_subquery()
    )
    return sa.select(items.id).where(items.taken != counted)


def _labels_without_judgment() -> sa.Select[Any]:
    judged = sa.exists().where(tables.judgments.c.item_id == tables.labels.c.item_id)
    return sa.select(tables.labels.c.id).where(~judged)


def _submitted_without_judgment() -> sa.Select[Any]:
    presentations = tables.presentations.c
    judged = sa.exists().where(tables.judgments.c.presentation_id == presentations.id)
    return sa.select(presentations.id).where(presentations.state == "submitted", ~judged)


def _broken_revisions() -> sa.Select[Any]:
    columns = tables.judgments.c
    basis = sa.func.coalesce(columns.presentation_id, columns.call_id)
    rests_on = columns.presentation_id, columns.call_id, columns.item_id, columns.annotator_id
    return sa.select(basis).group_by(*rests_on).having(sa.func.max(columns.revision) != sa.func.count())


def _judgments_of_failures() -> sa.Select[Any]:
    columns = tables.judgments.c
    submitted = sa.exists().where(
        tables.presentations.c.id == columns.presentation_id, tables.presentations.c.state == "submitted"
    )
    ok = sa.exists().where(tables.judge_calls.c.id == columns.call_id, tables.judge_calls.c.status == "ok")
    return sa.select(columns.id).where(~submitted, ~ok)


def _pragma(name: str) -> Callable[[sa.Connection], Iterator[str]]:
    def wrong(connection: sa.Connection) -> Iterator[str]:
        for row in connection.exec_driver_sql(f"PRAGMA {name}"):
            if row[0] != "ok":
                yield " ".join(str(value) for value in row if value is not None)

    return wrong


SQLITE_CHECKS: Final = (
    Check("the file is whole", _pragma("integrity_check")),
    Check("every reference names a row", _pragma("foreign_key_check")),
)
CHECKS: Final = (
    Check(
        "the id of a prompt is the hash of its content",
        _with_wrong_id(tables.prompts, lambda row: content_id("prompt", row["content"])),
    ),
    Check(
        "the id of a response is the hash of its content",
        _with_wrong_id(tables.responses, lambda row: content_id("response", row["prompt_id"], row["content"])),
    ),
    Check("the id of an item is the hash of its prompt and its sorted responses", _wrong_items),
    Check(
        "the id of an annotator is the hash of kind, name and fingerprint",
        _with_wrong_id(tables.annotators, lambda row: Annotator(row["kind"], row["name"], row["fingerprint"]).id),
    ),
    Check("the id of a judgment is the hash of what it says", _with_wrong_id(tables.judgments, _judgment_id)),
    Check("the id of a label is the hash of item, method and parameters", _with_wrong_id(tables.labels, label_id_of)),
    Check(
        "an item's counter is the number of its presentations that are held or submitted",
        _selected(_wrong_counters()),
        "Run the command that wrote it last once more; if it stays, export and import into a new store.",
    ),
    Check("a label rests on a judgment", _selected(_labels_without_judgment())),
    Check("a submitted presentation has a judgment", _selected(_submitted_without_judgment())),
    Check("a judgment rests on a submitted presentation or an ok call", _selected(_judgments_of_failures())),
    Check("the revisions of a judgment are numbered 1, 2, 3 without gaps", _selected(_broken_revisions())),
)
