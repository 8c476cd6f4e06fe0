"""Durations and deadlines of a schedule, such as `90m`, or `06:00` in its zone."""

from datetime import UTC, datetime, timedelta

from models.errors import UsageError
from producer.schedules.timing.cron import Cron
from producer.times import DEADLINE_EXAMPLES, parse_age, parse_deadline_time, parse_duration, parse_time_of_day


def parse_timedelta(text: str) -> timedelta:
    """Parse a duration of at most ten years, which may be zero; raises UsageError."""
    return timedelta(seconds=parse_age(text))


def check_deadline(text: str) -> None:
    """Raise UsageError unless the text is a duration, a time of day or a time."""
    if parse_duration(text) is None:
        if parse_time_of_day(text) is None:
            parse_deadline_time(text, UTC)
    elif parse_age(text) == 0:
        raise UsageError(f"deadline {text[:80]!r} leaves no time; take {DEADLINE_EXAMPLES}")


def deadline_after(scheduled_at: datetime, deadline: str, cron: Cron) -> datetime | None:
    """Return the deadline of a run in the zone of its schedule; None if it is a time that came before the run.

    A time of day is the next instant at which the zone's clocks show it.
    """
    if parse_duration(deadline) is not None:
        return scheduled_at + parse_timedelta(deadline)
    if (time_of_day := parse_time_of_day(deadline)) is not None:
        hour, minute = time_of_day
        return next(Cron(f"{minute} {hour} * * *", cron.zone).times_after(scheduled_at))
    time = parse_deadline_time(deadline, cron.zone_info).astimezone(UTC)
    return time if time > scheduled_at else None
