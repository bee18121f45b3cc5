"""Schema 2: a call belongs to a question. It names no annotator, needs no item, and says what it was for and by which model.

A judgment that rests on a call now says itself who judged and what was shown, so that judges and items can share a call. It is
frozen: it does not read `tables.py`, which describes the newest schema.
"""

# ruff: noqa: E501

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from guerdon.store.canonical import content_id

revision = "2"
down_revision = "1"
branch_labels = None
depends_on = None

ID = sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql")

_KEPT_OF_CALLS = (
    "id, cache_key, run_id, item_id, shown, sample_ix, request, response_raw, finish_reason, status, failure_code, attempts, "
    "tokens_in, tokens_cached, tokens_out, cost, price_table, latency_ms, at"
)
_JSON = ("groups", "votes", "axes", "flags")
_ESCAPED = ("rationale", "source", "group_id", "comparison_id", "idem_key", "payload_hash")
_NUMBERS = ("q", "strength", "acceptable_upto", "weight", "active_ms", "wall_ms", "submitted_at")
_KEPT_OF_JUDGMENTS = (
    "id, item_id, presentation_id, presentation_state, call_id, call_status, revision, supersedes_revision, all_bad, late, "
    + ", ".join((*_JSON, *_ESCAPED, *_NUMBERS))
)


def upgrade() -> None:
    """Both tables are written anew: SQLite can change no constraint of a table that exists."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"

    def run(statement: str) -> None:
        connection.exec_driver_sql(statement)

    run("DROP TRIGGER labels_need_judgments" + ("" if is_sqlite else " ON labels"))
    for table in ("judgments", "judge_calls"):
        run(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")
        run(f"DROP TABLE {table}")
    _create_judge_calls()
    run(f"INSERT INTO judge_calls ({_KEPT_OF_CALLS}) SELECT {_KEPT_OF_CALLS} FROM old_judge_calls")
    _create_judgments()
    run(
        f"INSERT INTO judgments ({_KEPT_OF_JUDGMENTS}) SELECT {_KEPT_OF_JUDGMENTS} FROM old_judgments WHERE call_id IS NULL"
    )
    _move_judgments_of_calls(connection)
    for table in ("judgments", "judge_calls"):
        run(f"DROP TABLE old_{table}")
    for statement in SQLITE if is_sqlite else POSTGRESQL:
        run(statement)


def _move_judgments_of_calls(connection: sa.Connection) -> None:
    """They get who judged and what was shown from their calls, and an id that covers who judged."""
    names = [name.strip() for name in _KEPT_OF_JUDGMENTS.split(",")]
    columns = ", ".join(f"j.{name}" for name in names)
    query = sa.text(
        f"SELECT {columns}, c.annotator_id, c.shown FROM old_judgments j JOIN old_judge_calls c ON c.id = j.call_id "
        "ORDER BY j.revision, j.id"
    )
    all_names = [*names, "annotator_id", "shown"]
    insert = sa.text(
        f"INSERT INTO judgments ({', '.join(all_names)}) VALUES ({', '.join(f':{name}' for name in all_names)})"
    )
    for row in connection.execute(query).mappings().all():
        connection.execute(insert, {**row, "id": _new_id(row)})


def _new_id(row: Any) -> str:
    says = {name: row[name] for name in _NUMBERS}
    says |= {name: None if row[name] is None else json.loads(row[name]) for name in _JSON}
    says |= {name: None if row[name] is None else json.loads(f'"{row[name]}"') for name in _ESCAPED}
    says |= {"all_bad": bool(row["all_bad"]), "late": bool(row["late"])}
    known = {name: value for name, value in says.items() if value is not None}
    return content_id("judgment", row["item_id"], [row["call_id"], row["annotator_id"]], row["revision"], known)


def _create_judge_calls() -> None:
    op.create_table(
        "judge_calls",
        sa.Column("id", ID, nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("purpose", sa.String(length=16), server_default="judge", nullable=False),
        sa.Column("item_id", sa.Text(), nullable=True),
        sa.Column("shown", sa.Text(), nullable=True),
        sa.Column("sample_ix", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("response_raw", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Text(), nullable=True),
        sa.Column("tokens_in", sa.Integer(), nullable=True),
        sa.Column("tokens_cached", sa.Integer(), nullable=True),
        sa.Column("tokens_out", sa.Integer(), nullable=True),
        sa.Column("cost", sa.Double(), nullable=True),
        sa.Column("price_table", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(status = 'failed') = (failure_code IS NOT NULL)", name=op.f("ck_judge_calls_failures_have_a_code")
        ),
        sa.CheckConstraint(
            "status <> 'ok' OR response_raw IS NOT NULL", name=op.f("ck_judge_calls_ok_calls_have_a_response")
        ),
        sa.CheckConstraint("status IN ('pending', 'failed', 'ok')", name=op.f("ck_judge_calls_status_is_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_calls")),
        sa.UniqueConstraint("id", "status", name=op.f("uq_judge_calls_id_status")),
    )


def _create_judgments() -> None:
    op.create_table(
        "judgments",
        sa.Column("id", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("presentation_id", ID, nullable=True),
        sa.Column("presentation_state", sa.String(length=16), nullable=True),
        sa.Column("call_id", ID, nullable=True),
        sa.Column("call_status", sa.String(length=16), nullable=True),
        sa.Column("annotator_id", ID, nullable=True),
        sa.Column("shown", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("supersedes_revision", sa.Integer(), nullable=True),
        sa.Column("groups", sa.Text(), nullable=True),
        sa.Column("q", sa.Double(), nullable=True),
        sa.Column("strength", sa.Double(), nullable=True),
        sa.Column("votes", sa.Text(), nullable=True),
        sa.Column("all_bad", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("acceptable_upto", sa.Integer(), nullable=True),
        sa.Column("axes", sa.Text(), nullable=True),
        sa.Column("rationale", sa.Text(), nullable=True),
        sa.Column("flags", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("weight", sa.Double(), nullable=True),
        sa.Column("comparison_id", sa.Text(), nullable=True),
        sa.Column("active_ms", sa.Double(), nullable=True),
        sa.Column("wall_ms", sa.Double(), nullable=True),
        sa.Column("late", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("submitted_at", sa.Double(), nullable=True),
        sa.Column("idem_key", sa.Text(), nullable=True),
        sa.Column("payload_hash", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(call_id IS NULL AND call_status IS NULL) OR (call_id IS NOT NULL AND call_status IS NOT NULL AND call_status = 'ok')",
            name=op.f("ck_judgments_call_was_ok"),
        ),
        sa.CheckConstraint(
            "(presentation_id IS NULL AND presentation_state IS NULL) OR (presentation_id IS NOT NULL AND presentation_state IS NOT NULL AND presentation_state = 'submitted')",
            name=op.f("ck_judgments_presentation_was_submitted"),
        ),
        sa.CheckConstraint("(groups IS NULL) <> (q IS NULL)", name=op.f("ck_judgments_has_one_preference")),
        sa.CheckConstraint(
            "(presentation_id IS NULL) <> (call_id IS NULL)",
            name=op.f("ck_judgments_rests_on_a_presentation_or_a_call"),
        ),
        sa.CheckConstraint(
            "(revision = 1 AND supersedes_revision IS NULL) OR (revision > 1 AND supersedes_revision IS NOT NULL AND supersedes_revision = revision - 1)",
            name=op.f("ck_judgments_revisions_follow_each_other"),
        ),
        sa.CheckConstraint(
            "(call_id IS NULL) = (annotator_id IS NULL) AND (call_id IS NULL) = (shown IS NULL)",
            name=op.f("ck_judgments_of_a_call_says_who_and_what_was_shown"),
        ),
        sa.CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name=op.f("ck_judgments_q_is_a_probability")),
        *_references_of_judgments(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgments")),
        sa.UniqueConstraint(
            "call_id",
            "item_id",
            "annotator_id",
            "revision",
            name=op.f("uq_judgments_call_id_item_id_annotator_id_revision"),
        ),
        sa.UniqueConstraint("presentation_id", "revision", name=op.f("uq_judgments_presentation_id_revision")),
    )
    op.create_index("ix_judgments_item_id", "judgments", ["item_id"], unique=False)


def _references_of_judgments() -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name=op.f("fk_judgments_annotator_id")),
        sa.ForeignKeyConstraint(
            ["call_id", "call_status"],
            ["judge_calls.id", "judge_calls.status"],
            name=op.f("fk_judgments_call_id_call_status"),
        ),
        sa.ForeignKeyConstraint(
            ["call_id", "item_id", "annotator_id", "supersedes_revision"],
            ["judgments.call_id", "judgments.item_id", "judgments.annotator_id", "judgments.revision"],
            name=op.f("fk_judgments_call_id_item_id_annotator_id_supersedes_revision"),
        ),
        sa.ForeignKeyConstraint(
            ["presentation_id", "item_id", "presentation_state"],
            ["presentations.id", "presentations.item_id", "presentations.state"],
            name=op.f("fk_judgments_presentation_id_item_id_presentation_state"),
        ),
        sa.ForeignKeyConstraint(
            ["presentation_id", "supersedes_revision"],
            ["judgments.presentation_id", "judgments.revision"],
            name=op.f("fk_judgments_presentation_id_supersedes_revision"),
        ),
    ]


_NEVER = "are never changed: add a revision"

SQLITE = (
    *(
        f"CREATE TRIGGER judgments_refuse_{change} BEFORE {change} ON judgments "
        f"BEGIN SELECT RAISE(ABORT, 'judgments {_NEVER}'); END"
        for change in ("update", "delete")
    ),
    """CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    WHEN NOT EXISTS (SELECT 1 FROM judgments WHERE judgments.item_id = NEW.item_id)
    BEGIN SELECT RAISE(ABORT, 'a label needs a judgment of its item'); END""",
)

POSTGRESQL = (
    "CREATE TRIGGER judgments_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON judgments "
    "FOR EACH STATEMENT EXECUTE FUNCTION guerdon_refuse_change()",
    """CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    FOR EACH ROW EXECUTE FUNCTION guerdon_require_judgment()""",
)
