"""The version of a store's schema: creates it, brings an older one up to date, and refuses a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from guerdon.contracts import GuerdonError
from guerdon.store.annotation_tables import metadata
from guerdon.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE: Final = "guerdon_schema"
SCHEMA: Final = "4"  # the newest; migrations/versions has a file for each
_INIT_LOCK: Final = 0x677565  # of PostgreSQL, so that two processes do not create the tables at once


def migrate(database: Database) -> tuple[str | None, str]:
    """Create the tables, or bring them up to date, in one transaction; returns the schema before (None if none) and after."""
    with database.writing() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_INIT_LOCK)))
        before = _schema_of(connection, database)
        if before is None:
            _refuse_foreign_tables(connection, database)
        if before != SCHEMA:
            from alembic import command  # takes a fifth of a second to load, which a store of today need not wait for

            command.upgrade(alembic_config(connection), "head")
    return before, SCHEMA


def require_schema(connection: sa.Connection, database: Database) -> None:
    """Raise GuerdonError unless the store has the newest schema."""
    schema = _schema_of(connection, database)
    if schema is None:
        raise GuerdonError(f"{database.location}: is no store yet. Create it with `guerdon store init`.")
    if schema != SCHEMA:
        raise GuerdonError(
            f"{database.location}: has schema {schema}, this Guerdon needs {SCHEMA}. Bring it up to date with `guerdon store init`."
        )


def has_schema(connection: sa.Connection, database: Database) -> bool:
    """Whether the database is a store of any version."""
    return _schema_of(connection, database) is not None


def alembic_config(connection: sa.Connection) -> Config:
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _schema_of(connection: sa.Connection, database: Database) -> str | None:
    """The version of the schema, None where there is none; an error where a newer Guerdon wrote it."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    schema: Any = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()
    if schema not in (None, SCHEMA) and schema not in _known_schemas(connection):
        raise GuerdonError(
            f"{database.location}: was written by a newer Guerdon (schema {schema}, this one reads up to {SCHEMA}). "
            "Upgrade with `pip install -U guerdon`."
        )
    return None if schema is None else str(schema)


def _known_schemas(connection: sa.Connection) -> set[str]:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config(connection))
    return {script.revision for script in scripts.walk_revisions()}


def _refuse_foreign_tables(connection: sa.Connection, database: Database) -> None:
    """Raise GuerdonError for a file of another program, or a database that has tables of our names."""
    present = set(sa.inspect(connection).get_table_names()) - {VERSION_TABLE}
    foreign = present if database.is_sqlite else present & set(metadata.tables)
    if foreign:
        raise GuerdonError(
            f"{database.location}: must be a new database, got one with other tables ({', '.join(sorted(foreign)[:5])}). "
            "Name another."
        )
