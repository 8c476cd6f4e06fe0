"""Usage: what each tenant has computed, by pipeline and day of UTC.

Workers count it in the transactions that store results. So it stays when batches are deleted, and a job that is run
again counts again. Nobody computes a reused result, a row that was invalid, or a job that was cancelled: they count
nothing. Neither does a job that is given up because it crashed its workers.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from models.db import Database
from models.errors import UsageError
from producer import times

DEFAULT_DAYS = 30
MAX_ROWS = 100_000  # of one report
PAGE_ROWS = 10_000  # that are read at once for a report of any size

MAX_DAYS_SHOWN = 92  # of a summary; with more, its periods are months

# Whole numbers, where PostgreSQL's sums would be decimals.
SUMS = """CAST(sum(succeeded) AS bigint), CAST(sum(failed) AS bigint), CAST(sum(tokens) AS bigint),
       CAST(sum(padded_tokens) AS bigint), sum(device_seconds)"""
# The primary key begins with the day, so the days bound the cost.
SELECT_USAGE = f"""
SELECT day, tenant, pipeline, {SUMS} FROM usage WHERE day >= :since AND day <= :until {{condition}}
GROUP BY day, tenant, pipeline ORDER BY day, tenant, pipeline LIMIT :limit
"""  # noqa: S608
SELECT_PERIODS = f"""
SELECT substr(day, 1, {{length}}), '', pipeline, {SUMS} FROM usage WHERE day >= :since AND day <= :until {{condition}}
GROUP BY 1, pipeline ORDER BY 1, pipeline LIMIT :limit
"""  # noqa: S608
SELECT_TENANTS = f"""
SELECT '', tenant, '', {SUMS} FROM usage WHERE day >= :since AND day <= :until {{condition}}
GROUP BY tenant ORDER BY tenant LIMIT :limit
"""  # noqa: S608
# A page of one day, in the order of the primary key.
SELECT_PAGE = f"""
SELECT day, tenant, pipeline, {SUMS} FROM usage
WHERE day = :day AND (tenant, pipeline) > (:after_tenant, :after_pipeline) {{condition}}
GROUP BY day, tenant, pipeline ORDER BY day, tenant, pipeline LIMIT :limit
"""  # noqa: S608
SELECT_NEXT_DAY = "SELECT min(day) FROM usage WHERE day >= :since AND day <= :until"
CONDITIONS = {"tenant": " AND tenant = :tenant", "pipeline": " AND pipeline = :pipeline"}


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
        first = today - timedelta(days=DEFAULT_DAYS) if since is None else _parse_day(since, "since")
        last = today if until is None else _parse_day(until, "until")
        if first > last:
            message = f"the report would begin on {first} and end on {last}; exchange since and until"
            raise UsageError(message, param="since")
        return cls(first, last)

    @property
    def has_months(self) -> bool:
        """Whether a summary has a period for each month, not for each day."""
        return (self.until - self.since).days >= MAX_DAYS_SHOWN


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a tenant has computed with a pipeline on a day; a sum over several has an empty text instead.

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
    with database.read() as connection:
        return _select(connection, SELECT_USAGE, days, tenant=tenant)


def iterate_usage(database: Database, days: Days, tenant: str | None = None) -> Iterator[UsageRow]:
    """Yield what `read_usage` returns, of any number of rows; no connection is held between two pages of rows."""
    day = _next_day(database, days)
    while day is not None:
        yield from _iterate_day(database, day, tenant)
        day = None if day == days.until else _next_day(database, Days(day + timedelta(days=1), days.until))


def _next_day(database: Database, days: Days) -> date | None:
    """The first day on which anything was computed."""
    with database.read() as connection:
        bounds = {"since": str(days.since), "until": str(days.until)}
        day: str | None = connection.execute(text(SELECT_NEXT_DAY), bounds).scalar_one()
    return None if day is None else date.fromisoformat(day)


def _iterate_day(database: Database, day: date, tenant: str | None) -> Iterator[UsageRow]:
    query = text(SELECT_PAGE.format(condition="" if tenant is None else CONDITIONS["tenant"]))
    values = {"day": str(day), "limit": PAGE_ROWS} | ({} if tenant is None else {"tenant": tenant})
    after = ("", "")  # no tenant has an empty name
    while True:
        with database.read() as connection:
            cursor = {"after_tenant": after[0], "after_pipeline": after[1]}
            rows = [UsageRow(*row) for row in connection.execute(query, {**values, **cursor})]
        yield from rows
        if len(rows) < PAGE_ROWS:
            return
        after = (rows[-1].tenant, rows[-1].pipeline)


def read_summary(
    database: Database, days: Days, tenant: str | None = None, pipeline: str | None = None
) -> tuple[list[UsageRow], list[UsageRow]]:
    """Return sums by period and pipeline, whose tenants are empty, and sums by tenant, which have nothing else.

    A period is a day, or the month of a long time, such as 2026-11. Raises UsageError if it is too much.

    tenant, pipeline: None = all; the first sums are of all pipelines nevertheless
    """
    periods = SELECT_PERIODS.replace("{length}", "7" if days.has_months else "10")
    with database.read() as connection:
        return (
            _select(connection, periods, days, tenant=tenant),
            _select(connection, SELECT_TENANTS, days, tenant=tenant, pipeline=pipeline),
        )


def _select(connection: Connection, query: str, days: Days, **conditions: str | None) -> list[UsageRow]:
    values = {name: value for name, value in conditions.items() if value is not None}
    filled = text(query.format(condition="".join(CONDITIONS[name] for name in values)))
    bounds = {"since": str(days.since), "until": str(days.until), "limit": MAX_ROWS + 1}
    rows = connection.execute(filled, {**bounds, **values}).all()
    if len(rows) > MAX_ROWS:
        raise UsageError(f"the report has more than {MAX_ROWS:,} rows; ask for fewer days, or for one tenant")
    return [UsageRow(*row) for row in rows]


def _parse_day(value: str, param: str) -> date:
    try:
        return date.fromisoformat(value.strip())
    except ValueError:
        return times.parse_moment(value, param=param).astimezone(UTC).date()
