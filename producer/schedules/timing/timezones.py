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
STEP = timedelta(days=1)
SECOND = timedelta(seconds=1)


class Stretch(NamedTuple):
    """A time with one offset: the instants from `start` on and before `end`; its clocks read instant + offset.

    `passed` is what the clocks had come to by `start`: before the stretch's first reading where a gap ends there, and
    after it where the stretch repeats readings.
    """

    start: datetime
    end: datetime
    offset: timedelta
    passed: datetime

    @property
    def first(self) -> datetime:
        """What the clocks read at `start`."""
        return self.read(self.start)

    @property
    def past(self) -> datetime:
        """What they would read at `end`, were they not changed there."""
        return self.read(self.end)

    def read(self, instant: datetime) -> datetime:
        """What clocks of this offset read at an instant."""
        return _read(instant, self.offset)

    def instant(self, wall: datetime) -> datetime:
        """When the clocks read this; `start`, when that is where they left it out."""
        return max(wall.replace(tzinfo=UTC) - self.offset, self.start)


def checked(name: str) -> str:
    """The name of a zone; raises UsageError where there is none of it, with one that may be meant."""
    known = _known()
    if name in known:
        return name
    near = _near(name, known)
    said = f"is {near} meant?" if near else "take a name such as Europe/Berlin, or UTC"
    raise UsageError(f"there is no time zone {name[:80]!r}; {said}")


def stretches(zone: ZoneInfo, moment: datetime) -> Iterator[Stretch]:
    """From an instant on; the first one begins there."""
    start = moment.astimezone(UTC)
    for year in range(start.year, LAST_YEAR):
        for edge in _edges(zone, year):
            if edge > start:
                yield _stretch(zone, start, edge)
                start = edge


def stretches_back(zone: ZoneInfo, moment: datetime) -> Iterator[Stretch]:
    """Back from an instant to 1970, the last first; the first one given ends there."""
    end = moment.astimezone(UTC)
    for year in range(end.year, FIRST_YEAR - 1, -1):
        for edge in reversed(_edges(zone, year)):
            if edge < end:
                yield _stretch(zone, edge, end)
                end = edge


def _stretch(zone: ZoneInfo, start: datetime, end: datetime) -> Stretch:
    lately = (edge for edge in _edges(zone, start.year) if start - STEP < edge <= start)
    passed = max(_read(edge, _offset(zone, edge - SECOND)) for edge in (start, *lately))
    return Stretch(start, end, _offset(zone, start), passed)


@lru_cache(maxsize=1024)
def _edges(zone: ZoneInfo, year: int) -> tuple[datetime, ...]:
    """The beginning of a year, by UTC, and the instants in it at which the clocks are changed."""
    edges = [datetime(year, 1, 1, tzinfo=UTC)]
    start, past = edges[0], datetime(year + 1, 1, 1, tzinfo=UTC)
    while start < past:
        end = min(start + STEP, past)
        if _offset(zone, start) != _offset(zone, end):
            edges.append(_change(zone, start, end))
        start = end
    return tuple(edges)


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second of the new offset, between two instants with different ones."""
    old = _offset(zone, before)
    while after - before > SECOND:
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        before, after = (middle, after) if _offset(zone, middle) == old else (before, middle)
    return after


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _read(instant: datetime, offset: timedelta) -> datetime:
    return (instant + offset).replace(tzinfo=None)


@cache
def _known() -> frozenset[str]:
    return frozenset(available_timezones())


def _near(name: str, known: frozenset[str]) -> str | None:
    """The zone whose name, or whose city, is spelled most like it."""
    by_word: dict[str, str] = {}
    for zone in sorted(known, reverse=True):
        by_word[zone.lower()] = by_word[zone.rpartition("/")[2].lower()] = zone
    said = name.strip().lower().replace(" ", "_")[:80]
    found = difflib.get_close_matches(said, by_word, n=1)
    return by_word[found[0]] if found else None
