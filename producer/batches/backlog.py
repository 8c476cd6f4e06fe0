<<<<<<< HEAD
"""The backlog of each pipeline, as the view `pipeline_backlog` counts it for autoscalers and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime

SELECT_BACKLOG = "SELECT b.*, {now} AS now FROM pipeline_backlog b ORDER BY pipeline"

COLUMNS = ("pipeline", "queued_slices", "leased_slices", "unanswered_jobs", "open_batches")
=======
"""The unanswered work of each pipeline."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.documents import format_timestamp

COUNT_BACKLOGS = """
SELECT pipeline, sum(total - succeeded - failed - cancelled - expired) AS unanswered_jobs, count(*) AS open_batches,
       min(created_at) AS oldest_created_at
FROM batches WHERE status = 'in_progress' {of_tenant} GROUP BY pipeline
"""
>>>>>>> main


@dataclass(frozen=True, slots=True)
class PipelineBacklog:
<<<<<<< HEAD
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
=======
    """The unanswered work of a pipeline."""

    unanswered_jobs: int
    open_batches: int
    oldest_created_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return {
            "unanswered_jobs": self.unanswered_jobs,
            "open_batches": self.open_batches,
            "oldest_created_at": self.oldest_created_at and format_timestamp(self.oldest_created_at),
        }


EMPTY = PipelineBacklog(0, 0, None)


def count_backlogs(database: Database, tenant: str | None = None) -> dict[str, PipelineBacklog]:
    """Count the unanswered work of each pipeline that has any.

    tenant: only batches that belong to it; None = all
    """
    of_tenant = "" if tenant is None else "AND tenant = :tenant"
    query = text(COUNT_BACKLOGS.format(of_tenant=of_tenant)).columns(oldest_created_at=UtcDateTime)
    with database.read() as connection:
        rows = connection.execute(query, {} if tenant is None else {"tenant": tenant}).all()
    return {
        row.pipeline: PipelineBacklog(int(row.unanswered_jobs), row.open_batches, row.oldest_created_at) for row in rows
    }
>>>>>>> main
