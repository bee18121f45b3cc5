"""Schema 4: one index of what people hold does the work of two, and the judgments that a project still needs are counted from the start.

It is frozen: it does not read `tables.py`, which describes the newest schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"
branch_labels = None
depends_on = None

_HELD = sa.text("state = 'held'")
_COUNT_NEEDED = """
INSERT INTO project_counts (project, key, shard, n)
SELECT project, 'needed', 0, sum(CASE WHEN submitted < need THEN need - submitted ELSE 0 END)
FROM (
  SELECT items.project, items.need, (
    SELECT count(*) FROM presentations WHERE presentations.item_id = items.id AND presentations.state = 'submitted'
  ) AS submitted
  FROM items JOIN projects ON projects.name = items.project
  WHERE items.purpose IN ('task', 'calibration') AND items.status = 'open'
) AS tasks
GROUP BY project
"""


def upgrade() -> None:
    """The unique index of leases begins with the person, whose lease every claim looks up; `needed` is counted anew."""
    op.drop_index("ix_presentations_held", "presentations")
    op.drop_index("uq_presentations_held_once", "presentations")
    op.create_index(
        "uq_presentations_held_once",
        "presentations",
        ["annotator_id", "item_id"],
        unique=True,
        sqlite_where=_HELD,
        postgresql_where=_HELD,
    )
    op.execute("DELETE FROM project_counts WHERE key = 'needed'")
    op.execute(_COUNT_NEEDED)
