"""Runs and duties that fail by no error of ours: how often a run's step was begun or failed, and why a duty did."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the columns."""
    op.add_column("runs", sa.Column("starts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("faults", sa.Integer, nullable=False, server_default="0"))
    op.add_column("duties", sa.Column("failed_at", MOMENT))
    op.add_column("duties", sa.Column("failure", sa.Text))


def downgrade() -> None:
    """Take them away again."""
    for table, column in (("runs", "starts"), ("runs", "faults"), ("duties", "failed_at"), ("duties", "failure")):
        op.drop_column(table, column)
