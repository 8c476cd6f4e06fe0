"""Due times, the policy that decides which scheduled times run now and which were missed."""

from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from producer.schedules.timing.cron import Cron

CatchupPolicy = Literal["latest", "all", "none"]

RESOLUTION = timedelta.resolution
# A run is on time within its minute, as with cron itself, which looks once a minute and catches nothing up. Ticks
# start every few seconds, and on a busy machine a new process takes some seconds more.
ON_TIME_TOLERANCE = timedelta(seconds=60)
MAX_DUE = 1000  # at once: rows and batches that one transaction can make without blocking others for long
MAX_MISSED_LISTED = 100  # the newest; a week of a minutely schedule would be ten thousand useless rows


class DueDecision(NamedTuple):
    """The outcome of the scheduled times since the last decision.

    due: times to run, in order
    missed: the newest missed times, in order
    missed_count: number of all missed times
    evaluated_until: time up to which everything is decided; no earlier time is looked at again
    next_run_at: first time after it, which has passed already if more than MAX_DUE were due
    """

    due: tuple[datetime, ...]
    missed: tuple[datetime, ...]
    missed_count: int
    evaluated_until: datetime
    next_run_at: datetime | None


def decide_due_times(
    cron: Cron, *, evaluated_until: datetime, now: datetime, catchup: CatchupPolicy, max_age: timedelta
) -> DueDecision:
    """Decide on the times after `evaluated_until` and up to `now`; there are none if the clock was set back.

    Decisions over years of times take a few milliseconds.

    cron: the schedule's timetable
    evaluated_until: time up to which earlier decisions were made
    now: time of the decision
    catchup: runs to start late if no worker was up: the `latest`, `all`, or `none`
    max_age: greatest age of a time that still runs late
    """
    if now <= evaluated_until:
        return DueDecision((), (), 0, evaluated_until, next(cron.times_after(evaluated_until), None))
    due = _times_to_run(
        cron, evaluated_until, now, catchup, ON_TIME_TOLERANCE if catchup == "none" else max(max_age, ON_TIME_TOLERANCE)
    )
    first_due = due[0] if due else now + RESOLUTION  # due times are newer than missed ones
    newest = islice(
        takewhile(lambda scheduled_at: scheduled_at > evaluated_until, cron.times_before(first_due)), MAX_MISSED_LISTED
    )
    end = due[-1] if len(due) == MAX_DUE else now
    return DueDecision(
        due,
        tuple(newest)[::-1],
        cron.count_between(evaluated_until, first_due - RESOLUTION),
        end,
        next(cron.times_after(end), None),
    )


def _times_to_run(
    cron: Cron, evaluated_until: datetime, now: datetime, catchup: CatchupPolicy, max_age: timedelta
) -> tuple[datetime, ...]:
    start = evaluated_until if now - evaluated_until <= max_age else now - max_age - RESOLUTION
    if catchup == "latest":
        newest = next(cron.times_before(now + RESOLUTION), None)
        return (newest,) if newest is not None and newest > start else ()
    return tuple(islice(cron.times_between(start, now), MAX_DUE))
