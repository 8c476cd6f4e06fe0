"""Planning, which creates a run for each scheduled time when it is due. A run's row and its batch commit together.

Any number of processes may plan at the same time. They lock the schedule's row, and its `evaluated_until` marks the
time up to which everything is decided.
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row, select, text

from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.errors import BatchmillError, Unreachable, UsageError
from models.pipelines.catalogue import Catalogue
from models.processes.failpoints import failpoint
from models.states import RunState, RunTrigger
from models.tables.schedules import Run
from producer.readers.storable import make_storable
from producer.schedules.alerts import events
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import run_errors
from producer.schedules.runs.following import followers
from producer.schedules.runs.new_runs import LockedSchedule, insert_ended_runs, open_run
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.timing import due_times

log = structlog.get_logger(__name__)

STEP = "its runs were planned"
MAX_TRANSIENT_DELAY = timedelta(minutes=10)  # for transient errors, such as a lack of memory

# Lock order: the schedule's row, then its runs, then batches.
SELECT_DUE_SCHEDULES = "SELECT name FROM schedules WHERE next_run_at <= :now ORDER BY next_run_at, name"

LOCK_DUE_SCHEDULE = """
SELECT definition, evaluated_until, next_run_at FROM schedules WHERE name = :name AND next_run_at <= :now {for_update}
"""

SET_EVALUATED_UNTIL = (
    "UPDATE schedules SET evaluated_until = :evaluated_until, next_run_at = :next_run_at WHERE name = :name"
)

COUNT_OPEN_RUNS = "SELECT count(*) FROM runs WHERE schedule = :name AND next_check_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The outcome of a schedule's due times: runs opened, times skipped and times missed."""

    schedule: str
    runs: tuple[datetime, ...]
    skipped: tuple[datetime, ...]
    missed_count: int


def plan_due_schedules(database: Database, catalogue: Catalogue, now: datetime) -> list[PlanResult]:
    """Plan the runs of every schedule up to `now`, as far as possible; raises Unreachable."""
    with database.read() as connection:
        names = connection.scalars(bind_datetimes(SELECT_DUE_SCHEDULES, "now"), {"now": now}).all()
    plans = []
    for name in names:
        try:
            plans.append(plan_schedule(database, catalogue, name, now))
        except BaseException as error:  # such as a definition that only an earlier version accepted
            if isinstance(error, (*run_errors.PROCESS_EXIT_ERRORS, Unreachable)):
                raise
            plans.append(_plan_as_failed(database, catalogue, name, error, now))
    return [plan for plan in plans if plan is not None]


def plan_schedule(database: Database, catalogue: Catalogue, name: str, now: datetime) -> PlanResult | None:
    """Plan the runs of one schedule; return None if none is due any more."""
    with database.write() as connection:
        row = _lock_due_schedule(connection, database, name, now)
        if row is None:
            return None
        definition = ScheduleDefinition.from_fields(name, row.definition)
        if definition.pipeline not in catalogue:
            events.record_event(
                connection,
                name,
                row.next_run_at,
                "waiting",
                occurred_at=now,
                url=definition.webhook,
                message=f"the pipeline {definition.pipeline!r} is not in the catalogue of {socket.gethostname()}",
            )
            return None
        plan = _plan_locked(LockedSchedule(connection, database, catalogue, definition, now), row)
        failpoint("during_planning")
    failpoint("after_planning")
    return plan


def _lock_due_schedule(connection: Connection, database: Database, name: str, now: datetime) -> Row[Any] | None:
    query = bind_datetimes(LOCK_DUE_SCHEDULE.format(for_update=database.sql.for_update), "now")
    typed = query.columns(definition=Document, evaluated_until=UtcDateTime(), next_run_at=UtcDateTime())
    return connection.execute(typed, {"name": name, "now": now}).one_or_none()


def _plan_as_failed(
    database: Database, catalogue: Catalogue, name: str, error: BaseException, now: datetime
) -> PlanResult | None:
    """Record a schedule's due runs as failed by an unexpected error; transient errors are retried for a while first."""
    defect = BatchmillError(run_errors.describe_error(error, STEP))
    try:
        with database.write() as connection:
            row = _lock_due_schedule(connection, database, name, now)
            if row is None:
                return None
            if isinstance(error, run_errors.TRANSIENT_ERRORS) and now - row.next_run_at < MAX_TRANSIENT_DELAY:
                log.warning("schedule.evaluation_deferred", schedule=name, error=type(error).__name__)
                return None
            definition = ScheduleDefinition.from_fields(name, row.definition)
            plan = _plan_locked(LockedSchedule(connection, database, catalogue, definition, now), row, defect)
    except Unreachable:
        raise
    except Exception as second_error:  # then the due times are unknown
        _alert_unplannable(database, name, second_error, now)
        return None
    log.error("schedule.evaluation_failed", schedule=name, exc_info=error)
    return plan


def _alert_unplannable(database: Database, name: str, error: Exception, now: datetime) -> None:
    """Record once that a schedule's times cannot be decided until someone repairs its definition."""
    with database.write() as connection:
        row = _lock_due_schedule(connection, database, name, now)
        message = f"{run_errors.code_for(error)}: {run_errors.describe_error(error, STEP)}"
        if row is not None and events.record_event(
            connection, name, row.next_run_at, "failed", message, occurred_at=now
        ):
            log.error("schedule.evaluation_blocked", schedule=name, exc_info=error)


def _plan_locked(schedule: LockedSchedule, row: Row[Any], planning_error: BatchmillError | None = None) -> PlanResult:
    connection, definition, now = schedule.connection, schedule.definition, schedule.now
    name = definition.name
    decision = due_times.decide_due_times(
        definition.timetable,
        evaluated_until=row.evaluated_until,
        now=now,
        catchup=definition.catchup,
        max_age=definition.max_catchup_age,
    )
    # Times due together are caught up one after another; only runs opened earlier count as overlap.
    is_busy = definition.overlap == "skip" and decision.due and connection.scalar(text(COUNT_OPEN_RUNS), {"name": name})
    existing = set(_existing_times(connection, name, (*decision.due, *decision.missed)))
    due = [scheduled_at for scheduled_at in decision.due if scheduled_at not in existing]
    if is_busy:
        insert_ended_runs(schedule, due, RunState.SKIPPED)
        _record_events(schedule, due, "skipped", "the previous run was still open")
        _skip_followers(schedule, due, RunState.SKIPPED)
    elif error := planning_error or _find_request_error(schedule):
        insert_ended_runs(
            schedule, due, RunState.FAILED, error_code=error.code, error_message=make_storable(str(error))
        )
        _record_events(schedule, due, "failed", str(error), error.code)
        _skip_followers(schedule, due, RunState.FAILED)
    else:
        for scheduled_at in due:
            open_run(schedule, scheduled_at, RunTrigger.CRON)
    if decision.missed_count:
        missed = [scheduled_at for scheduled_at in decision.missed if scheduled_at not in existing]
        insert_ended_runs(schedule, missed, RunState.MISSED)
        message = _missed_message(definition.format_time(decision.missed[-1]), decision.missed_count)
        _record_events(schedule, decision.missed[-1:], "missed", message)
        _skip_followers(schedule, missed, RunState.MISSED)
    connection.execute(
        bind_datetimes(SET_EVALUATED_UNTIL, "evaluated_until", "next_run_at"),
        {"name": name, "evaluated_until": decision.evaluated_until, "next_run_at": decision.next_run_at},
    )
    runs, skipped = ((), tuple(due)) if is_busy else (tuple(due), ())
    return PlanResult(name, runs, skipped, decision.missed_count)


def _missed_message(last: str, count: int) -> str:
    return f"the run of {last} was missed" if count == 1 else f"{count:,} runs were missed, the last at {last}"


def _existing_times(connection: Connection, name: str, scheduled_times: Iterable[datetime]) -> Iterable[datetime]:
    table = Run.__table__
    return connection.scalars(
        select(table.c.scheduled_at).where(table.c.schedule == name, table.c.scheduled_at.in_(tuple(scheduled_times)))
    )


def _find_request_error(schedule: LockedSchedule) -> UsageError | None:
    """Return the reason why the pipeline, changed since the schedule was created, rejects such a batch."""
    try:
        schedule.definition.request_for(schedule.catalogue[schedule.definition.pipeline], schedule.now)
    except UsageError as error:
        return error
    return None


def _record_events(
    schedule: LockedSchedule,
    scheduled_times: Iterable[datetime],
    kind: str,
    message: str,
    error_code: str | None = None,
) -> None:
    for scheduled_at in scheduled_times:
        events.record_event(
            schedule.connection,
            schedule.definition.name,
            scheduled_at,
            kind,
            message,
            occurred_at=schedule.now,
            url=schedule.definition.webhook,
            error_code=error_code,
        )


def _skip_followers(schedule: LockedSchedule, scheduled_times: Iterable[datetime], state: RunState) -> None:
    for scheduled_at in scheduled_times:
        connection, name = schedule.connection, schedule.definition.name
        followers.skip_followers(connection, schedule.database.sql, name, scheduled_at, state, schedule.now)
