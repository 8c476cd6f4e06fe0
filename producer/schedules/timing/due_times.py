"""Slots: which of a schedule's are to run now, and which were missed, by a clock that is handed in."""

from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from producer.schedules.timing.cron import Cron

CatchupPolicy = Literal["latest", "all", "none"]

RESOLUTION = timedelta.resolution
# A slot is on time within its minute, as with cron itself, which looks once a minute and makes nothing up. Whoever
# looks here does so every few seconds and then starts a process, which a busy machine takes some more to do.
ON_TIME_TOLERANCE = timedelta(seconds=60)
MAX_DUE = 1000  # at once: as many rows and batches as one transaction makes without holding others up
MAX_MISSED_LISTED = 100  # named, the newest; a week of a minute's schedule would be ten thousand rows that nobody reads


class DueDecision(NamedTuple):
    """What becomes of the slots since the last decision: to run, in order, or missed (the newest, in order).

    `decided_at` is up to where it is decided now: no slot before it is ever looked at again. `next_at` is the first
    one after it, which has come already where more were due than are taken at once.
    """

    due: tuple[datetime, ...]
    missed: tuple[datetime, ...]
    missed_count: int
    evaluated_until: datetime
    next_run_at: datetime | None


def decide_due_times(
    cron: Cron, *, evaluated_until: datetime, now: datetime, catchup: CatchupPolicy, max_age: timedelta
) -> DueDecision:
    """Decide on the slots after `decided_at` and up to `now`; none where the clock was put back behind that.

    A slot runs when it is on time. When nobody was there it runs late, where it is not older than `window`: `latest`
    has the last one run, `all` every one, and `none` none. Years are decided at once: it takes a few milliseconds.
    """
    if now <= evaluated_until:
        return DueDecision((), (), 0, evaluated_until, next(cron.times_after(evaluated_until), None))
    due = _times_to_run(
        cron, evaluated_until, now, catchup, ON_TIME_TOLERANCE if catchup == "none" else max(max_age, ON_TIME_TOLERANCE)
    )
    past = due[0] if due else now + RESOLUTION  # what was not too late is newer than what was
    newest = islice(takewhile(lambda slot: slot > evaluated_until, cron.times_before(past)), MAX_MISSED_LISTED)
    end = due[-1] if len(due) == MAX_DUE else now
    return DueDecision(
        due,
        tuple(newest)[::-1],
        cron.count_between(evaluated_until, past - RESOLUTION),
        end,
        next(cron.times_after(end), None),
    )


def _times_to_run(
    cron: Cron, evaluated_until: datetime, now: datetime, catchup: CatchupPolicy, max_age: timedelta
) -> tuple[datetime, ...]:
    after = evaluated_until if now - evaluated_until <= max_age else now - max_age - RESOLUTION
    if catchup == "latest":
        newest = next(cron.times_before(now + RESOLUTION), None)
        return (newest,) if newest is not None and newest > after else ()
    return tuple(islice(cron.times_between(after, now), MAX_DUE))
