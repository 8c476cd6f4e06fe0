"""The step that opens the batch of a run that follows another; a killed process leaves nothing of it behind."""

from datetime import datetime, timedelta

from models.db import Database
from models.errors import SourceNotReady, UsageError
from models.pipelines.catalogue import Catalogue
from models.processes.failpoints import failpoint
from models.states import RunTrigger
from producer.readers.storable import make_storable
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import new_runs, run_alerts, sources
from producer.schedules.runs.new_runs import LockedSchedule
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView

STEP = "its batch was opened"

RETRY_DELAY = timedelta(seconds=30)  # while no machine that ticks has the pipeline

# Lock order, as in planning: the schedule's row, then its run, then the batch. A repetition of the run that it follows
# may have replaced it by one with another source, which the next check opens.
LOCK_UNOPENED_RUN = """
SELECT 1 FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND batch_id IS NULL
   AND source_batch_id = :source_batch_id AND next_check_at IS NOT NULL {for_update}
"""

SET_BATCH = """
UPDATE runs SET batch_id = :batch_id, deadline_at = :deadline_at, next_check_at = :now, attempts = 0,
       error_code = NULL, error_message = NULL
WHERE schedule = :schedule AND scheduled_at = :scheduled_at
"""

POSTPONE_RUN = """
UPDATE runs SET next_check_at = :next_check_at, attempts = attempts + 1, error_code = 'source_not_ready',
       error_message = :message
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND batch_id IS NULL AND next_check_at IS NOT NULL
"""


def open_batch(database: Database, catalogue: Catalogue, run: RunView, now: datetime) -> None:
    """Open the batch of a planned run, which is then read as any other; or postpone it.

    Raises UsageError if the pipeline does not take the schedule's parameters any more, or is missing for too long.
    """
    definition = ScheduleDefinition.from_fields(run.schedule, run.definition)
    try:
        sources.pipeline_for(definition, catalogue)
    except SourceNotReady as error:
        _postpone(database, run, definition, error, now)
        return
    deadline_at = None if run.trigger is RunTrigger.BACKFILL else definition.deadline_for(run.scheduled_at)
    with database.write() as connection:
        registry.lock_if_exists(connection, database.sql, run.schedule)
        lock = bind_datetimes(LOCK_UNOPENED_RUN.format(for_update=database.sql.for_update))
        if connection.scalar(lock, {**run.key, "source_batch_id": run.source_batch_id}) is None:
            return  # another process was faster, or it was deleted or replaced
        schedule = LockedSchedule(connection, database, catalogue, definition, now)
        batch_id = new_runs.insert_run_batch(schedule, run.scheduled_at, deadline_at, run.source_batch_id)
        statement = bind_datetimes(SET_BATCH, "deadline_at", "now")
        values = {"batch_id": batch_id, "deadline_at": deadline_at, "now": now}
        connection.execute(statement, {**run.key, **values})
        failpoint("during_opening")
    failpoint("after_opening")


def _postpone(
    database: Database, run: RunView, definition: ScheduleDefinition, error: SourceNotReady, now: datetime
) -> None:
    if now >= run.planned_at + definition.max_source_wait:
        raise UsageError(f"{error}; the run waited for it since {definition.format_time(run.planned_at)}")
    values = {"next_check_at": now + RETRY_DELAY, "message": make_storable(str(error))}
    with database.write() as connection:
        connection.execute(bind_datetimes(POSTPONE_RUN, "next_check_at"), {**run.key, **values})
        run_alerts.record_run_event(connection, run, "waiting", str(error), now)
