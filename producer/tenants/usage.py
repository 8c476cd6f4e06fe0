"""Usage: what each tenant has computed, by pipeline and day of UTC.

Workers count it in the transactions that store results. So it stays when batches are deleted, and a job that is run
again counts again. Nobody computes a reused result, a row that was invalid, or a job that was cancelled: they count
nothing. Neither does a job that is given up because it crashed its workers.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import text

from models.db import Database
from models.errors import UsageError
from producer import times

DEFAULT_DAYS = 30
MAX_ROWS = 100_000  # of one report

SELECT_USAGE = """
SELECT day, tenant, pipeline, sum(succeeded) AS succeeded, sum(failed) AS failed, sum(tokens) AS tokens,
       sum(padded_tokens) AS padded_tokens, sum(device_seconds) AS device_seconds
FROM usage
WHERE day >= :since AND day <= :until {condition}
GROUP BY day, tenant, pipeline ORDER BY day, tenant, pipeline LIMIT :limit
"""


class Days(NamedTuple):
    """The first and the last day of a report, both in UTC and included."""

    since: date
    until: date

    @classmethod
    def parse(cls, since: str | None, until: str | None, now: datetime | None = None) -> "Days":
        """Parse days such as 2026-11-25, or ages such as 30d; raises UsageError.

        since: None = 30 days ago
        until: None = today
        """
        today = (now or datetime.now(UTC)).astimezone(UTC).date()
        first = today - timedelta(days=DEFAULT_DAYS) if since is None else _parse_day(since)
        last = today if until is None else _parse_day(until)
        if first > last:
            raise UsageError(f"the report would begin on {first} and end on {last}; exchange since and until")
        return cls(first, last)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant has computed with a pipeline on a day.

    succeeded, failed: rows
    device_seconds: with those of the guards' models
    """

    day: str
    tenant: str
    pipeline: str
    succeeded: int
    failed: int
    tokens: int
    padded_tokens: int
    device_seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the public object."""
        return {"object": "usage", **asdict(self), "device_seconds": round(self.device_seconds, 3)}


def read_usage(database: Database, days: Days, tenant: str | None = None) -> list[UsageRow]:
    """Return the usage of these days, by day, tenant and pipeline; raises UsageError if it is too much.

    tenant: None = all
    """
    params = {"since": str(days.since), "until": str(days.until), "tenant": tenant, "limit": MAX_ROWS + 1}
    condition = "" if tenant is None else "AND tenant = :tenant"
    query = text(SELECT_USAGE.format(condition=condition))
    with database.read() as connection:
        rows = list(_usage_rows(connection.execute(query, params)))
    if len(rows) > MAX_ROWS:
        raise UsageError(f"the report has more than {MAX_ROWS:,} rows; ask for fewer days, or for one tenant")
    return rows


def _usage_rows(rows: Any) -> Iterator[UsageRow]:
    for row in rows:
        counters = (int(row.succeeded), int(row.failed), int(row.tokens), int(row.padded_tokens))
        yield UsageRow(row.day, row.tenant, row.pipeline, *counters, float(row.device_seconds))


def _parse_day(value: str) -> date:
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        return times.parse_moment(value).astimezone(UTC).date()
