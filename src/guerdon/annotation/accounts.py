"""Accounts: who may sign in, and what each may do.

An account belongs to an annotator of the store, whose judgments it gives. A store is one team: a role holds for all its
projects.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.errors import NotYours, RequestError
from guerdon.annotation.passwords import hash_password
from guerdon.errors import GuerdonError, did_you_mean, field_error
from guerdon.store import annotation_tables as tables
from guerdon.store.annotation_tables import ACCOUNT_ROLES
from guerdon.store.database import Database
from guerdon.store.items import Annotator
from guerdon.store.tables import annotators
from guerdon.store.writer import insert_rows

JUDGE: Final = frozenset({"owner", "manager", "adjudicator", "annotator"})
READ: Final = frozenset({"owner", "manager", "adjudicator", "viewer", "service"})
ADD_ITEMS: Final = frozenset({"owner", "manager", "service"})
ADJUDICATE: Final = frozenset({"owner", "manager", "adjudicator"})
MANAGE: Final = frozenset({"owner", "manager"})
GIVEN_ROLES: Final = ("manager", "adjudicator", "annotator", "viewer")  # by a manager; owners alone make owners

_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
_LONGEST_NAME: Final = 100
_AS_ANNOTATOR: Final = {"owner": "owner", "manager": "manager", "adjudicator": "adjudicator", "service": "judge"}


@dataclass(frozen=True, slots=True)
class Account:
    """Someone who may sign in. state: active, paused (may look, but not judge) or removed."""

    id: str
    annotator_id: str
    login: str
    display_name: str
    role: str
    state: str
    external_id: str | None = None


_COLUMNS: Final = [tables.accounts.c[name] for name in Account.__slots__]


def create_account(
    database: Database,
    login: str,
    *,
    role: str,
    now: float,
    password: str | None = None,
    display_name: str | None = None,
    external_id: str | None = None,
) -> Account:
    """A new account. Without a password, its owner signs in by link or through the identity provider."""
    password_hash = None if password is None else hash_password(password)
    with database.writing() as connection:
        return insert_account(
            connection,
            login,
            role=role,
            now=now,
            password_hash=password_hash,
            display_name=display_name,
            external_id=external_id,
        )


def insert_account(
    connection: sa.Connection,
    login: str,
    *,
    role: str,
    now: float,
    password_hash: str | None = None,
    display_name: str | None = None,
    external_id: str | None = None,
) -> Account:
    """A new account, within a transaction that does more."""
    name = read_login(login)
    if role not in ACCOUNT_ROLES:
        raise field_error("role", f"one of {', '.join(ACCOUNT_ROLES)}", role, did_you_mean(role, ACCOUNT_ROLES))
    taken = connection.scalar(sa.select(tables.accounts.c.id).where(tables.accounts.c.login == name))
    if taken is not None:
        raise GuerdonError(f"login must be new, got {name}, which somebody has. Choose another.")
    if external_id is not None:
        is_same = tables.accounts.c.external_id == external_id
        if connection.scalar(sa.select(tables.accounts.c.id).where(is_same)) is not None:
            raise GuerdonError("this person must be new, and has an account. Sign in instead.")
    annotator = Annotator("human", name)
    row = {"id": annotator.id, "kind": "human", "name": name, "fingerprint": None}
    insert_rows(connection, annotators, [{**row, "role": _AS_ANNOTATOR.get(role, "annotator")}])
    shown = read_name(display_name or name)
    account = Account(secrets.token_hex(16), annotator.id, name, shown, role, "active", external_id)
    values = {column.name: getattr(account, column.name) for column in _COLUMNS}
    connection.execute(
        sa.insert(tables.accounts).values(**values, password_hash=password_hash, created=now, guidelines_seen={})
    )
    return account


def read_login(text: str) -> str:
    """The login that the text names, in lower case."""
    login = text.strip().lower()
    if not _LOGIN.fullmatch(login):
        claim = "1 to 64 letters a-z, digits or . _ @ + -, a letter or digit first"
        raise field_error("login", claim, text, "Choose another; the name that others see may be any.")
    return login


def read_name(text: str) -> str:
    """The name that others see."""
    name = " ".join(text.split())
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise field_error("name", f"1 to {_LONGEST_NAME} characters", text, "Choose another.")
    return name


def account_by_login(database: Database, login: str) -> Account | None:
    """The account with this login, in any state."""
    return _account_where(database, tables.accounts.c.login == login.strip().lower())


def account_by_external_id(database: Database, external_id: str) -> Account | None:
    """The account of this person at another site."""
    return _account_where(database, tables.accounts.c.external_id == external_id)


def list_accounts(database: Database) -> Sequence[Account]:
    """All accounts, by login."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(*_COLUMNS).order_by(tables.accounts.c.login))
        return [Account(*row) for row in rows]


def first_owner(database: Database) -> Account | None:
    """The owner whose login is first, None where the store has none who is active."""
    return next((each for each in list_accounts(database) if (each.role, each.state) == ("owner", "active")), None)


def password_hash_of(database: Database, login: str) -> tuple[Account, str | None] | None:
    """The account that may sign in with this login, and the hash of its password."""
    query = sa.select(*_COLUMNS, tables.accounts.c.password_hash)
    with database.reading() as connection:
        row = connection.execute(query.where(tables.accounts.c.login == login.strip().lower())).first()
    return None if row is None or row.state == "removed" else (Account(*row[:-1]), row.password_hash)


def store_password(database: Database, account_id: str, password_hash: str) -> None:
    """Replace the hash of a password."""
    with database.writing() as connection:
        _update(connection, account_id, password_hash=password_hash)


def set_state(database: Database, account_id: str, state: str) -> None:
    """Let an account be active, paused or removed; a removed one is signed out everywhere."""
    with database.writing() as connection:
        _update(connection, account_id, state=state)
        if state == "removed":
            connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.account_id == account_id))


def change_person(
    database: Database, by: Account, account_id: str, state: str | None = None, role: str | None = None
) -> None:
    """Pause or resume an account, or give it another role. Nobody changes oneself, and only owners change owners."""
    account = next((each for each in list_accounts(database) if each.id == account_id), None)
    if account is None:
        raise NotYours("there is no such account. Reload the page.")
    if account.id == by.id:
        raise RequestError("your own account must be changed by somebody else. Ask another manager.")
    if account.role == "owner" and by.role != "owner":
        raise RequestError("an owner must be changed by an owner. Ask one.")
    if state is not None:
        if state not in ("active", "paused"):
            raise RequestError("state must be active or paused. Choose one of these.")
        set_state(database, account.id, state)
    if role is not None:
        allowed = (*GIVEN_ROLES, "owner") if by.role == "owner" else GIVEN_ROLES
        if role not in allowed:
            raise RequestError(f"role must be one of {', '.join(allowed)}. Choose one of these.")
        with database.writing() as connection:
            _update(connection, account.id, role=role)


def guidelines_seen(database: Database, account_id: str, project: str) -> str | None:
    """The version of a project's guidelines that this person has read."""
    with database.reading() as connection:
        seen = connection.scalar(_select_seen(account_id))
    return (seen or {}).get(project)


def mark_guidelines_seen(database: Database, account_id: str, project: str, version: str) -> None:
    """Remember that this person has read this version."""
    with database.writing() as connection:
        seen = dict(connection.scalar(_select_seen(account_id)) or {})
        _update(connection, account_id, guidelines_seen={**seen, project: version})


def _select_seen(account_id: str) -> Any:
    return sa.select(tables.accounts.c.guidelines_seen).where(tables.accounts.c.id == account_id)


def _account_where(database: Database, condition: Any) -> Account | None:
    with database.reading() as connection:
        row = connection.execute(sa.select(*_COLUMNS).where(condition)).first()
    return None if row is None else Account(*row)


def _update(connection: sa.Connection, account_id: str, **values: Any) -> None:
    connection.execute(sa.update(tables.accounts).where(tables.accounts.c.id == account_id).values(**values))
