"""A row as a table shows it: its documents are cut to what a reader can take in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Boolean, Connection, TextualSelect, column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.dialects.fragments import comma_separated
from models.states import JobOutcome
from models.vectors import from_array_wire
from producer.results.result_columns import VECTOR_COLUMN

PREVIEW_CHARACTERS = 20_000  # of a document in a table
MESSAGE_CHARACTERS = 1_000

# The numbers stand twice: else PostgreSQL reads all results of a large batch to join these.
SELECT_PREVIEWS = """
SELECT j.position, j.custom_id, substr(CAST(j.input AS TEXT), 1, :most) AS input,
       length(CAST(j.input AS TEXT)) AS input_length, r.status, substr(CAST(r.output AS TEXT), 1, :most) AS output,
       length(CAST(r.output AS TEXT)) AS output_length, {vector} AS vector,
       substr(r.error_code, 1, :short) AS error_code, substr(r.error_message, 1, :short) AS error_message, r.truncated,
       r.windows, r.attempts, r.seq, r.finished_at,
       substr(CAST(r.guards AS TEXT), 1, :most) AS guards, r.reused_from
FROM jobs j LEFT JOIN results r ON r.batch_id = :batch_id AND r.position = j.position AND r.position {in_numbers}
WHERE j.batch_id = :batch_id AND j.position {in_numbers}
"""


class RowPreview(NamedTuple):
    """One job and its result, if it has one: all but the position, the id and the input is None without."""

    position: int
    custom_id: str | None
    input_text: str  # JSON, cut after PREVIEW_CHARACTERS
    input_length: int
    status: JobOutcome | None
    output_text: str | None  # JSON, cut as well
    output_length: int | None
    vector: bytes | None
    error_code: str | None
    error_message: str | None
    truncated: bool | None
    windows: int | None
    attempts: int | None
    seq: int | None
    finished_at: datetime | None
    guards_text: str | None  # JSON, cut as well
    reused_from: str | None


def read_previews(
    database: Database, connection: Connection, batch_id: str, positions: Sequence[int]
) -> list[RowPreview]:
    """Return the rows at these positions, in this order; those without a job are skipped."""
    if not positions:
        return []
    params = {
        "batch_id": batch_id,
        "numbers": comma_separated(positions),
        "most": PREVIEW_CHARACTERS,
        "short": MESSAGE_CHARACTERS,
    }
    query = _typed_query(connection.dialect.name, database.sql.in_numbers)
    rows = {row.position: _to_preview(row, connection.dialect.name) for row in connection.execute(query, params)}
    return [rows[position] for position in positions if position in rows]


def _typed_query(dialect: str, in_numbers: str) -> TextualSelect:
    types: dict[str, Any] = {"truncated": Boolean, "finished_at": UtcDateTime}
    query = SELECT_PREVIEWS.format(vector=VECTOR_COLUMN[dialect], in_numbers=in_numbers)
    names = [name.removesuffix("_text") for name in RowPreview._fields]
    return text(query).columns(*(column(name, types.get(name)) for name in names))


def _to_preview(row: Any, dialect: str) -> RowPreview:
    preview = RowPreview(*row)
    vector = preview.vector
    if vector is not None and dialect == "postgresql":
        vector = from_array_wire(vector)
    return preview._replace(status=None if preview.status is None else JobOutcome(preview.status), vector=vector)
