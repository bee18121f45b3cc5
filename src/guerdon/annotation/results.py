"""What came of a project, for programs: counts, labels, and judgments as comparisons with pseudonyms for people."""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.counting import project_counts
from guerdon.annotation.project import Project
from guerdon.annotation.sides import token
from guerdon.io.schema import comparison_to_row
from guerdon.store import annotation_tables, tables
from guerdon.store.database import Database
from guerdon.store.items import Item, comparisons_of
from guerdon.store.reader import items_in

ROWS_AT_ONCE: Final = 1000


def project_names(database: Database) -> list[str]:
    """The names of all projects, sorted."""
    with database.reading() as connection:
        return sorted(connection.scalars(sa.select(annotation_tables.projects.c.name)))


def status(project: Project) -> dict[str, Any]:
    """How many items, judgments and skips there are, by kind, from counts that are kept as people work."""
    numbers = project_counts(project.database, project.name)
    grouped: dict[str, dict[str, int]] = defaultdict(dict)
    for key, number in numbers.items():
        kind, _, name = key.partition(":")
        grouped[kind][name or "all"] = number
    return {"project": project.name, "state": project.state, "counts": grouped}


def summary(project: Project, name: str) -> dict[str, Any]:
    """A summary as last computed, and when; both null before the first."""
    table = annotation_tables.summaries
    query = sa.select(table.c.at, table.c.content).where(table.c.project == project.name, table.c.name == name)
    with project.database.reading() as connection:
        row = connection.execute(query).first()
    return {"at": row.at if row else None, name: row.content if row else None}


def labels(project: Project) -> Iterator[bytes]:
    """The labels of the project's items as lines of JSON."""
    columns = ("item_id", "method", "groups", "q", "strength", "n_votes", "n_eff", "entropy", "status")
    table, items = tables.labels, tables.items
    query = (
        sa.select(*(table.c[name] for name in columns))
        .join(items, items.c.id == table.c.item_id)
        .where(items.c.project == project.name)
        .order_by(table.c.item_id, table.c.id)
    )
    with project.database.reading() as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE}).mappings():
            yield line_of({name: value for name, value in row.items() if value is not None})


def export(project: Project, all_revisions: bool = False) -> Iterator[bytes]:
    """Each judgment of the project as a comparison, one line of JSON, people named by pseudonyms.

    all_revisions: the earlier revisions too, each before the one that replaced it.
    """
    with project.database.reading() as connection:
        for _, item in items_in(connection):
            if item.facts.get("project", "") == project.name:
                yield from _item_lines(project, item, all_revisions)


def line_of(value: object) -> bytes:
    """A line of JSON, ASCII alone, so that any reader takes it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _item_lines(project: Project, item: Item, all_revisions: bool) -> Iterator[bytes]:
    for judgment in item.judgments:
        revisions = (*judgment.earlier, judgment) if all_revisions else (judgment,)
        who = judgment.annotator
        name = token(project.secret, "pseudonym", who.id, length=12) if who.kind == "human" else who.name
        for number, revision in enumerate(revisions, start=1):
            alone = dataclasses.replace(item, judgments=(revision,), labels=())
            for comparison in comparisons_of(alone, each=True):
                row = comparison_to_row(dataclasses.replace(comparison, annotator=name))
                yield line_of({**row, "revision": number} if all_revisions else row)
