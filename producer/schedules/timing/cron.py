"""Cron: a cron expression in a time zone, as the instants at which it comes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Self
from zoneinfo import ZoneInfo

from producer.schedules.timing import cron_fields, timezones
from producer.schedules.timing.cron_fields import Fields
from producer.schedules.timing.timezones import Stretch

INSTANT = timedelta.resolution


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields, and the zone whose clocks they are about. All instants given are in UTC, each once, in order.

    Where clocks are changed it does as Debian's cron does:

    - An expression that names times (neither its minute nor its hour begins with a star) comes once for each of them:
      when clocks are put forward over it, then at the moment to which they are put; when they are put back over it,
      the first time only. Times that meet in one moment come once.
    - One that names a rhythm (`*` or `*/15` in minute or hour) comes whenever the clocks read a matching time: every
      hour means 25 times on the day that has so many, and nothing that a gap leaves out is made up for.

    Where the day of the month or the day of the week begins with a star, both must match, else either may.
    """

    expression: str
    zone: str = "UTC"

    @classmethod
    def checked(cls, expression: str, zone: str = "UTC") -> Self:
        """From what a person wrote; raises UsageError. `@daily` and its like are spelled out as five fields.

        There are names for months and days of the week, and as well `L` (the last day of the month), `LW` (its last
        weekday), `FRI#2` (the second Friday) and `5L` (the last one).
        """
        return cls(cron_fields.spelled(expression), timezones.checked(zone))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The instants after this one."""
        last = moment
        for stretch in timezones.stretches(self.clock, moment):
            for wall in self._fields.between(self._first(stretch), stretch.past):
                instant = stretch.instant(wall)
                if instant > last:
                    yield instant
                    last = instant

    def before(self, moment: datetime) -> Iterator[datetime]:
        """The instants before this one, the last first, back to 1970."""
        last = moment
        for stretch in timezones.stretches_back(self.clock, moment):
            for wall in self._fields.back(stretch.past, self._first(stretch)):
                instant = stretch.instant(wall)
                if instant < last:
                    yield instant
                    last = instant

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """The instants after one and up to another, which may be one of them."""
        return takewhile(lambda instant: instant <= until, self.after(after))

    def count(self, after: datetime, until: datetime) -> int:
        """How many these are, a day of them at a time: years of minutes cost a millisecond or two."""
        total, last = 0, until.astimezone(UTC)
        for stretch in takewhile(lambda stretch: stretch.start <= last, timezones.stretches(self.clock, after)):
            new = stretch.start > after
            begin = stretch.first if new else stretch.first + INSTANT
            past = min(stretch.past, stretch.read(last) + INSTANT)
            total += self._fields.count(max(begin, self._first(stretch)), past)
            total += new and self._is_made_up_for(stretch)
        return total

    @property
    def _fields(self) -> Fields:
        return cron_fields.parsed(self.expression)

    @property
    def clock(self) -> ZoneInfo:
        """The zone itself, to tell the time by."""
        return ZoneInfo(self.zone)

    def _first(self, stretch: Stretch) -> datetime:
        return stretch.passed if self._fields.is_fixed else stretch.first

    def _is_made_up_for(self, stretch: Stretch) -> bool:
        """Whether a time that a gap left out comes at its end, and none was to come there anyway."""
        skipped = self._fields.count(self._first(stretch), stretch.first)
        return skipped > 0 and not self._fields.count(stretch.first, stretch.first + INSTANT)
