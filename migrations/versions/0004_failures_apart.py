"""Failed results have an index of their own: few among many are found at once, and the others pay nothing for it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    where = sa.text("status = 'failed'")
    op.create_index("results_failed", "results", ["batch_id", "position"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Take it away again."""
    op.drop_index("results_failed", "results")
