"""Vectors: results of embedding models, four bytes a number, beside the JSON of other outputs; and a run's key."""

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


SELECT_TABLE = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'results'"
SELECT_INDEXES = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'results' AND sql IS NOT NULL"
WITHOUT_ROWID = "WITHOUT ROWID"


def upgrade() -> None:
    """Add the columns; the view gets the vectors at the end, so that it keeps its grants."""
    op.add_column("runs", sa.Column("embedding_key", sa.Text))
    dialect = op.get_bind().dialect.name
    view = f"{COLUMNS.format(output=OUTPUTS[dialect])}, r.vector{TABLES}"
    if dialect == "sqlite":
        op.execute("DROP VIEW job_results")
    for table in ("results", "superseded_results"):
        op.add_column(table, sa.Column("vector", VECTOR))
    if dialect == "sqlite":
        _rebuild_results(with_rowid=True)
        op.execute(f"CREATE VIEW job_results AS{view}")
        return
    for table in ("results", "superseded_results"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN vector SET STORAGE EXTERNAL")  # numbers do not compress
    op.execute(f"CREATE OR REPLACE VIEW job_results AS{view}")


def downgrade() -> None:
    """Drop the columns; on PostgreSQL the old view needs its grants again."""
    op.drop_column("runs", "embedding_key")
    op.execute("DROP VIEW job_results")
    for table in ("results", "superseded_results"):
        op.drop_column(table, "vector")
    if op.get_bind().dialect.name == "sqlite":
        _rebuild_results(with_rowid=False)
    op.execute(f"CREATE VIEW job_results AS{COLUMNS.format(output='r.output')}{TABLES}")


def _rebuild_results(*, with_rowid: bool) -> None:
    """Copy the table on SQLite into one with or without a rowid, with the same columns and indexes.

    Without a rowid, a row of more than a quarter of a page has overflow pages for itself: 4,700 bytes for a vector of
    384 numbers instead of 2,100, and half the speed. Short rows grow by 25 bytes, and take as long to write.
    """
    connection = op.get_bind()
    definition = connection.scalar(sa.text(SELECT_TABLE))
    columns = definition[definition.index("(") : definition.rindex(")") + 1]
    indexes = connection.scalars(sa.text(SELECT_INDEXES)).all()
    op.execute(f"CREATE TABLE new_results {columns} {'' if with_rowid else WITHOUT_ROWID}")
    op.execute("INSERT INTO new_results SELECT * FROM results")
    op.execute("DROP TABLE results")
    op.execute("PRAGMA legacy_alter_table = ON")  # views name the table, which does not exist now
    op.execute("ALTER TABLE new_results RENAME TO results")
    op.execute("PRAGMA legacy_alter_table = OFF")
    for index in indexes:
        op.execute(index)
