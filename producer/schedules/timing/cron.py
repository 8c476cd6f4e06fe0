"""Cron: a cron expression in a time zone, as the instants at which it comes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Self
from zoneinfo import ZoneInfo

from producer.schedules.timing import cron_fields, timezones
from producer.schedules.timing.cron_fields import CronFields
from producer.schedules.timing.timezones import OffsetInterval

RESOLUTION = timedelta.resolution


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
    def parse(cls, expression: str, zone: str = "UTC") -> Self:
        """From what a person wrote; raises UsageError. `@daily` and its like are spelled out as five fields.

        There are names for months and days of the week, and as well `L` (the last day of the month), `LW` (its last
        weekday), `FRI#2` (the second Friday) and `5L` (the last one).
        """
        return cls(cron_fields.normalize(expression), timezones.check_timezone(zone))

    def times_after(self, moment: datetime) -> Iterator[datetime]:
        """The instants after this one."""
        last = moment
        for stretch in timezones.intervals_from(self.zone_info, moment):
            for wall in self._fields.wall_times_between(self._first_wall_time(stretch), stretch.wall_end):
                instant = stretch.to_instant(wall)
                if instant > last:
                    yield instant
                    last = instant

    def times_before(self, moment: datetime) -> Iterator[datetime]:
        """The instants before this one, the last first, back to 1970."""
        last = moment
        for stretch in timezones.intervals_back_from(self.zone_info, moment):
            for wall in self._fields.wall_times_backwards(stretch.wall_end, self._first_wall_time(stretch)):
                instant = stretch.to_instant(wall)
                if instant < last:
                    yield instant
                    last = instant

    def times_between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """The instants after one and up to another, which may be one of them."""
        return takewhile(lambda instant: instant <= end, self.times_after(start))

    def count_between(self, start: datetime, end: datetime) -> int:
        """How many these are, a day of them at a time: years of minutes cost a millisecond or two."""
        total, last = 0, end.astimezone(UTC)
        for stretch in takewhile(
            lambda stretch: stretch.start <= last, timezones.intervals_from(self.zone_info, start)
        ):
            new = stretch.start > start
            begin = stretch.wall_start if new else stretch.wall_start + RESOLUTION
            past = min(stretch.wall_end, stretch.to_wall_time(last) + RESOLUTION)
            total += self._fields.count_between(max(begin, self._first_wall_time(stretch)), past)
            total += new and self._runs_after_gap(stretch)
        return total

    @property
    def _fields(self) -> CronFields:
        return cron_fields.parse_fields(self.expression)

    @property
    def zone_info(self) -> ZoneInfo:
        """The zone itself, to tell the time by."""
        return ZoneInfo(self.zone)

    def _first_wall_time(self, interval: OffsetInterval) -> datetime:
        return interval.wall_reached if self._fields.has_fixed_times else interval.wall_start

    def _runs_after_gap(self, interval: OffsetInterval) -> bool:
        """Whether a time that a gap left out comes at its end, and none was to come there anyway."""
        skipped = self._fields.count_between(self._first_wall_time(interval), interval.wall_start)
        return skipped > 0 and not self._fields.count_between(interval.wall_start, interval.wall_start + RESOLUTION)
