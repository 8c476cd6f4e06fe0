"""Schedules: what is to be run when, the runs of their slots, and what a person should hear of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)

NOW = {"postgresql": "clock_timestamp()", "sqlite": "(strftime('%Y-%m-%d %H:%M:%f', 'now'))"}


def upgrade() -> None:
    """Add the three tables."""
    now = sa.text(NOW[op.get_bind().dialect.name])
    op.create_table(
        "schedules",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("definition", DOCUMENT, nullable=False),
        sa.Column("declared", sa.Boolean, nullable=False),
        sa.Column("suspended_at", MOMENT),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.Column("next_at", MOMENT),
        sa.Column("watermark", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False, server_default=now),
    )
    op.create_index("schedules_next", "schedules", ["next_at"])
    _runs()
    _events()


def downgrade() -> None:
    """Take them away again."""
    for table in ("events", "runs", "schedules"):
        op.drop_table(table)


def _schedule(primary_key: bool) -> sa.Column[str]:
    refers = sa.ForeignKey("schedules.name", ondelete="CASCADE")
    return sa.Column("schedule", KEY, refers, primary_key=primary_key, nullable=False)


def _runs() -> None:
    op.create_table(
        "runs",
        _schedule(primary_key=True),
        sa.Column("slot", MOMENT, primary_key=True),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("definition", DOCUMENT, nullable=False),
        sa.Column("beside", sa.Boolean, nullable=False),
        sa.Column("batch_id", KEY),
        sa.Column("since", MOMENT),
        sa.Column("until", MOMENT),
        sa.Column("deadline_at", MOMENT),
        sa.Column("look_at", MOMENT),
        sa.Column("held_by", sa.Text),
        sa.Column("held_until", MOMENT),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("summary", DOCUMENT),
        sa.Column("decided_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT),
        sa.Column("finished_at", MOMENT),
    )
    op.create_index("runs_batch", "runs", ["batch_id"], unique=True)
    where = sa.text("look_at IS NOT NULL")
    op.create_index("runs_open", "runs", ["schedule", "slot"], postgresql_where=where, sqlite_where=where)


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("id", NUMBER, sa.Identity(), primary_key=True),
        _schedule(primary_key=False),
        sa.Column("slot", MOMENT),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("url", sa.Text),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("send_at", MOMENT),
        sa.Column("sent_at", MOMENT),
    )
    op.create_index("events_of_slot", "events", ["schedule", "slot", "kind"], unique=True)
    where = sa.text("send_at IS NOT NULL")
    op.create_index("events_to_send", "events", ["send_at"], postgresql_where=where, sqlite_where=where)
