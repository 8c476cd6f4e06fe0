"""The tables of schedules, their runs and their events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)

NOW = {"postgresql": "clock_timestamp()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"}


def upgrade() -> None:
    """Create the tables of schedules."""
    now = sa.text(NOW[op.get_bind().dialect.name])
    op.create_table(
        "schedules",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("definition", DOCUMENT, nullable=False),
        sa.Column("from_config", sa.Boolean, nullable=False),
        sa.Column("suspended_at", MOMENT),
        sa.Column("evaluated_until", MOMENT, nullable=False),
        sa.Column("next_run_at", MOMENT),
        sa.Column("watermark", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False, server_default=now),
    )
    op.create_index("schedules_next_run", "schedules", ["next_run_at"])
    _runs()
    _events()


def downgrade() -> None:
    """Drop the tables of schedules."""
    for table in ("events", "runs", "schedules"):
        op.drop_table(table)


def _schedule(primary_key: bool) -> sa.Column[str]:
    refers = sa.ForeignKey("schedules.name", ondelete="CASCADE")
    return sa.Column("schedule", KEY, refers, primary_key=primary_key, nullable=False)


def _runs() -> None:
    op.create_table(
        "runs",
        _schedule(primary_key=True),
        sa.Column("scheduled_at", MOMENT, primary_key=True),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("definition", DOCUMENT, nullable=False),
        sa.Column("concurrent", sa.Boolean, nullable=False),
        sa.Column("batch_id", KEY),
        sa.Column("since", MOMENT),
        sa.Column("until", MOMENT),
        sa.Column("deadline_at", MOMENT),
        sa.Column("next_check_at", MOMENT),
        sa.Column("holder_id", sa.Text),
        sa.Column("held_until", MOMENT),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("step_starts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("unexpected_errors", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("summary", DOCUMENT),
        sa.Column("planned_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
    )
    op.create_index("runs_batch", "runs", ["batch_id"], unique=True)
    where = sa.text("next_check_at IS NOT NULL")
    op.create_index("runs_open", "runs", ["schedule", "scheduled_at"], postgresql_where=where, sqlite_where=where)


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", NUMBER, sa.Identity(), primary_key=True),
        _schedule(primary_key=False),
        sa.Column("scheduled_at", MOMENT),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("occurred_at", MOMENT, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("delivery_attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("next_delivery_at", MOMENT),
        sa.Column("delivered_at", MOMENT),
    )
    op.create_index("events_of_run", "events", ["schedule", "scheduled_at", "kind"], unique=True)
    where = sa.text("next_delivery_at IS NOT NULL")
    op.create_index("events_to_deliver", "events", ["next_delivery_at"], postgresql_where=where, sqlite_where=where)
