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
from models.states import BatchStatus, RunTrigger
from producer.batches import views
from producer.batches.views import BatchView
from producer.readers.sql import sql_sources
from producer.readers.storable import make_storable
from producer.results import pages, tabular
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.quality.stats import StatsAccumulator
from producer.schedules.runs import output_table, run_alerts, run_errors
from producer.schedules.runs.output_table import OutputTable, open_source_database
from producer.schedules.runs.run_lease import bind_datetimes, lease_run
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

STEP = "its results were summed up and merged"

RETRY_DELAY = timedelta(seconds=30)  # between two tries where a source's database is away

# Lock order, as in planning: the schedule's row, then its runs, then what is in other tables.
LOCK_SCHEDULE = "SELECT name FROM schedules WHERE name = :schedule {for_update}"

COMPLETE_RUN = """
UPDATE runs SET state = 'completed', finished_at = :now, look_at = NULL, summary = :summary, error_code = NULL,
       error_message = NULL
WHERE schedule = :schedule AND slot = :slot AND held_by = :token AND look_at IS NOT NULL
"""

FAIL_RUN = """
UPDATE runs SET state = 'failed', finished_at = :now, look_at = NULL, summary = :summary, error_code = :code,
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token AND look_at IS NOT NULL
"""

# It only goes forward: what was run again, or finished out of turn, takes nothing back.
ADVANCE_WATERMARK = """
UPDATE schedules SET watermark = :until WHERE name = :schedule AND (watermark IS NULL OR watermark < :until)
"""

POSTPONE_RUN = """
UPDATE runs SET look_at = :look_at, tries = tries + 1, starts = 0, error_code = 'sink_not_ready',
       error_message = :message
WHERE schedule = :schedule AND slot = :slot AND held_by = :token
"""


class _LeaseLost(Exception):
    """Somebody else holds the run by now: nothing of ours may be written."""


@dataclass(frozen=True, slots=True)
class _LeasedRun:
    """A run in our hands."""

    view: RunView
    definition: ScheduleDefinition
    holder_id: str
    now: datetime


def finish_run(database: Database, settings: Settings, run: RunView, now: datetime) -> bool:
    """End a run whose batch has ended; False where somebody else is at it, or a database has to be waited for.

    Raises Unreachable where it is our own.
    """
    definition = ScheduleDefinition.from_fields(run.schedule, run.definition)
    with lease_run(database, run) as token:
        if token is None:
            return False
        run_errors.begin_step(database, run, token, STEP)
        held_run = _LeasedRun(run, definition, token, now)
        batch = _find_batch(database, run)
        try:
            if batch is None or batch.status is not BatchStatus.COMPLETED:
                _fail_run(database, held_run, batch, *_failure_reason(batch))
            else:
                _complete_run(database, settings, held_run, batch)
        except UsageError as error:
            _fail_run(database, held_run, batch, error.code, str(error))
        except Unreachable as error:
            if run.tries * RETRY_DELAY < definition.max_source_wait:
                _postpone(database, held_run, error)
                return False
            why = f"{error}; it was waited for over {definition.source_timeout}"
            _fail_run(database, held_run, batch, "sink_not_ready", why)
        except _LeaseLost:
            return False
    failpoint("after_mark")
    return True


def _find_batch(database: Database, run: RunView) -> BatchView | None:
    try:
        batch = views.get_batch(database, run.batch_id or "")
    except NotFound:
        return None
    return None if batch.status is BatchStatus.DELETING else batch


def _failure_reason(batch: BatchView | None) -> tuple[str, str]:
    if batch is None:
        return "batch_deleted", "its batch was deleted before the run was finished"
    if batch.status is BatchStatus.CANCELLED:
        return "cancelled", f"{batch.id} was cancelled"
    if batch.status is BatchStatus.EXPIRED and batch.error_code is None:
        return "deadline_passed", f"{batch.counts.expired:,} of {batch.counts.total:,} jobs were open at the deadline"
    return batch.error_code or "failed", batch.error_message or f"{batch.id} {batch.status.value}"


def _complete_run(database: Database, settings: Settings, leased_run: _LeasedRun, batch: BatchView) -> None:
    gauge = StatsAccumulator()
    rows = gauge.add_while_iterating(pages.iter_by_position(database, batch.id))
    into = leased_run.definition.into
    if into is None or not batch.counts.completed:
        for _ in rows:
            pass
        failpoint("in_finish")
        with database.write() as connection:
            _mark_completed(connection, database, leased_run, batch, gauge)
        return
    sink = OutputTable(
        into, tabular.layout_for_batch(database, batch.id, tasks.find_spec(batch.task)), leased_run.view.slot
    )
    if leased_run.definition.into_source is None:
        with sink.stage(database, rows) as ready:
            failpoint("in_finish")
            with ready.transaction() as connection:
                _mark_completed(connection, database, leased_run, batch, gauge)
                ready.merge(connection)
                failpoint("before_mark")
        return
    with open_source_database(sql_sources.find_sql_source(settings, leased_run.definition.into_source)) as elsewhere:
        with elsewhere.read() as connection:
            left = output_table.is_merged(connection, leased_run.view.schedule, leased_run.view.slot, batch.id)
        if left:
            for _ in rows:
                pass
        else:
            with sink.stage(elsewhere, rows) as ready:
                failpoint("in_finish")
                ready.merge_once(leased_run.view.schedule, batch.id)
    failpoint("before_mark")
    with database.write() as connection:
        _mark_completed(connection, database, leased_run, batch, gauge)


def _mark_completed(
    connection: Connection, database: Database, leased_run: _LeasedRun, batch: BatchView, accumulator: StatsAccumulator
) -> None:
    """Mark the run as completed in the caller's transaction; raises _LostHold, which must undo all of it."""
    made = run_alerts.summarize_completed(connection, leased_run.view, batch, accumulator.summarize())
    _end_run(connection, database, leased_run, COMPLETE_RUN, summary=made)
    if leased_run.view.cause is not RunTrigger.BACKFILL:
        advance = {"schedule": leased_run.view.schedule, "until": leased_run.view.until}
        connection.execute(bind_datetimes(ADVANCE_WATERMARK, "until"), advance)
    run_alerts.record_alerts(connection, leased_run.definition, leased_run.view, made, leased_run.now)


def _fail_run(database: Database, leased_run: _LeasedRun, batch: BatchView | None, code: str, message: str) -> None:
    with database.write() as connection:
        counted = None if batch is None else run_alerts.summarize_failed(batch)
        _end_run(connection, database, leased_run, FAIL_RUN, summary=counted, code=code, message=make_storable(message))
        run_alerts.record_failure(
            connection, leased_run.definition, leased_run.view, f"{code}: {message}", leased_run.now
        )


def _end_run(
    connection: Connection, database: Database, leased_run: _LeasedRun, statement: str, **parameters: Any
) -> None:
    key = leased_run.view.key
    connection.execute(
        text(LOCK_SCHEDULE.format(for_update=database.sql.for_update)), {"schedule": leased_run.view.schedule}
    ).all()
    query = bind_datetimes(statement, "now").bindparams(bindparam("summary", type_=Document))
    if (
        connection.execute(query, {**key, "token": leased_run.holder_id, "now": leased_run.now, **parameters}).rowcount
        == 0
    ):
        raise _LeaseLost


def _postpone(database: Database, leased_run: _LeasedRun, error: Unreachable) -> None:
    log.warning("a run's end has to wait", schedule=leased_run.view.schedule, error=str(error))
    named = {
        **leased_run.view.key,
        "token": leased_run.holder_id,
        "look_at": leased_run.now + RETRY_DELAY,
        "message": make_storable(str(error)),
    }
    with database.write() as connection:
        connection.execute(bind_datetimes(POSTPONE_RUN, "look_at"), named)
