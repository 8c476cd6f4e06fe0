"""Zones: in which stretches of time a zone's clocks run evenly, and where they are put forward or back in between."""

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
    """A time with one offset: the instants from `start` on and before `end`; its clocks read instant + offset.

    `passed` is what the clocks had come to by `start`: before the stretch's first reading where a gap ends there, and
    after it where the stretch repeats readings.
    """

    start: datetime
    end: datetime
    offset: timedelta
    wall_reached: datetime

    @property
    def wall_start(self) -> datetime:
        """What the clocks read at `start`."""
        return self.to_wall_time(self.start)

    @property
    def wall_end(self) -> datetime:
        """What they would read at `end`, were they not changed there."""
        return self.to_wall_time(self.end)

    def to_wall_time(self, moment: datetime) -> datetime:
        """What clocks of this offset read at an instant."""
        return _to_wall_time(moment, self.offset)

    def to_instant(self, wall: datetime) -> datetime:
        """When the clocks read this; `start`, when that is where they left it out."""
        return max(wall.replace(tzinfo=UTC) - self.offset, self.start)


def check_timezone(name: str) -> str:
    """The name of a zone; raises UsageError where there is none of it, with one that may be meant."""
    known = _known_zones()
    if name in known:
        return name
    near = _closest_zone(name, known)
    said = f"is {near} meant?" if near else "take a name such as Europe/Berlin, or UTC"
    raise UsageError(f"there is no time zone {name[:80]!r}; {said}")


def intervals_from(zone: ZoneInfo, moment: datetime) -> Iterator[OffsetInterval]:
    """From an instant on; the first one begins there."""
    start = moment.astimezone(UTC)
    for year in range(start.year, LAST_YEAR):
        for edge in _offset_edges(zone, year):
            if edge > start:
                yield _interval(zone, start, edge)
                start = edge


def intervals_back_from(zone: ZoneInfo, moment: datetime) -> Iterator[OffsetInterval]:
    """Back from an instant to 1970, the last first; the first one given ends there."""
    end = moment.astimezone(UTC)
    for year in range(end.year, FIRST_YEAR - 1, -1):
        for edge in reversed(_offset_edges(zone, year)):
            if edge < end:
                yield _interval(zone, edge, end)
                end = edge


def _interval(zone: ZoneInfo, start: datetime, end: datetime) -> OffsetInterval:
    lately = (edge for edge in _offset_edges(zone, start.year) if start - SCAN_STEP < edge <= start)
    passed = max(_to_wall_time(edge, _offset(zone, edge - ONE_SECOND)) for edge in (start, *lately))
    return OffsetInterval(start, end, _offset(zone, start), passed)


@lru_cache(maxsize=1024)
def _offset_edges(zone: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """The beginning of a year, by UTC, and the instants in it at which the clocks are changed."""
    edges = [datetime(year, 1, 1, tzinfo=UTC)]
    start, past = edges[0], datetime(year + 1, 1, 1, tzinfo=UTC)
    while start < past:
        end = min(start + SCAN_STEP, past)
        if _offset(zone, start) != _offset(zone, end):
            edges.append(_find_offset_change(zone, start, end))
        start = end
    return tuple(edges)


def _find_offset_change(zone: ZoneInfo, before_change: datetime, after_change: datetime) -> datetime:
    """The first second of the new offset, between two instants with different ones."""
    old = _offset(zone, before_change)
    while after_change - before_change > ONE_SECOND:
        middle = before_change + (after_change - before_change) // 2
        middle = middle.replace(microsecond=0)
        before_change, after_change = (
            (middle, after_change) if _offset(zone, middle) == old else (before_change, middle)
        )
    return after_change


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _to_wall_time(moment: datetime, offset: timedelta) -> datetime:
    return (moment + offset).replace(tzinfo=None)


@cache
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _closest_zone(name: str, zones: frozenset[str]) -> str | None:
    """The zone whose name, or whose city, is spelled most like it."""
    by_word: dict[str, str] = {}
    for zone in sorted(zones, reverse=True):
        by_word[zone.lower()] = by_word[zone.rpartition("/")[2].lower()] = zone
    said = name.strip().lower().replace(" ", "_")[:80]
    found = difflib.get_close_matches(said, by_word, n=1)
    return by_word[found[0]] if found else None
