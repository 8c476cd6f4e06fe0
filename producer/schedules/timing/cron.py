"""Cron expressions in a time zone, as sequences of instants."""

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
    """A cron expression of five fields, and the zone of its wall times. All instants are in UTC, distinct and in order.

    Clock changes are handled as by Debian's cron:

    - An expression with fixed times (neither minute nor hour begins with a star) matches once for each of them. A time
      that a gap skips runs at the end of the gap; a repeated time runs the first time only. Times that fall on one
      instant run once.
    - An expression with intervals (`*` or `*/15` in minute or hour) matches whenever the clocks show a matching time.
      Hourly means 25 times on a day of 25 hours, and skipped times are not made up for.

    If the day of the month or the day of the week begins with a star, both must match; otherwise either is enough.
    """

    expression: str
    zone: str = "UTC"

    @classmethod
    def parse(cls, expression: str, zone: str = "UTC") -> Self:
        """Parse what a person wrote; raises UsageError. Aliases such as `@daily` become five fields.

        Months and days of the week may be names. `L` is the last day of the month, `LW` its last weekday, `FRI#2` the
        second Friday, and `5L` the last one.
        """
        return cls(cron_fields.normalize(expression), timezones.check_timezone(zone))

    def times_after(self, start: datetime) -> Iterator[datetime]:
        """Yield the instants after `start`."""
        last = start
        for interval in timezones.intervals_from(self.zone_info, start):
            for wall in self._fields.wall_times_between(self._first_wall_time(interval), interval.wall_end):
                instant = interval.to_instant(wall)
                if instant > last:
                    yield instant
                    last = instant

    def times_before(self, end: datetime) -> Iterator[datetime]:
        """Yield the instants before `end`, latest first, back to 1970."""
        last = end
        for interval in timezones.intervals_back_from(self.zone_info, end):
            for wall in self._fields.wall_times_backwards(interval.wall_end, self._first_wall_time(interval)):
                instant = interval.to_instant(wall)
                if instant < last:
                    yield instant
                    last = instant

    def times_between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the instants after `start`, up to and including `end`."""
        return takewhile(lambda instant: instant <= end, self.times_after(start))

    def count_between(self, start: datetime, end: datetime) -> int:
        """Count the instants after `start`, up to and including `end`; years of minutes take a millisecond or two."""
        total, last = 0, end.astimezone(UTC)
        for interval in takewhile(
            lambda interval: interval.start <= last, timezones.intervals_from(self.zone_info, start)
        ):
            is_later = interval.start > start
            begin = interval.wall_start if is_later else interval.wall_start + RESOLUTION
            end_wall = min(interval.wall_end, interval.to_wall_time(last) + RESOLUTION)
            total += self._fields.count_between(max(begin, self._first_wall_time(interval)), end_wall)
            total += is_later and self._runs_after_gap(interval)
        return total

    @property
    def _fields(self) -> CronFields:
        return cron_fields.parse_fields(self.expression)

    @property
    def zone_info(self) -> ZoneInfo:
        """The zone, for conversions."""
        return ZoneInfo(self.zone)

    def _first_wall_time(self, interval: OffsetInterval) -> datetime:
        return interval.wall_reached if self._fields.has_fixed_times else interval.wall_start

    def _runs_after_gap(self, interval: OffsetInterval) -> bool:
        """Return whether a time that the gap skipped runs at its end, where no other time is due anyway."""
        skipped = self._fields.count_between(self._first_wall_time(interval), interval.wall_start)
        return skipped > 0 and not self._fields.count_between(interval.wall_start, interval.wall_start + RESOLUTION)


@dataclass(frozen=True, slots=True)
class NoTimes(Cron):
    """The timetable of a schedule that follows another; it has a zone, and no times."""

    expression: str = ""

    def times_after(self, start: datetime) -> Iterator[datetime]:
        """Yield nothing."""
        return iter(())

    def times_before(self, end: datetime) -> Iterator[datetime]:
        """Yield nothing."""
        return iter(())

    def count_between(self, start: datetime, end: datetime) -> int:
        """Return zero."""
        return 0
