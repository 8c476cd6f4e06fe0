"""The five fields of a cron expression, as the wall times that match them.

cronsim parses the expression and matches days, but is not used for instants. It starts on the wrong side of a repeated
hour and walks in whole hours through half-hour changes (Lord Howe). It also takes a midnight that a day lacks for a
time of that day (Cairo). `timezones` and `cron` handle these cases. cronsim also reads 5-5/2 as 5/2, from 5 to the end,
although it means 5 alone.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from models.errors import UsageError

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_EXPRESSION_LENGTH = 200
EXAMPLE = 'such as "0 2 * * *": minute, hour, day of the month, month, day of the week'
SINGLE_VALUE_RANGE = re.compile(
    r"(?<![^\s,])0*(\w+?)-0*\1/0*[1-9]\d*(?![^\s,])", re.IGNORECASE
)  # a range of one value, with a step
ONE_DAY = timedelta(days=1)
MINUTES_PER_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class CronFields:
    """The days that an expression matches, and the minutes on such a day.

    `has_fixed_times` is True if neither the minute nor the hour begins with a star: it names times, not intervals.
    """

    minutes: Sequence[int]  # minutes since midnight
    has_fixed_times: bool
    _days: CronSim

    def matches_day(self, day: date) -> bool:
        """Return whether a day matches."""
        return day.month in self._days.months and self._days.match_day(day)

    def wall_times_between(self, start: datetime, stop: datetime) -> Iterator[datetime]:
        """Yield the matching wall times from `start` on and before `stop`."""
        day = start.date()
        while day <= stop.date():
            if self.matches_day(day):
                yield from (_wall_time(day, minute) for minute in self._minutes_between(day, start, stop))
            day += ONE_DAY

    def wall_times_backwards(self, stop: datetime, start: datetime) -> Iterator[datetime]:
        """Yield the same wall times, latest first."""
        day = stop.date()
        while day >= start.date():
            if self.matches_day(day):
                yield from (_wall_time(day, minute) for minute in reversed(self._minutes_between(day, start, stop)))
            day -= ONE_DAY

    def count_between(self, start: datetime, stop: datetime) -> int:
        """Count the matching wall times, a whole day at a time."""
        days = (start.date() + ONE_DAY * ahead for ahead in range((stop.date() - start.date()).days + 1))
        return sum(len(self._minutes_between(day, start, stop)) for day in days if self.matches_day(day))

    def _minutes_between(self, day: date, start: datetime, stop: datetime) -> Sequence[int]:
        """Return the matching minutes of a day that lie between `start` and `stop`."""
        if start.date() < day < stop.date():
            return self.minutes
        first, end = _minutes_until(day, start), _minutes_until(day, stop)
        return self.minutes[bisect_left(self.minutes, first) : bisect_left(self.minutes, end)]


def normalize(expression: str) -> str:
    """Return an expression as five fields with single spaces; raises UsageError if it is invalid or never matches."""
    words = SINGLE_VALUE_RANGE.sub(r"\1", expression).split()
    if len(words) == 1 and words[0].lower() in ALIASES:
        return ALIASES[words[0].lower()]
    quoted = f"cron {expression[:MAX_EXPRESSION_LENGTH]!r}"
    if len(words) == 1 and words[0].startswith("@"):
        raise UsageError(f"{quoted} is no known name; take {', '.join(ALIASES)} or five fields, {EXAMPLE}")
    if len(words) in (6, 7):
        raise UsageError(f"{quoted} has {len(words)} fields; leave the seconds or the year out, {EXAMPLE}")
    if len(words) != 5 or len(expression) > MAX_EXPRESSION_LENGTH or not expression.isascii():
        raise UsageError(f"{quoted} does not have five fields, {EXAMPLE}")
    try:
        next(CronSim(" ".join(words), datetime(2000, 1, 1)))
    except CronSimError as error:
        raise UsageError(f"{quoted} can't be read: {_lowercase_first(str(error))}; write it {EXAMPLE}") from None
    except StopIteration:
        raise UsageError(f"{quoted} never comes; name a day that there is") from None
    return " ".join(words)


@lru_cache(maxsize=256)
def parse_fields(expression: str) -> CronFields:
    """Parse an expression that `normalize` returned."""
    days = CronSim(expression, datetime(2000, 1, 1))
    minutes = tuple(hour * 60 + minute for hour in sorted(days.hours) for minute in sorted(days.minutes))
    minute, hour, *_ = expression.split()
    return CronFields(minutes, not (minute.startswith("*") or hour.startswith("*")), days)


def _lowercase_first(problem: str) -> str:
    return f"{problem[:1].lower()}{problem[1:]}"


def _wall_time(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, *divmod(minute, 60))


def _minutes_until(day: date, wall: datetime) -> int:
    """Return how many whole minutes of `day` begin before a wall time; none or all if that is on another day."""
    if wall.date() != day:
        return 0 if wall.date() < day else MINUTES_PER_DAY
    return -int((_wall_time(day, 0) - wall) // timedelta(minutes=1))
