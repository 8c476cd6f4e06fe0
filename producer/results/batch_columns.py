"""The columns that results have besides those of every result: kept columns, and origins in another batch."""

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import Document

# Rows of JSON lines may have different columns, if all are kept.
SELECT_PASSTHROUGH_COLUMNS = {
    "postgresql": """
        SELECT DISTINCT name FROM jobs CROSS JOIN LATERAL jsonb_object_keys(passthrough) AS keys (name)
        WHERE batch_id = :batch_id""",
    "sqlite": """
        SELECT DISTINCT keys.key FROM jobs CROSS JOIN json_each(passthrough) AS keys WHERE batch_id = :batch_id""",
}
SELECT_FIRST_PASSTHROUGH = (
    "SELECT passthrough FROM jobs WHERE batch_id = :batch_id AND passthrough IS NOT NULL ORDER BY position LIMIT 1"
)
# All jobs of a batch have origins, or none; except rows that a schedule adds at the end.
SELECT_FIRST_ORIGIN = "SELECT source_batch_id FROM jobs WHERE batch_id = :batch_id ORDER BY position LIMIT 1"


def passthrough_columns(database: Database, batch_id: str) -> list[str]:
    """Return the names of the passthrough columns of a batch, those of the first row first."""
    query = text(SELECT_FIRST_PASSTHROUGH).columns(column("passthrough", Document))
    with database.read() as connection:
        first_row = connection.scalar(query, {"batch_id": batch_id})
        if first_row is None:
            return []
        all_columns = text(SELECT_PASSTHROUGH_COLUMNS[connection.dialect.name])
        names = sorted(connection.scalars(all_columns, {"batch_id": batch_id}))
    return list(dict.fromkeys([*first_row, *names]))


def has_origins(database: Database, batch_id: str) -> bool:
    """Return whether a batch's inputs are results of another batch."""
    with database.read() as connection:
        return connection.scalar(text(SELECT_FIRST_ORIGIN), {"batch_id": batch_id}) is not None
