"""What came of a project, for programs: counts, labels, and judgments as comparisons with pseudonyms for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.exporting import exported
from guerdon.annotation.project import Project
from guerdon.io.schema import comparison_to_row
from guerdon.store import annotation_tables, tables
from guerdon.store.database import Database

ROWS_AT_ONCE: Final = 1000


def project_names(database: Database) -> list[str]:
    """The names of all projects, sorted."""
    with database.reading() as connection:
        return sorted(connection.scalars(sa.select(annotation_tables.projects.c.name)))


def status(project: Project, now: float) -> dict[str, Any]:
    """How many items, judgments and skips there are, the rate, and when the rest will be done."""
    from guerdon.annotation.status import overview  # it loads scipy, which a server that judges alone does not need

    return {"project": project.name, "state": project.state, **overview(project, now)}


def agreement(project: Project) -> dict[str, Any]:
    """How far people agree, as last computed, and when; both null before the first time."""
    from guerdon.annotation.summaries import read_summaries

    last = read_summaries(project.database, project.name).get("agreement", {})
    return {"at": last.get("at"), "agreement": last.get("content")}


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

    all_revisions: those that were replaced too.
    """
    for comparison in exported(project, each=True, all_revisions=all_revisions):
        yield line_of(comparison_to_row(comparison))


def line_of(value: object) -> bytes:
    """A line of JSON, ASCII alone, so that any reader takes it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"
