"""Spans and deadlines of a schedule, as people write them: `90m`, or `06:00` by the clocks of its zone."""

import re
from datetime import datetime, timedelta

from models.errors import UsageError
from producer.schedules.timing.cron import Cron
from producer.times import parse_age, parse_duration

TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_timedelta(text: str) -> timedelta:
    """A span of at most ten years, which may be none at all; raises UsageError."""
    return timedelta(seconds=parse_age(text))


def check_deadline(text: str) -> None:
    """Raise UsageError unless it is a span or a time of day."""
    if TIME_OF_DAY.fullmatch(text.strip()):
        return
    seconds = parse_duration(text)
    if seconds is None:
        raise UsageError(
            f"{text[:80]!r} is neither a span after the slot, such as 4h, nor a time of day, such as 06:00"
        )
    if seconds == 0 or parse_age(text) == 0:
        raise UsageError(f"{text[:80]!r} leaves no time; take a span such as 4h")


def deadline_after(scheduled_at: datetime, deadline: str, cron: Cron) -> datetime:
    """The moment so long after the slot, or the first one after it at which the zone's clocks come to that time."""
    found = TIME_OF_DAY.fullmatch(deadline.strip())
    if found is None:
        return scheduled_at + parse_timedelta(deadline)
    return next(Cron(f"{int(found[2])} {int(found[1])} * * *", cron.zone).times_after(scheduled_at))
