"""The last step of a run: write its output table and its summary after the batch has ended, and end the run.

The run's new state, the watermark and, where it is in our database, the output table commit together. A process that
crashes before the commit has changed nothing, and the next one starts over.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, bindparam

from models.db import Database
from models.dialects.columns import Document
from models.errors import NotFound, Unreachable, UsageError
from models.pipelines.options.prompt_template import find_batch_spec_if_known
from models.processes.failpoints import failpoint
from models.settings import Settings
from models.states import BatchStatus, RunState, RunTrigger
from producer.batches import views
from producer.batches.views import BatchView
from producer.readers.sql import sql_sources
from producer.readers.sql.sql_sources import SqlSource
from producer.readers.storable import make_storable
from producer.results import pages, tabular
from producer.results.result_row import ResultRow
from producer.results.tabular import ColumnType
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.quality.stats import StatsAccumulator
from producer.schedules.runs import run_alerts, run_errors
from producer.schedules.runs.following import followers
from producer.schedules.runs.output import output_table
from producer.schedules.runs.output.output_table import OutputTable, open_source_database
from producer.schedules.runs.output.reembedding import BatchIds, EmbeddingVersion
from producer.schedules.runs.run_lease import LeasedRun, bind_datetimes, lease_run
from producer.schedules.runs.run_views import RunView

log = structlog.get_logger(__name__)

STEP = "its results were summed up and merged"

RETRY_DELAY = timedelta(seconds=30)  # between two attempts while a source's database is unreachable

# Lock order, as in planning: the schedule's row, then its runs, then rows of other tables.
COMPLETE_RUN = """
UPDATE runs SET state = 'completed', finished_at = :now, next_check_at = NULL, summary = :summary, error_code = NULL,
       error_message = NULL
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id AND next_check_at IS NOT NULL
"""

FAIL_RUN = """
UPDATE runs SET state = 'failed', finished_at = :now, next_check_at = NULL, summary = :summary, error_code = :code,
       error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id AND next_check_at IS NOT NULL
"""

# The watermark only advances, so that repeated or late runs do not set it back.
ADVANCE_WATERMARK = """
UPDATE schedules SET watermark = :until WHERE name = :schedule AND (watermark IS NULL OR watermark < :until)
"""

# A backfilled run may leave a gap before it. The watermark passes those that follow it without one, in a few rounds.
ADVANCE_WATERMARK_OVER_RUNS = """
UPDATE schedules SET watermark = (
    SELECT max(r.until) FROM runs r WHERE r.schedule = schedules.name AND r.state = 'completed'
       AND r.since <= coalesce(schedules.watermark, :initial_since)
       AND (schedules.watermark IS NULL OR r.until > schedules.watermark))
WHERE name = :schedule AND EXISTS (
    SELECT 1 FROM runs r WHERE r.schedule = schedules.name AND r.state = 'completed'
       AND r.since <= coalesce(schedules.watermark, :initial_since)
       AND (schedules.watermark IS NULL OR r.until > schedules.watermark))
"""

POSTPONE_RUN = """
UPDATE runs SET next_check_at = :next_check_at, attempts = attempts + 1, step_starts = 0,
       error_code = 'output_table_not_ready', error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND holder_id = :holder_id
"""


class _LeaseLost(Exception):
    """Another process holds the run by now, so nothing may be written."""


def finish_run(database: Database, settings: Settings, run: RunView, now: datetime) -> bool:
    """End a run whose batch has ended; return False if another process holds it or a database is unreachable for now.

    Raises Unreachable if our own database is unreachable.
    """
    definition = ScheduleDefinition.from_fields(run.schedule, run.definition)
    with lease_run(database, run) as holder_id:
        if holder_id is None:
            return False
        run_errors.begin_step(database, run, holder_id, STEP)
        leased_run = LeasedRun(database, run, definition, holder_id, now)
        batch = _find_batch(database, run)
        try:
            if batch is None or batch.status is not BatchStatus.COMPLETED:
                _fail_run(leased_run, batch, *_failure_reason(batch))
            else:
                _complete_run(settings, leased_run, batch)
        except UsageError as error:
            _fail_run(leased_run, batch, error.code, str(error))
        except Unreachable as error:
            if run.attempts * RETRY_DELAY < definition.max_source_wait:
                _postpone(leased_run, error)
                return False
            message = f"{error}; the run waited longer than {definition.source_timeout}"
            _fail_run(leased_run, batch, "output_table_not_ready", message)
        except _LeaseLost:
            return False
    failpoint("after_commit_run")
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
        return (
            "deadline_exceeded",
            f"{batch.counts.expired:,} of {batch.counts.total:,} jobs were unanswered at the deadline",
        )
    return batch.error_code or "failed", batch.error_message or f"{batch.id} {batch.status.value}"


def _complete_run(settings: Settings, run: LeasedRun, batch: BatchView) -> None:
    accumulator = StatsAccumulator()
    rows = accumulator.add_while_iterating(pages.iter_by_position(run.database, batch.id))
    if run.definition.into is None or not batch.counts.succeeded:
        _exhaust(rows)
        failpoint("before_finish_run")
    else:
        spec = find_batch_spec_if_known(batch.task, batch.parameters)
        layout = tabular.layout_for_batch(run.database, batch.id, spec)
        id_type = ColumnType(run.view.id_type or ColumnType.TEXT)
        version = EmbeddingVersion(run.view.embedding_key, batch.revision)
        batch_ids = BatchIds(run.database, batch.id)
        table = OutputTable(run.definition.into, layout, run.view.scheduled_at, id_type, version, batch_ids)
        if run.definition.into_source is None:
            with table.stage(run.database, rows) as staged:
                failpoint("before_finish_run")
                with staged.transaction() as connection:
                    _mark_completed(connection, run, batch, accumulator)
                    staged.merge(connection)
                    failpoint("before_commit_run")
            return
        source = sql_sources.find_sql_source(settings, run.definition.into_source)
        _merge_into_source(source, table, run, batch, rows)
        failpoint("before_commit_run")
    with run.database.write() as connection:
        _mark_completed(connection, run, batch, accumulator)


def _merge_into_source(
    source: SqlSource, table: OutputTable, run: LeasedRun, batch: BatchView, rows: Iterator[ResultRow]
) -> None:
    """Merge into a table of another database, unless an earlier process did and crashed before marking the run."""
    with open_source_database(source) as user_database:
        with user_database.read() as connection:
            is_merged = output_table.is_merged(connection, run.view.schedule, run.view.scheduled_at, batch.id)
        if is_merged:
            _exhaust(rows)
            return
        with table.stage(user_database, rows) as staged:
            failpoint("before_finish_run")
            staged.merge_once(run.view.schedule, batch.id)


def _exhaust(rows: Iterator[ResultRow]) -> None:
    """Iterate to the end, for the statistics."""
    for _ in rows:
        pass


def _mark_completed(connection: Connection, run: LeasedRun, batch: BatchView, accumulator: StatsAccumulator) -> None:
    """Mark the run as completed in the caller's transaction; raises _LeaseLost, which must roll it back."""
    summary = run_alerts.summarize_completed(connection, run.view, batch, accumulator.summarize())
    _end_run(connection, run, COMPLETE_RUN, summary=summary)
    if run.definition.after is None:
        _advance_watermark(connection, run)
    run_alerts.record_alerts(connection, run.view, summary, run.now)
    followers.plan_followers(connection, run.database.sql, run.view, RunState.COMPLETED, run.now)


def _advance_watermark(connection: Connection, run: LeasedRun) -> None:
    schedule = {"schedule": run.view.schedule}
    if run.view.trigger is not RunTrigger.BACKFILL:
        connection.execute(bind_datetimes(ADVANCE_WATERMARK, "until"), {**schedule, "until": run.view.until})
        return
    statement = bind_datetimes(ADVANCE_WATERMARK_OVER_RUNS, "initial_since")
    while connection.execute(statement, {**schedule, "initial_since": run.definition.initial_since}).rowcount:
        pass


def _fail_run(run: LeasedRun, batch: BatchView | None, code: str, message: str) -> None:
    summary = None if batch is None else run_alerts.summarize_failed(batch)
    with run.database.write() as connection:
        _end_run(connection, run, FAIL_RUN, summary=summary, code=code, message=make_storable(message))
        run_alerts.record_run_event(connection, run.view, "failed", message, run.now, code)
        followers.plan_followers(connection, run.database.sql, run.view, RunState.FAILED, run.now)


def _end_run(connection: Connection, run: LeasedRun, statement: str, **parameters: Any) -> None:
    registry.lock_if_exists(connection, run.database.sql, run.view.schedule)
    query = bind_datetimes(statement, "now").bindparams(bindparam("summary", type_=Document))
    if not run.execute(connection, query, now=run.now, **parameters):
        raise _LeaseLost


def _postpone(run: LeasedRun, error: Unreachable) -> None:
    log.warning("run.finish_deferred", schedule=run.view.schedule, error=str(error))
    statement, next_check_at = bind_datetimes(POSTPONE_RUN, "next_check_at"), run.now + RETRY_DELAY
    with run.database.write() as connection:
        run.execute(connection, statement, next_check_at=next_check_at, message=make_storable(str(error)))
