"""No id of a slice or an attempt is given out twice.

SQLite gives the id of the last row out again once that row is deleted, and with it a slice's first fencing token: a
lease of a deleted batch would hold for a stranger's slice. With AUTOINCREMENT it counts on, which only a new table can
have. PostgreSQL's identities count on anyway. Model versions are never deleted.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
CLOCK = sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now'))")

JOB_ATTEMPTS = "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = 'job_attempts'"

INDEXES = (
    ("slices_of_batch", "slices", ["batch_id", "first"], None),
    ("slices_queued", "slices", ["batch_id", "id"], "state = 'queued'"),
    ("slices_leased", "slices", ["batch_id"], "state = 'leased'"),
    ("attempts_of_batch", "attempts", ["batch_id", "first"], None),
)


def upgrade() -> None:
    """Let SQLite count on."""
    _rebuild(counts_on=True)


def downgrade() -> None:
    """Let it begin again behind the last row."""
    _rebuild(counts_on=False)


def _rebuild(*, counts_on: bool) -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    view = op.get_bind().scalar(sa.text(JOB_ATTEMPTS))
    op.execute("DROP VIEW job_attempts")  # SQLite checks views while it renames a table
    for table, columns in (("slices", _slices()), ("attempts", _attempts())):
        names = ", ".join(column.name for column in columns)
        made = {"sqlite_autoincrement": True} if counts_on else {}
        op.create_table(f"new_{table}", *columns, **made)  # type: ignore[arg-type]
        op.execute(f"INSERT INTO new_{table} ({names}) SELECT {names} FROM {table} ORDER BY id")  # noqa: S608
        op.drop_table(table)
        op.rename_table(f"new_{table}", table)
    for name, table, keys, where in INDEXES:
        op.create_index(name, table, keys, sqlite_where=None if where is None else sa.text(where))
    op.get_bind().exec_driver_sql(view)


def _slices() -> list[sa.Column[Any]]:
    counted = ("attempts", "deaths", "lapses", "retries")
    moments = ("lease_expires_at", "not_before", "claimed_at", "leased_at", "done_at")
    return [
        *_keys(),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in counted),
        sa.Column("token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("worker_id", sa.Text),
        *(sa.Column(name, MOMENT) for name in moments),
    ]


def _attempts() -> list[sa.Column[Any]]:
    return [
        *_keys(),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("slice_id", "first", "past")),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("worker_id", sa.Text),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("claimed_at", MOMENT),
        sa.Column("ended_at", MOMENT, nullable=False, server_default=CLOCK),
    ]


def _keys() -> tuple[sa.Column[Any], ...]:
    batch = sa.ForeignKey("batches.id", ondelete="CASCADE")
    return sa.Column("id", sa.Integer, primary_key=True), sa.Column("batch_id", sa.Text, batch, nullable=False)
