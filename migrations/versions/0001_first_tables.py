"""The first tables: batches, jobs, slices, results, model versions, workers, and the view job_results."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
MOMENT = sa.DateTime(timezone=True)

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


def upgrade() -> None:
    """Create everything."""
    _batches()
    _jobs_and_slices()
    _model_versions()
    _results()
    _workers()
    _budgets()
    op.execute(JOB_RESULTS)


def downgrade() -> None:
    """Drop everything."""
    op.execute("DROP VIEW job_results")
    for table in ("budgets", "workers", "results", "model_versions", "slices", "jobs", "batches"):
        op.drop_table(table)


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("name", sa.Text),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("parameters", DOCUMENT, nullable=False),
        sa.Column("metadata", DOCUMENT, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False, server_default="0"),
        sa.Column("status", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            for name in ("total", "succeeded", "failed", "cancelled", "expired", "last_seq", "tokens", "padded_tokens")
        ),
        sa.Column("device_seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("created_at", MOMENT, nullable=False, server_default=_clock()),
        *(
            sa.Column(f"{name}_at", MOMENT)
            for name in ("in_progress", "expires", "completed", "failed", "expired", "cancelling", "cancelled")
        ),
    )
    _partial_index("batches_in_progress", "batches", ["pipeline", "created_at"], "status = 'in_progress'")
    op.create_index("batches_newest", "batches", ["created_at", "id"])


def _jobs_and_slices() -> None:
    op.create_table(
        "jobs",
        _batch_id(primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("custom_id", KEY),
        sa.Column("input", DOCUMENT, nullable=False),
        sqlite_with_rowid=False,
    )
    _partial_index("jobs_custom_id", "jobs", ["batch_id", "custom_id"], "custom_id IS NOT NULL", unique=True)
    op.create_table(
        "slices",
        sa.Column("id", NUMBER, sa.Identity(), primary_key=True),
        _batch_id(nullable=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("worker_id", sa.Text),
        sa.Column("lease_expires_at", MOMENT),
        sa.Column("not_before", MOMENT),
        sa.Column("claimed_at", MOMENT),
        sa.Column("done_at", MOMENT),
    )
    op.create_index("slices_of_batch", "slices", ["batch_id", "first"])
    _partial_index("slices_queued", "slices", ["batch_id", "id"], "state = 'queued'")
    _partial_index("slices_leased", "slices", ["batch_id"], "state = 'leased'")


def _model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", NUMBER, sa.Identity(), primary_key=True),
        sa.Column("fingerprint", KEY, nullable=False, unique=True),
        *(
            sa.Column(name, sa.Text, nullable=name == "quantization")
            for name in (
                "task",
                "model",
                "revision",
                "tokenizer",
                "tokenizer_revision",
                "dtype",
                "quantization",
                "attention",
                "device",
            )
        ),
        sa.Column("libraries", DOCUMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False, server_default=_clock()),
    )


def _results() -> None:
    op.create_table(
        "results",
        _batch_id(primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("output", DOCUMENT),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("truncated", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("slice_id", sa.BigInteger),
        sa.Column("token", sa.BigInteger),
        sa.Column("model_version_id", NUMBER, sa.ForeignKey("model_versions.id")),
        sa.Column("finished_at", MOMENT, nullable=False, server_default=_clock()),
        sqlite_with_rowid=False,
    )
    op.create_index("results_seq", "results", ["batch_id", "seq"], unique=True)


def _workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", KEY, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("pipeline", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("revision", sa.Text),
        sa.Column("serves", DOCUMENT, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", MOMENT, nullable=False, server_default=_clock()),
        sa.Column("heartbeat_at", MOMENT, nullable=False, server_default=_clock()),
    )


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("pipeline", KEY, primary_key=True),
        sa.Column("device", KEY, primary_key=True),
        sa.Column("dtype", KEY, primary_key=True),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("found_at", MOMENT, nullable=False, server_default=_clock()),
    )


def _batch_id(**how: Any) -> sa.Column[str]:
    return sa.Column("batch_id", KEY, sa.ForeignKey("batches.id", ondelete="CASCADE"), **how)


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def _clock() -> sa.TextClause:
    if op.get_bind().dialect.name == "postgresql":
        return sa.text("clock_timestamp()")
    return sa.text("(strftime('%Y-%m-%d %H:%M:%f', 'now'))")
