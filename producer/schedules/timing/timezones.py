"""Time zones, as intervals of a constant offset between clock changes."""

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from models.errors import UsageError

FIRST_YEAR, LAST_YEAR = 1970, 9990
# Since 1970 no zone has changed its clocks twice within a week, or put them back by more than a day.
SCAN_STEP = timedelta(days=1)
ONE_SECOND = timedelta(seconds=1)


class OffsetInterval(NamedTuple):
    """An interval of one offset, from `start` on and before `end`; its clocks read instant + offset.

    `wall_reached` is the latest wall time shown before `start`. It precedes the first wall time of this interval after
    a gap, and follows it where the interval repeats wall times.
    """

    start: datetime
    end: datetime
    offset: timedelta
    wall_reached: datetime

    @property
    def wall_start(self) -> datetime:
        """The wall time at `start`."""
        return self.to_wall_time(self.start)

    @property
    def wall_end(self) -> datetime:
        """The wall time at `end` without the clock change there."""
        return self.to_wall_time(self.end)

    def to_wall_time(self, instant: datetime) -> datetime:
        """Return the wall time at an instant, with this offset."""
        return _to_wall_time(instant, self.offset)

    def to_instant(self, wall: datetime) -> datetime:
        """Return the instant of a wall time, or `start` if a gap skipped it."""
        return max(wall.replace(tzinfo=UTC) - self.offset, self.start)


def check_timezone(name: str) -> str:
    """Return the name of a known zone; raises UsageError, which suggests a similar name."""
    zones = _known_zones()
    if name in zones:
        return name
    similar = _closest_zone(name, zones)
    advice = f"is {similar} meant?" if similar else "take a name such as Europe/Berlin, or UTC"
    raise UsageError(f"there is no time zone {name[:80]!r}; {advice}")


def intervals_from(zone: ZoneInfo, instant: datetime) -> Iterator[OffsetInterval]:
    """Yield the intervals from an instant on; the first one begins there."""
    start = instant.astimezone(UTC)
    for year in range(start.year, LAST_YEAR):
        for edge in _offset_edges(zone, year):
            if edge > start:
                yield _interval(zone, start, edge)
                start = edge


def intervals_back_from(zone: ZoneInfo, instant: datetime) -> Iterator[OffsetInterval]:
    """Yield the intervals from an instant back to 1970, latest first; the first one ends there."""
    end = instant.astimezone(UTC)
    for year in range(end.year, FIRST_YEAR - 1, -1):
        for edge in reversed(_offset_edges(zone, year)):
            if edge < end:
                yield _interval(zone, edge, end)
                end = edge


def _interval(zone: ZoneInfo, start: datetime, end: datetime) -> OffsetInterval:
    recent_edges = (edge for edge in _offset_edges(zone, start.year) if start - SCAN_STEP < edge <= start)
    wall_reached = max(_to_wall_time(edge, _offset(zone, edge - ONE_SECOND)) for edge in (start, *recent_edges))
    return OffsetInterval(start, end, _offset(zone, start), wall_reached)


@lru_cache(maxsize=1024)
def _offset_edges(zone: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """Return the start of a year, in UTC, and the instants of its clock changes."""
    edges = [datetime(year, 1, 1, tzinfo=UTC)]
    start, year_end = edges[0], datetime(year + 1, 1, 1, tzinfo=UTC)
    while start < year_end:
        end = min(start + SCAN_STEP, year_end)
        if _offset(zone, start) != _offset(zone, end):
            edges.append(_find_offset_change(zone, start, end))
        start = end
    return tuple(edges)


def _find_offset_change(zone: ZoneInfo, before_change: datetime, after_change: datetime) -> datetime:
    """Return the first second of the new offset, between two instants with different offsets."""
    old_offset = _offset(zone, before_change)
    while after_change - before_change > ONE_SECOND:
        middle = before_change + (after_change - before_change) // 2
        middle = middle.replace(microsecond=0)
        before_change, after_change = (
            (middle, after_change) if _offset(zone, middle) == old_offset else (before_change, middle)
        )
    return after_change


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _to_wall_time(instant: datetime, offset: timedelta) -> datetime:
    return (instant + offset).replace(tzinfo=None)


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _closest_zone(name: str, zones: frozenset[str]) -> str | None:
    """Return the zone with the most similar name or city."""
    by_word: dict[str, str] = {}
    for zone in sorted(zones, reverse=True):
        by_word[zone.lower()] = by_word[zone.rpartition("/")[2].lower()] = zone
    word = name.strip().lower().replace(" ", "_")[:80]
    matches = difflib.get_close_matches(word, by_word, n=1)
    return by_word[matches[0]] if matches else None
