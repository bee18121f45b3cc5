"""The tables of people who compare: projects, accounts, sessions, known answers, and what is counted as people work.

They belong to one store alone: exports, imports and merges leave them out, so that no secret leaves with the judgments.
Tokens and passwords are stored as hashes. Times are seconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    false,
)

from guerdon.store import tables  # noqa: F401 - whoever has these tables has all
from guerdon.store.columns import (
    EscapedText,
    JsonText,
    id_column,
    metadata,
    one_of,
    reference,
    required,
    word,
)

__all__ = [
    "ACCOUNT_ROLES", "ACCOUNT_STATES", "COUNTS", "PROJECT_STATES", "accounts", "api_tokens", "gold_answers",
    "invites", "login_failures", "metadata", "project_counts", "projects", "sessions", "summaries",
    "work_counts",
]  # fmt: skip

PROJECT_STATES: Final = ("open", "paused", "closed")
ACCOUNT_STATES: Final = ("active", "paused", "removed")
ACCOUNT_ROLES: Final = ("owner", "manager", "adjudicator", "annotator", "viewer", "service")
_HASH: Final = String(64)  # hex digits of a SHA-256

projects = Table(
    "projects",
    metadata,
    Column("name", EscapedText, primary_key=True),
    required("secret", Text),
    required("options", JsonText),
    required("guidelines", EscapedText),
    required("guidelines_version", Text),
    word("state", PROJECT_STATES, "open"),
    required("created", Double),
    one_of("state", PROJECT_STATES),
)

accounts = Table(
    "accounts",
    metadata,
    id_column(primary_key=True),
    reference("annotator_id", "annotators.id", nullable=False, unique=True),
    Column("login", EscapedText, nullable=False, unique=True),
    Column("display_name", EscapedText),
    Column("password_hash", Text),
    word("role", ACCOUNT_ROLES, "annotator"),
    word("state", ACCOUNT_STATES, "active"),
    Column("external_id", EscapedText, index=True),
    required("created", Double),
    Column("guidelines_seen", JsonText),
    one_of("role", ACCOUNT_ROLES),
    one_of("state", ACCOUNT_STATES),
)

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", _HASH, primary_key=True),
    reference("account_id", "accounts.id", nullable=False, index=True),
    required("csrf", Text),
    required("created", Double),
    Column("expires", Double, nullable=False, index=True),
    required("last_seen", Double),
)

invites = Table(
    "invites",
    metadata,
    Column("token_hash", _HASH, primary_key=True),
    word("role", ACCOUNT_ROLES, "annotator"),
    Column("project", EscapedText, ForeignKey("projects.name")),
    Column("external_id", EscapedText),
    reference("created_by", "accounts.id"),
    required("created", Double),
    Column("expires", Double, nullable=False),
    reference("used_by", "accounts.id"),
    Column("used_at", Double),
    one_of("role", ACCOUNT_ROLES),
    CheckConstraint("(used_by IS NULL) = (used_at IS NULL)", name="used_by_somebody_at_a_time"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("token_hash", _HASH, primary_key=True),
    reference("account_id", "accounts.id", nullable=False, index=True),
    Column("name", EscapedText, nullable=False),
    required("scopes", JsonText),
    required("created", Double),
    Column("expires", Double),
    Column("last_used", Double),
    Column("revoked", Boolean, nullable=False, server_default=false()),
)

login_failures = Table(
    "login_failures",
    metadata,
    Column("key", EscapedText, primary_key=True),
    required("failures", Integer, "0"),
    required("since", Double),
    Column("blocked_until", Double),
)

gold_answers = Table(
    "gold_answers",
    metadata,
    reference("item_id", "items.id", primary_key=True),
    required("groups", JsonText),
    Column("strength", Double),
    Column("set_by", EscapedText),
    required("at", Double),
)

COUNTS: Final = (
    "claimed", "submitted", "skipped", "late", "gold_seen", "gold_passed", "attention_seen", "attention_passed",
    "repeats_seen", "repeats_agreed", "fast", "first_side", "decided", "run_length", "longest_run",
)  # fmt: skip

work_counts = Table(
    "work_counts",
    metadata,
    Column("project", EscapedText, ForeignKey("projects.name"), nullable=False),
    reference("annotator_id", "annotators.id", nullable=False),
    *(required(name, Integer, "0") for name in COUNTS),
    required("active_ms_total", Double, "0"),
    Column("last_side", Integer),
    Column("last_at", Double),
    PrimaryKeyConstraint("project", "annotator_id"),
)

project_counts = Table(
    "project_counts",
    metadata,
    Column("project", EscapedText, ForeignKey("projects.name"), nullable=False),
    Column("key", EscapedText, nullable=False),
    Column("shard", Integer, nullable=False, autoincrement=False),
    required("n", Integer, "0"),
    PrimaryKeyConstraint("project", "key", "shard"),
)

summaries = Table(
    "summaries",
    metadata,
    Column("project", EscapedText, ForeignKey("projects.name"), nullable=False),
    Column("name", String(64), nullable=False),
    required("at", Double),
    required("content", JsonText),
    PrimaryKeyConstraint("project", "name"),
)
