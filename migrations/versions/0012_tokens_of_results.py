"""How many tokens each result took, and how its text ended."""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("results", "superseded_results")
COLUMNS = {"input_tokens": sa.Integer, "output_tokens": sa.Integer, "finish_reason": sa.Text}

OUTPUTS = {"postgresql": "coalesce(r.output, to_jsonb(r.vector)) AS output", "sqlite": "r.output"}
JOB_RESULTS = """
SELECT r.batch_id, r.position, j.custom_id, j.input, r.status, {output}, r.error_code, r.error_message, r.truncated,
       b.pipeline, b.task, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq,
       b.created_at AS submitted_at, r.finished_at, j.passthrough, r.reused_from, r.windows, r.guards,
       j.original_input, r.vector, j.source_batch_id, j.source_position, m.adapter, m.adapter_revision, b.tenant
       {columns}
FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
JOIN batches b ON b.id = r.batch_id
LEFT JOIN model_versions m ON m.id = r.model_version_id
"""


def upgrade() -> None:
    """Add the columns, which takes no time on a large table; on PostgreSQL the view keeps its grants."""
    for table in TABLES:
        for name, column_type in COLUMNS.items():
            op.add_column(table, sa.Column(name, column_type))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW job_results")
        _create_view("CREATE VIEW", COLUMNS)
    else:
        _create_view("CREATE OR REPLACE VIEW", COLUMNS)


def downgrade() -> None:
    """Drop them; on PostgreSQL the view needs its grants again."""
    op.execute("DROP VIEW job_results")
    for table in TABLES:
        for name in COLUMNS:
            op.drop_column(table, name)
    _create_view("CREATE VIEW", ())


def _create_view(create: str, columns: Iterable[str]) -> None:
    output = OUTPUTS[op.get_bind().dialect.name]
    names = "".join(f", r.{name}" for name in columns)
    op.execute(f"{create} job_results AS{JOB_RESULTS.format(output=output, columns=names)}")
