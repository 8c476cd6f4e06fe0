"""Marks of runs: the little of each run that a bar or a day of a calendar shows, so that hundreds are read at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Float, Integer, Row, TextClause, bindparam, text

from models.db import Database
from models.dialects.columns import Key, UtcDateTime
from models.states import RunState

COLUMNS = """
r.schedule, r.scheduled_at, r.state, r.started_at, r.finished_at, r.error_code,
CAST(r.summary ->> 'total' AS INTEGER) AS rows_total, CAST(r.summary ->> 'failed' AS INTEGER) AS rows_failed,
CAST(r.summary -> 'drift' ->> 'worst' AS FLOAT) AS drift,
CAST(r.definition ->> 'alert_drift' AS FLOAT) AS max_drift
"""
# SQLite has no LATERAL: one index lookup finds where the last runs of a schedule begin, and one range of the index has
# them. PostgreSQL would read all runs for that.
SELECT_LAST_MARKS = {
    "sqlite": """
SELECT {columns} FROM schedules s JOIN runs r ON r.schedule = s.name AND r.scheduled_at >= coalesce(
    (SELECT x.scheduled_at FROM runs x WHERE x.schedule = s.name
     ORDER BY x.scheduled_at DESC LIMIT 1 OFFSET :count - 1),
    '')
WHERE s.name IN :names ORDER BY r.schedule, r.scheduled_at
""",
    "postgresql": """
SELECT {columns} FROM schedules s CROSS JOIN LATERAL (
    SELECT * FROM runs x WHERE x.schedule = s.name ORDER BY x.scheduled_at DESC LIMIT :count
) r
WHERE s.name IN :names ORDER BY r.schedule, r.scheduled_at
""",
}
SELECT_MARKS = """
SELECT {columns} FROM runs r WHERE r.schedule = :schedule AND r.scheduled_at >= :since
ORDER BY r.scheduled_at DESC LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class RunMark:
    """The state of a run, and how much it did.

    rows, failed: None until the run has ended
    drift: the largest significant shift of its results, from 0 to 1; None without runs to compare with
    max_drift: the shift above which the schedule raises an alert; None = it raises none
    """

    schedule: str
    scheduled_at: datetime
    state: RunState
    started_at: datetime | None
    finished_at: datetime | None
    error_code: str | None
    rows: int | None
    failed: int | None
    drift: float | None
    max_drift: float | None

    @property
    def has_drifted(self) -> bool:
        """Whether results have drifted further than the schedule allows."""
        return self.drift is not None and self.max_drift is not None and self.drift > self.max_drift

    @property
    def seconds(self) -> float | None:
        """Seconds from the start of the run to its end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


def last_marks(database: Database, names: Iterable[str], count: int) -> dict[str, list[RunMark]]:
    """Return the last runs of each schedule, the oldest first."""
    marks: dict[str, list[RunMark]] = {name: [] for name in names}
    if marks:
        values = {"names": list(marks), "count": count}
        with database.read() as connection:
            query = SELECT_LAST_MARKS[connection.dialect.name]
            statement = _typed(query).bindparams(bindparam("names", expanding=True))
            for row in connection.execute(statement, values):
                marks[row.schedule].append(_mark(row))
    return marks


def marks_since(database: Database, schedule: str, since: datetime, limit: int) -> list[RunMark]:
    """Return the runs of a schedule from a time on, the oldest first; only the newest if they exceed the limit."""
    values = {"schedule": schedule, "since": since, "limit": limit}
    with database.read() as connection:
        return [_mark(row) for row in connection.execute(_typed(SELECT_MARKS, "since"), values)][::-1]


def _typed(statement: str, *times: str) -> Any:
    query: TextClause = text(statement.format(columns=COLUMNS)).bindparams(
        *(bindparam(name, type_=UtcDateTime()) for name in times)
    )
    return query.columns(
        schedule=Key,
        scheduled_at=UtcDateTime(),
        started_at=UtcDateTime(),
        finished_at=UtcDateTime(),
        rows_total=Integer,
        rows_failed=Integer,
        drift=Float,
        max_drift=Float,
    )


def _mark(row: Row[Any]) -> RunMark:
    return RunMark(
        row.schedule,
        row.scheduled_at,
        RunState(row.state),
        row.started_at,
        row.finished_at,
        row.error_code,
        row.rows_total,
        row.rows_failed,
        row.drift,
        row.max_drift,
    )
