"""Manual runs: one run now, or a backfill of past scheduled times."""

from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy.exc import IntegrityError

from models.columns import UtcDateTime
from models.db import Database
from models.errors import UsageError
from models.pipelines.catalogue import Catalogue
from models.states import RunState, RunTrigger
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs.planning import open_run
from producer.schedules.runs.run_lease import bind_datetimes

MAX_BACKFILL_RUNS = 1000

# Delete its events too, so that the repeated run can record the same kinds again.
DELETE_EVENTS = "DELETE FROM events WHERE schedule = :schedule AND scheduled_at = :scheduled_at"
DELETE_ENDED_RUN = """
DELETE FROM runs
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND next_check_at IS NULL
  AND (state <> 'completed' OR :include_completed)
RETURNING state, since
"""


def trigger(database: Database, catalogue: Catalogue, name: str, now: datetime) -> str:
    """Run a schedule now, even if suspended; return the batch's id. Raises NotFound, UnknownPipeline and UsageError."""
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    scheduled_at = now.replace(microsecond=0)
    try:
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            return open_run(
                connection, database, catalogue, definition, scheduled_at, trigger=RunTrigger.MANUAL, now=now
            )
    except IntegrityError:
        raise UsageError(f"{name} has a run for this very second already: batchmill schedule history {name}") from None


def backfill(
    database: Database,
    catalogue: Catalogue,
    name: str,
    first: datetime,
    last: datetime,
    now: datetime,
    *,
    include_completed: bool = False,
) -> tuple[list[datetime], list[datetime]]:
    """Run the scheduled times from `first` to `last` that have no completed run; return those begun and those skipped.

    A completed run is repeated over the rows that it read then. Raises NotFound, UnknownPipeline and UsageError.

    database: our database
    catalogue: pipelines of this machine
    name: name of the schedule
    first, last: ends of the span, both included
    now: time of the call
    include_completed: repeat completed runs too
    """
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    begun, kept = [], []
    for scheduled_at in _times_to_backfill(definition, first, last, now):
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            key = {"schedule": name, "scheduled_at": scheduled_at}
            typed = bind_datetimes(DELETE_ENDED_RUN).columns(since=UtcDateTime())
            gone = connection.execute(typed, {**key, "include_completed": include_completed}).one_or_none()
            if gone is not None:
                connection.execute(bind_datetimes(DELETE_EVENTS), key)
            elif connection.scalar(
                bind_datetimes("SELECT 1 FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at"), key
            ):
                kept.append(scheduled_at)
                continue
            since = gone.since if gone is not None and gone.state == RunState.COMPLETED else None
            open_run(
                connection,
                database,
                catalogue,
                definition,
                scheduled_at,
                trigger=RunTrigger.BACKFILL,
                now=now,
                since=since,
            )
        begun.append(scheduled_at)
    return begun, kept


def _times_to_backfill(
    definition: ScheduleDefinition, first: datetime, last: datetime, now: datetime
) -> list[datetime]:
    if last < first:
        raise UsageError("the span ends before it begins; swap its two ends")
    if last > now:
        raise UsageError("a scheduled time that is still to come can't be run again; end the span before now")
    span = definition.timetable.times_between(first - timedelta(microseconds=1), last)
    scheduled_times = list(islice(span, MAX_BACKFILL_RUNS + 1))
    if len(scheduled_times) > MAX_BACKFILL_RUNS:
        raise UsageError(f"that is more than {MAX_BACKFILL_RUNS:,} runs; take a shorter span")
    if not scheduled_times:
        name = definition.name
        raise UsageError(f"{name} has no scheduled time in that span; see when it runs: batchmill schedule show {name}")
    return scheduled_times
