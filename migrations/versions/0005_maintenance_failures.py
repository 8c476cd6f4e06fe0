"""Maintenance: count failures in a row, so that a task that always fails is seen, and find deadlines by an index."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

HAS_DEADLINE = sa.text("status = 'in_progress' AND expires_at IS NOT NULL")


def upgrade() -> None:
    """Add the count and the index."""
    op.add_column("maintenance_tasks", sa.Column("failures_in_a_row", sa.Integer, nullable=False, server_default="0"))
    op.create_index(
        "batches_with_deadline", "batches", ["expires_at"], postgresql_where=HAS_DEADLINE, sqlite_where=HAS_DEADLINE
    )


def downgrade() -> None:
    """Drop the count and the index."""
    op.drop_index("batches_with_deadline", "batches")
    op.drop_column("maintenance_tasks", "failures_in_a_row")
