"""The step that reads a run's source into its batch; a process that takes over starts from the beginning."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import BatchmillError, SourceNotReady, TooManyJobs, Unreachable, UsageError
from models.lifecycle import guard_counters
from models.pipelines.catalogue import Catalogue
from models.pipelines.pipeline import Pipeline
from models.processes.failpoints import failpoint
from models.settings import Settings
from models.states import RunTrigger
from models.tasks.spec import TaskSpec
from producer.batches import views
from producer.readers.rows import Problem, Row, Source
from producer.readers.storable import make_storable
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import deadline_watch, run_alerts, run_errors, sources
from producer.schedules.runs.following.followed_results import open_followed_results
from producer.schedules.runs.output.reembedding import EmbeddingVersion
from producer.schedules.runs.output.stale_rows import append_stale_rows
from producer.schedules.runs.run_lease import LeasedRun, bind_datetimes, lease_run
from producer.schedules.runs.run_views import RunView
from producer.schedules.runs.sources import IdTypes, SourceTimes
from producer.submission import discard, open_submission, submit
from producer.submission.chunks import limit_rows
from producer.submission.identity.cache_key import embedding_key, resolve_revision
from producer.submission.open_submission import OpenSubmission

log = structlog.get_logger(__name__)

STEP = "its source was read"

MIN_CHECK_INTERVAL, MAX_CHECK_INTERVAL = timedelta(seconds=5), timedelta(seconds=60)  # between two checks of a source
CHECKS_PER_TIMEOUT = 20  # within the source timeout

SELECT_WATERMARK = "SELECT watermark FROM schedules WHERE name = :schedule"

SET_SOURCE_RANGE = """
UPDATE runs SET since = :since, until = :until
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""

SET_ID_TYPE = """
UPDATE runs SET id_type = :id_type
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""

SET_EMBEDDING_KEY = """
UPDATE runs SET embedding_key = :embedding_key
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""

POSTPONE_RUN = """
UPDATE runs SET next_check_at = :next_check_at, attempts = attempts + 1, step_starts = 0,
       error_code = 'source_not_ready', error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""

# Also marks runs whose process crashed between accepting the batch and marking the run.
MARK_STARTED_RUNS = """
UPDATE runs SET state = 'running', started_at = :now, next_check_at = :now, attempts = 0, step_starts = 0,
       unexpected_errors = 0, error_code = NULL, error_message = NULL
WHERE state = 'waiting' AND batch_id IN
      (SELECT id FROM batches WHERE status <> 'validating' AND in_progress_at IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class _ClaimedBatch:
    """A run's open submission, and the times of its rows, which a run that follows another does not have."""

    submission: OpenSubmission
    times: SourceTimes | None


def read_run_source(database: Database, settings: Settings, catalogue: Catalogue, run: RunView, now: datetime) -> bool:
    """Read one run's source, postpone it or fail it; return False if another process holds the run.

    Raises Unreachable if our own database is unreachable.
    """
    definition = ScheduleDefinition.from_fields(run.schedule, run.definition)
    with lease_run(database, run) as holder_id:
        if holder_id is None:
            return False
        run_errors.begin_step(database, run, holder_id, STEP)
        leased_run = LeasedRun(database, run, definition, holder_id, now)
        batch = _take_over_batch(leased_run)
        if batch is None:
            return False
        is_overdue = deadline_watch.alert_if_overdue(database, run, now)
        failpoint("before_read_source")
        try:
            try:
                _submit_rows(leased_run, batch, settings, catalogue)
            except (SourceNotReady, TooManyJobs, Unreachable) as error:
                _postpone_or_fail(leased_run, batch.submission, error, is_overdue=is_overdue)
            except UsageError as error:
                _fail_batch(database, batch.submission, error.code, str(error))
        except Unreachable:
            raise
        except BatchmillError as error:  # the batch was cancelled meanwhile, or another process took over
            log.warning("run.ownership_lost", schedule=run.schedule, error=str(error))
            return False
    run_errors.end_step(database, run)
    mark_started_runs(database, now)
    return True


def mark_started_runs(database: Database, now: datetime) -> None:
    """Mark the runs whose batches have been accepted as running."""
    with database.write() as connection:
        connection.execute(bind_datetimes(MARK_STARTED_RUNS, "now"), {"now": now})


def _submit_rows(run: LeasedRun, batch: _ClaimedBatch, settings: Settings, catalogue: Catalogue) -> None:
    definition, schedule = run.definition, run.view.schedule
    # The catalogue may have changed since the run was planned, and the batch renders by what it records.
    recorded = views.get_batch(run.database, batch.submission.batch_id)
    pipeline = sources.pipeline_for(definition, catalogue).with_templates(recorded.parameters)
    request = definition.request_for(pipeline, run.view.scheduled_at)
    request = replace(request, max_unanswered_jobs=settings.unanswered_jobs_cap(request.tenant))
    _record_guards(run.database, batch.submission, pipeline)
    id_types = IdTypes(definition)
    key = embedding_key(pipeline, recorded.parameters)
    with run.database.write() as connection:  # before the batch is accepted, because another process may merge
        run.execute(connection, bind_datetimes(SET_EMBEDDING_KEY), embedding_key=key)
    version = EmbeddingVersion(key, recorded.revision or resolve_revision(pipeline))
    with ExitStack() as stack:
        source = stack.enter_context(_open_source(run, batch.times, settings, pipeline.spec, id_types))
        if definition.into is not None:
            rows = append_stale_rows(limit_rows(source), run, settings, pipeline.spec, version, id_types)
            limits = replace(source.limits, max_source_rows=sys.maxsize)  # those of the table do not count
            source = replace(source, rows=stack.enter_context(closing(rows)), limits=limits)
        if definition.sql is not None:  # also for the tables of the schedules that follow this one
            source = replace(source, rows=_record_id_type(run, id_types, source.rows))
        submission = submit.submit_into(run.database, settings.slice_size, request, batch.submission, source)
    failpoint("after_read_source")
    log.info("run.source_read", schedule=schedule, batch_id=submission.batch_id, jobs=submission.jobs)
    warning = submit.notify_workers(settings, submission.pipeline, submission.slices)
    if warning:
        fields = {"schedule": schedule, "batch_id": submission.batch_id, "pipeline": submission.pipeline}
        log.warning("wakeups.send_failed", **fields, error=warning)


def _open_source(
    run: LeasedRun, times: SourceTimes | None, settings: Settings, spec: TaskSpec, id_types: IdTypes
) -> AbstractContextManager[Source]:
    if times is None:
        batch_id = run.view.source_batch_id or ""
        return open_followed_results(run.database, settings, run.definition, spec, batch_id)
    return sources.open_source(settings, run.definition, spec, times, id_types=id_types)


def _record_guards(database: Database, submission: OpenSubmission, pipeline: Pipeline) -> None:
    """Record the guards that the operator has added since the run was planned."""
    with database.write() as connection:
        if open_submission.lock_if_held(connection, database.sql, submission):
            guard_counters.insert_guards(connection, submission.batch_id, pipeline.guards)


def _record_id_type(run: LeasedRun, id_types: IdTypes, rows: Iterator[Row | Problem]) -> Iterator[Row | Problem]:
    """Yield the rows, and then record the type of their ids, before the batch is accepted."""
    yield from rows
    with run.database.write() as connection:
        run.execute(connection, bind_datetimes(SET_ID_TYPE), id_type=id_types.common_type.value)


def _take_over_batch(run: LeasedRun) -> _ClaimedBatch | None:
    """Take the batch over from an earlier reader; return None if another process holds the run or the rows are in.

    The lease check and the batch's takeover share one transaction, so a holder wrongly presumed crashed regains
    neither.
    """
    database = run.database
    with database.write() as connection:
        since, until = (None, None) if run.definition.after is not None else _source_range(connection, run)
        statement = bind_datetimes(SET_SOURCE_RANGE, "since", "until")
        if not run.execute(connection, statement, since=since, until=until):
            return None
        submission = open_submission.take_over_from_start(connection, database.sql, run.view.batch_id or "")
        times = None if since is None or until is None else SourceTimes(run.view.scheduled_at, since, until)
        return None if submission is None else _ClaimedBatch(submission, times)


def _source_range(connection: Connection, leased_run: LeasedRun) -> tuple[datetime, datetime]:
    """Return the time range of a run's rows, from the last completed run's end to its own time.

    A repeated run keeps its earlier range, without what a completed run has read since; another backfill begins at the
    previous scheduled time.
    """
    run, definition = leased_run.view, leased_run.definition
    until = run.scheduled_at - definition.lag_duration
    query = text(SELECT_WATERMARK).columns(watermark=UtcDateTime())
    watermark = connection.scalar(query, {"schedule": run.schedule})
    if run.trigger is not RunTrigger.BACKFILL:
        return watermark or definition.initial_since, until
    if run.since is not None:
        return (max(run.since, watermark) if watermark is not None and watermark < until else run.since), until
    previous = next(definition.timetable.times_before(run.scheduled_at), None)
    return (definition.initial_since if previous is None else previous - definition.lag_duration), until


def _postpone_or_fail(
    leased_run: LeasedRun, submission: OpenSubmission, error: BatchmillError, *, is_overdue: bool
) -> None:
    run, database, now = leased_run.view, leased_run.database, leased_run.now
    if is_overdue and run.deadline_at is not None and run.planned_at < run.deadline_at:
        _fail_batch(database, submission, "deadline_exceeded", f"{error}; and its deadline has passed")
        return
    timeout = leased_run.definition.max_source_wait
    if run.attempts and now >= run.planned_at + timeout:
        start = leased_run.definition.format_time(run.planned_at)
        _fail_batch(database, submission, "source_not_ready", f"{error}; the run waited for it since {start}")
        return
    pause = min(max(timeout / CHECKS_PER_TIMEOUT, MIN_CHECK_INTERVAL), MAX_CHECK_INTERVAL)
    statement = bind_datetimes(POSTPONE_RUN, "next_check_at")
    with database.write() as connection:
        leased_run.execute(connection, statement, next_check_at=now + pause, message=make_storable(str(error)))
    if not run.attempts:
        with database.write() as connection:
            run_alerts.record_run_event(connection, run, "waiting", str(error), now)


def _fail_batch(database: Database, submission: OpenSubmission, code: str, message: str) -> None:
    """Fail the batch without jobs; `finish` then fails the run."""
    discard.delete_ingested_rows(database, submission)
    discard.fail_submission(database, submission, code, message)
