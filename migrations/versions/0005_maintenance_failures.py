"""Maintenance tasks count their failures in a row, so that a task that always fails is seen."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count."""
    op.add_column("maintenance_tasks", sa.Column("failures_in_a_row", sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the count."""
    op.drop_column("maintenance_tasks", "failures_in_a_row")
