"""Rows that can't be jobs keep their input and id, so jobs say which they are."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Until now an empty document stood for the input of such a row. The index of failures finds them quickly.
MARK_INVALID_ROWS = """
UPDATE jobs SET invalid = {true} WHERE input = {empty} AND EXISTS (
    SELECT 1 FROM results r
    WHERE r.batch_id = jobs.batch_id AND r.position = jobs.position AND r.status = 'failed' AND r.slice_id IS NULL)
"""
HAS_ID = sa.text("custom_id IS NOT NULL")


def upgrade() -> None:
    """Add the column, mark the rows, and let an invalid row have the id of another job."""
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.add_column("jobs", sa.Column("invalid", sa.Boolean, nullable=False, server_default=sa.false()))
    empty = "CAST('{}' AS jsonb)" if is_postgresql else "'{}'"
    op.execute(MARK_INVALID_ROWS.format(true="true" if is_postgresql else "1", empty=empty))
    op.drop_index("jobs_custom_id", "jobs")
    unique_among_jobs = sa.text("(CASE WHEN invalid THEN position ELSE -1 END)")
    op.create_index(
        "jobs_custom_id",
        "jobs",
        ["batch_id", "custom_id", unique_among_jobs],
        unique=True,
        postgresql_where=HAS_ID,
        sqlite_where=HAS_ID,
    )


def downgrade() -> None:
    """Drop the column, with the ids of rows that repeat another's."""
    op.drop_index("jobs_custom_id", "jobs")
    op.execute("UPDATE jobs SET custom_id = NULL WHERE invalid")
    op.execute("UPDATE jobs SET input = '{}' WHERE invalid")
    op.create_index(
        "jobs_custom_id", "jobs", ["batch_id", "custom_id"], unique=True, postgresql_where=HAS_ID, sqlite_where=HAS_ID
    )
    op.drop_column("jobs", "invalid")
