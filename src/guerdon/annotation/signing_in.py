"""Signing in with a password: the same work for known and unknown names, and a growing wait after failures."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.accounts import Account, password_hash_of, store_password
from guerdon.annotation.errors import RequestError
from guerdon.annotation.passwords import hash_password, is_password, needs_new_hash
from guerdon.annotation.sessions import close_sessions_of
from guerdon.store import annotation_tables as tables
from guerdon.store.database import Database

FREE_FAILURES: Final = {"login": 5, "address": 50}  # many people may share an address
LONGEST_WAIT: Final = 300.0
FORGOTTEN_AFTER: Final = 3600.0  # seconds without a failure


class LoginRefused(RequestError):
    """A login and password that do not match."""

    status = 403


class TooManyFailures(RequestError):
    """Somebody has to wait. seconds: how long."""

    status = 429

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, round(seconds))
        super().__init__(f"too many failed attempts. Try again in {self.seconds} s.")


def sign_in(database: Database, login: str, password: str, address: str, now: float) -> Account:
    """The account of this login and password.

    The attempt counts as a failure before the password is checked, so that many at once gain nothing.
    """
    keys = {"login": f"login {login.strip().lower()[:200]}", "address": f"address {address}"}
    _count_attempt(database, keys, now)
    known = password_hash_of(database, login)
    account, password_hash = known or (None, None)
    if not is_password(password, password_hash) or account is None:
        raise LoginRefused("login and password do not match. Try again, or ask for a new invitation.")
    _forget_attempt(database, keys)
    if password_hash and needs_new_hash(password_hash):
        store_password(database, account.id, hash_password(password))
    return account


def change_password(database: Database, account: Account, old: str, new: str, address: str, now: float) -> None:
    """Replace a password, and sign out everywhere. An account that has none gets its first."""
    known = password_hash_of(database, account.login)
    if known is not None and known[1] is not None:
        sign_in(database, account.login, old, address, now)
    store_password(database, account.id, hash_password(new))
    close_sessions_of(database, account.id)


def _count_attempt(database: Database, keys: dict[str, str], now: float) -> None:
    """Count an attempt under each key, or raise TooManyFailures."""
    failures = tables.login_failures
    with database.writing() as connection:
        rows = {
            row.key: row for row in connection.execute(sa.select(failures).where(failures.c.key.in_(keys.values())))
        }
        wait = max((row.blocked_until - now for row in rows.values() if row.blocked_until is not None), default=0.0)
        if wait > 0:
            raise TooManyFailures(wait)
        for kind, key in keys.items():
            _count_one(connection, key, rows.get(key), FREE_FAILURES[kind], now)


def _count_one(connection: sa.Connection, key: str, row: Any, free: int, now: float) -> None:
    failures = tables.login_failures
    is_recent = row is not None and now - max(row.since, row.blocked_until or 0.0) < FORGOTTEN_AFTER
    number = row.failures + 1 if is_recent else 1
    wait = min(2.0 ** (number - free), LONGEST_WAIT) if number >= free else 0.0
    values = {"failures": number, "since": now, "blocked_until": now + wait if wait else None}
    if row is None:
        connection.execute(sa.insert(failures).values(key=key, **values))
    else:
        connection.execute(sa.update(failures).where(failures.c.key == key).values(**values))


def _forget_attempt(database: Database, keys: dict[str, str]) -> None:
    """After a success: the name starts anew, the address loses the attempt that was no failure."""
    failures = tables.login_failures
    with database.writing() as connection:
        connection.execute(sa.delete(failures).where(failures.c.key == keys["login"]))
        of_address = failures.c.key == keys["address"]
        connection.execute(
            sa.update(failures).where(of_address).values(failures=failures.c.failures - 1, blocked_until=None)
        )
