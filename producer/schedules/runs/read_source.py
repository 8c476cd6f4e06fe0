"""Reading: a run's source becomes the jobs of its batch. Read in one go: who goes on for a dead one begins anew."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, TextClause, text

from models.columns import UtcDateTime
from models.db import Database
from models.errors import BatchmillError, SourceNotReady, Unreachable, UsageError
from models.failpoints import failpoint
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import RunTrigger
from producer.readers.storable import make_storable
from producer.schedules.alerts import events
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import deadline_watch, run_errors, sources
from producer.schedules.runs.run_lease import bind_datetimes, lease_run
from producer.schedules.runs.run_views import RunView
from producer.submission import open_submission, submit
from producer.submission.open_submission import OpenSubmission

log = structlog.get_logger(__name__)

STEP = "its source was read"

MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL = timedelta(seconds=5), timedelta(seconds=60)  # between two looks at a source
CHECKS_PER_TIMEOUT = 20  # in the time that a source may be late

SELECT_WATERMARK = "SELECT watermark FROM schedules WHERE name = :schedule"

SET_SOURCE_RANGE = (
    "UPDATE runs SET since = :since, until = :until WHERE schedule = :schedule AND slot = :slot AND held_by = :token"
)

POSTPONE_RUN = """
UPDATE runs SET look_at = :look_at, tries = tries + 1, starts = 0, error_code = 'source_not_ready',
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""

# Also for whoever died between accepting the batch and saying so.
MARK_STARTED_RUNS = """
UPDATE runs SET state = 'running', started_at = :now, look_at = :now, tries = 0, starts = 0, faults = 0,
       error_code = NULL, error_message = NULL
WHERE state = 'waiting' AND batch_id IN
      (SELECT id FROM batches WHERE status <> 'validating' AND in_progress_at IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class _ClaimedRun:
    """A run's batch in our hands, and from when to when it takes things in."""

    submission: OpenSubmission
    since: datetime
    until: datetime


def read_run_source(database: Database, settings: Settings, catalogue: Catalogue, run: RunView, now: datetime) -> bool:
    """Read one run's source in, or put it off, or give it up; False where somebody else is at it.

    Raises Unreachable where our own database is away.
    """
    definition = ScheduleDefinition.from_fields(run.schedule, run.definition)
    with lease_run(database, run) as token:
        if token is not None:
            run_errors.begin_step(database, run, token, STEP)
        begun = None if token is None else _take_over(database, definition, run, token)
        if token is None or begun is None:
            return False
        overdue = deadline_watch.alert_if_overdue(database, run, now)
        failpoint("in_read")
        try:
            try:
                _submit_rows(database, settings, catalogue, definition, run, begun)
            except (SourceNotReady, Unreachable) as error:
                _postpone(database, definition, run, begun.submission, token, error, now, is_overdue=overdue)
            except UsageError as error:
                _give_up(database, begun.submission, error.code, str(error))
        except Unreachable:
            raise
        except BatchmillError as error:  # the batch was cancelled under our hands, or we were taken for dead
            log.warning("a run's batch is not ours any more", schedule=run.schedule, error=str(error))
            return False
    run_errors.end_step(database, run)
    mark_started_runs(database, now)
    return True


def mark_started_runs(database: Database, now: datetime) -> None:
    """Note which runs' batches have been accepted."""
    with database.write() as connection:
        connection.execute(bind_datetimes(MARK_STARTED_RUNS, "now"), {"now": now})


def _submit_rows(
    database: Database,
    settings: Settings,
    catalogue: Catalogue,
    definition: ScheduleDefinition,
    run: RunView,
    claimed_run: _ClaimedRun,
) -> None:
    pipeline = sources.pipeline_for(definition, catalogue)
    request, entry = definition.request_for(pipeline, run.slot), claimed_run.submission
    with sources.open_source(
        settings, definition, pipeline.spec, scheduled_at=run.slot, since=claimed_run.since, until=claimed_run.until
    ) as source:
        submission = submit.submit_into(database, settings.slice_size, request, entry, source)
    failpoint("after_read")
    log.info("a run's source is read", schedule=run.schedule, batch=submission.batch_id, jobs=submission.jobs)
    warning = submit.notify_workers(settings, submission) if submission.slice_ids else None
    if warning:
        log.warning(warning, schedule=run.schedule)


def _take_over(database: Database, definition: ScheduleDefinition, run: RunView, holder_id: str) -> _ClaimedRun | None:
    """Take the batch from whoever read it in before; None where somebody else holds the run by now, or it is read in.

    The hold and the batch change hands in one transaction: who was taken for dead and is not takes neither back.
    """
    with database.write() as connection:
        since, until = _source_range(connection, definition, run)
        named = {**run.key, "token": holder_id, "since": since, "until": until}
        if connection.execute(bind_datetimes(SET_SOURCE_RANGE, "since", "until"), named).rowcount == 0:
            return None
        entry = open_submission.take_over_from_start(connection, database.sql, run.batch_id or "")
        return None if entry is None else _ClaimedRun(entry, since, until)


def _source_range(connection: Connection, definition: ScheduleDefinition, run: RunView) -> tuple[datetime, datetime]:
    """From when to when the run takes things in: where the last completed run stopped, and its own slot.

    One that is run again takes what it took when it completed, or else what was between the slot before and its own.
    """
    until = run.slot - definition.lag_duration
    if run.cause is RunTrigger.BACKFILL:
        if run.since is not None:
            return run.since, until
        before = next(definition.timetable.times_before(run.slot), None)
        return (definition.initial_since if before is None else before - definition.lag_duration), until
    query = text(SELECT_WATERMARK).columns(watermark=UtcDateTime())
    watermark = connection.scalar(query, {"schedule": run.schedule})
    return watermark or definition.initial_since, until


def _postpone(
    database: Database,
    definition: ScheduleDefinition,
    run: RunView,
    submission: OpenSubmission,
    holder_id: str,
    error: BatchmillError,
    now: datetime,
    *,
    is_overdue: bool,
) -> None:
    if is_overdue and run.deadline_at is not None and run.decided_at < run.deadline_at:
        _give_up(database, submission, "deadline_passed", f"{error}; and its deadline has passed")
        return
    timeout = definition.max_source_wait
    if run.tries and now >= run.decided_at + timeout:
        _give_up(
            database, submission, "source_not_ready", f"{error}; it was waited for since {run.decided_at:%H:%M} UTC"
        )
        return
    pause = min(max(timeout / CHECKS_PER_TIMEOUT, MIN_CHECK_INTERVAL), MAX_CHECK_INTERVAL)
    _execute(
        database,
        bind_datetimes(POSTPONE_RUN, "look_at"),
        run,
        holder_id,
        look_at=now + pause,
        message=make_storable(str(error)),
    )
    if not run.tries:
        with database.write() as connection:
            events.record_event(
                connection, run.schedule, run.slot, "waiting", str(error), occurred_at=now, url=definition.webhook
            )


def _give_up(database: Database, submission: OpenSubmission, code: str, message: str) -> None:
    """End the batch without a job; how the run ends follows from it."""
    submit.delete_ingested_rows(database, submission)
    submit.fail_submission(database, submission, code, message)


def _execute(database: Database, statement: TextClause, run: RunView, holder_id: str, **parameters: object) -> None:
    with database.write() as connection:
        connection.execute(statement, {**run.key, "token": holder_id, **parameters})
