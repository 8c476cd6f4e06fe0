"""Throughput: jobs by pipeline and minute, and the pace that results."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import text

from models.db import Database
from models.documents import format_timestamp
from producer.activity.device_pace import DevicePace
from producer.activity.minutes import MINUTE_SECONDS, Span, read_span
from producer.activity.tenants import of_tenant

HOUR_MINUTES = 60

# The primary key begins with the minute, so the minutes bound the cost.
SELECT_THROUGHPUT = """
SELECT minute, pipeline, CAST(sum(CASE WHEN error_code = '' THEN jobs ELSE 0 END) AS bigint) AS succeeded,
       CAST(sum(CASE WHEN error_code = '' THEN 0 ELSE jobs END) AS bigint) AS failed,
       CAST(sum(tokens) AS bigint) AS tokens, sum(device_seconds) AS device_seconds
FROM activity WHERE minute >= :first AND minute <= :last {of_tenant}
GROUP BY minute, pipeline ORDER BY pipeline, minute
"""


class MinuteRow(NamedTuple):
    """What was done with a pipeline in a minute."""

    minute: int
    pipeline: str
    succeeded: int
    failed: int
    tokens: int
    device_seconds: float


@dataclass(frozen=True, slots=True)
class PipelineActivity(DevicePace):
    """What was done with a pipeline in a span of minutes.

    per_minute: jobs that ended in each minute, failed ones too, the oldest minute first
    busy_seconds: the length of the minutes in which jobs ended; rates are over these
    device_seconds: with those of the guards' models
    """

    pipeline: str
    per_minute: tuple[int, ...]
    succeeded: int
    failed: int
    tokens: int
    device_seconds: float
    busy_seconds: float

    @property
    def jobs(self) -> int:
        """All jobs that ended."""
        return self.succeeded + self.failed

    @property
    def jobs_per_second(self) -> float | None:
        """The pace while it worked; None if it did not."""
        return self.jobs / self.busy_seconds if self.busy_seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens without padding."""
        return self.tokens / self.busy_seconds if self.busy_seconds else None

    def as_dict(self) -> dict[str, Any]:
        """Return the object that `GET /api/activity` sends."""
        rates = ("jobs_per_second", "tokens_per_second", "jobs_per_device_second", "tokens_per_device_second")
        return {
            "pipeline": self.pipeline,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "tokens": self.tokens,
            "device_seconds": round(self.device_seconds, 3),
            **{name: round_or_none(getattr(self, name)) for name in rates},
            "per_minute": list(self.per_minute),
        }


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was done in a span of minutes, by pipeline, that with the most jobs first.

    jobs_per_second: now, which is over the current minute and the one before
    """

    span: Span
    pipelines: tuple[PipelineActivity, ...]
    jobs_per_second: float

    @property
    def jobs(self) -> int:
        """All jobs that ended."""
        return sum(pipeline.jobs for pipeline in self.pipelines)

    @property
    def failed(self) -> int:
        """Those that failed."""
        return sum(pipeline.failed for pipeline in self.pipelines)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that `GET /api/activity` sends."""
        return {
            "since": format_timestamp(self.span.starts[0]),
            "until": format_timestamp(self.span.now),
            "jobs_per_second": round(self.jobs_per_second, 3),
            "pipelines": [pipeline.as_dict() for pipeline in self.pipelines],
        }


def read_throughput(database: Database, minutes: int = HOUR_MINUTES, tenant: str | None = None) -> Throughput:
    """Read what was done in the last minutes.

    minutes: with the current one; at most a day
    tenant: whose jobs; None = all
    """
    condition, params = of_tenant(tenant)
    query = text(SELECT_THROUGHPUT.format(of_tenant=condition))
    with database.read() as connection:
        span = read_span(connection, minutes)
        rows = connection.execute(query, {"first": span.first, "last": span.last, **params}).all()
    return sum_up(span, (MinuteRow(*row) for row in rows))


def sum_up(span: Span, rows: Iterable[MinuteRow]) -> Throughput:
    """Sum the rows by pipeline, with zeros for the minutes without a row. Pure."""
    by_pipeline: dict[str, list[MinuteRow]] = {}
    for row in rows:
        by_pipeline.setdefault(row.pipeline, []).append(row)
    pipelines = [_sum_pipeline(span, name, own) for name, own in by_pipeline.items()]
    pipelines.sort(key=lambda pipeline: (-pipeline.jobs, pipeline.pipeline))
    recent = sum(sum(pipeline.per_minute[-2:]) for pipeline in pipelines)
    seconds = span.elapsed_seconds + (MINUTE_SECONDS if span.minutes > 1 else 0)
    return Throughput(span, tuple(pipelines), recent / seconds)


def round_or_none(value: float | None) -> float | None:
    """Round a rate for JSON."""
    return None if value is None else round(value, 3)


def _sum_pipeline(span: Span, name: str, rows: Sequence[MinuteRow]) -> PipelineActivity:
    first, last = span.first, span.last
    jobs = {row.minute: row.succeeded + row.failed for row in rows}
    busy_seconds = MINUTE_SECONDS * len(jobs.keys() - {last}) + (span.elapsed_seconds if last in jobs else 0.0)
    return PipelineActivity(
        name,
        tuple([jobs.get(minute, 0) for minute in range(first, last + 1)]),
        sum([row.succeeded for row in rows]),
        sum([row.failed for row in rows]),
        sum([row.tokens for row in rows]),
        sum([row.device_seconds for row in rows]),
        float(busy_seconds),
    )
