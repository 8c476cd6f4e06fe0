"""Vectors: results of embedding models, four bytes a number, beside the JSON of other outputs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

VECTOR = sa.LargeBinary().with_variant(ARRAY(sa.REAL, dimensions=1), "postgresql")

# A result has its output as JSON or as a vector. PostgreSQL's view gives both as JSON; SQLite has no function for that.
OUTPUTS = {"postgresql": "coalesce(r.output, to_jsonb(r.vector)) AS output", "sqlite": "r.output"}
COLUMNS = """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, {output}, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from, r.windows, r.guards,
       j.original_input"""
TABLES = """
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


def upgrade() -> None:
    """Add the column; the view gets it at the end, so that it keeps its grants."""
    for table in ("results", "superseded_results"):
        op.add_column(table, sa.Column("vector", VECTOR))
    dialect = op.get_bind().dialect.name
    view = f"{COLUMNS.format(output=OUTPUTS[dialect])}, r.vector{TABLES}"
    if dialect == "sqlite":
        op.execute("DROP VIEW job_results")
        op.execute(f"CREATE VIEW job_results AS{view}")
        return
    for table in ("results", "superseded_results"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN vector SET STORAGE EXTERNAL")  # numbers do not compress
    op.execute(f"CREATE OR REPLACE VIEW job_results AS{view}")


def downgrade() -> None:
    """Drop the column; on PostgreSQL the old view needs its grants again."""
    op.execute("DROP VIEW job_results")
    for table in ("results", "superseded_results"):
        op.drop_column(table, "vector")
    op.execute(f"CREATE VIEW job_results AS{COLUMNS.format(output='r.output')}{TABLES}")
