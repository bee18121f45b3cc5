"""What a store holds, counted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from guerdon.store import tables
from guerdon.store.database import Database
from guerdon.store.schema import SCHEMA, require_schema


def store_facts(database: Database) -> dict[str, Any]:
    """Numbers by name: of items, of what was judged and labeled, of annotators and judgments by kind, and of what waits."""
    with database.reading() as connection:
        require_schema(connection, database)

        def number(table: sa.Table, *conditions: Any) -> int:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0)

        items, presentations, calls = tables.items, tables.presentations, tables.judge_calls
        judged = sa.exists().where(tables.judgments.c.item_id == items.c.id)
        labeled = sa.exists().where(tables.labels.c.item_id == items.c.id)
        return {
            "store": str(database.location),
            "schema": SCHEMA,
            "prompts": number(tables.prompts),
            "responses": number(tables.responses),
            "items": number(items),
            "judged_items": number(items, judged),
            "labeled_items": number(items, labeled),
            "judgments": number(tables.judgments, tables.judgments.c.revision == 1),
            "revised_judgments": number(tables.judgments, tables.judgments.c.revision == 2),
            **_by_kind(connection),
            "labels": number(tables.labels),
            **{f"labels_by_{method}": count for method, count in _methods(connection)},
            "held_presentations": number(presentations, presentations.c.state == "held"),
            "skipped_presentations": number(presentations, presentations.c.state == "skipped"),
            "judge_calls": number(calls),
            "failed_judge_calls": number(calls, calls.c.status == "failed"),
            "events": number(tables.events),
        }


def _by_kind(connection: sa.Connection) -> dict[str, int]:
    """Judgments and annotators of each kind; annotators whom the data does not name are one."""
    judgments, presentations, annotators = tables.judgments.c, tables.presentations.c, tables.annotators.c
    annotator = sa.func.coalesce(presentations.annotator_id, judgments.annotator_id)
    query = (
        sa.select(annotators.kind, sa.func.count(), sa.func.count(sa.distinct(annotators.id)))
        .join_from(tables.judgments, tables.presentations, presentations.id == judgments.presentation_id, isouter=True)
        .join(tables.annotators, annotators.id == annotator)
        .where(judgments.revision == 1)
        .group_by(annotators.kind)
        .order_by(annotators.kind)
    )
    facts: dict[str, int] = {}
    for kind, count, people in connection.execute(query):
        facts |= {f"judgments_of_kind_{kind}": count, f"annotators_of_kind_{kind}": people}
    return facts


def _methods(connection: sa.Connection) -> list[tuple[str, int]]:
    columns = tables.labels.c
    query = sa.select(columns.method, sa.func.count()).group_by(columns.method).order_by(columns.method)
    return [(method, count) for method, count in connection.execute(query)]
