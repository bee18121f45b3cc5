"""Opens a store, begins its transactions, and turns what a database complains of into one line.

SQLite: WAL, so that reading and writing go on at once; a writer takes the lock when it begins (BEGIN IMMEDIATE), waits up to
30 s for another one, and foreign keys are on. PostgreSQL: readers see one snapshot, writers lock rows in the order of ids.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc, pool
from sqlalchemy.dialects import sqlite

from guerdon.contracts import GuerdonError
from guerdon.store.location import StoreLocation, without_password

BUSY_SECONDS: Final = 30
CACHE_KIB: Final = 65_536  # pages of SQLite in memory: ids are hashes, so a bulk import writes all over its indexes
CHECKPOINT_PAGES: Final = (
    8_000  # of the journal, 32 MB: whoever fills it waits while it moves into the file, one answer in 300
)


@dataclass(frozen=True, slots=True)
class Database:
    """A store that is open. Make one with `open_database`; its schema may still have to be created (`schema.py`)."""

    location: StoreLocation
    engine: sa.Engine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees the store as it is when it begins, whatever others write meanwhile."""
        level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.explained(is_writer=False), self.engine.connect().execution_options(**level) as connection:
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self, one_snapshot: bool = False) -> Iterator[sa.Connection]:
        """A transaction that ends with the block, or leaves no trace where the block fails.

        one_snapshot: it sees the store as it is when it begins, and fails where another one changed what it writes.
        """
        level = {"isolation_level": "REPEATABLE READ"} if one_snapshot and not self.is_sqlite else {}
        with self.explained(), self.engine.connect().execution_options(is_writer=True, **level) as connection:
            with connection.begin():
                yield connection

    @contextmanager
    def explained(self, is_writer: bool = True) -> Iterator[None]:
        """What the database complains of, if a user can do something about it, as one line."""
        try:
            yield
        except exc.DBAPIError as error:
            if (line := _explain(error, is_writer)) is None:
                raise
            raise GuerdonError(f"{self.location}: {line}") from None
        except (UnicodeDecodeError, JSONDecodeError):  # in a column, or in the name of a table that SQLite complains of
            raise GuerdonError(f"{self.location}: {_DAMAGED}") from None

    def sync(self) -> None:
        """What is committed, on the disk, so that it outlives a power failure too. Nobody waits for it; PostgreSQL does it itself."""
        if not self.is_sqlite:
            return
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()

    def close(self) -> None:
        """Give all connections back; SQLite then moves its journal into the file."""
        self.engine.dispose()


@contextmanager
def open_database(location: StoreLocation, create: bool = False) -> Iterator[Database]:
    """The database at this location, closed at the end of the block. create: a file may be missing; else that is an error."""
    engine = _sqlite_engine(location.path, create) if location.path is not None else _postgres_engine(location)
    database = Database(location, engine)
    try:
        yield database
    finally:
        database.close()


def insert_of(dialect: sa.Dialect) -> Any:
    """The `insert` of this kind of database, whose statements may say what happens to rows that are there already."""
    if dialect.name == "sqlite":
        return sqlite.insert
    from sqlalchemy.dialects import postgresql

    return postgresql.insert


# ---- SQLite --------------------------------------------------------------------------------------------------------


def _sqlite_engine(path: Path, create: bool) -> sa.Engine:
    if path.is_dir():
        raise GuerdonError(f"{path}: must be a file, got a folder. Name a file in it.")
    if not path.exists() and not create:
        raise GuerdonError(f"{path}: no such store. Create it with `guerdon store init {path}`.")
    if not path.parent.is_dir():
        raise GuerdonError(f"{path}: its folder does not exist. Create {path.parent}.")
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), poolclass=pool.QueuePool, connect_args={"timeout": BUSY_SECONDS}
    )
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={BUSY_SECONDS * 1000}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        "foreign_keys=ON",
        f"cache_size=-{CACHE_KIB}",
        "temp_store=MEMORY",
    ):
        try:
            cursor.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):  # a file that cannot be written can still be read
                raise
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    is_writer = connection.get_execution_options().get("is_writer", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writer else "BEGIN")


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------


def _postgres_engine(location: StoreLocation) -> sa.Engine:
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError:
        raise GuerdonError(
            f"{location}: reading PostgreSQL needs the package psycopg. Run pip install 'guerdon[postgres]'."
        ) from None
    try:
        url = sa.make_url(location.url or "")
        if not url.database:
            raise GuerdonError(f"{location}: must name a database. Write postgresql://USER@HOST/DATABASE.")
        return sa.create_engine(url, pool_pre_ping=False)
    except (exc.ArgumentError, ValueError) as error:
        if isinstance(error, GuerdonError):
            raise
        raise GuerdonError(
            f"{location}: is not a URL of a database. Write postgresql://USER@HOST:PORT/DATABASE; "
            "characters such as @ in a password are written as %40."
        ) from None


# ---- Errors --------------------------------------------------------------------------------------------------------

_DAMAGED: Final = "is damaged. Restore a backup."
_READ_ONLY: Final = "readonly"
_NOT_READ: Final = (
    "cannot be read: SQLite needs files next to the store even to read it, and the folder is read-only. "
    "Copy the store to a folder that you can write to."
)
_SQLITE: Final = {
    "file is not a database": "must be a Guerdon store, got a file that is no SQLite database. Name another file.",
    _READ_ONLY: "cannot be written: the file or its folder is read-only. Change the permissions, or copy the store.",
    "unable to open": "cannot be opened. Check the permissions of the file and its folder.",
    "disk is full": "cannot be written: the disk is full. Free space; the same command goes on where this one stopped.",
    "is locked": f"is locked: another process has been writing for {BUSY_SECONDS} s. Wait for it, or stop it.",
    "disk I/O error": "cannot be read or written (disk I/O error). Check the disk, its free space and limits.",
    "malformed": _DAMAGED,
    "Could not decode": _DAMAGED,
}


def _explain(error: exc.DBAPIError, is_writer: bool) -> str | None:
    """What is wrong and what to do; None for a mistake of ours."""
    cause = str(error.orig)
    if isinstance(error.orig, sqlite3.Error):
        if _READ_ONLY in cause and not is_writer:
            return _NOT_READ
        return next((line for sign, line in _SQLITE.items() if sign in cause), None)
    state = getattr(error.orig, "sqlstate", None)
    first = without_password(next((line for line in cause.splitlines() if line.strip()), "no reason given")).rstrip(".")
    if state in _POSTGRES:
        return f"{first[:200]}. {_POSTGRES[state]}"
    if isinstance(error, exc.OperationalError) and (state is None or error.connection_invalidated):
        return f"the server cannot be reached ({first[:200]}). Check host, port, user and password, and that it runs."
    return None


_POSTGRES: Final = {
    "42501": "Ask for the right to read and write this database.",
    "25006": "The server takes no writes: connect to the primary.",
    "53100": "Free space on the server; the same command goes on where this one stopped.",
    "53300": "The server takes no more connections: wait, or raise its limit.",
    "57014": "The server stopped the statement: raise its time limit.",
    "57P01": "The server was stopped: start it, then run the same command.",
    "55P03": "Another process holds the rows: wait for it.",
}
