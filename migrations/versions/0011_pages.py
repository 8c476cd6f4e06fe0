"""What the pages need: what workers did in each minute, sessions of people, and an index of batches with failures."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
TROUBLED = "(has_failures OR status IN ('failed', 'expired'))"
TIME = sa.DateTime(timezone=True)

# On SQLite in the format of the other times that SQL itself writes.
CLOCK = {"postgresql": "clock_timestamp()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"}


def upgrade() -> None:
    op.create_table(
        "activity",
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("worker_id", KEY, primary_key=True),
        sa.Column("tenant", KEY, primary_key=True),
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("error_code", KEY, primary_key=True),
        sa.Column("jobs", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("padded_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("device_seconds", sa.Double, nullable=False, server_default="0"),
        sqlite_with_rowid=False,
    )
    failed = sa.text("error_code <> ''")
    op.create_index("activity_failures", "activity", ["minute"], postgresql_where=failed, sqlite_where=failed)
    op.create_table(
        "sessions",
        sa.Column("token_hash", KEY, primary_key=True),
        sa.Column("key_id", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.text(CLOCK[op.get_bind().dialect.name])),
        sa.Column("expires_at", TIME, nullable=False),
    )
    op.create_index("sessions_expiring", "sessions", ["expires_at"])
    op.create_index("sessions_of_key", "sessions", ["key_id", "expires_at"])
    # SQLite adds no stored column to a table that exists.
    has_failures = sa.Computed("failed > 0", persisted=op.get_bind().dialect.name == "postgresql")
    op.add_column("batches", sa.Column("has_failures", sa.Boolean, has_failures, nullable=False))
    op.create_index(
        "batches_troubled",
        "batches",
        ["created_at", "id", "tenant"],
        postgresql_where=sa.text(TROUBLED),
        sqlite_where=sa.text(TROUBLED),
    )


def downgrade() -> None:
    op.drop_index("batches_troubled", "batches")
    op.drop_column("batches", "has_failures")
    op.drop_table("sessions")
    op.drop_table("activity")
