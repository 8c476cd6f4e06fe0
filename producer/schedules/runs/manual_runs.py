"""Runs by hand: one at once, or those of a span of time again."""

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

# Its events go as well: what is run again may be told of again.
DELETE_EVENTS = "DELETE FROM events WHERE schedule = :schedule AND slot = :slot"
DELETE_ENDED_RUN = """
DELETE FROM runs WHERE schedule = :schedule AND slot = :slot AND look_at IS NULL AND (state <> 'completed' OR :again)
RETURNING state, since
"""


def trigger(database: Database, catalogue: Catalogue, name: str, now: datetime) -> str:
    """Run a schedule for this moment, suspended or not; returns the batch's id. Raises NotFound, UnknownPipeline."""
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    slot = now.replace(microsecond=0)
    try:
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            return open_run(connection, database, catalogue, definition, slot, trigger=RunTrigger.MANUAL, now=now)
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
    """Run the slots from `first` to `last`, both of them too: those that will run, and those that have or do already.

    A slot whose run failed, or that never got one, is run anew; with `again` also one that completed, over what it took
    in then. Raises NotFound, UnknownPipeline and UsageError.
    """
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    begun, kept = [], []
    for slot in _times_to_backfill(definition, first, last, now):
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            key = {"schedule": name, "slot": slot}
            typed = bind_datetimes(DELETE_ENDED_RUN).columns(since=UtcDateTime())
            gone = connection.execute(typed, {**key, "again": include_completed}).one_or_none()
            if gone is not None:
                connection.execute(bind_datetimes(DELETE_EVENTS), key)
            elif connection.scalar(
                bind_datetimes("SELECT 1 FROM runs WHERE schedule = :schedule AND slot = :slot"), key
            ):
                kept.append(slot)
                continue
            since = gone.since if gone is not None and gone.state == RunState.COMPLETED else None
            open_run(
                connection, database, catalogue, definition, slot, trigger=RunTrigger.BACKFILL, now=now, since=since
            )
        begun.append(slot)
    return begun, kept


def _times_to_backfill(
    definition: ScheduleDefinition, first: datetime, last: datetime, now: datetime
) -> list[datetime]:
    if last < first:
        raise UsageError("the span ends before it begins; exchange its two moments")
    if last > now:
        raise UsageError("a slot that is still to come can't be run again; end the span before now")
    span = definition.timetable.times_between(first - timedelta(microseconds=1), last)
    slots = list(islice(span, MAX_BACKFILL_RUNS + 1))
    if len(slots) > MAX_BACKFILL_RUNS:
        raise UsageError(f"that is more than {MAX_BACKFILL_RUNS:,} slots; take a shorter span")
    if not slots:
        name = definition.name
        raise UsageError(f"{name} has no slot in that span; see when it runs: batchmill schedule show {name}")
    return slots
