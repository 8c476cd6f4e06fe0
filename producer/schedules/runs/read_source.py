"""Reading: a run's source becomes the jobs of its batch. Read in one go: who goes on for a dead one begins anew."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, TextClause, text

from models.columns import Moment
from models.db import Database
from models.errors import BatchmillError, NotYet, Unreachable, UsageError
from models.failpoints import failpoint
from models.pipelines.catalogue import Catalogue
from models.settings import Settings
from models.states import Cause
from producer.readers.storable import storable
from producer.schedules.alerts import events
from producer.schedules.definition import Schedule
from producer.schedules.runs import deadline_watch, run_errors, sources
from producer.schedules.runs.run_lease import at_moments, held
from producer.schedules.runs.run_views import RunView
from producer.submission import open_submission, submit
from producer.submission.open_submission import Entry

log = structlog.get_logger(__name__)

STEP = "its source was read"

SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(seconds=5), timedelta(seconds=60)  # between two looks at a source
PAUSES = 20  # in the time that a source may be late

WATERMARK = "SELECT watermark FROM schedules WHERE name = :schedule"

TAKES = (
    "UPDATE runs SET since = :since, until = :until WHERE schedule = :schedule AND slot = :slot AND held_by = :token"
)

PUT_OFF = """
UPDATE runs SET look_at = :look_at, tries = tries + 1, starts = 0, error_code = 'source_not_ready',
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""

# Also for whoever died between accepting the batch and saying so.
STARTED = """
UPDATE runs SET state = 'running', started_at = :now, look_at = :now, tries = 0, starts = 0, faults = 0,
       error_code = NULL, error_message = NULL
WHERE state = 'waiting' AND batch_id IN
      (SELECT id FROM batches WHERE status <> 'validating' AND in_progress_at IS NOT NULL)
"""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run's batch in our hands, and from when to when it takes things in."""

    entry: Entry
    since: datetime
    until: datetime


def read(database: Database, settings: Settings, catalogue: Catalogue, run: RunView, now: datetime) -> bool:
    """Read one run's source in, or put it off, or give it up; False where somebody else is at it.

    Raises Unreachable where our own database is away.
    """
    definition = Schedule.of(run.schedule, run.definition)
    with held(database, run) as token:
        if token is not None:
            run_errors.begin(database, run, token, STEP)
        begun = None if token is None else _begin(database, definition, run, token)
        if token is None or begun is None:
            return False
        overdue = deadline_watch.told_overdue(database, run, now)
        failpoint("in_read")
        try:
            try:
                _fill(database, settings, catalogue, definition, run, begun)
            except (NotYet, Unreachable) as error:
                _put_off(database, definition, run, begun.entry, token, error, now, overdue=overdue)
            except UsageError as error:
                _give_up(database, begun.entry, error.code, str(error))
        except Unreachable:
            raise
        except BatchmillError as error:  # the batch was cancelled under our hands, or we were taken for dead
            log.warning("a run's batch is not ours any more", schedule=run.schedule, error=str(error))
            return False
    run_errors.ended(database, run)
    started(database, now)
    return True


def started(database: Database, now: datetime) -> None:
    """Note which runs' batches have been accepted."""
    with database.write() as connection:
        connection.execute(at_moments(STARTED, "now"), {"now": now})


def _fill(
    database: Database, settings: Settings, catalogue: Catalogue, definition: Schedule, run: RunView, begun: _Begun
) -> None:
    pipeline = sources.pipeline_of(definition, catalogue)
    request, entry = definition.request(pipeline, run.slot), begun.entry
    with sources.opened(
        settings, definition, pipeline.spec, slot=run.slot, since=begun.since, until=begun.until
    ) as source:
        submission = submit.fill(database, settings.slice_jobs, request, entry, source)
    failpoint("after_read")
    log.info("a run's source is read", schedule=run.schedule, batch=submission.batch_id, jobs=submission.jobs)
    warning = submit.ring(settings, submission) if submission.slice_ids else None
    if warning:
        log.warning(warning, schedule=run.schedule)


def _begin(database: Database, definition: Schedule, run: RunView, token: str) -> _Begun | None:
    """Take the batch from whoever read it in before; None where somebody else holds the run by now, or it is read in.

    The hold and the batch change hands in one transaction: who was taken for dead and is not takes neither back.
    """
    with database.write() as connection:
        since, until = _window(connection, definition, run)
        named = {**run.key, "token": token, "since": since, "until": until}
        if connection.execute(at_moments(TAKES, "since", "until"), named).rowcount == 0:
            return None
        entry = open_submission.taken(connection, database.sql, run.batch_id or "")
        return None if entry is None else _Begun(entry, since, until)


def _window(connection: Connection, definition: Schedule, run: RunView) -> tuple[datetime, datetime]:
    """From when to when the run takes things in: where the last completed run stopped, and its own slot.

    One that is run again takes what it took when it completed, or else what was between the slot before and its own.
    """
    until = run.slot - definition.lag_span
    if run.cause is Cause.BACKFILL:
        if run.since is not None:
            return run.since, until
        before = next(definition.times.before(run.slot), None)
        return (definition.begins_at if before is None else before - definition.lag_span), until
    query = text(WATERMARK).columns(watermark=Moment())
    watermark = connection.scalar(query, {"schedule": run.schedule})
    return watermark or definition.begins_at, until


def _put_off(
    database: Database, definition: Schedule, run: RunView, entry: Entry, token: str, error: BatchmillError,
    now: datetime, *, overdue: bool,
) -> None:  # fmt: skip
    if overdue and run.deadline_at is not None and run.decided_at < run.deadline_at:
        _give_up(database, entry, "deadline_passed", f"{error}; and its deadline has passed")
        return
    timeout = definition.patience
    if run.tries and now >= run.decided_at + timeout:
        _give_up(database, entry, "source_not_ready", f"{error}; it was waited for since {run.decided_at:%H:%M} UTC")
        return
    pause = min(max(timeout / PAUSES, SHORTEST_PAUSE), LONGEST_PAUSE)
    _write(database, at_moments(PUT_OFF, "look_at"), run, token, look_at=now + pause, message=storable(str(error)))
    if not run.tries:
        with database.write() as connection:
            events.note(connection, run.schedule, run.slot, "waiting", str(error), at=now, url=definition.webhook)


def _give_up(database: Database, entry: Entry, code: str, message: str) -> None:
    """End the batch without a job; how the run ends follows from it."""
    submit.clear(database, entry)
    submit.fail(database, entry, code, message)


def _write(database: Database, statement: TextClause, run: RunView, token: str, **named: object) -> None:
    with database.write() as connection:
        connection.execute(statement, {**run.key, "token": token, **named})
