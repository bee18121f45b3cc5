"""Writes items into a store, in transactions of many rows. A row that is there already stays as it is.

Rows are written table by table in the order of their ids, so that two processes that write the same rows never wait for each
other in a circle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc

from guerdon.contracts import GuerdonError
from guerdon.store import tables
from guerdon.store.canonical import content_id
from guerdon.store.database import Database, insert_of
from guerdon.store.items import Item
from guerdon.store.revisions import Side
from guerdon.store.rows import TABLES, Batch, Occurrences, Row
from guerdon.store.schema import require_schema

COUNTED: Final = ("prompts", "responses", "items", "annotators", "judge_calls", "judgments", "labels")
ITEMS_AT_ONCE: Final = 2000  # in one transaction, or fewer that are long
CHARACTERS_AT_ONCE: Final = 32 * 2**20


def add_items(database: Database, items: Iterable[Item], advance: Callable[[int], None] = lambda number: None) -> int:
    """Write the items; returns how many were given. advance: called with the number of items that a transaction wrote."""
    occurrences, count = Occurrences(), 0
    for batch in _batches(items, occurrences):
        with one_content_per_id(database):
            write_rows(database, {name: list(rows.values()) for name, rows in batch.rows.items()})
        advance(batch.items)
        count += batch.items
    return count


@contextmanager
def one_content_per_id(database: Database) -> Iterator[None]:
    """What the constraints of the store refuse, as one line."""
    try:
        yield
    except exc.IntegrityError as error:
        reason = (str(error.orig).splitlines() or ["no reason given"])[0]
        raise GuerdonError(
            f"{database.location}: what is added must agree with what is stored, got other judgments or calls under the "
            f"same ids ({reason[:160]}). Add it to a new store to compare the two."
        ) from None


def _batches(items: Iterable[Item], occurrences: Occurrences) -> Iterator[Batch]:
    batch = Batch()
    for item in items:
        batch.add(item, occurrences)
        if batch.items >= ITEMS_AT_ONCE or batch.characters >= CHARACTERS_AT_ONCE:
            yield batch
            batch = Batch()
    if batch.items:
        yield batch


def write_rows(database: Database, rows: Mapping[str, Sequence[Row]]) -> None:
    """Write rows of tables in one transaction."""
    with database.writing() as connection:
        require_schema(connection, database)
        for name in TABLES:
            if rows.get(name):
                insert_rows(connection, metadata_table(name), rows[name])


def insert_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[Row], prefer: Side | None = None) -> None:
    """Write rows of one table: those whose id is there already are merged with what is there (see `_insert`)."""
    keys = [column.name for column in table.primary_key]
    if table is tables.labels:
        _require_judgments(connection, rows)
    order = ["revision", *keys] if table is tables.judgments else keys  # a revision names the one before it
    ordered = sorted(rows, key=lambda row: [row[key] for key in order])
    _execute(connection, table, _insert(connection, table, [*ordered[0]], prefer), ordered)


def _execute(connection: sa.Connection, table: sa.Table, statement: Any, rows: Sequence[Row]) -> None:
    """Run the statement for each row. SQLAlchemy compiles it; that it also prepares each row takes as long as the database does."""
    compiled = statement.compile(dialect=connection.dialect, column_keys=[*rows[0]])
    names = compiled.positiontup or [*compiled.params]
    values = []
    for name in names:
        is_column = name in rows[0]
        bind = table.c[name].type.bind_processor(connection.dialect) if is_column else None
        column = [row[name] for row in rows] if is_column else [compiled.params[name]] * len(rows)
        values.append(column if bind is None else [bind(value) for value in column])
    parameters: Any = zip(*values, strict=True)
    if not compiled.positional:
        parameters = (dict(zip(names, each, strict=True)) for each in parameters)
    connection.exec_driver_sql(str(compiled), list(parameters))


def metadata_table(name: str) -> sa.Table:
    """The table of this name."""
    return tables.metadata.tables[name]


def _insert(connection: sa.Connection, table: sa.Table, columns: Sequence[str], prefer: Side | None) -> Any:
    """An INSERT that leaves rows that are there as they are, but for columns that change while people work."""
    statement = insert_of(connection.dialect)(table)
    keys = [column.name for column in table.primary_key]
    if table is tables.labels:
        return statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in columns if name not in keys},
            where=_is_preferred(statement.excluded, prefer),
        )
    if table is tables.judge_calls:  # a call that failed is replaced by one that did not, or that failed later
        return statement.on_conflict_do_update(
            index_elements=keys,
            set_={name: statement.excluded[name] for name in columns if name not in keys},
            where=_is_newer_call(statement.excluded),
        )
    merged = _merged(connection, table, statement.excluded)
    if not merged:
        return statement.on_conflict_do_nothing(index_elements=keys)
    changed = sa.or_(*(table.c[name].is_distinct_from(value) for name, value in merged.items()))
    return statement.on_conflict_do_update(index_elements=keys, set_=merged, where=changed)


def _merged(connection: sa.Connection, table: sa.Table, excluded: Any) -> dict[str, Any]:
    """How the columns that are no part of a row's content are merged: the same result whichever row comes first."""
    largest = sa.func.max if connection.dialect.name == "sqlite" else sa.func.greatest

    def later(name: str, words: Sequence[str]) -> Any:
        rank = {word: i for i, word in enumerate(words)}
        given, present = excluded[name], table.c[name]
        is_later = sa.case(rank, value=given) > sa.case(rank, value=present)
        return sa.case((is_later, given), else_=present)

    if table is tables.items:
        numbers = {name: largest(table.c[name], excluded[name]) for name in ("need", "priority", "ord")}
        given, there = excluded["selection"], table.c["selection"]
        selection = sa.func.coalesce(largest(given, there), given, there)
        return {**numbers, "status": later("status", tables.ITEM_STATES), "selection": selection}
    if table is tables.presentations:
        return {"state": later("state", tables.PRESENTATION_STATES)}
    return {}


def _is_preferred(excluded: Any, prefer: Side | None) -> Any:
    """Of two labels by one method, the one with more votes stays; of as many, that of the preferred store, or the one whose
    preference has the larger text."""
    present, columns = tables.labels.c, ("n_votes", "groups", "q", "strength", "votes", "n_eff", "entropy", "status")
    if prefer is not None:
        given, there = excluded["n_votes"], present["n_votes"]
        return given > there if prefer == "ours" else given >= there
    is_larger: Any = sa.false()
    for name in reversed(columns):
        given, there = excluded[name], present[name]
        above = sa.or_(given > there, sa.and_(given.isnot(None), there.is_(None)))
        is_larger = sa.or_(above, sa.and_(given.is_not_distinct_from(there), is_larger))
    return is_larger


def _is_newer_call(excluded: Any) -> Any:
    """Whether a call replaces the one that is there. Judgments may rest on one that is ok, so that it stays for good."""
    present = tables.judge_calls.c
    is_later = sa.func.coalesce(excluded["at"], 0.0) > sa.func.coalesce(present["at"], 0.0)
    return sa.and_(present["status"] != "ok", sa.or_(excluded["status"] == "ok", is_later))


def _require_judgments(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Raise GuerdonError for a label of an item that nobody judged, which the database would refuse."""
    wanted = {row["item_id"] for row in rows}
    judged: set[str] = set()
    for some in _chunks(sorted(wanted)):
        query = sa.select(tables.judgments.c.item_id).where(tables.judgments.c.item_id.in_(some)).distinct()
        judged.update(connection.scalars(query))
    if missing := len(wanted - judged):
        raise GuerdonError(
            f"labels must be of items with judgments, got {missing:,} of items without. Import the judgments first."
        )


def _chunks(values: Sequence[str], size: int = 500) -> Iterator[Sequence[str]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def count_rows(database: Database) -> dict[str, int]:
    """How many rows of each kind there are; the log, and what only links other rows, aside."""
    with database.reading() as connection:
        require_schema(connection, database)
        queries = {name: sa.select(sa.func.count()).select_from(metadata_table(name)) for name in COUNTED}
        return {name: int(connection.scalar(query) or 0) for name, query in queries.items()}


def record_event(connection: sa.Connection, action: str, subject: str, detail: Mapping[str, Any], at: float) -> None:
    """Add a line to the log of events, once for the same action on the same subject with the same detail."""
    key = content_id("event", action, subject, dict(detail))
    row = {"id": key, "at": at, "actor": "guerdon", "action": action, "subject": subject, "detail": dict(detail)}
    row |= {"before_hash": None, "after_hash": None}
    insert_rows(connection, tables.events, [row])
