"""The backlog of each pipeline, as the view `pipeline_backlog` counts it for autoscalers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.documents import format_timestamp

SELECT_ALL = "SELECT *, {now} AS now FROM pipeline_backlog ORDER BY pipeline"

# The same for one tenant.
SELECT_OF_TENANT = """
SELECT b.pipeline,
       sum((SELECT count(*) FROM slices s WHERE s.batch_id = b.id AND s.state = 'queued')) AS queued_slices,
       sum((SELECT count(*) FROM slices s WHERE s.batch_id = b.id AND s.state = 'leased')) AS leased_slices,
       sum(b.total - b.succeeded - b.failed - b.cancelled - b.expired) AS unanswered_jobs,
       count(*) AS open_batches, min(b.created_at) AS oldest_created_at, {now} AS now
FROM batches b WHERE b.status IN ('validating', 'in_progress', 'cancelling') AND b.tenant = :tenant
GROUP BY b.pipeline ORDER BY b.pipeline
"""


@dataclass(frozen=True, slots=True)
class PipelineBacklog:
    """The open work of a pipeline.

    unanswered_jobs: of all open batches, as far as they are read in.
    open_batches: batches that are validating, in progress or cancelling.
    oldest_created_at: when the oldest of them was submitted.
    oldest_age_seconds: the same as an age, by the database's clock.
    """

    queued_slices: int
    leased_slices: int
    unanswered_jobs: int
    open_batches: int
    oldest_created_at: datetime | None
    oldest_age_seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by name."""
        return {
            "queued_slices": self.queued_slices,
            "leased_slices": self.leased_slices,
            "unanswered_jobs": self.unanswered_jobs,
            "open_batches": self.open_batches,
            "oldest_created_at": self.oldest_created_at and format_timestamp(self.oldest_created_at),
        }


EMPTY = PipelineBacklog(0, 0, 0, 0, None)


def count_backlogs(database: Database, tenant: str | None = None) -> dict[str, PipelineBacklog]:
    """Count the open work of each pipeline that has any.

    tenant: only batches that belong to it; None = all
    """
    query = (SELECT_ALL if tenant is None else SELECT_OF_TENANT).format(now=database.sql.now)
    typed = text(query).columns(oldest_created_at=UtcDateTime, now=UtcDateTime)
    with database.read() as connection:
        rows = connection.execute(typed, {} if tenant is None else {"tenant": tenant}).all()
    return {
        row.pipeline: PipelineBacklog(
            int(row.queued_slices),
            int(row.leased_slices),
            int(row.unanswered_jobs),
            row.open_batches,
            row.oldest_created_at,
            max(0.0, (row.now - row.oldest_created_at).total_seconds()),
        )
        for row in rows
    }
