"""What workers could not load, and since when each of them is in its state."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table and the column."""
    op.add_column("workers", sa.Column("state_since", MOMENT))
    op.create_table(
        "load_failures",
        sa.Column("seat", KEY, primary_key=True),
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("first_at", MOMENT, nullable=False, server_default=_clock()),
        sa.Column("last_at", MOMENT, nullable=False, server_default=_clock()),
        sa.Column("next_at", MOMENT, nullable=False),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("load_failures")
    op.drop_column("workers", "state_since")


def _clock() -> sa.TextClause:
    postgresql = op.get_bind().dialect.name == "postgresql"
    return sa.text("clock_timestamp()" if postgresql else "(strftime('%Y-%m-%d %H:%M:%f', 'now'))")
