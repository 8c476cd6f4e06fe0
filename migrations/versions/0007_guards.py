"""Guards: their verdicts with each result, their counts by batch, redacted inputs, and the windows of a long text."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

OLD_COLUMNS = """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from"""
NEW_COLUMNS = f"""{OLD_COLUMNS}, r.windows, r.guards, j.original_input"""
TABLES = """
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


# A worker of an older version may still run, and knows no guards. It claims guarded batches, but its commit is refused:
# a newer one sets `guarded_seq` to the last `seq` that it has written. The worker then exits, as at any refusal.
REFUSE_UNGUARDED = {
    "postgresql": (
        """
CREATE FUNCTION batchmill_refuse_unguarded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this batch has guards, which this version does not know';
END $$
""",
        """
CREATE TRIGGER batches_refuse_unguarded BEFORE UPDATE OF succeeded ON batches FOR EACH ROW
WHEN (NEW.guarded AND NEW.succeeded > OLD.succeeded AND NEW.guarded_seq < NEW.last_seq)
EXECUTE FUNCTION batchmill_refuse_unguarded()
""",
    ),
    # RAISE would count as a violated constraint, which is no refusal; malformed JSON is one.
    "sqlite": (
        """
CREATE TRIGGER batches_refuse_unguarded BEFORE UPDATE OF succeeded ON batches
WHEN NEW.guarded AND NEW.succeeded > OLD.succeeded AND NEW.guarded_seq < NEW.last_seq
BEGIN SELECT json('this batch has guards, which this version does not know'); END
""",
    ),
}
ACCEPT_UNGUARDED = {
    "postgresql": ("DROP TRIGGER batches_refuse_unguarded ON batches", "DROP FUNCTION batchmill_refuse_unguarded()"),
    "sqlite": ("DROP TRIGGER batches_refuse_unguarded",),
}


def upgrade() -> None:
    """Add the columns and the table; the view gets its new columns at the end, so that it keeps its grants."""
    for table in ("results", "superseded_results"):
        op.add_column(table, sa.Column("windows", sa.Integer))
        op.add_column(table, sa.Column("guards", DOCUMENT))
    op.add_column("jobs", sa.Column("redacted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("jobs", sa.Column("original_input", DOCUMENT))
    op.add_column("batches", sa.Column("guarded", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("batches", sa.Column("guarded_seq", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("workers", sa.Column("guards", DOCUMENT))
    op.create_table(
        "batch_guards",
        sa.Column("batch_id", KEY, sa.ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("guard", KEY, primary_key=True),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger, nullable=False, server_default="0")
            for name in ("passed", "flagged", "redacted", "blocked")
        ),
        sa.Column("device_seconds", sa.Double, nullable=False, server_default="0"),
    )
    for statement in REFUSE_UNGUARDED[op.get_bind().dialect.name]:
        op.execute(statement)
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW job_results")
        op.execute(f"CREATE VIEW job_results AS{NEW_COLUMNS}{TABLES}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW job_results AS{NEW_COLUMNS}{TABLES}")


def downgrade() -> None:
    """Drop the columns and the table; on PostgreSQL the old view needs its grants again."""
    op.execute("DROP VIEW job_results")
    op.drop_table("batch_guards")
    op.drop_column("workers", "guards")
    for statement in ACCEPT_UNGUARDED[op.get_bind().dialect.name]:
        op.execute(statement)
    op.drop_column("batches", "guarded_seq")
    op.drop_column("batches", "guarded")
    op.drop_column("jobs", "original_input")
    op.drop_column("jobs", "redacted")
    for table in ("results", "superseded_results"):
        op.drop_column(table, "guards")
        op.drop_column(table, "windows")
    op.execute(f"CREATE VIEW job_results AS{OLD_COLUMNS}{TABLES}")
