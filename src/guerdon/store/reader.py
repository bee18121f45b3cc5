"""Reads items out of a store, sorted by id, in constant memory and from one snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from guerdon.io.schema import prompt_from_row, response_from_row
from guerdon.store import tables
from guerdon.store.database import Database
from guerdon.store.items import Annotator, Item, Judgment, Label
from guerdon.store.lines import CALL, DETAILS, FACTS
from guerdon.store.rows import preference_of
from guerdon.store.schema import require_schema

ITEMS_AT_ONCE: Final = 1000
_IsRead = Callable[[Any], Any]  # a condition on a column of item ids


def read_items(database: Database) -> Iterator[tuple[str, Item]]:
    """The (id, item) pairs of the store, by rising id, with current judgments and labels."""
    with database.reading() as connection:
        require_schema(connection, database)
        yield from items_in(connection)


def items_in(connection: sa.Connection, project: str | None = None) -> Iterator[tuple[str, Item]]:
    """The same within a transaction. project: the items of this one alone."""
    items, prompts = tables.items, tables.prompts
    query = sa.select(items, prompts.c.content).join(prompts, prompts.c.id == items.c.prompt_id).order_by(items.c.id)
    own = sa.select(items.c.id).where(items.c.project == project)
    if project is not None:
        query = query.where(items.c.project == project)
    result = connection.execute(
        query, execution_options={"yield_per": ITEMS_AT_ONCE}
    )  # PostgreSQL: a server-side cursor
    try:
        for rows in result.mappings().partitions():
            first, last = rows[0]["id"], rows[-1]["id"]

            def is_read(item_id: Any, first: str = first, last: str = last) -> Any:
                is_between = item_id.between(first, last)
                return is_between if project is None else sa.and_(is_between, item_id.in_(own))

            responses, judgments = _responses(connection, is_read), _judgments(connection, is_read)
            labels = _labels(connection, is_read)
            for row in rows:
                key = row["id"]
                prompt = prompt_from_row(row["content"]["prompt"], row["content"].get("tools"))
                facts = {name: row[name] for name, default in FACTS.items() if row[name] != default}
                yield key, Item(prompt, tuple(responses[key]), tuple(judgments[key]), tuple(labels[key]), facts)
    finally:
        result.close()


def latest_event(database: Database, action: str, subject: str) -> dict[str, Any] | None:
    """The detail of the last event of this action on this subject; None without any."""
    events = tables.events.c
    query = (
        sa.select(events.detail)
        .where(events.action == action, events.subject == subject)
        .order_by(events.at.desc(), events.id.desc())
        .limit(1)
    )
    with database.reading() as connection:
        detail = connection.execute(query).scalar()
    return dict(detail) if detail is not None else None


def _responses(connection: sa.Connection, is_read: _IsRead) -> dict[str, list[Any]]:
    """The responses of each item that is read, by position."""
    links, responses = tables.item_responses, tables.responses
    query = (
        sa.select(links.c.item_id, responses.c.content)
        .join(responses, responses.c.id == links.c.response_id)
        .where(is_read(links.c.item_id))
        .order_by(links.c.item_id, links.c.position)
    )
    grouped = defaultdict(list)
    for item_id, content in connection.execute(query):
        grouped[item_id].append(response_from_row(content, "response"))
    return grouped


def _judgments(connection: sa.Connection, is_read: _IsRead) -> dict[str, list[Judgment]]:
    """The judgments of each item, the last revision of each with the earlier ones in it."""
    judgments, presentations, calls = tables.judgments, tables.presentations, tables.judge_calls
    annotators = tables.annotators
    shown_to = sa.func.coalesce(presentations.c.annotator_id, judgments.c.annotator_id)
    query = (
        sa.select(
            judgments,
            presentations.c.origin,
            sa.func.coalesce(presentations.c.shown, judgments.c.shown, type_=tables.JsonText()).label("order_shown"),
            annotators.c.kind,
            annotators.c.name,
            annotators.c.fingerprint,
            *(calls.c[name].label(f"call_{name}") for name in CALL if name != "id"),
        )
        .join_from(judgments, presentations, presentations.c.id == judgments.c.presentation_id, isouter=True)
        .join(calls, calls.c.id == judgments.c.call_id, isouter=True)
        .join(annotators, annotators.c.id == shown_to)
        .where(is_read(judgments.c.item_id))
        .order_by(
            *(judgments.c[name] for name in ("item_id", "presentation_id", "call_id", "annotator_id", "revision"))
        )
    )
    revisions: dict[tuple[Any, ...], list[Judgment]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        basis = row["presentation_id"], row["call_id"], row["annotator_id"]
        revisions[row["item_id"], *basis].append(_judgment(row))
    grouped = defaultdict(list)
    for (item_id, *_), each in revisions.items():
        grouped[item_id].append(_with_earlier(each))
    return grouped


def _with_earlier(revisions: list[Judgment]) -> Judgment:
    *earlier, last = revisions
    return replace(last, earlier=tuple(earlier)) if earlier else last


def _judgment(row: Any) -> Judgment:
    call = None
    if row["call_id"] is not None:
        call = {"id": row["call_id"], **{name: row[f"call_{name}"] for name in CALL if name != "id"}}
    return Judgment(
        Annotator(row["kind"], row["name"], row["fingerprint"]),
        tuple(row["order_shown"]),
        preference_of(row),
        rationale=row["rationale"],
        source=row["source"],
        group=row["group_id"],
        weight=1.0 if row["weight"] is None else row["weight"],
        comparison_id=row["comparison_id"],
        details={name: row[name] for name, default in DETAILS.items() if row[name] != default},
        presentation=row["presentation_id"] if row["origin"] == "claimed" else None,
        call=call,
    )


def _labels(connection: sa.Connection, is_read: _IsRead) -> dict[str, list[Label]]:
    labels = tables.labels
    query = sa.select(labels).where(is_read(labels.c.item_id)).order_by(labels.c.item_id, labels.c.id)
    grouped = defaultdict(list)
    for row in connection.execute(query).mappings():
        grouped[row["item_id"]].append(
            Label(
                row["method"],
                row["params"],
                preference_of(row),
                row["n_votes"],
                row["n_eff"],
                row["entropy"],
                row["status"],
            )
        )
    return grouped
