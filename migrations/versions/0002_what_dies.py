"""What it takes to survive: attempts' history, suspicion, early ends, error budgets, replays, duties."""

from typing import Any

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

BATCH_COLUMNS = (
    ("max_failures", sa.BigInteger),
    ("max_attempts", sa.Integer),
    ("ending", sa.Text),
    ("heard_at", MOMENT),
)

# A job's history: every claim of a slice that had it, up to the one that answered it, and those of earlier replays.
JOB_ATTEMPTS = """
CREATE VIEW job_attempts AS
SELECT j.batch_id, j.position, j.custom_id, a.number, a.ending, a.error_code, a.error_message, a.worker_id,
       a.slice_id, a.token, a.claimed_at, a.ended_at
FROM jobs j
JOIN attempts a ON a.batch_id = j.batch_id AND a.first <= j.position AND a.past > j.position
LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE r.finished_at IS NULL OR a.claimed_at IS NULL OR a.claimed_at <= r.finished_at
"""


def upgrade() -> None:
    """Add columns, tables and the view."""
    for name, kind in BATCH_COLUMNS:
        op.add_column("batches", sa.Column(name, kind))
    for name in ("deaths", "lapses", "retries"):
        op.add_column("slices", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("slices", sa.Column("leased_at", MOMENT))
    where = "status IN ('validating', 'cancelling')"
    op.create_index(
        "batches_unsettled", "batches", ["id"], postgresql_where=sa.text(where), sqlite_where=sa.text(where)
    )
    _attempts()
    _past_results()
    op.create_table(
        "duties",
        sa.Column("name", KEY, primary_key=True),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("ran_at", MOMENT),
        sa.Column("ran_by", sa.Text),
        sa.Column("acted_at", MOMENT),
        sa.Column("acted", sa.Text),
    )
    op.execute(JOB_ATTEMPTS)


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP VIEW job_attempts")
    for table in ("duties", "past_results", "attempts"):
        op.drop_table(table)
    op.drop_index("batches_unsettled", "batches")
    op.execute("DROP VIEW job_results")  # SQLite checks views while it drops a column of their tables
    for name in ("deaths", "lapses", "retries", "leased_at"):
        op.drop_column("slices", name)
    for name, _ in BATCH_COLUMNS:
        op.drop_column("batches", name)
    op.execute(JOB_RESULTS)


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", NUMBER, sa.Identity(), primary_key=True),
        _batch_id(nullable=False),
        sa.Column("slice_id", sa.BigInteger, nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("past", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("worker_id", sa.Text),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("claimed_at", MOMENT),
        sa.Column("ended_at", MOMENT, nullable=False, server_default=_clock()),
    )
    op.create_index("attempts_of_batch", "attempts", ["batch_id", "first"])


def _past_results() -> None:
    op.create_table(
        "past_results",
        _batch_id(primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("output", DOCUMENT),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("truncated", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("slice_id", sa.BigInteger),
        sa.Column("token", sa.BigInteger),
        sa.Column("model_version_id", NUMBER, sa.ForeignKey("model_versions.id")),
        sa.Column("finished_at", MOMENT, nullable=False),
        sa.Column("replaced_at", MOMENT, nullable=False, server_default=_clock()),
        sqlite_with_rowid=False,
    )


def _batch_id(**how: Any) -> sa.Column[str]:
    return sa.Column("batch_id", KEY, sa.ForeignKey("batches.id", ondelete="CASCADE"), **how)


def _clock() -> sa.TextClause:
    if op.get_bind().dialect.name == "postgresql":
        return sa.text("clock_timestamp()")
    return sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now'))")


# As 0001 made it.
JOB_RESULTS = """
CREATE VIEW job_results AS
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""
