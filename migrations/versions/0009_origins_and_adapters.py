"""Origins: the batch and the job whose result an input was taken from; and the adapter (LoRA) of a model version."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
OUTPUTS = {"postgresql": "coalesce(r.output, to_jsonb(r.vector)) AS output", "sqlite": "r.output"}
COLUMNS = """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, {output}, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from, r.windows, r.guards,
       j.original_input, r.vector"""
NEW_COLUMNS = ", j.source_batch_id, j.source_position, m.adapter, m.adapter_revision"
TABLES = """
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


def upgrade() -> None:
    """Add the columns; the view gets its new ones at the end, so that it keeps its grants."""
    op.add_column("batches", sa.Column("source_batch_id", KEY))
    has_source = sa.text("source_batch_id IS NOT NULL")
    op.create_index(
        "batches_source", "batches", ["source_batch_id"], postgresql_where=has_source, sqlite_where=has_source
    )
    op.add_column("jobs", sa.Column("source_batch_id", KEY))
    op.add_column("jobs", sa.Column("source_position", sa.BigInteger))
    op.add_column("runs", sa.Column("source_batch_id", KEY))
    op.add_column("model_versions", sa.Column("adapter", sa.Text))
    op.add_column("model_versions", sa.Column("adapter_revision", sa.Text))
    dialect = op.get_bind().dialect.name
    view = f"job_results AS{COLUMNS.format(output=OUTPUTS[dialect])}{NEW_COLUMNS}{TABLES}"
    if dialect == "sqlite":
        op.execute("DROP VIEW job_results")
        op.execute(f"CREATE VIEW {view}")
    else:
        op.execute(f"CREATE OR REPLACE VIEW {view}")


def downgrade() -> None:
    """Drop the columns; on PostgreSQL the old view needs its grants again."""
    op.execute("DROP VIEW job_results")
    for column in ("adapter", "adapter_revision"):
        op.drop_column("model_versions", column)
    op.drop_column("runs", "source_batch_id")
    for column in ("source_batch_id", "source_position"):
        op.drop_column("jobs", column)
    op.drop_index("batches_source", "batches")
    op.drop_column("batches", "source_batch_id")
    op.execute(f"CREATE VIEW job_results AS{COLUMNS.format(output=OUTPUTS[op.get_bind().dialect.name])}{TABLES}")
