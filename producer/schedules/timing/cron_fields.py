"""Fields: the five of a cron expression, as the wall times that they stand for.

cronsim reads the expression and knows which days match. It is asked nothing about instants: it starts on the wrong
side of an hour that is repeated, walks by whole hours through changes of half an hour (Lord Howe), and takes a midnight
that a day lacks for a time of that day (Cairo); here `zones` and `cron` see to that. And it reads 5-5/2 as 5/2, from 5
to the end, where it names 5 alone.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from models.errors import UsageError

SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
LONGEST = 200
EXAMPLE = 'such as "0 2 * * *": minute, hour, day of the month, month, day of the week'
ALONE = re.compile(r"(?<![^\s,])0*(\w+?)-0*\1/0*[1-9]\d*(?![^\s,])", re.IGNORECASE)  # a range of one, in steps
DAY = timedelta(days=1)
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Fields:
    """What an expression says: on which days, and at which minutes of such a day.

    `is_fixed` says that neither the minute nor the hour begins with a star: it names times, rather than a rhythm.
    """

    minutes: Sequence[int]  # of the day
    is_fixed: bool
    _days: CronSim

    def on(self, day: date) -> bool:
        """Whether a day matches."""
        return day.month in self._days.months and self._days.match_day(day)

    def between(self, start: datetime, past: datetime) -> Iterator[datetime]:
        """The wall times from one on and before another."""
        day = start.date()
        while day <= past.date():
            if self.on(day):
                yield from (_at(day, minute) for minute in self._some(day, start, past))
            day += DAY

    def back(self, past: datetime, start: datetime) -> Iterator[datetime]:
        """The same ones, the last first."""
        day = past.date()
        while day >= start.date():
            if self.on(day):
                yield from (_at(day, minute) for minute in reversed(self._some(day, start, past)))
            day -= DAY

    def count(self, start: datetime, past: datetime) -> int:
        """How many they are, days of them at a time."""
        days = (start.date() + DAY * ahead for ahead in range((past.date() - start.date()).days + 1))
        return sum(len(self._some(day, start, past)) for day in days if self.on(day))

    def _some(self, day: date, start: datetime, past: datetime) -> Sequence[int]:
        """The minutes of a day that lie between."""
        if start.date() < day < past.date():
            return self.minutes
        first, end = _minutes_until(day, start), _minutes_until(day, past)
        return self.minutes[bisect_left(self.minutes, first) : bisect_left(self.minutes, end)]


def spelled(expression: str) -> str:
    """An expression as five fields with a blank between; raises UsageError where it is none, or never comes."""
    words = ALONE.sub(r"\1", expression).split()
    if len(words) == 1 and words[0].lower() in SHORT:
        return SHORT[words[0].lower()]
    said = f"cron {expression[:LONGEST]!r}"
    if len(words) == 1 and words[0].startswith("@"):
        raise UsageError(f"{said} is no known name; take {', '.join(SHORT)} or five fields, {EXAMPLE}")
    if len(words) in (6, 7):
        raise UsageError(f"{said} has {len(words)} fields; leave the seconds or the year out, {EXAMPLE}")
    if len(words) != 5 or len(expression) > LONGEST or not expression.isascii():
        raise UsageError(f"{said} does not have five fields, {EXAMPLE}")
    try:
        next(CronSim(" ".join(words), datetime(2000, 1, 1)))
    except CronSimError as error:
        raise UsageError(f"{said} can't be read: {_told(str(error))}; write it {EXAMPLE}") from None
    except StopIteration:
        raise UsageError(f"{said} never comes; name a day that there is") from None
    return " ".join(words)


@lru_cache(maxsize=256)
def parsed(expression: str) -> Fields:
    """The fields of an expression that `spelled` gave."""
    days = CronSim(expression, datetime(2000, 1, 1))
    minutes = tuple(hour * 60 + minute for hour in sorted(days.hours) for minute in sorted(days.minutes))
    minute, hour, *_ = expression.split()
    return Fields(minutes, not (minute.startswith("*") or hour.startswith("*")), days)


def _told(problem: str) -> str:
    return f"{problem[:1].lower()}{problem[1:]}"


def _at(day: date, minute: int) -> datetime:
    return datetime(day.year, day.month, day.day, *divmod(minute, 60))


def _minutes_until(day: date, wall: datetime) -> int:
    """How many whole minutes of a day begin before a wall time: none, or all, where that is of another day."""
    if wall.date() != day:
        return 0 if wall.date() < day else DAY_MINUTES
    return -int((_at(day, 0) - wall) // timedelta(minutes=1))
