"""Manual runs: one run now, or a backfill of past scheduled times."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row
from sqlalchemy.exc import IntegrityError

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.errors import NotFound, UsageError, WaitTimeout
from models.pipelines.catalogue import Catalogue
from models.states import RunState, RunTrigger
from producer.advice import DoorText, see_runs
from producer.batches.polling import poll_intervals
from producer.schedules import registry
from producer.schedules.definition import ScheduleDefinition
from producer.schedules.runs import run_views
from producer.schedules.runs.following import followers
from producer.schedules.runs.new_runs import LockedSchedule, open_run
from producer.schedules.runs.run_lease import bind_datetimes
from producer.schedules.runs.run_views import RunView
from producer.times import ONE_MINUTE, TimeRange, parse_time_range

MAX_BACKFILL_RUNS = 1000

# Delete its events too, so that the repeated run can record the same kinds again.
DELETE_EVENTS = "DELETE FROM events WHERE schedule = :schedule AND scheduled_at = :scheduled_at"
DELETE_ENDED_RUN = """
DELETE FROM runs
WHERE schedule = :schedule AND scheduled_at = :scheduled_at AND next_check_at IS NULL
  AND (state <> 'completed' OR :include_completed)
RETURNING state, since
"""
SELECT_COMPLETED_TIMES = """
SELECT scheduled_at FROM runs WHERE schedule = :after AND scheduled_at >= :start AND scheduled_at < :end
   AND state = 'completed' ORDER BY scheduled_at LIMIT :limit
"""
SELECT_STATES = """
SELECT scheduled_at, state FROM runs
WHERE schedule = :schedule AND scheduled_at >= :first AND scheduled_at <= :last
"""
SELECT_RUN = "SELECT 1 FROM runs WHERE schedule = :schedule AND scheduled_at = :scheduled_at"

TIME_OR_SPAN = DoorText(
    "--time names one run, and --from and --to a span; give either",
    http='"time" names one run, and "from" and "to" a span; give either',
    page="one time names one run, and From and To a span; give either",
)
NO_SPAN = DoorText(
    "name what to run: --time 2026-11-24, or a span: --from 2026-11-20 --to 2026-11-24",
    http='name what to run: "time": "2026-11-24", or a span: "from": "2026-11-20", "to": "2026-11-24"',
    page="name what to run: one time, or From and To of a span",
)


class StartedRun(NamedTuple):
    """A run that was started by hand, and its batch."""

    scheduled_at: datetime
    batch_id: str


class SpanText(NamedTuple):
    """The scheduled times to run, as texts: one time or its day, or a span whose end is included."""

    time: str | None = None
    first: str | None = None
    last: str | None = None  # None = now


class BackfillResult(NamedTuple):
    """The runs that a backfill started, and the scheduled times whose runs it left alone."""

    started: list[StartedRun]
    skipped: list[datetime]


class PlannedRun(NamedTuple):
    """A scheduled time of a backfill, and the state of the run that it has already; None = it has none."""

    scheduled_at: datetime
    state: RunState | None

    def runs_again(self, *, include_completed: bool) -> bool:
        """Return whether a backfill runs this time; open runs are left alone."""
        if self.state is None:
            return True
        return not self.state.is_open and (include_completed or self.state is not RunState.COMPLETED)


def plan_backfill(
    database: Database, definition: ScheduleDefinition, span: TimeRange, now: datetime
) -> list[PlannedRun]:
    """Return the scheduled times in a span, as `backfill` would find them; raises UsageError."""
    times = _times_to_backfill(database, definition, span, now)
    query = bind_datetimes(SELECT_STATES, "first", "last").columns(scheduled_at=UtcDateTime())
    values = {"schedule": definition.name, "first": times[0], "last": times[-1]}
    with database.read() as connection:
        states = {row.scheduled_at: RunState(row.state) for row in connection.execute(query, values)}
    return [PlannedRun(scheduled_at, states.get(scheduled_at)) for scheduled_at in times]


def find_obstacle(database: Database, catalogue: Catalogue, definition: ScheduleDefinition) -> str | None:
    """Return why `trigger` would start no run, as a sentence; None = it would."""
    if (message := find_pipeline_obstacle(catalogue, definition)) is not None:
        return message
    with database.read() as connection:
        try:
            _last_source(connection, definition)
        except UsageError as error:
            return str(error)
    return None


def find_pipeline_obstacle(catalogue: Catalogue, definition: ScheduleDefinition) -> str | None:
    """Return why no run of a schedule can start here, as a sentence; None = nothing is in the way."""
    if definition.pipeline in catalogue:
        return None
    return f"the pipeline {definition.pipeline[:80]} is not in the catalogue of this machine, so that no run can start"


def trigger(database: Database, catalogue: Catalogue, name: str, now: datetime) -> StartedRun:
    """Run a schedule now, even if suspended; one that follows another reads that one's last completed run.

    Raises NotFound, UnknownPipeline and UsageError.
    """
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    scheduled_at = now.replace(microsecond=0)
    try:
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            schedule = LockedSchedule(connection, database, catalogue, definition, now)
            batch_id = open_run(schedule, scheduled_at, RunTrigger.MANUAL, _last_source(connection, definition))
    except IntegrityError:
        raise UsageError(f"{name} has a run for this very second already; " + see_runs(name)) from None
    return StartedRun(scheduled_at, batch_id)


def backfill(
    database: Database,
    catalogue: Catalogue,
    name: str,
    span: TimeRange,
    now: datetime,
    *,
    include_completed: bool = False,
) -> BackfillResult:
    """Run the scheduled times in a span that have no completed run; times after `now` are left out.

    A run that read its source before is repeated over the same rows, and one that follows another over that one's
    results. Raises NotFound, UnknownPipeline and UsageError.

    database: our database
    catalogue: pipelines of this machine
    name: name of the schedule
    span: the scheduled times to run
    now: time of the call
    include_completed: repeat completed runs too
    """
    definition = registry.get(database, name).definition
    catalogue[definition.pipeline]
    result = BackfillResult([], [])
    for scheduled_at in _times_to_backfill(database, definition, span, now):
        key = {"schedule": name, "scheduled_at": scheduled_at}
        with database.write() as connection:
            registry.lock_schedule(connection, database.sql, name)
            statement = bind_datetimes(DELETE_ENDED_RUN).columns(since=UtcDateTime())
            deleted = connection.execute(statement, {**key, "include_completed": include_completed}).one_or_none()
            if deleted is None and connection.scalar(bind_datetimes(SELECT_RUN), key):
                result.skipped.append(scheduled_at)
                continue
            connection.execute(bind_datetimes(DELETE_EVENTS), key)
            schedule = LockedSchedule(connection, database, catalogue, definition, now)
            source: dict[str, Any] | None = {"since": None if deleted is None else deleted.since}
            if definition.after is not None:
                source = _source_columns(definition, followers.source_of(connection, definition.after, scheduled_at))
            batch_id = open_run(schedule, scheduled_at, RunTrigger.BACKFILL, source)
        result.started.append(StartedRun(scheduled_at, batch_id))
    return result


def parse_span(database: Database, definition: ScheduleDefinition, span_text: SpanText, now: datetime) -> TimeRange:
    """Return the span of a backfill; raises UsageError. Times without a zone are in the schedule's."""
    zone = definition.timetable.zone_info
    if span_text.time is not None:
        if span_text.first is not None or span_text.last is not None:
            raise UsageError(TIME_OR_SPAN)
        span = parse_time_range(span_text.time, zone)
        times = scheduled_times_in(database, definition, span, now, limit=2)
        if len(times) > 1:
            raise UsageError(
                f"{span_text.time[:40]!r} has more than one scheduled time, the first at "
                f"{definition.format_time(times[0])}; name one of them, or a span from one to another"
            )
        return span
    if span_text.first is None:
        raise UsageError(NO_SPAN)
    end = now + ONE_MINUTE if span_text.last is None else parse_time_range(span_text.last, zone).end
    return TimeRange(parse_time_range(span_text.first, zone).start, end)


def scheduled_times_in(
    database: Database, definition: ScheduleDefinition, span: TimeRange, now: datetime, *, limit: int
) -> list[datetime]:
    """Return the first scheduled times in a span that have come by `now`.

    Those of a schedule that follows another are those of the other's completed runs.
    """
    if definition.after is not None:
        query = bind_datetimes(SELECT_COMPLETED_TIMES, "start", "end").columns(scheduled_at=UtcDateTime())
        values = {"after": definition.after, "start": span.start, "end": span.end, "limit": limit}
        with database.read() as connection:
            return list(connection.scalars(query, values))
    tick = timedelta.resolution
    last = min(span.end - tick, now)
    return list(islice(definition.timetable.times_between(span.start - tick, last), limit))


def find_runs(database: Database, name: str, scheduled_times: Sequence[datetime]) -> list[RunView]:
    """Return the runs of these times; raises NotFound if one was deleted meanwhile."""
    runs = [run_views.find_run(database, name, scheduled_at) for scheduled_at in scheduled_times]
    if None in runs:
        raise NotFound(f"a run of {name} was deleted meanwhile; " + see_runs(name))
    return [run for run in runs if run is not None]


def wait_for_runs(
    database: Database, name: str, scheduled_times: Sequence[datetime], timeout: float | None = None
) -> list[RunView]:
    """Poll the runs of these times until all have ended, and return them; raises NotFound, and WaitTimeout.

    timeout: seconds, None = no limit
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    for pause in poll_intervals():
        runs = find_runs(database, name, scheduled_times)
        open_runs = [run for run in runs if run.state.is_open]
        if not open_runs:
            return runs
        seconds_left = pause if deadline is None else deadline - time.monotonic()
        if seconds_left <= 0:
            raise WaitTimeout(
                f"{len(open_runs)} of {len(runs)} runs of {name} have not ended, and go on; " + see_runs(name)
            )
        time.sleep(min(pause, seconds_left))
    raise AssertionError("poll_intervals() never ends")


def _last_source(connection: Connection, definition: ScheduleDefinition) -> dict[str, Any] | None:
    if definition.after is None:
        return None
    return _source_columns(definition, followers.last_source_of(connection, definition.after))


def _source_columns(definition: ScheduleDefinition, row: Row[Any] | None) -> dict[str, Any]:
    """Return what a run reads that follows another; raises UsageError if there is none."""
    if row is None:
        raise UsageError(f"{definition.after} has no completed run whose results {definition.name} could read")
    return {"source_batch_id": row.batch_id, "id_type": row.id_type if definition.id is None else None}


def _times_to_backfill(
    database: Database, definition: ScheduleDefinition, span: TimeRange, now: datetime
) -> list[datetime]:
    if span.start > now:
        raise UsageError(
            "that time is still to come, and only past scheduled times can be run again; to run now: trigger"
        )
    if span.end <= span.start:
        raise UsageError("the span ends before it begins; swap its two ends")
    scheduled_times = scheduled_times_in(database, definition, span, now, limit=MAX_BACKFILL_RUNS + 1)
    if len(scheduled_times) > MAX_BACKFILL_RUNS:
        raise UsageError(f"that is more than {MAX_BACKFILL_RUNS:,} runs; take a shorter span")
    if not scheduled_times:
        raise UsageError(_no_times_message(definition, span, now))
    return scheduled_times


def _no_times_message(definition: ScheduleDefinition, span: TimeRange, now: datetime) -> str:
    if definition.after is not None:
        return f"{definition.name} runs after {definition.after}, which has no completed run there"
    end = min(span.end, now)
    previous = next(definition.timetable.times_before(end), None)
    following = next(definition.timetable.times_after(end), None)
    nearest = [definition.format_time(time) for time in (previous, following) if time is not None]
    return f"{definition.name} has no past scheduled time there; the nearest are {' and '.join(nearest)}"
