"""Runs as a calendar shows them: each alone, or counted in SQL where they are more than a calendar has cells."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Integer, bindparam, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.states import RunState
from producer.schedules.history import run_marks
from producer.schedules.history.run_marks import RunMark

MAX_MARKS = 1_000  # that are read one by one: a run in every 20 minutes of a fortnight

DRIFTED = "drifted"
# The state of a cell is the first of these that one of its runs has.
STATES = ("failed", "missed", "skipped", DRIFTED, "running", "waiting", "completed")

IS_MORE = """
SELECT count(*) FROM (
    SELECT 1 FROM runs WHERE schedule = :schedule AND scheduled_at >= :since LIMIT :limit
) AS newest
"""
# By quarters of an hour, because zones differ by those. An alert tells of a drift without its summary, which is large.
COUNT_RUNS = """
SELECT {quarter} AS quarter,
       CASE WHEN r.state = 'completed' AND e.kind = 'drift' THEN 'drifted' ELSE r.state END AS state,
       count(*) AS runs, min(r.scheduled_at) AS first_at
FROM runs r LEFT JOIN events e ON e.schedule = r.schedule AND e.scheduled_at = r.scheduled_at AND e.kind = 'drift'
WHERE r.schedule = :schedule AND r.scheduled_at >= :since
GROUP BY 1, 2 ORDER BY first_at
"""
QUARTER = {
    "postgresql": "floor(extract(epoch FROM r.scheduled_at) / 900)",
    "sqlite": "CAST(strftime('%s', r.scheduled_at) AS INTEGER) / 900",
}


@dataclass(frozen=True, slots=True)
class CalendarRuns:
    """A run, or several of one state within a quarter of an hour.

    first_at: the scheduled time of the first
    mark: of a run alone, with all that its cell says; None if runs were counted
    """

    state: str
    count: int
    first_at: datetime
    mark: RunMark | None = None

    @property
    def rows(self) -> int | None:
        """The rows of a run alone."""
        return None if self.mark is None else self.mark.rows


def state_of(mark: RunMark) -> str:
    """Return the state of a run, which is `drifted` if it completed with results unlike those before."""
    return DRIFTED if mark.state is RunState.COMPLETED and mark.has_drifted else mark.state.value


def of_mark(mark: RunMark) -> CalendarRuns:
    """Return a run alone."""
    return CalendarRuns(state_of(mark), 1, mark.scheduled_at, mark)


def read_runs(database: Database, schedule: str, since: datetime) -> list[CalendarRuns]:
    """Return the runs of a schedule from a time on, the oldest first; more than a thousand are counted."""
    values = {"schedule": schedule, "since": since}
    is_more = text(IS_MORE).bindparams(bindparam("since", type_=UtcDateTime()))
    with database.read() as connection:
        count = connection.execute(is_more, {**values, "limit": MAX_MARKS + 1}).scalar_one()
    if count <= MAX_MARKS:
        return [of_mark(mark) for mark in run_marks.marks_since(database, schedule, since, MAX_MARKS)]
    return _count_runs(database, values)


def _count_runs(database: Database, values: dict[str, object]) -> list[CalendarRuns]:
    with database.read() as connection:
        query = text(COUNT_RUNS.format(quarter=QUARTER[connection.dialect.name]))
        typed = query.bindparams(bindparam("since", type_=UtcDateTime())).columns(first_at=UtcDateTime(), runs=Integer)
        return [CalendarRuns(row.state, row.runs, row.first_at) for row in connection.execute(typed, values)]
