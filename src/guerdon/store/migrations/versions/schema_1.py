"""Schema 1, the first: every table of the store, and the triggers that keep counters and refuse changes.

It is frozen: it does not read `tables.py`, which describes the newest schema.
"""

# ruff: noqa: E501

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql")


def upgrade() -> None:
    """Create everything in an empty database."""
    for create in (_create_content, _create_people, _create_judge_calls, _create_judgments, _create_labels_and_events):
        create()
    statements = SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def _create_content() -> None:
    op.create_table(
        "prompts",
        sa.Column("id", ID, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prompts")),
    )
    op.create_table(
        "responses",
        sa.Column("id", ID, nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_responses_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_responses")),
    )
    op.create_table(
        "items",
        sa.Column("id", ID, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("prompt_id", ID, nullable=False),
        sa.Column("purpose", sa.String(length=16), server_default="task", nullable=False),
        sa.Column("need", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("taken", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ord", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("selection", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "purpose IN ('task', 'gold', 'attention', 'repeat', 'training', 'calibration')",
            name=op.f("ck_items_purpose_is_known"),
        ),
        sa.CheckConstraint(
            "status IN ('open', 'complete', 'adjudicate', 'retired')", name=op.f("ck_items_status_is_known")
        ),
        sa.CheckConstraint("need >= 0 AND taken >= 0", name=op.f("ck_items_counts_are_not_negative")),
        sa.ForeignKeyConstraint(["prompt_id"], ["prompts.id"], name=op.f("fk_items_prompt_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_items")),
    )
    op.create_index(
        "ix_items_claimable",
        "items",
        ["project", "priority", "ord"],
        unique=False,
        sqlite_where=sa.text("taken < need AND status = 'open'"),
        postgresql_where=sa.text("taken < need AND status = 'open'"),
    )
    op.create_table(
        "item_responses",
        sa.Column("item_id", ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("response_id", ID, nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_item_responses_position_is_not_negative")),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_item_responses_item_id")),
        sa.ForeignKeyConstraint(["response_id"], ["responses.id"], name=op.f("fk_item_responses_response_id")),
        sa.PrimaryKeyConstraint("item_id", "position", name=op.f("pk_item_responses")),
        sqlite_with_rowid=False,
    )


def _create_people() -> None:
    op.create_table(
        "annotators",
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("role", sa.String(length=16), server_default="annotator", nullable=False),
        sa.CheckConstraint(
            "kind IN ('human', 'llm', 'principle', 'rule', 'reward_model', 'simulated', 'unknown')",
            name=op.f("ck_annotators_kind_is_known"),
        ),
        sa.CheckConstraint(
            "role IN ('judge', 'annotator', 'adjudicator', 'manager', 'owner')",
            name=op.f("ck_annotators_role_is_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotators")),
    )
    op.create_table(
        "presentations",
        sa.Column("id", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=True),
        sa.Column("handles", sa.Text(), nullable=True),
        sa.Column("issued", sa.Double(), nullable=True),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("skip_reason", sa.Text(), nullable=True),
        sa.Column("ui_version", sa.Text(), nullable=True),
        sa.Column("guidelines_version", sa.Text(), nullable=True),
        sa.CheckConstraint("origin IN ('claimed', 'imported')", name=op.f("ck_presentations_origin_is_known")),
        sa.CheckConstraint(
            "state IN ('held', 'released', 'expired', 'skipped', 'submitted')",
            name=op.f("ck_presentations_state_is_known"),
        ),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name=op.f("fk_presentations_annotator_id")),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_presentations_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presentations")),
        sa.UniqueConstraint("id", "item_id", "state", name=op.f("uq_presentations_id_item_id_state")),
    )
    op.create_index("ix_presentations_item_id_annotator_id", "presentations", ["item_id", "annotator_id"], unique=False)
    op.create_index(
        "uq_presentations_held_once",
        "presentations",
        ["item_id", "annotator_id"],
        unique=True,
        sqlite_where=sa.text("state = 'held'"),
        postgresql_where=sa.text("state = 'held'"),
    )


def _create_judge_calls() -> None:
    op.create_table(
        "judge_calls",
        sa.Column("id", ID, nullable=False),
        sa.Column("cache_key", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("sample_ix", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("response_raw", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("failure_code", sa.String(length=32), nullable=True),
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
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name=op.f("fk_judge_calls_annotator_id")),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_judge_calls_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judge_calls")),
        sa.UniqueConstraint("id", "item_id", "status", name=op.f("uq_judge_calls_id_item_id_status")),
    )
    op.create_index("ix_judge_calls_cache_key", "judge_calls", ["cache_key"], unique=False)
    op.create_index("ix_judge_calls_item_id", "judge_calls", ["item_id"], unique=False)


def _create_judgments() -> None:
    op.create_table(
        "judgments",
        sa.Column("id", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("presentation_id", ID, nullable=True),
        sa.Column("presentation_state", sa.String(length=16), nullable=True),
        sa.Column("call_id", ID, nullable=True),
        sa.Column("call_status", sa.String(length=16), nullable=True),
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
        sa.CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name=op.f("ck_judgments_q_is_a_probability")),
        sa.ForeignKeyConstraint(
            ["call_id", "item_id", "call_status"],
            ["judge_calls.id", "judge_calls.item_id", "judge_calls.status"],
            name=op.f("fk_judgments_call_id_item_id_call_status"),
        ),
        sa.ForeignKeyConstraint(
            ["call_id", "supersedes_revision"],
            ["judgments.call_id", "judgments.revision"],
            name=op.f("fk_judgments_call_id_supersedes_revision"),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_judgments")),
        sa.UniqueConstraint("call_id", "revision", name=op.f("uq_judgments_call_id_revision")),
        sa.UniqueConstraint("presentation_id", "revision", name=op.f("uq_judgments_presentation_id_revision")),
    )
    op.create_index("ix_judgments_item_id", "judgments", ["item_id"], unique=False)


def _create_labels_and_events() -> None:
    op.create_table(
        "labels",
        sa.Column("id", ID, nullable=False),
        sa.Column("item_id", ID, nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("groups", sa.Text(), nullable=True),
        sa.Column("q", sa.Double(), nullable=True),
        sa.Column("strength", sa.Double(), nullable=True),
        sa.Column("votes", sa.Text(), nullable=True),
        sa.Column("n_votes", sa.Integer(), nullable=False),
        sa.Column("n_eff", sa.Double(), nullable=True),
        sa.Column("entropy", sa.Double(), nullable=True),
        sa.Column("status", sa.String(length=16), server_default="accepted", nullable=False),
        sa.CheckConstraint("status IN ('accepted', 'adjudicate', 'rejected')", name=op.f("ck_labels_status_is_known")),
        sa.CheckConstraint("(groups IS NULL) <> (q IS NULL)", name=op.f("ck_labels_has_one_preference")),
        sa.CheckConstraint("n_votes >= 1", name=op.f("ck_labels_has_votes")),
        sa.CheckConstraint("q IS NULL OR (q >= 0 AND q <= 1)", name=op.f("ck_labels_q_is_a_probability")),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_labels_item_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
    )
    op.create_index("ix_labels_item_id", "labels", ["item_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before_hash", sa.Text(), nullable=True),
        sa.Column("after_hash", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )


_COUNTS = "('held', 'submitted')"
_NEVER = "are never changed: add a revision"

SQLITE = (
    *(
        f"CREATE TRIGGER {table}_refuse_{change} BEFORE {change} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} {_NEVER}'); END"
        for table in ("judgments", "events")
        for change in ("update", "delete")
    ),
    f"""CREATE TRIGGER presentations_count_insert AFTER INSERT ON presentations WHEN NEW.state IN {_COUNTS}
    BEGIN UPDATE items SET taken = taken + 1 WHERE id = NEW.item_id; END""",
    f"""CREATE TRIGGER presentations_count_update AFTER UPDATE ON presentations
    WHEN (OLD.state IN {_COUNTS}) <> (NEW.state IN {_COUNTS})
    BEGIN UPDATE items SET taken = taken + CASE WHEN NEW.state IN {_COUNTS} THEN 1 ELSE -1 END WHERE id = NEW.item_id; END""",
    f"""CREATE TRIGGER presentations_count_delete AFTER DELETE ON presentations WHEN OLD.state IN {_COUNTS}
    BEGIN UPDATE items SET taken = taken - 1 WHERE id = OLD.item_id; END""",
    """CREATE TRIGGER presentations_keep_item BEFORE UPDATE OF item_id ON presentations WHEN OLD.item_id <> NEW.item_id
    BEGIN SELECT RAISE(ABORT, 'a presentation keeps its item'); END""",
    """CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    WHEN NOT EXISTS (SELECT 1 FROM judgments WHERE judgments.item_id = NEW.item_id)
    BEGIN SELECT RAISE(ABORT, 'a label needs a judgment of its item'); END""",
)

POSTGRESQL = (
    f"""CREATE FUNCTION guerdon_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' {_NEVER}'; END $$""",
    *(
        f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION guerdon_refuse_change()"
        for table in ("judgments", "events")
    ),
    f"""CREATE FUNCTION guerdon_count_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      UPDATE items SET taken = taken + counted.number
      FROM (SELECT item_id, count(*) AS number FROM added WHERE state IN {_COUNTS} GROUP BY item_id) AS counted
      WHERE items.id = counted.item_id;
      RETURN NULL;
    END $$""",
    """CREATE TRIGGER presentations_count_insert AFTER INSERT ON presentations REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION guerdon_count_inserted()""",
    f"""CREATE FUNCTION guerdon_count_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_OP = 'UPDATE' AND OLD.item_id <> NEW.item_id THEN
        RAISE EXCEPTION 'a presentation keeps its item';
      END IF;
      UPDATE items SET taken = taken - (OLD.state IN {_COUNTS})::int
        + CASE WHEN TG_OP = 'UPDATE' THEN (NEW.state IN {_COUNTS})::int ELSE 0 END
      WHERE id = OLD.item_id
        AND (TG_OP = 'DELETE' OR (OLD.state IN {_COUNTS}) <> (NEW.state IN {_COUNTS}));
      RETURN NULL;
    END $$""",
    """CREATE TRIGGER presentations_count_change AFTER UPDATE OR DELETE ON presentations
    FOR EACH ROW EXECUTE FUNCTION guerdon_count_changed()""",
    """CREATE FUNCTION guerdon_require_judgment() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF NOT EXISTS (SELECT 1 FROM judgments WHERE judgments.item_id = NEW.item_id) THEN
        RAISE EXCEPTION 'a label needs a judgment of its item';
      END IF;
      RETURN NEW;
    END $$""",
    """CREATE TRIGGER labels_need_judgments BEFORE INSERT ON labels
    FOR EACH ROW EXECUTE FUNCTION guerdon_require_judgment()""",
)
