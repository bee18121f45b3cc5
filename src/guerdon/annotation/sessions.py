"""Who is signed in. A browser holds a secret, the store its hash, so that who reads the store can sign in as nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from guerdon.annotation.accounts import Account
from guerdon.runtime.web.secrets import hash_secret, new_secret
from guerdon.store import annotation_tables as tables
from guerdon.store.database import Database

SECONDS_VALID: Final = 14 * 86_400.0
_SEEN_EVERY: Final = 300.0  # seconds between two writes of when a session was last used


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in. csrf: what each request that changes something must repeat."""

    account: Account
    csrf: str


# Built once: each request reads it.
_SESSION: Final = (
    sa.select(
        *(tables.accounts.c[name] for name in Account.__slots__), tables.sessions.c.csrf, tables.sessions.c.last_seen
    )
    .join(tables.sessions, tables.accounts.c.id == tables.sessions.c.account_id)
    .where(tables.sessions.c.token_hash == sa.bindparam("token_hash"))
    .where(tables.sessions.c.expires > sa.bindparam("now"), tables.accounts.c.state != "removed")
)


def open_session(database: Database, account_id: str, now: float) -> str:
    """Sign somebody in; returns the secret for the cookie."""
    token = new_secret()
    row = {"account_id": account_id, "csrf": new_secret(), "created": now, "expires": now + SECONDS_VALID}
    with database.writing() as connection:
        connection.execute(sa.insert(tables.sessions).values(token_hash=hash_secret(token), last_seen=now, **row))
    return token


def session_of(database: Database, token: str, now: float) -> Session | None:
    """The session of a cookie; None where it has ended or its account was removed."""
    with database.reading() as connection:
        row = connection.execute(_SESSION, {"token_hash": hash_secret(token), "now": now}).first()
    if row is None:
        return None
    if now - row.last_seen > _SEEN_EVERY:
        _note_use(database, token, now)
    return Session(Account(*row[:-2]), row.csrf)


def close_session(database: Database, token: str) -> None:
    """Sign out."""
    with database.writing() as connection:
        connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.token_hash == hash_secret(token)))


def close_sessions_of(database: Database, account_id: str) -> None:
    """Sign somebody out everywhere."""
    with database.writing() as connection:
        connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.account_id == account_id))


def delete_expired(database: Database, now: float) -> None:
    """Forget sessions that have ended, and failures to sign in of a day ago."""
    with database.writing() as connection:
        connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.expires <= now))
        connection.execute(sa.delete(tables.login_failures).where(tables.login_failures.c.since < now - 86_400))


def _note_use(database: Database, token: str, now: float) -> None:
    with database.writing() as connection:
        connection.execute(
            sa.update(tables.sessions).where(tables.sessions.c.token_hash == hash_secret(token)).values(last_seen=now)
        )
