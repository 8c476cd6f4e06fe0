"""Results taken over from earlier batches: what they hang on, where each came from; batches that are read on."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")

# As 0003 made it, with the batch that a result was taken from at its end.
JOB_RESULTS = """
CREATE VIEW job_results AS
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.meta{more}
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


def upgrade() -> None:
    """Add the columns and indexes, and renew the view."""
    op.add_column("batches", sa.Column("reused", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("batches", sa.Column("reading", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("batches", sa.Column("recipe", KEY))
    op.create_index("batches_recipe", "batches", ["recipe", "created_at"])
    where = sa.text("reading")
    op.create_index("batches_reading", "batches", ["id"], postgresql_where=where, sqlite_where=where)
    op.add_column("results", sa.Column("reused_from", KEY))
    op.execute("DROP VIEW job_results")
    op.execute(JOB_RESULTS.format(more=", r.reused_from"))


def downgrade() -> None:
    """Take them away again."""
    op.execute("DROP VIEW job_attempts")  # SQLite checks views while it drops a column of their tables
    op.execute("DROP VIEW job_results")
    op.drop_column("results", "reused_from")
    op.drop_index("batches_reading", "batches")
    op.drop_index("batches_recipe", "batches")
    for name in ("recipe", "reading", "reused"):
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
