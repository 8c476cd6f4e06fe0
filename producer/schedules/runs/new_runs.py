"""New runs and their batches, whose rows are inserted while the schedule is locked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert

from models.db import Database
from models.pipelines.catalogue import Catalogue
from models.states import RunState, RunTrigger
from models.tables.schedules import Run
from producer.schedules.definition import ScheduleDefinition
from producer.submission import open_submission
from producer.submission.identity.batch_ids import new_batch_id
from producer.submission.open_submission import OpenSubmission
from producer.submission.request import SubmitRequest
from producer.times import Deadline


@dataclass(frozen=True, slots=True)
class LockedSchedule:
    """A schedule whose row the transaction of `connection` has locked, at the time `now`."""

    connection: Connection
    database: Database
    catalogue: Catalogue
    definition: ScheduleDefinition
    now: datetime


def open_run(
    schedule: LockedSchedule, scheduled_at: datetime, trigger: RunTrigger, source: Mapping[str, Any] | None = None
) -> str:
    """Create a run and its open batch; return the batch's id.

    Raises IntegrityError if the run exists.

    schedule: the schedule, locked
    scheduled_at: time of the run
    trigger: reason for the run
    source: columns of the run that say what it reads: `since` of a backfill, unset = the scheduled time before, or
        `source_batch_id` and `id_type` of a run that follows another
    """
    definition, now = schedule.definition, schedule.now
    deadline_at = None if trigger is RunTrigger.BACKFILL else definition.deadline_for(scheduled_at)
    source = source or {}
    batch_id = insert_run_batch(schedule, scheduled_at, deadline_at, source.get("source_batch_id"))
    values = _run_row(definition, scheduled_at, trigger, now) | {
        "state": RunState.WAITING.value,
        "batch_id": batch_id,
        "deadline_at": deadline_at,
        "next_check_at": now,
        **source,
    }
    schedule.connection.execute(insert(Run.__table__).values(values))  # type: ignore[arg-type]
    return batch_id


def insert_run_batch(
    schedule: LockedSchedule, scheduled_at: datetime, deadline_at: datetime | None, source_batch_id: str | None
) -> str:
    """Insert the open batch of a run; return its id. Raises UsageError if the pipeline does not take it."""
    request = _request_with_deadline(schedule, scheduled_at, deadline_at)
    request = replace(request, source_batch_id=source_batch_id)
    submission = OpenSubmission(new_batch_id(), holder_id="")
    open_submission.insert_batch(schedule.connection, schedule.database.sql, request, submission)
    return submission.batch_id


def _request_with_deadline(
    schedule: LockedSchedule, scheduled_at: datetime, deadline_at: datetime | None
) -> SubmitRequest:
    """Build the request with the deadline as a duration, so that only the database's clock measures it."""
    request = schedule.definition.request_for(schedule.catalogue[schedule.definition.pipeline], scheduled_at)
    seconds = None if deadline_at is None else (deadline_at - schedule.now).total_seconds()
    if seconds is None or seconds <= 0:  # a passed deadline would expire a run that is to be caught up
        return request
    return replace(request, deadline=Deadline(seconds=seconds))


def insert_ended_runs(
    schedule: LockedSchedule, scheduled_times: Iterable[datetime], state: RunState, **error: str
) -> None:
    """Insert runs that are not worked on: skipped, missed or failed.

    error: the columns of an error
    """
    values = {"state": state.value, "finished_at": schedule.now, **error}
    rows = [
        _run_row(schedule.definition, scheduled_at, RunTrigger.CRON, schedule.now) | values
        for scheduled_at in scheduled_times
    ]
    if rows:
        schedule.connection.execute(insert(Run.__table__), rows)  # type: ignore[arg-type]


def _run_row(
    definition: ScheduleDefinition, scheduled_at: datetime, trigger: RunTrigger, now: datetime
) -> dict[str, Any]:
    return {
        "schedule": definition.name,
        "scheduled_at": scheduled_at,
        "trigger": trigger.value,
        "definition": definition.dump(),
        "concurrent": definition.overlap == "allow",
        "planned_at": now,
    }
