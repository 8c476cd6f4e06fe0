"""Deleted schedules keep their watermark and history, and a run keeps the type of its source's ids."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; both are NULL for what exists."""
    op.add_column("schedules", sa.Column("deleted_at", sa.DateTime(timezone=True)))
    op.add_column("runs", sa.Column("id_type", sa.Text))


def downgrade() -> None:
    """Drop the columns, and the schedules that were deleted."""
    op.execute("DELETE FROM schedules WHERE deleted_at IS NOT NULL")
    op.drop_column("runs", "id_type")
    op.drop_column("schedules", "deleted_at")
