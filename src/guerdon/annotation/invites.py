"""Invitations: links that make one account each, until they expire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from guerdon.annotation.accounts import Account, insert_account
from guerdon.annotation.errors import RequestError
from guerdon.annotation.passwords import hash_password
from guerdon.runtime.web.secrets import hash_secret, new_secret
from guerdon.store import annotation_tables as tables
from guerdon.store.database import Database

DAYS_VALID: Final = 7.0


class InviteError(RequestError):
    """An invitation that is unknown, used or expired."""

    status = 410


@dataclass(frozen=True, slots=True)
class Invite:
    """What an invitation gives: a role, where its account begins, and who the person is at another site."""

    role: str
    project: str | None
    external_id: str | None


def create_invite(
    database: Database,
    *,
    role: str,
    now: float,
    project: str | None = None,
    external_id: str | None = None,
    created_by: str | None = None,
    days: float = DAYS_VALID,
) -> str:
    """A new invitation; returns its token, which is stored nowhere."""
    token = new_secret()
    row = {
        "token_hash": hash_secret(token), "role": role, "project": project, "external_id": external_id,
        "created_by": created_by, "created": now, "expires": now + days * 86_400,
    }  # fmt: skip
    with database.writing() as connection:
        connection.execute(sa.insert(tables.invites).values(**row))
    return token


def read_invite(database: Database, token: str, now: float) -> Invite:
    """What an invitation gives, if it can still be used."""
    with database.reading() as connection:
        return _usable(connection, token, now)


def accept_invite(
    database: Database,
    token: str,
    login: str,
    *,
    now: float,
    password: str | None = None,
    display_name: str | None = None,
    external_id: str | None = None,
) -> tuple[Account, Invite]:
    """The account that an invitation makes. Of two who use it at once, one gets it. external_id: of who signed in elsewhere."""
    password_hash = None if password is None else hash_password(password)
    with database.writing() as connection:
        invite = _usable(connection, token, now)
        account = insert_account(
            connection,
            login,
            role=invite.role,
            now=now,
            password_hash=password_hash,
            display_name=display_name,
            external_id=external_id or invite.external_id,
        )
        invites = tables.invites
        used = connection.execute(
            sa.update(invites)
            .where(invites.c.token_hash == hash_secret(token), invites.c.used_at.is_(None))
            .values(used_by=account.id, used_at=now)
        )
        if used.rowcount != 1:
            raise _USED
        return account, invite


_USED: Final = InviteError("this invitation must be new, and was used. Sign in, or ask for another.")


def _usable(connection: sa.Connection, token: str, now: float) -> Invite:
    invites = tables.invites
    row: Any = connection.execute(sa.select(invites).where(invites.c.token_hash == hash_secret(token))).first()
    if row is None:
        raise InviteError("this invitation is unknown. Copy the whole link, or ask for another.")
    if row.used_at is not None:
        raise _USED
    if row.expires <= now:
        raise InviteError("this invitation has expired. Ask for another.")
    return Invite(row.role, row.project, row.external_id)
