"""The tables of the store, schema 4. What may not be is refused by the database, not by the care of whoever writes.

* A failed call has no judgment: a judgment names a presentation that was submitted, or a call that is ok, together with that
  state, and the foreign key holds the state in place.
* A call belongs to a question, not to an item: several items, and several judges that ask the same, share its answer. Its
  id is the start of its key, and the question's name for what it is about (`item_id`) is no reference.
* A judgment is never changed: a new revision names the one that it replaces. `triggers.py` refuses updates and deletions.
* A person holds an item for at most one presentation at a time. `annotation_tables.py` has people, projects and counts.
* `items.taken` counts presentations that are held or submitted; triggers keep it.

Ids are hashes of the content (`canonical.py`), so the same import twice adds nothing. Times are seconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import Boolean

from guerdon.store.columns import (
    EscapedText,
    JsonText,
    id_column,
    metadata,
    one_of,
    only_where,
    reference,
    required,
    word,
)
from guerdon.store.items import KINDS

__all__ = [
    "CALL_STATES", "ITEM_STATES", "LABEL_STATES", "PRESENTATION_STATES", "PURPOSES", "ROLES", "EscapedText",
    "JsonText", "annotators", "events", "item_responses", "items", "judge_calls", "judgments", "labels",
    "metadata", "presentations", "prompts", "responses",
]  # fmt: skip

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

prompts = Table("prompts", metadata, id_column(primary_key=True), required("content", JsonText))

responses = Table(
    "responses",
    metadata,
    id_column(primary_key=True),
    reference("prompt_id", "prompts.id", nullable=False),
    required("content", JsonText),
)

items = Table(
    "items",
    metadata,
    id_column(primary_key=True),
    required("project", EscapedText),
    reference("prompt_id", "prompts.id", nullable=False),
    word("purpose", PURPOSES, "task"),
    required("need", Integer, "1"),
    required("taken", Integer, "0"),
    word("status", ITEM_STATES, "open"),
    required("priority", Integer, "0"),
    required("ord", Integer, "0"),
    Column("selection", JsonText),
    one_of("purpose", PURPOSES),
    one_of("status", ITEM_STATES),
    CheckConstraint("need >= 0 AND taken >= 0", name="counts_are_not_negative"),
)
Index(
    "ix_items_claimable",
    items.c.project,
    items.c.priority,
    items.c.ord,
    **only_where("taken < need AND status = 'open'"),
)

Index("ix_items_injected", items.c.project, items.c.purpose, items.c.ord, **only_where("purpose <> 'task'"))
Index("ix_items_adjudicate", items.c.project, items.c.priority, items.c.ord, **only_where("status = 'adjudicate'"))

item_responses = Table(
    "item_responses",
    metadata,
    reference("item_id", "items.id", nullable=False),
    Column("position", Integer, nullable=False, autoincrement=False),
    reference("response_id", "responses.id", nullable=False),
    PrimaryKeyConstraint("item_id", "position"),
    CheckConstraint("position >= 0", name="position_is_not_negative"),
    sqlite_with_rowid=False,
)

annotators = Table(
    "annotators",
    metadata,
    id_column(primary_key=True),
    word("kind", KINDS),
    Column("name", EscapedText),
    Column("fingerprint", EscapedText),
    word("role", ROLES, "annotator"),
    one_of("kind", KINDS),
    one_of("role", ROLES),
)

presentations = Table(
    "presentations",
    metadata,
    id_column(primary_key=True),
    reference("item_id", "items.id", nullable=False),
    reference("annotator_id", "annotators.id", nullable=False),
    required("shown", JsonText),
    word("origin", ("claimed", "imported")),
    word("state", PRESENTATION_STATES),
    Column("slot", Integer),
    Column("handles", JsonText),
    Column("issued", Double),
    Column("expires", Double),
    Column("skip_reason", EscapedText),
    Column("ui_version", EscapedText),
    Column("guidelines_version", EscapedText),
    Column("words", Integer),
    UniqueConstraint("id", "item_id", "state"),
    one_of("origin", ("claimed", "imported")),
    one_of("state", PRESENTATION_STATES),
)
Index("ix_presentations_item_id_annotator_id", presentations.c.item_id, presentations.c.annotator_id)
Index(
    "uq_presentations_held_once",
    presentations.c.annotator_id,
    presentations.c.item_id,
    unique=True,
    **only_where("state = 'held'"),
)
Index("ix_presentations_expires", presentations.c.expires, **only_where("state = 'held'"))
Index(
    "ix_presentations_claimed",
    presentations.c.annotator_id,
    presentations.c.issued,
    **only_where("issued IS NOT NULL"),
)

judge_calls = Table(
    "judge_calls",
    metadata,
    id_column(primary_key=True),
    required("cache_key", EscapedText),
    Column("run_id", EscapedText),
    Column("model", EscapedText),
    Column("purpose", String(16), nullable=False, server_default="judge"),
    Column("item_id", EscapedText),
    Column("shown", JsonText),
    required("sample_ix", Integer, "0"),
    required("request", JsonText),
    Column("response_raw", JsonText),
    Column("finish_reason", EscapedText),
    word("status", CALL_STATES),
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
    one_of("status", CALL_STATES),
    CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="failures_have_a_code"),
    CheckConstraint("status <> 'ok' OR response_raw IS NOT NULL", name="ok_calls_have_a_response"),
)

judgments = Table(
    "judgments",
    metadata,
    id_column(primary_key=True),
    id_column("item_id", nullable=False),
    id_column("presentation_id"),
    Column("presentation_state", String(16)),
    id_column("call_id"),
    Column("call_status", String(16)),
    reference("annotator_id", "annotators.id"),
    Column("shown", JsonText),
    required("revision", Integer, "1"),
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
    Column("reasons", JsonText),
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
    id_column(primary_key=True),
    reference("item_id", "items.id", nullable=False),
    required("method", EscapedText),
    required("params", JsonText),
    Column("groups", JsonText),
    Column("q", Double),
    Column("strength", Double),
    Column("votes", JsonText),
    required("n_votes", Integer),
    Column("n_eff", Double),
    Column("entropy", Double),
    word("status", LABEL_STATES, "accepted"),
    one_of("status", LABEL_STATES),
    CheckConstraint("(groups IS NULL) <> (q IS NULL)", name="has_one_preference"),
    CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name="q_is_a_probability"),
    CheckConstraint("n_votes >= 1", name="has_votes"),
)
Index("ix_labels_item_id", labels.c.item_id)

events = Table(
    "events",
    metadata,
    id_column(primary_key=True),
    Column("at", Double, nullable=False),
    required("actor", EscapedText),
    required("action", EscapedText),
    required("subject", EscapedText),
    Column("before_hash", EscapedText),
    Column("after_hash", EscapedText),
    Column("detail", JsonText),
)
