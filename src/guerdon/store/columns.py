"""The kinds of columns that the tables of the store have, and the metadata that all of its tables are in."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    MetaData,
    String,
    Text,
    TypeDecorator,
    literal_column,
    text,
)
from sqlalchemy.types import TypeEngine

from guerdon.store.canonical import ID_LENGTH, Content, canonical

_AS_HASH: Final = String(ID_LENGTH).with_variant(String(ID_LENGTH, collation="C"), "postgresql")


class JsonText(TypeDecorator[Any]):
    """Any JSON value, as its canonical text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """The canonical text; None is NULL."""
        if isinstance(value, Content):
            return value.text
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """The value."""
        return None if value is None else json.loads(value)


class EscapedText(TypeDecorator[str]):
    r"""Text of any characters, as in a JSON string without its quotes: a backslash is `\\`, NUL is `\u0000`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The escaped text; None is NULL."""
        if value is not None and value.isascii() and value.isalnum():
            return value
        return None if value is None else canonical(value)[1:-1]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text."""
        return value if value is None or "\\" not in value else str(json.loads(f'"{value}"'))


def id_column(name: str = "id", **settings: Any) -> Column[str]:
    """An id."""
    return Column(name, _AS_HASH, **settings)


def reference(name: str, target: str, **settings: Any) -> Column[str]:
    """The id of a row of another table."""
    return Column(name, _AS_HASH, ForeignKey(target), **settings)


def word(name: str, words: tuple[str, ...], default: str | None = None) -> Column[str]:
    """One of these words, which the table has to check with `one_of`."""
    return Column(name, String(16), nullable=False, server_default=default, info={"words": words})


def required(name: str, kind: type[TypeEngine[Any]], default: str | None = None) -> Column[Any]:
    """A column that is never NULL. default: as SQL."""
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def one_of(name: str, words: tuple[str, ...]) -> CheckConstraint:
    """The check that a column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{name} IN ({listed})", name=f"{name}_is_known")


def only_where(condition: str) -> dict[str, Any]:
    """Settings of an index of the rows that meet a condition."""
    return {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}


def literal(word: str) -> ColumnElement[str]:
    """A word as it stands in the SQL: SQLite plans a statement anew at each run where a partial index depends on a parameter."""
    return literal_column(f"'{word}'", String())


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)
