"""Submits that go on where they stopped: the key, how far a batch is read and by whom; columns kept with each job."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

BATCH_COLUMNS = (("idempotency_key", KEY), ("fingerprint", sa.Text), ("read_digest", sa.Text), ("submitter", sa.Text))

# As before, with what was kept of the job's row at its end.
JOB_RESULTS = """
CREATE VIEW job_results AS
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at{more}
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


def upgrade() -> None:
    """Add the columns and renew the view."""
    for name, kind in BATCH_COLUMNS:
        op.add_column("batches", sa.Column(name, kind))
    op.add_column("batches", sa.Column("read_jobs", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("batches_idempotency_key", "batches", ["idempotency_key"], unique=True)
    op.add_column("jobs", sa.Column("meta", DOCUMENT))
    op.execute("DROP VIEW job_results")
    op.execute(JOB_RESULTS.format(more=", j.meta"))


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP VIEW job_attempts")  # SQLite checks views while it drops a column of their tables
    op.execute("DROP VIEW job_results")
    op.drop_column("jobs", "meta")
    op.drop_index("batches_idempotency_key", "batches")
    for name in ("read_jobs", *(name for name, _ in BATCH_COLUMNS)):
        op.drop_column("batches", name)
    op.execute(JOB_RESULTS.format(more=""))
    op.execute(JOB_ATTEMPTS)


# As 0002 made it.
JOB_ATTEMPTS = """
CREATE VIEW job_attempts AS
SELECT j.batch_id, j.position, j.custom_id, a.number, a.ending, a.error_code, a.error_message, a.worker_id,
       a.slice_id, a.token, a.claimed_at, a.ended_at
FROM jobs j
JOIN attempts a ON a.batch_id = j.batch_id AND a.first <= j.position AND a.past > j.position
LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE r.finished_at IS NULL OR a.claimed_at IS NULL OR a.claimed_at <= r.finished_at
"""
