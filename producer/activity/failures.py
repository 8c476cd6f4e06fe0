"""Failures by error code in the last minutes. They count jobs when they fail, also those that were retried since."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from models.db import Database
from producer.activity.minutes import read_span
from producer.activity.tenants import OF_TENANT

MAX_ROWS = 1_000  # codes times pipelines

# By the index `activity_failures`, so the succeeded jobs of a day cost nothing.
SELECT_FAILURES = """
SELECT error_code, pipeline, sum(jobs) AS jobs FROM activity
WHERE minute >= :first AND minute <= :last AND error_code <> '' {conditions}
GROUP BY error_code, pipeline ORDER BY sum(jobs) DESC, error_code, pipeline LIMIT :limit
"""
CONDITIONS = {"tenant": OF_TENANT, "code": "AND error_code = :code"}


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How many jobs failed with a code.

    pipelines: with the number of jobs of each, that with the most first
    """

    error_code: str
    jobs: int
    pipelines: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `GET /api/activity` sends."""
        pipelines = [{"pipeline": name, "jobs": jobs} for name, jobs in self.pipelines]
        return {"error_code": self.error_code, "jobs": self.jobs, "pipelines": pipelines}


def count_failures(
    database: Database, minutes: int, tenant: str | None = None, code: str | None = None
) -> list[FailureCount]:
    """Count the jobs that failed in the last minutes by code, the most frequent first.

    minutes: with the current one; at most a day
    tenant: whose jobs; None = all
    code: only this one
    """
    wanted = {"tenant": tenant, "code": code}
    params = {name: value for name, value in wanted.items() if value is not None}
    conditions = " ".join(CONDITIONS[name] for name in params)
    with database.read() as connection:
        span = read_span(connection, minutes)
        bounds = {"first": span.first, "last": span.last, "limit": MAX_ROWS}
        rows = connection.execute(text(SELECT_FAILURES.format(conditions=conditions)), {**bounds, **params}).all()
    by_code: dict[str, list[tuple[str, int]]] = {}
    for row in rows:
        by_code.setdefault(row.error_code, []).append((row.pipeline, int(row.jobs)))
    counts = [FailureCount(code, sum(jobs for _, jobs in own), tuple(own)) for code, own in by_code.items()]
    return sorted(counts, key=lambda count: (-count.jobs, count.error_code))
