"""Short transactions at the speed of the driver, for statements that run thousands of times a second.

A `Statement` is one of SQLAlchemy, compiled once for each kind of database and then handed to the driver itself. A `Writer` is
the one connection of this process through which it runs; SQLite has one writer at a time anyway, and a lock of ours is fairer
and faster than its polling.
"""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import exc

from guerdon.store.columns import EscapedText, JsonText
from guerdon.store.database import Database, insert_of


class Statement:
    """A statement with named parameters, `sa.bindparam(...)`. columns: of an INSERT, whose names are its parameters.

    construct: the statement, or a function that makes it with the `insert` of each kind of database.
    """

    def __init__(self, construct: sa.Executable | Callable[[Any], sa.Executable], columns: Sequence[str] = ()) -> None:
        self._construct = construct
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def on(self, dialect: sa.Dialect) -> _Compiled:
        """The statement as this kind of database reads it."""
        if (compiled := self._compiled.get(dialect.name)) is None:
            construct = self._construct
            if not isinstance(construct, sa.Executable):
                construct = construct(insert_of(dialect))
            compiled = self._compiled[dialect.name] = _Compiled(construct, dialect, self._columns)
        return compiled


class _Compiled:
    """The text of a statement, and what turns values into parameters and columns into values."""

    def __init__(self, construct: Any, dialect: sa.Dialect, columns: Sequence[str]) -> None:
        compiled = construct.compile(dialect=dialect, column_keys=[*columns] or None)
        self.text = str(compiled)
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        self._names: tuple[str, ...] = tuple(compiled.positiontup or binds)
        self._is_positional: bool = compiled.positional
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        self._writers = _processors([binds[name].type for name in self._names], dialect, "bind")
        results = [*getattr(construct, "exported_columns", ())]
        self._readers = _processors([column.type for column in results], dialect, "result")
        self._row = _row_type([str(column.name) for column in results])

    def parameters(self, values: dict[str, Any]) -> Any:
        """The values as the driver takes them."""
        if self._constants:
            values = {**self._constants, **values}
        row = [values[name] for name in self._names]
        for i, write in self._writers:
            if row[i] is not None:
                row[i] = write(row[i])
        return row if self._is_positional else dict(zip(self._names, row, strict=True))

    def row(self, columns: Sequence[Any]) -> Any:
        """The columns of a row as values, by name."""
        values = [*columns]
        for i, read in self._readers:
            if values[i] is not None:
                values[i] = read(values[i])
        return self._row(values)


def _row_type(names: list[str]) -> Any:
    """What makes named tuples of rows."""
    make_type: Any = namedtuple
    return make_type("Row", names)._make


def _processors(kinds: Sequence[Any], dialect: sa.Dialect, way: str) -> list[tuple[int, Callable[[Any], Any]]]:
    """What converts values of these types, for the places that have something to convert: most have not."""
    every = ((i, _processor(kind, dialect, way)) for i, kind in enumerate(kinds))
    return [(i, processor) for i, processor in every if processor is not None]


def _processor(kind: Any, dialect: sa.Dialect, way: str) -> Callable[[Any], Any] | None:
    if way == "result" and isinstance(kind, sa.Numeric | sa.Float):
        return None  # the drivers give floats
    if isinstance(kind, JsonText | EscapedText):  # a call less than through SQLAlchemy
        read_or_write = kind.process_bind_param if way == "bind" else kind.process_result_value
        return partial(read_or_write, dialect=dialect)
    adapted = kind.dialect_impl(dialect)
    processor: Callable[[Any], Any] | None = (
        adapted.bind_processor(dialect) if way == "bind" else adapted.result_processor(dialect, None)
    )
    return processor


class Transaction:
    """A transaction in progress. PostgreSQL gets the statements in a pipeline: only who reads a row waits for the server."""

    def __init__(self, connection: Any, dialect: sa.Dialect) -> None:
        self._connection = connection
        self.dialect = dialect

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is a file."""
        return self.dialect.name == "sqlite"

    def run(self, statement: Statement, **values: Any) -> None:
        """Run a statement whose rows nobody reads."""
        compiled = statement.on(self.dialect)
        self._connection.execute(compiled.text, compiled.parameters(values))

    def send(self, statement: Statement, **values: Any) -> Callable[[], Any]:
        """Run a statement; what is returned gives the first row of its result, once, as `first` does."""
        compiled = statement.on(self.dialect)
        cursor = self._connection.execute(compiled.text, compiled.parameters(values))

        def first() -> Any:
            columns = cursor.fetchone()
            return None if columns is None else compiled.row(columns)

        return first

    def first(self, statement: Statement, **values: Any) -> Any:
        """The first row of the result, as a named tuple; None where there is none."""
        return self.send(statement, **values)()

    def all(self, statement: Statement, **values: Any) -> list[Any]:
        """All rows of the result, as named tuples."""
        compiled = statement.on(self.dialect)
        cursor = self._connection.execute(compiled.text, compiled.parameters(values))
        return [compiled.row(columns) for columns in cursor.fetchall()]


class Writer:
    """One connection, one transaction at a time. Get it with `writer_of`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._lock = threading.Lock()
        self._pooled: Any = None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that ends with the block, or leaves no trace where the block fails."""
        engine = self.database.engine
        failures: Any = engine.dialect.loaded_dbapi.Error
        with self._lock:
            try:
                connection = self._connection()
                if self.database.is_sqlite:
                    connection.execute("BEGIN IMMEDIATE")
                with nullcontext() if self.database.is_sqlite else connection.pipeline():
                    yield Transaction(connection, engine.dialect)
                    connection.commit()
            except failures as error:
                is_lost = engine.dialect.is_disconnect(error, self._pooled, None)
                self._roll_back(is_lost)
                with self.database.explained():
                    raise exc.DBAPIError.instance(
                        None, None, error, failures, connection_invalidated=is_lost, dialect=engine.dialect
                    ) from None
            except BaseException:
                self._roll_back(False)
                with self.database.explained():
                    raise

    def close(self) -> None:
        """Close the connection; the next transaction opens another. A store that is closed closes it too."""
        with self._lock:
            if self._pooled is not None:
                self._pooled.detach()  # the pool that it is from may be gone
                self._pooled.close()
                self._pooled = None

    @property
    def driver_connection(self) -> Any:
        """The driver's connection; it is opened where it is not yet."""
        return self._connection()

    def _connection(self) -> Any:
        if self._pooled is None:
            self._pooled = self.database.engine.raw_connection()
        return self._pooled.driver_connection

    def _roll_back(self, is_lost: bool) -> None:
        """End the transaction; a connection that is lost is replaced by the next one that asks."""
        if self._pooled is None:
            return
        with suppress(Exception):  # what failed is what the caller hears of
            self._pooled.driver_connection.rollback()
        if is_lost:
            self._pooled.invalidate()
            self._pooled = None


_WRITERS: Final[WeakKeyDictionary[sa.Engine, Writer]] = WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def writer_of(database: Database) -> Writer:
    """The writer of a store that is open, the same for all who ask."""
    with _LOCK:
        if (writer := _WRITERS.get(database.engine)) is None:
            writer = _WRITERS[database.engine] = Writer(database)
            sa.event.listen(database.engine, "engine_disposed", lambda engine: writer.close())
        return writer
