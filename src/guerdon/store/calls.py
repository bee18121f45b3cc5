"""The log of calls to judges in a database: the table judge_calls of a store, or of a file of calls alone.

A call is kept under the key of its question. The answer is kept as it came, also one that holds no verdict; a later success
replaces a failure, an ok call stays for good, and the tries of all runs stand one after another in `attempts`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from guerdon.models.judges.calls import CallRecord
from guerdon.store import tables
from guerdon.store.canonical import ID_LENGTH
from guerdon.store.database import Database, insert_of, open_database
from guerdon.store.location import locate
from guerdon.store.rows import Row
from guerdon.store.schema import has_schema, migrate, require_schema

CALLS_AT_ONCE: Final = 500  # in one statement

T = TypeVar("T")


@contextmanager
def open_call_log(source: object, create: bool = True) -> Iterator[SqlCallLog]:
    """The log in a store, or in a file that is created where there is none."""
    with open_database(locate(source), create) as database:
        with database.reading() as connection:
            is_new = not has_schema(connection, database)
            if not (is_new and create):
                require_schema(connection, database)
        if is_new:
            migrate(database)
        yield SqlCallLog(database)


class SqlCallLog:
    """A CallLog in a database that is open. Any number of threads may use it; memory does not grow with the calls.

    Threads that add at the same time share a transaction: while one of them writes, the others wait in line, and the next
    one writes what all of them brought.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._line: list[_Batch] = []
        self._line_lock, self._write_lock = threading.Lock(), threading.Lock()

    def answers(self, keys: Sequence[str]) -> Mapping[str, str]:
        """The raw answers that are kept, by key."""
        columns = tables.judge_calls.c
        answers: dict[str, str] = {}
        with self.database.reading() as connection:
            for some in _some(keys):
                query = sa.select(columns.cache_key, columns.response_raw).where(
                    columns.id.in_([call_id(key) for key in some]), columns.response_raw.is_not(None)
                )
                answers.update((key, raw) for key, raw in connection.execute(query))
        return answers

    def add(self, records: Iterable[CallRecord]) -> None:
        """Keep calls. They are in the database once this returns."""
        for some in _some(records):
            self._write([call_row(record) for record in some])

    def _write(self, rows: list[Row]) -> None:
        batch = _Batch(rows)
        with self._line_lock:
            self._line.append(batch)
        with self._write_lock:
            if not batch.is_written:
                with self._line_lock:
                    batches, self._line = self._line, []
                self._write_together(batches)
        if batch.error:
            raise batch.error

    def _write_together(self, batches: Sequence[_Batch]) -> None:
        """One transaction for all; what goes wrong goes to all who brought rows."""
        error: BaseException | None = None
        try:
            with self.database.writing() as connection:
                upsert_calls(connection, [row for batch in batches for row in batch.rows])
        except BaseException as caught:
            error = caught
        for batch in batches:
            batch.is_written, batch.error = True, error


class _Batch:
    """Rows that wait to be written."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows, self.is_written = rows, False
        self.error: BaseException | None = None


def call_id(key: str) -> str:
    """The id of the call with this key."""
    return key[:ID_LENGTH]


def call_row(record: CallRecord) -> Row:
    """The columns of a call."""
    usage, failure = record.usage, record.failure
    return {
        "id": call_id(record.key),
        "cache_key": record.key,
        "model": record.model,
        "purpose": record.purpose,
        "item_id": record.item or None,
        "shown": list(record.shown) or None,
        "sample_ix": record.sample,
        "request": json.loads(record.request),
        "response_raw": record.raw,
        "finish_reason": record.finish,
        "status": "failed" if failure else "ok",
        "failure_code": failure.code if failure else None,
        "failure_reason": failure.reason or None if failure else None,
        "attempts": [dict(attempt) for attempt in record.attempts],
        "tokens_in": usage.tokens_in,
        "tokens_cached": usage.tokens_cached,
        "tokens_out": usage.tokens_out,
        "cost": record.cost,
        "price_table": record.prices,
        "latency_ms": None if record.latency is None else 1000 * record.latency,
        "at": record.at,
    }


def upsert_calls(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Write calls, in the order of their ids so that two processes never wait for each other in a circle."""
    latest: dict[str, Row] = {}
    for row in rows:
        before = latest.get(row["id"])
        if before is not None:
            row = {**(before if before["status"] == "ok" else row), "attempts": [*before["attempts"], *row["attempts"]]}
        latest[row["id"]] = row
    ordered = sorted(latest.values(), key=lambda row: str(row["id"]))
    connection.execute(_upsert(insert_of(connection.dialect)), ordered)


@cache
def _upsert(insert: Any) -> Any:
    """An INSERT by which a call replaces one that failed."""
    statement = insert(tables.judge_calls)
    given = statement.excluded
    changes: dict[str, Any] = {name: given[name] for name in given.keys() if name not in ("id", "cache_key", "run_id")}
    changes["attempts"] = _joined(tables.judge_calls.c.attempts, given.attempts)
    return statement.on_conflict_do_update(
        index_elements=["id"], set_=changes, where=tables.judge_calls.c.status != "ok"
    )


def _joined(first: Any, second: Any) -> Any:
    """Two JSON lists as one, by their texts."""
    first, second = (sa.func.coalesce(sa.type_coerce(text, sa.Text), "[]") for text in (first, second))
    joined = sa.func.substr(first, 1, sa.func.length(first) - 1) + "," + sa.func.substr(second, 2)
    text = sa.case((first == "[]", second), (second == "[]", first), else_=joined)
    return sa.type_coerce(text, tables.JsonText())


def _some(values: Iterable[T]) -> Iterator[list[T]]:
    """The values, as many at a time as go into one statement."""
    rest = iter(values)
    return iter(lambda: list(islice(rest, CALLS_AT_ONCE)), [])
