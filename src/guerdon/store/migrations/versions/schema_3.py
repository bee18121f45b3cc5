"""Schema 3: projects in which people compare, with accounts, known answers and counts; reasons of judgments, and words shown.

It is frozen: it does not read `tables.py`, which describes the newest schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"
branch_labels = None
depends_on = None

ID = sa.String(length=32).with_variant(sa.String(length=32, collation="C"), "postgresql")


def upgrade() -> None:
    """Tables that exist get columns that may be empty, and indexes of what people hold."""
    op.add_column("presentations", sa.Column("words", sa.Integer(), nullable=True))
    op.add_column("judgments", sa.Column("reasons", sa.Text(), nullable=True))
    _create_partial_index("ix_items_injected", "items", ["project", "purpose", "ord"], "purpose <> 'task'")
    _create_partial_index("ix_items_adjudicate", "items", ["project", "priority", "ord"], "status = 'adjudicate'")
    _create_partial_index("ix_presentations_held", "presentations", ["annotator_id"], "state = 'held'")
    _create_partial_index("ix_presentations_expires", "presentations", ["expires"], "state = 'held'")
    _create_partial_index("ix_presentations_claimed", "presentations", ["annotator_id", "issued"], "issued IS NOT NULL")
    _create_projects()
    _create_people()


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, unique=False, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def _create_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("guidelines", sa.Text(), nullable=False),
        sa.Column("guidelines_version", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), server_default="open", nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projects")),
        sa.CheckConstraint("state IN ('open', 'paused', 'closed')", name=op.f("ck_projects_state_is_known")),
    )
    op.create_table(
        "gold_answers",
        sa.Column("item_id", ID, nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("strength", sa.Double(), nullable=True),
        sa.Column("set_by", sa.Text(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_gold_answers")),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_gold_answers_item_id")),
    )
    op.create_table(
        "work_counts",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("claimed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("submitted", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("late", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("gold_seen", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("gold_passed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attention_seen", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("attention_passed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("repeats_seen", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("repeats_agreed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("fast", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("first_side", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("decided", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("run_length", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("longest_run", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("active_ms_total", sa.Double(), server_default=sa.text("0"), nullable=False),
        sa.Column("last_side", sa.Integer(), nullable=True),
        sa.Column("last_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("project", "annotator_id", name=op.f("pk_work_counts")),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name=op.f("fk_work_counts_annotator_id")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_work_counts_project")),
    )
    op.create_table(
        "project_counts",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_project_counts_project")),
        sa.PrimaryKeyConstraint("project", "key", "shard", name=op.f("pk_project_counts")),
    )
    op.create_table(
        "summaries",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "name", name=op.f("pk_summaries")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_summaries_project")),
    )


def _create_people() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, nullable=False),
        sa.Column("annotator_id", ID, nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("role", sa.String(length=16), server_default="annotator", nullable=False),
        sa.Column("state", sa.String(length=16), server_default="active", nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("guidelines_seen", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["annotator_id"], ["annotators.id"], name=op.f("fk_accounts_annotator_id")),
        sa.UniqueConstraint("login", name=op.f("uq_accounts_login")),
        sa.CheckConstraint("state IN ('active', 'paused', 'removed')", name=op.f("ck_accounts_state_is_known")),
        sa.UniqueConstraint("annotator_id", name=op.f("uq_accounts_annotator_id")),
        sa.CheckConstraint(
            "role IN ('owner', 'manager', 'adjudicator', 'annotator', 'viewer', 'service')",
            name=op.f("ck_accounts_role_is_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_index("ix_accounts_external_id", "accounts", ["external_id"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sessions_account_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_expires", "sessions", ["expires"], unique=False)
    op.create_index("ix_sessions_account_id", "sessions", ["account_id"], unique=False)
    op.create_table(
        "invites",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), server_default="annotator", nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("created_by", ID, nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used_by", ID, nullable=True),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["used_by"], ["accounts.id"], name=op.f("fk_invites_used_by")),
        sa.ForeignKeyConstraint(["project"], ["projects.name"], name=op.f("fk_invites_project")),
        sa.ForeignKeyConstraint(["created_by"], ["accounts.id"], name=op.f("fk_invites_created_by")),
        sa.CheckConstraint("(used_by IS NULL) = (used_at IS NULL)", name=op.f("ck_invites_used_by_somebody_at_a_time")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_invites")),
        sa.CheckConstraint(
            "role IN ('owner', 'manager', 'adjudicator', 'annotator', 'viewer', 'service')",
            name=op.f("ck_invites_role_is_known"),
        ),
    )
    op.create_table(
        "api_tokens",
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("last_used", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_api_tokens")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_tokens_account_id")),
    )
    op.create_index("ix_api_tokens_account_id", "api_tokens", ["account_id"], unique=False)
    op.create_table(
        "login_failures",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("blocked_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_login_failures")),
    )
