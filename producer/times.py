"""Times as people write and read them: durations (`6h`), deadlines (`06:00`), and times (`2026-11-25 06:00`).

A time without a zone is in the zone that the caller names, or in this machine's. A date is the whole day.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from models.errors import UsageError
from producer.error_params import naming

if TYPE_CHECKING:
    from sqlalchemy import TextClause

UNIT_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
MAX_SECONDS = 3650 * 86_400
TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{8}")
ISO_WEEK = re.compile(r"\d{4}-?W")
ZONE_NAME = r"[A-Za-z]{3,5}|[+-]\d\d(?:\d\d)?"
TABLE_TIME = re.compile(rf"(?:[A-Z][a-z]{{2}} )?(\d{{4}}-\d\d-\d\d \d\d:\d\d(?::\d\d)?)(?: ({ZONE_NAME}))?")
ONE_DAY, ONE_MINUTE, ONE_SECOND = timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)
DEADLINE_EXAMPLES = "a duration such as 6h, a time of day such as 06:00, or a time such as 2026-11-25 06:00"


@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline: either `seconds` from now, by the database's clock, or a time with its zone.

    time_of_day: hour and minute that the user wrote instead of a time; `expires_at` is then the next such time.
    """

    seconds: float | None = None
    expires_at: datetime | None = None
    time_of_day: tuple[int, int] | None = None

    @classmethod
    def parse(cls, value: str, now: datetime | None = None) -> Self:
        """Parse a duration, a time of day or a time; raises UsageError.

        value: such as 6h, 06:00, 2026-11-25 06:00, or a date, which ends with its day
        now: time after which a time of day comes next, None = this machine's clock
        """
        seconds = parse_duration(value)
        if seconds is not None:
            if not 0 < seconds <= MAX_SECONDS:
                message = f"deadline {value[:80]!r} is out of range; use more than nothing, at most ten years"
                raise UsageError(message, param="deadline")
            return cls(seconds=seconds)
        if (time_of_day := parse_time_of_day(value)) is not None:
            return cls(expires_at=_next_local_time(*time_of_day, now or datetime.now(UTC)), time_of_day=time_of_day)
        return cls(expires_at=parse_deadline_time(value))

    @classmethod
    def parse_future(cls, value: str) -> Self:
        """Parse a deadline, as `parse` does, that has not passed by this machine's clock; raises UsageError."""
        deadline = cls.parse(value)
        deadline.check_future()
        return deadline

    def check_future(self) -> None:
        """Raise UsageError if the deadline has passed by this machine's clock."""
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            message = f"the deadline {format_local(self.expires_at)} has passed; take a later one, or 6h"
            raise UsageError(message, param="deadline")

    @property
    def comparable_values(self) -> list[Any]:
        """The values that are equal for equal requests, whenever they are made."""
        return [self.seconds, str(self.time_of_day or self.expires_at)]

    def as_text(self) -> str:
        """The deadline in words that mean the same everywhere, whatever the zone and clock there."""
        if self.expires_at is not None:
            return self.expires_at.isoformat(timespec="microseconds")
        return f"{self.seconds:.6f}s"

    def bind(self, statement: str, now_plus_seconds: str, **params: Any) -> "tuple[TextClause, dict[str, Any]]":
        """A statement with the deadline in place of `{expires_at}`, and all its parameters.

        now_plus_seconds: the dialect's expression for now + :seconds.
        """
        from sqlalchemy import bindparam, text  # not by a client over HTTP, which has no database

        from models.dialects.columns import UtcDateTime

        if self.expires_at is None:
            return text(statement.format(expires_at=now_plus_seconds)), {**params, "seconds": self.seconds}
        query = text(statement.format(expires_at=":expires_at")).bindparams(
            bindparam("expires_at", type_=UtcDateTime())
        )
        return query, {**params, "expires_at": self.expires_at}


class TimeRange(NamedTuple):
    """The time from `start` on and before `end`, which a user means by a date or a time."""

    start: datetime
    end: datetime


def parse_time_range(value: str, zone: tzinfo | None = None) -> TimeRange:
    """Parse a date, which is its whole day, or a time, which is its minute or second; raises UsageError.

    value: ISO 8601, such as 2026-11-25 or 2026-11-25T06:00+01:00, or a time as tables show it
    zone: zone of a time that names none, None = this machine's
    """
    written = value.strip()
    try:
        if ISO_WEEK.match(written):  # a week is neither a day nor a time
            raise ValueError
        if _is_date(written):
            day = datetime.combine(date.fromisoformat(written), time())
            return TimeRange(_localize(day, zone).astimezone(UTC), _localize(day + ONE_DAY, zone).astimezone(UTC))
        start = _parse_table_time(written, zone) or _localize(datetime.fromisoformat(written), zone)
        start = start.astimezone(UTC)  # in a repeated hour, local times of one zone equal no other time
        return TimeRange(start, start + (ONE_SECOND if start.second or start.microsecond else ONE_MINUTE))
    except (ValueError, OverflowError):
        raise UsageError(
            f"{value[:80]!r} is not a time such as 2026-11-25, 2026-11-25 06:00 or 2026-11-25T06:00+01:00"
        ) from None


def parse_moment(value: str, *, is_end: bool = False, param: str | None = None) -> datetime:
    """Return the time that an age such as 6h, a date or a time names; raises UsageError.

    is_end: whether a date is the end of its day, rather than its start
    param: the parameter of a request that has it
    """
    with naming(param):
        if parse_duration(value) is not None:
            return datetime.now(UTC) - timedelta(seconds=parse_age(value))
        span = parse_time_range(value)
    is_day = span.end - span.start > ONE_MINUTE
    return span.end if is_end and is_day else span.start


def parse_deadline_time(value: str, zone: tzinfo | None = None) -> datetime:
    """Parse a deadline that is a time; a date ends with its day. Raises UsageError, which names all spellings."""
    try:
        start, end = parse_time_range(value, zone)
    except UsageError:
        raise UsageError(f"deadline {value[:80]!r} is none of these: {DEADLINE_EXAMPLES}", param="deadline") from None
    return end if _is_date(value.strip()) else start


def parse_time_of_day(value: str) -> tuple[int, int] | None:
    """Parse an hour and a minute, such as 06:00; None for any other text."""
    match = TIME_OF_DAY.fullmatch(value.strip())
    return None if match is None else (int(match[1]), int(match[2]))


def format_local(timestamp: datetime | None) -> str:
    """Return a time as tables show it: in this machine's zone, which it names; empty for None."""
    return "" if timestamp is None else f"{timestamp.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def parse_duration(value: str) -> float | None:
    """The seconds of a duration such as 1h30m; None for any other text."""
    duration = value.strip().lower()
    if not DURATION.fullmatch(duration):
        return None
    return sum(float(number) * UNIT_SECONDS[unit] for number, unit in DURATION_PART.findall(duration))


def parse_age(value: str) -> float:
    """The seconds of an age such as 30d, which may be zero; raises UsageError."""
    seconds = parse_duration(value)
    if seconds is None or seconds > MAX_SECONDS:
        raise UsageError(f"{value[:80]!r} is not an age of at most ten years, such as 30d or 12h")
    return seconds


def _is_date(written: str) -> bool:
    return DATE.fullmatch(written) is not None


def _localize(timestamp: datetime, zone: tzinfo | None, fold: int = 0) -> datetime:
    if timestamp.tzinfo is None:
        timestamp = timestamp.replace(tzinfo=zone, fold=fold)
    return timestamp.astimezone(zone)


def _parse_table_time(written: str, zone: tzinfo | None) -> datetime | None:
    """Parse `Tue 2026-11-24 02:00 CET`; raises ValueError if the zone's clocks do not show that time then."""
    match = TABLE_TIME.fullmatch(written)
    if match is None or not (match[2] or written[:1].isalpha()):
        return None
    naive, zone_name = datetime.fromisoformat(match[1]), match[2]
    if zone_name in ("UTC", "GMT"):
        return naive.replace(tzinfo=UTC)
    for local in (_localize(naive, zone, fold) for fold in (0, 1)):
        if zone_name in (None, local.tzname(), f"{local:%z}") and local.replace(tzinfo=None) == naive:
            return local
    raise ValueError


def _next_local_time(hour: int, minute: int, now: datetime) -> datetime:
    """Return the next instant at which this machine's clocks show a time of day."""
    today = now.astimezone().replace(hour=hour, minute=minute, second=0, microsecond=0, tzinfo=None)
    candidates = ((today + ONE_DAY * days).astimezone() for days in (0, 1))
    return next(candidate for candidate in candidates if candidate > now)
