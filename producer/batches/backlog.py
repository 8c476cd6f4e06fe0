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


@dataclass(frozen=True, slots=True)
class PipelineBacklog:
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
