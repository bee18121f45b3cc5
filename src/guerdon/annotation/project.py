"""A project: items of a store that people compare, by its options. Creates it, loads it, and fills it."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.answers import check_responses
from guerdon.annotation.counting import OPEN_TO_ALL, count_in
from guerdon.annotation.leases import Pace
from guerdon.annotation.sides import hashed
from guerdon.config import AnnotationOptions, make
from guerdon.contracts import Comparison, GuerdonError, digest
from guerdon.store import annotation_tables, tables
from guerdon.store.database import Database
from guerdon.store.direct import Writer, writer_of
from guerdon.store.items import Annotator, Item, contents_of, unjudged_item
from guerdon.store.rows import TABLES, Batch, Occurrences
from guerdon.store.schema import require_schema
from guerdon.store.writer import CHARACTERS_AT_ONCE, ITEMS_AT_ONCE, insert_rows, metadata_table

_ORDERS: Final = 2**31  # of items, in a column of 32 bits


@dataclass(frozen=True, slots=True)
class Project:
    """A project of an open store. secret: what sides and orders are drawn by; it never leaves the server.

    hints: where each annotator's search for the next item may start (see `claiming.py`); nothing depends on them. pace: how long
    people take.
    """

    database: Database
    name: str
    secret: str = field(repr=False)
    options: AnnotationOptions
    guidelines: str = ""
    guidelines_version: str = ""
    state: str = "open"
    hints: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    pace: Pace = field(default_factory=Pace, compare=False, repr=False)

    @property
    def writer(self) -> Writer:
        """The connection that claims and answers go through."""
        return writer_of(self.database)


def create_project(
    database: Database,
    name: str,
    options: AnnotationOptions,
    guidelines: str = "",
    now: float = 0.0,
    secret: str | None = None,
) -> Project:
    """A new project in a store. GuerdonError where it exists. secret: drawn by the system unless given."""
    if not name or len(name) > 80 or "/" in name:
        raise GuerdonError(f"project must be a name of 1 to 80 characters without a slash, got {name!r}. Rename it.")
    options.refuse_conflicts()
    row = {
        "name": name,
        "secret": secret or secrets.token_hex(32),
        "options": options.model_dump(mode="json"),
        "guidelines": guidelines,
        "guidelines_version": guidelines_version(guidelines),
        "state": "open",
        "created": now,
    }
    with database.writing() as connection:
        require_schema(connection, database)
        columns = annotation_tables.projects.c
        if connection.scalar(sa.select(columns.name).where(columns.name == name)) is not None:
            raise GuerdonError(f"{database.location}: project {name!r} exists already. Name another.")
        connection.execute(sa.insert(annotation_tables.projects), row)
    return load_project(database, name)


def load_project(database: Database, name: str) -> Project:
    """The project of this name; GuerdonError lists the others where there is none."""
    table = annotation_tables.projects
    with database.reading() as connection:
        require_schema(connection, database)
        row = connection.execute(sa.select(table).where(table.c.name == name)).mappings().first()
        if row is None:
            names = sorted(connection.scalars(sa.select(table.c.name)))
            known = f"Choose from {', '.join(names[:20])}." if names else "Create it with `guerdon annotation init`."
            raise GuerdonError(f"{database.location}: there is no project {name!r}. {known}")
    options = make(AnnotationOptions, row["options"])
    return Project(database, name, row["secret"], options, row["guidelines"], row["guidelines_version"], row["state"])


def change_project(
    project: Project,
    options: AnnotationOptions | None = None,
    guidelines: str | None = None,
    state: str | None = None,
) -> Project:
    """The project with other options, guidelines or state; what people did stays."""
    values: dict[str, Any] = {}
    if options is not None:
        options.refuse_conflicts()
        values["options"] = options.model_dump(mode="json")
    if guidelines is not None:
        values |= {"guidelines": guidelines, "guidelines_version": guidelines_version(guidelines)}
    if state is not None:
        values["state"] = state
    table = annotation_tables.projects
    if values:
        with project.database.writing() as connection:
            connection.execute(sa.update(table).where(table.c.name == project.name).values(values))
    return load_project(project.database, project.name)


def guidelines_version(text: str) -> str:
    """A short hash of the guidelines; people read them again when it changes."""
    return digest([text], 12) if text else ""


def add_annotator(database: Database, name: str, kind: str = "human") -> str:
    """The id of an annotator, who is added if new."""
    annotator = Annotator(kind, name)
    with database.writing() as connection:
        insert_rows(
            connection,
            tables.annotators,
            [{"id": annotator.id, "kind": kind, "name": name, "fingerprint": None}],
        )
    return annotator.id


# ---- Items ---------------------------------------------------------------------------------------------------------


def add_items(
    project: Project, items: Iterable[Item | Comparison], advance: Callable[[int], None] = lambda number: None
) -> int:
    """Add items to be judged, in bounded memory; returns how many are new. What was judged before is left out.

    They come in an order drawn by the project's secret, and the same secret draws the share that more people judge. The same
    items again change nothing. advance: called with the number of items that a transaction wrote.
    """
    new = 0
    for batch in _batches(project, items):
        new += _write(project, batch)
        advance(batch.items)
    return new


def _batches(project: Project, items: Iterable[Item | Comparison]) -> Iterator[Batch]:
    batch = Batch()
    for number, item in enumerate(items, start=1):
        try:
            batch.add(_prepared(project, item), Occurrences())
        except GuerdonError as error:
            raise GuerdonError(f"item {number:,}: {error}") from None
        if batch.items >= ITEMS_AT_ONCE or batch.characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch = Batch()
    if batch.items:
        yield batch


def _prepared(project: Project, given: Item | Comparison) -> Item:
    """The item as the project holds it: in its responses' order, without judgments, with its place and its need."""
    item = given if isinstance(given, Item) else unjudged_item(given.prompt, given.responses)[0]
    contents = item.contents or contents_of(item.prompt, item.responses)
    check_responses(project.options, len(item.responses))
    if len({content.id for content in contents[1:]}) < len(item.responses):
        raise GuerdonError("its responses must differ, got the same one twice. Drop the row.")
    facts = {"purpose": "task", **item.facts, "project": project.name}
    item = replace(item, judgments=(), labels=(), contents=contents, facts=facts)
    item_id, options = item.id(contents), project.options
    is_shared = hashed(project.secret, "overlap", item_id) < options.overlap * 2**63
    need = max(options.need, options.overlap_need) if is_shared else options.need
    if facts["purpose"] not in OPEN_TO_ALL:
        need = 0
    order = hashed(project.secret, "order", item_id) % _ORDERS
    return replace(item, facts={**facts, "need": facts.get("need", need), "ord": facts.get("ord", order)})


def _write(project: Project, batch: Batch) -> int:
    """Write a batch in one transaction, with the counts of what is new."""
    ids = [*batch.rows["items"]]
    columns = tables.items.c
    with project.database.writing() as connection:
        require_schema(connection, project.database)
        present: set[str] = set()
        for start in range(0, len(ids), 500):
            present.update(connection.scalars(sa.select(columns.id).where(columns.id.in_(ids[start : start + 500]))))
        for name in TABLES:
            if rows := [*batch.rows[name].values()]:
                insert_rows(connection, metadata_table(name), rows)
        new = [row for key, row in batch.rows["items"].items() if key not in present]
        changes = Counter(f"items:{row['purpose']}:{row['status']}" for row in new)
        changes["needed"] = sum(row["need"] for row in new if row["purpose"] in OPEN_TO_ALL and row["status"] == "open")
        count_in(connection, project.name, changes)
    return len(new)
