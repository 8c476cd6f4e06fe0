"""Finishing: a run's batch has ended, so its table is brought up to date, its summary made, and the run marked.

Marked means done: the mark, the watermark and, where it is in our database, the table commit together. Whoever dies
before that has done nothing, and the next one begins anew.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, bindparam, text

from models import tasks
from models.columns import Document
from models.db import Database
from models.errors import NotFound, Unreachable, UsageError
from models.failpoints import failpoint
from models.settings import Settings
from models.states import BatchStatus, Cause
from producer.batches import views
from producer.batches.views import BatchView
from producer.readers.sql import sql_sources
from producer.readers.storable import storable
from producer.results import pages, tabular
from producer.schedules.definition import Schedule
from producer.schedules.quality.stats import Gauge
from producer.schedules.runs import output_table, run_alerts, run_errors
from producer.schedules.runs.output_table import Sink, source_database
from producer.schedules.runs.run_lease import at_moments, held
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

STEP = "its results were summed up and merged"

PAUSE = timedelta(seconds=30)  # between two tries where a source's database is away

# Lock order, as in planning: the schedule's row, then its runs, then what is in other tables.
LOCK = "SELECT name FROM schedules WHERE name = :schedule {for_update}"

COMPLETE = """
UPDATE runs SET state = 'completed', finished_at = :now, look_at = NULL, summary = :summary, error_code = NULL,
       error_message = NULL
WHERE schedule = :schedule AND slot = :slot AND held_by = :token AND look_at IS NOT NULL
"""

FAIL = """
UPDATE runs SET state = 'failed', finished_at = :now, look_at = NULL, summary = :summary, error_code = :code,
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token AND look_at IS NOT NULL
"""

# It only goes forward: what was run again, or finished out of turn, takes nothing back.
ADVANCE = """
UPDATE schedules SET watermark = :until WHERE name = :schedule AND (watermark IS NULL OR watermark < :until)
"""

PUT_OFF = """
UPDATE runs SET look_at = :look_at, tries = tries + 1, starts = 0, error_code = 'sink_not_ready',
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""


class _LostHold(Exception):
    """Somebody else holds the run by now: nothing of ours may be written."""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run in our hands."""

    view: RunView
    definition: Schedule
    token: str
    now: datetime


def finish(database: Database, settings: Settings, run: RunView, now: datetime) -> bool:
    """End a run whose batch has ended; False where somebody else is at it, or a database has to be waited for.

    Raises Unreachable where it is our own.
    """
    definition = Schedule.of(run.schedule, run.definition)
    with held(database, run) as token:
        if token is None:
            return False
        run_errors.begin(database, run, token, STEP)
        held_run = _Run(run, definition, token, now)
        batch = _batch(database, run)
        try:
            if batch is None or batch.status is not BatchStatus.COMPLETED:
                _fail(database, held_run, batch, *_why(batch))
            else:
                _complete(database, settings, held_run, batch)
        except UsageError as error:
            _fail(database, held_run, batch, error.code, str(error))
        except Unreachable as error:
            if run.tries * PAUSE < definition.patience:
                _put_off(database, held_run, error)
                return False
            why = f"{error}; it was waited for over {definition.source_timeout}"
            _fail(database, held_run, batch, "sink_not_ready", why)
        except _LostHold:
            return False
    failpoint("after_mark")
    return True


def _batch(database: Database, run: RunView) -> BatchView | None:
    try:
        batch = views.get(database, run.batch_id or "")
    except NotFound:
        return None
    return None if batch.status is BatchStatus.DELETING else batch


def _why(batch: BatchView | None) -> tuple[str, str]:
    if batch is None:
        return "batch_deleted", "its batch was deleted before the run was finished"
    if batch.status is BatchStatus.CANCELLED:
        return "cancelled", f"{batch.id} was cancelled"
    if batch.status is BatchStatus.EXPIRED and batch.error_code is None:
        return "deadline_passed", f"{batch.counts.expired:,} of {batch.counts.total:,} jobs were open at the deadline"
    return batch.error_code or "failed", batch.error_message or f"{batch.id} {batch.status.value}"


def _complete(database: Database, settings: Settings, run: _Run, batch: BatchView) -> None:
    gauge = Gauge()
    rows = gauge.noting(pages.by_position(database, batch.id))
    into = run.definition.into
    if into is None or not batch.counts.completed:
        for _ in rows:
            pass
        failpoint("in_finish")
        with database.write() as connection:
            _mark(connection, database, run, batch, gauge)
        return
    sink = Sink(into, tabular.of_batch(database, batch.id, tasks.find(batch.task)), run.view.slot)
    if run.definition.into_source is None:
        with sink.gathered(database, rows) as ready:
            failpoint("in_finish")
            with ready.transaction() as connection:
                _mark(connection, database, run, batch, gauge)
                ready.merge(connection)
                failpoint("before_mark")
        return
    with source_database(sql_sources.find(settings, run.definition.into_source)) as elsewhere:
        with elsewhere.read() as connection:
            left = output_table.is_left(connection, run.view.schedule, run.view.slot, batch.id)
        if left:
            for _ in rows:
                pass
        else:
            with sink.gathered(elsewhere, rows) as ready:
                failpoint("in_finish")
                ready.merge_marked(run.view.schedule, batch.id)
    failpoint("before_mark")
    with database.write() as connection:
        _mark(connection, database, run, batch, gauge)


def _mark(connection: Connection, database: Database, run: _Run, batch: BatchView, gauge: Gauge) -> None:
    """Mark the run as completed in the caller's transaction; raises _LostHold, which must undo all of it."""
    made = run_alerts.summed_up(connection, run.view, batch, gauge.quality())
    _end(connection, database, run, COMPLETE, summary=made)
    if run.view.cause is not Cause.BACKFILL:
        advance = {"schedule": run.view.schedule, "until": run.view.until}
        connection.execute(at_moments(ADVANCE, "until"), advance)
    run_alerts.tell(connection, run.definition, run.view, made, run.now)


def _fail(database: Database, run: _Run, batch: BatchView | None, code: str, message: str) -> None:
    with database.write() as connection:
        counted = None if batch is None else run_alerts.counted(batch)
        _end(connection, database, run, FAIL, summary=counted, code=code, message=storable(message))
        run_alerts.tell_failed(connection, run.definition, run.view, f"{code}: {message}", run.now)


def _end(connection: Connection, database: Database, run: _Run, statement: str, **named: Any) -> None:
    key = run.view.key
    connection.execute(text(LOCK.format(for_update=database.sql.for_update)), {"schedule": run.view.schedule}).all()
    query = at_moments(statement, "now").bindparams(bindparam("summary", type_=Document))
    if connection.execute(query, {**key, "token": run.token, "now": run.now, **named}).rowcount == 0:
        raise _LostHold


def _put_off(database: Database, run: _Run, error: Unreachable) -> None:
    log.warning("a run's end has to wait", schedule=run.view.schedule, error=str(error))
    named = {**run.view.key, "token": run.token, "look_at": run.now + PAUSE, "message": storable(str(error))}
    with database.write() as connection:
        connection.execute(at_moments(PUT_OFF, "look_at"), named)
