"""The view `batch_status`, which tells pollers how far a batch is and when to stop."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A batch that is being deleted counts as ended: no result will be added to it.
BATCH_STATUS = """
SELECT id AS batch_id, name, status, status NOT IN ('validating', 'in_progress', 'cancelling') AS has_ended,
       total, succeeded, failed, cancelled, expired, total - succeeded - failed - cancelled - expired AS unanswered,
       reused, ingesting AND status = 'in_progress' AS ingesting, last_seq, error_code, error_message,
       pipeline, task, model, revision, priority, metadata,
       created_at, in_progress_at, expires_at, coalesce(completed_at, failed_at, expired_at, cancelled_at) AS ended_at
FROM batches
"""


def upgrade() -> None:
    """Create the view."""
    op.execute(f"CREATE VIEW batch_status AS{BATCH_STATUS}")


def downgrade() -> None:
    """Drop the view."""
    op.execute("DROP VIEW batch_status")
