"""API tokens: for programs, with scopes, stored as hashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from guerdon.annotation.accounts import Account, read_name
from guerdon.errors import did_you_mean, field_error
from guerdon.runtime.web.secrets import hash_secret, new_secret
from guerdon.store.annotation_tables import accounts, api_tokens
from guerdon.store.database import Database

SCOPES: Final = ("judge", "items", "read")  # claim and submit; add items; labels, agreement, export and status
PREFIX: Final = "guerdon_"  # what scanners for leaked secrets look for
_USED_EVERY: Final = 300.0


# Built once: each request of a program reads it.
_ACCOUNT: Final = (
    sa.select(*(accounts.c[name] for name in Account.__slots__), api_tokens.c.scopes, api_tokens.c.last_used)
    .join(api_tokens, accounts.c.id == api_tokens.c.account_id)
    .where(api_tokens.c.token_hash == sa.bindparam("token_hash"), ~api_tokens.c.revoked, accounts.c.state != "removed")
    .where(sa.or_(api_tokens.c.expires.is_(None), api_tokens.c.expires > sa.bindparam("now")))
)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its owner sees it in a list."""

    token_hash: str
    name: str
    scopes: tuple[str, ...]
    created: float
    expires: float | None
    last_used: float | None


def create_token(
    database: Database, account_id: str, name: str, scopes: Sequence[str], now: float, days: float | None = None
) -> str:
    """A new token, which is shown once and stored nowhere. days: until it expires; None for never."""
    for scope in scopes:
        if scope not in SCOPES:
            raise field_error("scope", f"one of {', '.join(SCOPES)}", scope, did_you_mean(scope, SCOPES))
    if not scopes:
        raise field_error("scope", f"one or more of {', '.join(SCOPES)}", None, "Choose one.")
    token = PREFIX + new_secret()
    row = {
        "token_hash": hash_secret(token), "account_id": account_id, "name": read_name(name), "scopes": sorted(set(scopes)),
        "created": now, "expires": None if days is None else now + days * 86_400,
    }  # fmt: skip
    with database.writing() as connection:
        connection.execute(sa.insert(api_tokens).values(**row))
    return token


def account_of_token(database: Database, token: str, now: float) -> tuple[Account, frozenset[str]] | None:
    """Whose token this is, and its scopes; None where it is unknown, expired or revoked."""
    with database.reading() as connection:
        row = connection.execute(_ACCOUNT, {"token_hash": hash_secret(token), "now": now}).first()
    if row is None:
        return None
    if row.last_used is None or now - row.last_used > _USED_EVERY:
        with database.writing() as connection:
            used = sa.update(api_tokens).where(api_tokens.c.token_hash == hash_secret(token))
            connection.execute(used.values(last_used=now))
    return Account(*row[:-2]), frozenset(row.scopes)


def list_tokens(database: Database, account_id: str) -> Sequence[ApiToken]:
    """The tokens of an account that were not revoked, oldest first."""
    query = sa.select(*(api_tokens.c[name] for name in ApiToken.__slots__))
    mine = (api_tokens.c.account_id == account_id) & ~api_tokens.c.revoked
    with database.reading() as connection:
        rows = connection.execute(query.where(mine).order_by(api_tokens.c.created)).all()
    return [ApiToken(row.token_hash, row.name, tuple(row.scopes), *row[3:]) for row in rows]


def revoke_token(database: Database, account_id: str, token_hash: str) -> bool:
    """Let a token of this account end; returns whether there was one."""
    mine = (api_tokens.c.token_hash == token_hash) & (api_tokens.c.account_id == account_id) & ~api_tokens.c.revoked
    with database.writing() as connection:
        return connection.execute(sa.update(api_tokens).where(mine).values(revoked=True)).rowcount == 1
