"""Durations and deadlines of a schedule, such as `90m`, or `06:00` in its zone."""

import re
from datetime import datetime, timedelta

from models.errors import UsageError
from producer.schedules.timing.cron import Cron
from producer.times import parse_age, parse_duration

TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def parse_timedelta(text: str) -> timedelta:
    """Parse a duration of at most ten years, which may be zero; raises UsageError."""
    return timedelta(seconds=parse_age(text))


def check_deadline(text: str) -> None:
    """Raise UsageError unless the text is a duration or a time of day."""
    if TIME_OF_DAY.fullmatch(text.strip()):
        return
    seconds = parse_duration(text)
    if seconds is None:
        raise UsageError(
            f"{text[:80]!r} is neither a span after the scheduled time, such as 4h, nor a time of day, such as 06:00"
        )
    if seconds == 0 or parse_age(text) == 0:
        raise UsageError(f"{text[:80]!r} leaves no time; take a span such as 4h")


def deadline_after(scheduled_at: datetime, deadline: str, cron: Cron) -> datetime:
    """Return the scheduled time plus a duration, or the next instant at which the zone's clocks show a time of day."""
    match = TIME_OF_DAY.fullmatch(deadline.strip())
    if match is None:
        return scheduled_at + parse_timedelta(deadline)
    return next(Cron(f"{int(match[2])} {int(match[1])} * * *", cron.zone).times_after(scheduled_at))
