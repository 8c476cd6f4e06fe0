"""Views of runs, for display and for the steps of a tick."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, select, text, tuple_

from models.db import Database
from models.dialects.columns import Key, UtcDateTime
from models.documents import format_timestamp
from models.lifecycle import due_runs
from models.states import BatchStatus, RunState, RunTrigger
from models.tables.batches import Batch
from models.tables.schedules import Run, Schedule
from producer.schedules.runs import run_summary as summaries

PAGE_SIZE = 50
MIN_SCHEDULED_AT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunView:
    """One run of a schedule and its outcome. All times are in UTC."""

    schedule: str
    scheduled_at: datetime
    trigger: RunTrigger
    state: RunState
    definition: dict[str, Any]
    id_type: str | None
    embedding_key: str | None
    batch_id: str | None  # None where none was opened, also before the run of a schedule that follows another begins
    source_batch_id: str | None  # whose results it reads; None if its source is a query or a file
    since: datetime | None
    until: datetime | None
    deadline_at: datetime | None
    next_check_at: datetime | None  # when the next step is due; None once the run has ended
    attempts: int
    error_code: str | None
    error_message: str | None
    summary: dict[str, Any] | None
    planned_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    batch_status: BatchStatus | None  # None if there is no batch, or it was deleted

    @property
    def key(self) -> dict[str, Any]:
        """The primary key of the row."""
        return {"schedule": self.schedule, "scheduled_at": self.scheduled_at}

    @property
    def batch_has_ended(self) -> bool:
        """Whether the batch has ended or no longer exists."""
        if self.batch_id is None:
            return False
        return self.batch_status is None or self.batch_status.has_ended or self.batch_status is BatchStatus.DELETING

    def as_dict(self) -> dict[str, Any]:
        """Return the run as `--json` prints it; these names are stable. Times are ISO 8601 in UTC."""
        times = ("since", "until", "deadline_at", "planned_at", "started_at", "finished_at")
        return {
            "object": "schedule.run",
            "schedule": self.schedule,
            "scheduled_at": format_timestamp(self.scheduled_at),
            "trigger": self.trigger.value,
            "state": self.state.value,
            "batch_id": self.batch_id,
            "source_batch_id": self.source_batch_id,
            **{name: iso_or_none(getattr(self, name)) for name in times},
            "error_code": self.error_code,
            "error_message": self.error_message,
            "summary": summaries.redact_summary(self.summary),
        }


def newest_runs(database: Database, schedule: str, limit: int) -> list[RunView]:
    """Return the latest runs of a schedule, latest first."""
    return _fetch(
        database, select_views().where(Run.schedule == schedule).order_by(Run.scheduled_at.desc()).limit(limit)
    )


def latest_run_between(database: Database, schedule: str, start: datetime, end: datetime) -> RunView | None:
    """Return the last run from `start` on and before `end`; None if there is none."""
    query = select_views().where(Run.schedule == schedule, Run.scheduled_at >= start, Run.scheduled_at < end)
    runs = _fetch(database, query.order_by(Run.scheduled_at.desc()).limit(1))
    return runs[0] if runs else None


def completed_runs_before(database: Database, schedule: str, scheduled_at: datetime, limit: int) -> list[RunView]:
    """Return the runs that completed before a scheduled time, latest first."""
    query = select_views().where(
        Run.schedule == schedule, Run.scheduled_at < scheduled_at, Run.state == RunState.COMPLETED.value
    )
    return _fetch(database, query.order_by(Run.scheduled_at.desc()).limit(limit))


def last_run_by_schedule(database: Database) -> dict[str, RunView]:
    """Return the latest run of every schedule that has one."""
    return {view.schedule: view for view in _fetch(database, select_last_runs())}


def select_last_runs() -> Select[Any]:
    """Return the query for the latest run of every schedule: one index lookup for each, because runs accumulate."""
    last = select(func.max(Run.scheduled_at)).where(Run.schedule == Schedule.name).correlate(Schedule).scalar_subquery()
    # A join would let SQLite read all runs.
    keys = select(Schedule.name, last)
    return select_views(_OUTER_RUNS).where(tuple_(_OUTER_RUNS.c.schedule, _OUTER_RUNS.c.scheduled_at).in_(keys))


def find_run(database: Database, schedule: str, scheduled_at: datetime) -> RunView | None:
    """Return one run; None if there is none."""
    runs = _fetch(database, select_views().where(Run.schedule == schedule, Run.scheduled_at == scheduled_at))
    return runs[0] if runs else None


def run_of_batch(database: Database, batch_id: str) -> RunView | None:
    """Return the run that submitted a batch; None if none did."""
    runs = _fetch(database, select_views().where(Run.batch_id == batch_id))
    return runs[0] if runs else None


def iter_due_runs(database: Database, now: datetime) -> Iterator[RunView]:
    """Yield the runs with a step due, by schedule and scheduled time, each in its current state.

    Runs are read in pages. The caller's work on one run may make a later one due, and another process may finish one.
    """
    last_key = {"schedule": "", "scheduled_at": MIN_SCHEDULED_AT}
    while True:
        with database.read() as connection:
            keys = connection.execute(_SELECT_DUE_RUNS, {"time": now, "most": PAGE_SIZE, **last_key}).all()
        for key in keys:
            run = find_run(database, key.schedule, key.scheduled_at)
            if run is not None and run.next_check_at is not None:
                yield run
        if len(keys) < PAGE_SIZE:
            return
        last_key = {"schedule": keys[-1].schedule, "scheduled_at": keys[-1].scheduled_at}


def select_views(table: Any = Run.__table__, *extra_columns: ColumnElement[Any]) -> Select[Any]:
    """Return the query for run views."""
    batch = Batch.__table__
    return select(
        *(table.c[name] for name in RunView.__dataclass_fields__ if name != "batch_status"),
        batch.c.status.label("batch_status"),
        *extra_columns,
    ).select_from(table.outerjoin(batch, batch.c.id == table.c.batch_id))


def view_from_row(row: Row[Any]) -> RunView:
    """Build a view from a row of `select_views`."""
    values = {name: getattr(row, name) for name in RunView.__dataclass_fields__}
    status = values["batch_status"]
    values |= {
        "trigger": RunTrigger(values["trigger"]),
        "state": RunState(values["state"]),
        "batch_status": None if status is None else BatchStatus(status),
    }
    return RunView(**values)


def _fetch(database: Database, query: Select[Any]) -> list[RunView]:
    with database.read() as connection:
        rows: Sequence[Row[Any]] = connection.execute(query).all()
    return [view_from_row(row) for row in rows]


def iso_or_none(time: datetime | None) -> str | None:
    """Format a time, if there is one."""
    return None if time is None else format_timestamp(time)


_OUTER_RUNS = Run.__table__.alias("outer_runs")
_SELECT_DUE_RUNS = (
    text(
        f"SELECT r.schedule, r.scheduled_at {due_runs.DUE_RUNS} "
        "AND (r.schedule, r.scheduled_at) > (:schedule, :scheduled_at) "
        "ORDER BY r.schedule, r.scheduled_at LIMIT :most"
    )
    .bindparams(bindparam("time", type_=UtcDateTime()), bindparam("scheduled_at", type_=UtcDateTime()))
    .columns(schedule=Key, scheduled_at=UtcDateTime())
)
