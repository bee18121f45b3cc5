"""The tables of the store, schema 2. What may not be is refused by the database, not by the care of whoever writes.

* A failed call has no judgment: a judgment names a presentation that was submitted, or a call that is ok, together with that
  state, and the foreign key holds the state in place.
* A call belongs to a question, not to an item: several items, and several judges that ask the same, share its answer. Its
  id is the start of its key, and the question's name for what it is about (`item_id`) is no reference.
* A judgment is never changed: a new revision names the one that it replaces. `triggers.py` refuses updates and deletions.
* `items.taken` counts presentations that are held or submitted; triggers keep it.

Ids are hashes of the content (`canonical.py`), so the same import twice adds nothing. Times are seconds since 1970, UTC.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.types import Boolean, TypeEngine

from guerdon.store.canonical import ID_LENGTH, Content, canonical
from guerdon.store.items import KINDS

PURPOSES: Final = ("task", "gold", "attention", "repeat", "training", "calibration")
ITEM_STATES: Final = ("open", "complete", "adjudicate", "retired")
PRESENTATION_STATES: Final = (
    "held",
    "released",
    "expired",
    "skipped",
    "submitted",
)  # in the order in which merges prefer them
CALL_STATES: Final = ("pending", "failed", "ok")
LABEL_STATES: Final = ("accepted", "adjudicate", "rejected")
ROLES: Final = ("judge", "annotator", "adjudicator", "manager", "owner")

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
        return None if value is None else canonical(value)[1:-1]

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text."""
        return None if value is None else str(json.loads(f'"{value}"'))


def _id(name: str = "id", **settings: Any) -> Column[str]:
    return Column(name, _AS_HASH, **settings)


def _reference(name: str, target: str, **settings: Any) -> Column[str]:
    return Column(name, _AS_HASH, ForeignKey(target), **settings)


def _word(name: str, words: tuple[str, ...], default: str | None = None) -> Column[str]:
    return Column(name, String(16), nullable=False, server_default=default, info={"words": words})


def _required(name: str, kind: type[TypeEngine[Any]], default: str | None = None) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default=None if default is None else text(default))


def _one_of(name: str, words: tuple[str, ...]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{name} IN ({listed})", name=f"{name}_is_known")


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

prompts = Table("prompts", metadata, _id(primary_key=True), _required("content", JsonText))

responses = Table(
    "responses",
    metadata,
    _id(primary_key=True),
    _reference("prompt_id", "prompts.id", nullable=False),
    _required("content", JsonText),
)

items = Table(
    "items",
    metadata,
    _id(primary_key=True),
    _required("project", EscapedText),
    _reference("prompt_id", "prompts.id", nullable=False),
    _word("purpose", PURPOSES, "task"),
    _required("need", Integer, "1"),
    _required("taken", Integer, "0"),
    _word("status", ITEM_STATES, "open"),
    _required("priority", Integer, "0"),
    _required("ord", Integer, "0"),
    Column("selection", JsonText),
    _one_of("purpose", PURPOSES),
    _one_of("status", ITEM_STATES),
    CheckConstraint("need >= 0 AND taken >= 0", name="counts_are_not_negative"),
)
Index(
    "ix_items_claimable",
    items.c.project,
    items.c.priority,
    items.c.ord,
    sqlite_where=text("taken < need AND status = 'open'"),
    postgresql_where=text("taken < need AND status = 'open'"),
)

item_responses = Table(
    "item_responses",
    metadata,
    _reference("item_id", "items.id", nullable=False),
    Column("position", Integer, nullable=False, autoincrement=False),
    _reference("response_id", "responses.id", nullable=False),
    PrimaryKeyConstraint("item_id", "position"),
    CheckConstraint("position >= 0", name="position_is_not_negative"),
    sqlite_with_rowid=False,
)

annotators = Table(
    "annotators",
    metadata,
    _id(primary_key=True),
    _word("kind", KINDS),
    Column("name", EscapedText),
    Column("fingerprint", EscapedText),
    _word("role", ROLES, "annotator"),
    _one_of("kind", KINDS),
    _one_of("role", ROLES),
)

presentations = Table(
    "presentations",
    metadata,
    _id(primary_key=True),
    _reference("item_id", "items.id", nullable=False),
    _reference("annotator_id", "annotators.id", nullable=False),
    _required("shown", JsonText),
    _word("origin", ("claimed", "imported")),
    _word("state", PRESENTATION_STATES),
    Column("slot", Integer),
    Column("handles", JsonText),
    Column("issued", Double),
    Column("expires", Double),
    Column("skip_reason", EscapedText),
    Column("ui_version", EscapedText),
    Column("guidelines_version", EscapedText),
    UniqueConstraint("id", "item_id", "state"),
    _one_of("origin", ("claimed", "imported")),
    _one_of("state", PRESENTATION_STATES),
)
Index("ix_presentations_item_id_annotator_id", presentations.c.item_id, presentations.c.annotator_id)
Index(
    "uq_presentations_held_once",
    presentations.c.item_id,
    presentations.c.annotator_id,
    unique=True,
    sqlite_where=text("state = 'held'"),
    postgresql_where=text("state = 'held'"),
)

judge_calls = Table(
    "judge_calls",
    metadata,
    _id(primary_key=True),
    _required("cache_key", EscapedText),
    Column("run_id", EscapedText),
    Column("model", EscapedText),
    Column("purpose", String(16), nullable=False, server_default="judge"),
    Column("item_id", EscapedText),
    Column("shown", JsonText),
    _required("sample_ix", Integer, "0"),
    _required("request", JsonText),
    Column("response_raw", JsonText),
    Column("finish_reason", EscapedText),
    _word("status", CALL_STATES),
    Column("failure_code", String(32)),
    Column("failure_reason", EscapedText),
    Column("attempts", JsonText),
    Column("tokens_in", Integer),
    Column("tokens_cached", Integer),
    Column("tokens_out", Integer),
    Column("cost", Double),
    Column("price_table", EscapedText),
    Column("latency_ms", Double),
    Column("at", Double),
    UniqueConstraint("id", "status"),
    _one_of("status", CALL_STATES),
    CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="failures_have_a_code"),
    CheckConstraint("status <> 'ok' OR response_raw IS NOT NULL", name="ok_calls_have_a_response"),
)

judgments = Table(
    "judgments",
    metadata,
    _id(primary_key=True),
    _id("item_id", nullable=False),
    _id("presentation_id"),
    Column("presentation_state", String(16)),
    _id("call_id"),
    Column("call_status", String(16)),
    _reference("annotator_id", "annotators.id"),
    Column("shown", JsonText),
    _required("revision", Integer, "1"),
    Column("supersedes_revision", Integer),
    Column("groups", JsonText),
    Column("q", Double),
    Column("strength", Double),
    Column("votes", JsonText),
    Column("all_bad", Boolean, nullable=False, server_default=false()),
    Column("acceptable_upto", Integer),
    Column("axes", JsonText),
    Column("rationale", EscapedText),
    Column("flags", JsonText),
    Column("source", EscapedText),
    Column("group_id", EscapedText),
    Column("weight", Double),
    Column("comparison_id", EscapedText),
    Column("active_ms", Double),
    Column("wall_ms", Double),
    Column("late", Boolean, nullable=False, server_default=false()),
    Column("submitted_at", Double),
    Column("idem_key", EscapedText),
    Column("payload_hash", EscapedText),
    ForeignKeyConstraint(
        ["presentation_id", "item_id", "presentation_state"],
        ["presentations.id", "presentations.item_id", "presentations.state"],
    ),
    ForeignKeyConstraint(["call_id", "call_status"], ["judge_calls.id", "judge_calls.status"]),
    ForeignKeyConstraint(
        ["presentation_id", "supersedes_revision"], ["judgments.presentation_id", "judgments.revision"]
    ),
    ForeignKeyConstraint(
        ["call_id", "item_id", "annotator_id", "supersedes_revision"],
        ["judgments.call_id", "judgments.item_id", "judgments.annotator_id", "judgments.revision"],
    ),
    UniqueConstraint("presentation_id", "revision"),
    UniqueConstraint("call_id", "item_id", "annotator_id", "revision"),
    CheckConstraint("(presentation_id IS NULL) <> (call_id IS NULL)", name="rests_on_a_presentation_or_a_call"),
    CheckConstraint(
        "(presentation_id IS NULL AND presentation_state IS NULL) OR (presentation_id IS NOT NULL AND "
        "presentation_state IS NOT NULL AND presentation_state = 'submitted')",
        name="presentation_was_submitted",
    ),
    CheckConstraint(
        "(call_id IS NULL AND call_status IS NULL) OR "
        "(call_id IS NOT NULL AND call_status IS NOT NULL AND call_status = 'ok')",
        name="call_was_ok",
    ),
    CheckConstraint(
        "(call_id IS NULL) = (annotator_id IS NULL) AND (call_id IS NULL) = (shown IS NULL)",
        name="of_a_call_says_who_and_what_was_shown",
    ),
    CheckConstraint("(groups IS NULL) <> (q IS NULL)", name="has_one_preference"),
    CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name="q_is_a_probability"),
    CheckConstraint(
        "(revision = 1 AND supersedes_revision IS NULL) OR "
        "(revision > 1 AND supersedes_revision IS NOT NULL AND supersedes_revision = revision - 1)",
        name="revisions_follow_each_other",
    ),
)
Index("ix_judgments_item_id", judgments.c.item_id)

labels = Table(
    "labels",
    metadata,
    _id(primary_key=True),
    _reference("item_id", "items.id", nullable=False),
    _required("method", EscapedText),
    _required("params", JsonText),
    Column("groups", JsonText),
    Column("q", Double),
    Column("strength", Double),
    Column("votes", JsonText),
    _required("n_votes", Integer),
    Column("n_eff", Double),
    Column("entropy", Double),
    _word("status", LABEL_STATES, "accepted"),
    _one_of("status", LABEL_STATES),
    CheckConstraint("(groups IS NULL) <> (q IS NULL)", name="has_one_preference"),
    CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name="q_is_a_probability"),
    CheckConstraint("n_votes >= 1", name="has_votes"),
)
Index("ix_labels_item_id", labels.c.item_id)

events = Table(
    "events",
    metadata,
    _id(primary_key=True),
    Column("at", Double, nullable=False),
    _required("actor", EscapedText),
    _required("action", EscapedText),
    _required("subject", EscapedText),
    Column("before_hash", EscapedText),
    Column("after_hash", EscapedText),
    Column("detail", JsonText),
)
