"""How far the source of a batch was read, before the batch is accepted or where it was cut off."""

from dataclasses import dataclass

from sqlalchemy import text

from models.db import Database
from models.states import BatchStatus
from producer.batches.batch_view import BatchView

SELECT_READING = """
SELECT rows_read, ingesting, in_progress_at IS NOT NULL AS is_accepted FROM batches WHERE id = :batch_id
"""

ENDED_BY_OTHERS = (BatchStatus.CANCELLED, BatchStatus.EXPIRED)  # so that nothing else says why rows are missing


@dataclass(frozen=True, slots=True)
class ReadingState:
    """How far the source was read.

    rows: that were read
    is_open: more are being read
    is_cut_off: the batch was ended before all were read, so it has only the first rows of its source
    """

    rows: int
    is_open: bool
    is_cut_off: bool


def find_reading_state(database: Database, batch: BatchView) -> ReadingState:
    """Return how far the source of a batch was read; an unknown batch has none."""
    with database.read() as connection:
        row = connection.execute(text(SELECT_READING), {"batch_id": batch.id}).one_or_none()
    if row is None:
        return ReadingState(0, is_open=False, is_cut_off=False)
    has_source = bool(row.rows_read) or batch.input_file_id is not None
    is_partial = bool(row.ingesting) or (not row.is_accepted and has_source)
    return ReadingState(
        rows=max(row.rows_read, batch.counts.total),
        is_open=batch.status is BatchStatus.VALIDATING or batch.ingesting,
        is_cut_off=is_partial and batch.status in ENDED_BY_OTHERS,
    )
