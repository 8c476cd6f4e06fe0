"""Runs: the rows of slots, as they are read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, select, text

from models.columns import Key, UtcDateTime
from models.db import Database
from models.lifecycle import due_runs
from models.schedule_tables import Run, Schedule
from models.states import BatchStatus, RunState, RunTrigger
from models.tables import Batch
from producer.results.pages import format_timestamp
from producer.schedules.runs import run_summary as summaries

PAGE_SIZE = 50
MIN_SCHEDULED_AT = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunView:
    """One slot of a schedule and what came of it. All moments are in UTC."""

    schedule: str
    slot: datetime
    cause: RunTrigger
    state: RunState
    definition: dict[str, Any]
    batch_id: str | None
    since: datetime | None
    until: datetime | None
    deadline_at: datetime | None
    look_at: datetime | None  # when something has to be done next; None once the run has ended
    tries: int
    error_code: str | None
    error_message: str | None
    summary: dict[str, Any] | None
    decided_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    batch_status: BatchStatus | None  # None where there is no batch, or no longer

    @property
    def key(self) -> dict[str, Any]:
        """What names the row."""
        return {"schedule": self.schedule, "slot": self.slot}

    @property
    def batch_has_ended(self) -> bool:
        """Whether its batch has ended, or is there no more."""
        return self.batch_status is None or self.batch_status.has_ended or self.batch_status is BatchStatus.DELETING

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it; these names stay. Moments are ISO 8601 in UTC."""
        moments = ("since", "until", "deadline_at", "decided_at", "started_at", "finished_at")
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "object": "schedule.run",
            "schedule": self.schedule,
            "slot": format_timestamp(self.slot),
            "cause": self.cause.value,
            "state": self.state.value,
            "batch_id": self.batch_id,
            **{name: iso_or_none(getattr(self, name)) for name in moments},
            "error": error,
            "summary": summaries.redact_summary(self.summary),
        }


def newest_runs(database: Database, schedule: str, limit: int) -> list[RunView]:
    """The latest slots of a schedule, the latest first."""
    return _fetch(database, select_views().where(Run.schedule == schedule).order_by(Run.slot.desc()).limit(limit))


def latest_run_between(database: Database, schedule: str, start: datetime, end: datetime) -> RunView | None:
    """The last slot in a span of time, its end not among them; None where there is none."""
    within = select_views().where(Run.schedule == schedule, Run.slot >= start, Run.slot < end)
    found = _fetch(database, within.order_by(Run.slot.desc()).limit(1))
    return found[0] if found else None


def completed_runs_before(database: Database, schedule: str, scheduled_at: datetime, limit: int) -> list[RunView]:
    """The runs that completed for the slots before one, the latest first."""
    query = select_views().where(
        Run.schedule == schedule, Run.slot < scheduled_at, Run.state == RunState.COMPLETED.value
    )
    return _fetch(database, query.order_by(Run.slot.desc()).limit(limit))


def last_run_by_schedule(database: Database) -> dict[str, RunView]:
    """The latest slot of every schedule that has one."""
    # Looked up once for each schedule, and not for each run: nights pile up.
    last = select(func.max(Run.slot)).where(Run.schedule == Schedule.name).correlate(Schedule).scalar_subquery()
    query = select_views(_OUTER_RUNS).where(_OUTER_RUNS.c.schedule == Schedule.name, _OUTER_RUNS.c.slot == last)
    return {view.schedule: view for view in _fetch(database, query)}


def find_run(database: Database, schedule: str, scheduled_at: datetime) -> RunView | None:
    """One slot; None where it has not come yet."""
    found = _fetch(database, select_views().where(Run.schedule == schedule, Run.slot == scheduled_at))
    return found[0] if found else None


def iter_due_runs(database: Database, now: datetime) -> Iterator[RunView]:
    """The runs that are to be read, finished or looked at now, by schedule and slot, each as it is when its turn comes.

    Looked up some at a time: what the caller does with one may make a later one due, or somebody else be done with it.
    """
    after = {"schedule": "", "slot": MIN_SCHEDULED_AT}
    while True:
        with database.read() as connection:
            keys = connection.execute(_SELECT_DUE_RUNS, {"moment": now, "most": PAGE_SIZE, **after}).all()
        for key in keys:
            run = find_run(database, key.schedule, key.slot)
            if run is not None and run.look_at is not None:
                yield run
        if len(keys) < PAGE_SIZE:
            return
        after = {"schedule": keys[-1].schedule, "slot": keys[-1].slot}


def select_views(table: Any = Run.__table__, *extra_columns: ColumnElement[Any]) -> Select[Any]:
    """The query of all views."""
    batch = Batch.__table__
    return select(
        *(table.c[name] for name in RunView.__dataclass_fields__ if name != "batch_status"),
        batch.c.status.label("batch_status"),
        *extra_columns,
    ).select_from(table.outerjoin(batch, batch.c.id == table.c.batch_id))


def view_from_row(row: Row[Any]) -> RunView:
    """One row of that query."""
    values = {name: getattr(row, name) for name in RunView.__dataclass_fields__}
    status = values["batch_status"]
    values |= {
        "cause": RunTrigger(values["cause"]),
        "state": RunState(values["state"]),
        "batch_status": None if status is None else BatchStatus(status),
    }
    return RunView(**values)


def _fetch(database: Database, query: Select[Any]) -> list[RunView]:
    with database.read() as connection:
        rows: Sequence[Row[Any]] = connection.execute(query).all()
    return [view_from_row(row) for row in rows]


def iso_or_none(moment: datetime | None) -> str | None:
    """A moment as text, where there is one."""
    return None if moment is None else format_timestamp(moment)


_OUTER_RUNS = Run.__table__.alias("outer_runs")
_SELECT_DUE_RUNS = (
    text(
        f"SELECT r.schedule, r.slot {due_runs.DUE_RUNS} AND (r.schedule, r.slot) > (:schedule, :slot) "
        "ORDER BY r.schedule, r.slot LIMIT :most"
    )
    .bindparams(bindparam("moment", type_=UtcDateTime()), bindparam("slot", type_=UtcDateTime()))
    .columns(schedule=Key, slot=UtcDateTime())
)
