"""The backlog of each pipeline, as the view `pipeline_backlog` counts it for autoscalers and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime

SELECT_BACKLOG = "SELECT b.*, {now} AS now FROM pipeline_backlog b ORDER BY pipeline"

COLUMNS = ("pipeline", "queued_slices", "leased_slices", "unanswered_jobs", "open_batches")


@dataclass(frozen=True, slots=True)
class PipelineBacklog:
    """The open work of one pipeline.

    unanswered_jobs: of all open batches, as far as they are read in.
    open_batches: batches that are validating, in progress or cancelling.
    oldest_created_at: when the oldest of them was submitted.
    oldest_age_seconds: the same as an age, by the database's clock.
    """

    pipeline: str
    queued_slices: int
    leased_slices: int
    unanswered_jobs: int
    open_batches: int
    oldest_created_at: datetime
    oldest_age_seconds: float


def list_backlog(database: Database) -> Sequence[PipelineBacklog]:
    """Return the backlog of every pipeline that has open batches, by name."""
    query = text(SELECT_BACKLOG.format(now=database.sql.now)).columns(
        *map(column, COLUMNS), column("oldest_created_at", UtcDateTime), column("now", UtcDateTime)
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [PipelineBacklog(*row[:6], max(0.0, (row.now - row.oldest_created_at).total_seconds())) for row in rows]
