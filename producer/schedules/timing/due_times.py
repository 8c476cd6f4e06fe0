"""Slots: which of a schedule's are to run now, and which were missed, by a clock that is handed in."""

from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import Literal, NamedTuple

from producer.schedules.timing.cron import Cron

Catchup = Literal["latest", "all", "none"]

INSTANT = timedelta.resolution
# A slot is on time within its minute, as with cron itself, which looks once a minute and makes nothing up. Whoever
# looks here does so every few seconds and then starts a process, which a busy machine takes some more to do.
PUNCTUAL = timedelta(seconds=60)
MOST_DUE = 1000  # at once: as many rows and batches as one transaction makes without holding others up
MOST_MISSED = 100  # named, the newest; a week of a minute's schedule would be ten thousand rows that nobody reads


class Decision(NamedTuple):
    """What becomes of the slots since the last decision: to run, in order, or missed (the newest, in order).

    `decided_at` is up to where it is decided now: no slot before it is ever looked at again. `next_at` is the first
    one after it, which has come already where more were due than are taken at once.
    """

    due: tuple[datetime, ...]
    missed: tuple[datetime, ...]
    missed_count: int
    decided_at: datetime
    next_at: datetime | None


def decide(cron: Cron, *, decided_at: datetime, now: datetime, catchup: Catchup, window: timedelta) -> Decision:
    """Decide on the slots after `decided_at` and up to `now`; none where the clock was put back behind that.

    A slot runs when it is on time. When nobody was there it runs late, where it is not older than `window`: `latest`
    has the last one run, `all` every one, and `none` none. Years are decided at once: it takes a few milliseconds.
    """
    if now <= decided_at:
        return Decision((), (), 0, decided_at, next(cron.after(decided_at), None))
    due = _due(cron, decided_at, now, catchup, PUNCTUAL if catchup == "none" else max(window, PUNCTUAL))
    past = due[0] if due else now + INSTANT  # what was not too late is newer than what was
    newest = islice(takewhile(lambda slot: slot > decided_at, cron.before(past)), MOST_MISSED)
    end = due[-1] if len(due) == MOST_DUE else now
    return Decision(
        due, tuple(newest)[::-1], cron.count(decided_at, past - INSTANT), end, next(cron.after(end), None)
    )  # fmt: skip


def _due(cron: Cron, decided_at: datetime, now: datetime, catchup: Catchup, window: timedelta) -> tuple[datetime, ...]:
    after = decided_at if now - decided_at <= window else now - window - INSTANT
    if catchup == "latest":
        newest = next(cron.before(now + INSTANT), None)
        return (newest,) if newest is not None and newest > after else ()
    return tuple(islice(cron.between(after, now), MOST_DUE))
