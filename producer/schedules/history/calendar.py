"""Calendars of runs: months of days for schedules that run about daily, and days of hours for those that run often.

Days and hours are those of the schedule's zone. An hour that the clocks skip has no cell, and one that they repeat has
the runs of both. Pure.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from producer.schedules.history.calendar_runs import STATES, CalendarRuns

Place = TypeVar("Place")

ONE_DAY = timedelta(days=1)
MAX_DAILY_RUNS = 2  # with more, a day is too coarse
MONTHS, DAYS = 5, 14  # that are shown


@dataclass(frozen=True, slots=True)
class Cell:
    """A day or an hour with its runs, the oldest first.

    label: of the day or the hour, for people
    exists: False for an hour that the clocks skip
    """

    label: str
    start: datetime
    end: datetime
    runs: tuple[CalendarRuns, ...]
    is_future: bool
    exists: bool = True

    @property
    def state(self) -> str | None:
        """The worst state of the runs; None without runs."""
        return min((runs.state for runs in self.runs), key=STATES.index, default=None)

    @property
    def worst(self) -> CalendarRuns:
        """The first runs in that state."""
        return next(runs for runs in self.runs if runs.state == self.state)

    @property
    def count(self) -> int:
        """How many runs there are."""
        return sum(runs.count for runs in self.runs)

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many runs are in each state, the worst first."""
        totals: Counter[str] = Counter()
        for runs in self.runs:
            totals[runs.state] += runs.count
        return [(state, totals[state]) for state in STATES if totals[state]]

    @property
    def rows(self) -> int | None:
        """The rows of the runs; None if they were not read."""
        known = [runs.rows for runs in self.runs if runs.rows is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Grid:
    """A month or a fortnight: rows of cells under the names of columns; None where there is no day."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def first_moment(now: datetime, zone: ZoneInfo, *, by_hour: bool) -> datetime:
    """Return the time from which on a calendar shows runs."""
    today = now.astimezone(zone).date()
    return _start(today - ONE_DAY * (DAYS - 1) if by_hour else _months_back(today, MONTHS - 1), zone)


def month_grids(runs: Iterable[CalendarRuns], now: datetime, zone: ZoneInfo) -> list[Grid]:
    """Return the last five months, the oldest first, with a row for each week; none is before the first run."""
    by_day = _group(runs, zone, lambda local: local.date())
    today = now.astimezone(zone).date()
    first = min(by_day, default=today)
    months = [_months_back(today, back) for back in range(MONTHS - 1, -1, -1)]
    return [
        _month(month, by_day, now, zone) for month in months if (month.year, month.month) >= (first.year, first.month)
    ]


def hour_grid(runs: Iterable[CalendarRuns], now: datetime, zone: ZoneInfo) -> Grid:
    """Return the last fourteen days, the latest first, with a column for each hour."""
    by_hour = _group(runs, zone, lambda local: (local.date(), local.hour))
    today = now.astimezone(zone).date()
    rows = []
    for day in (today - ONE_DAY * back for back in range(DAYS)):
        cells = [_hour(day, hour, by_hour.get((day, hour), ()), now, zone) for hour in range(24)]
        rows.append((f"{day:%a %d %b}", tuple(cells)))
    return Grid("", tuple(f"{hour:02}" for hour in range(24)), tuple(rows))


def _month(month: date, by_day: dict[date, tuple[CalendarRuns, ...]], now: datetime, zone: ZoneInfo) -> Grid:
    day = month - ONE_DAY * month.weekday()
    weeks: list[tuple[str, tuple[Cell | None, ...]]] = []
    while day.replace(day=1) <= month:
        days = [day + ONE_DAY * number for number in range(7)]
        cells = [_day(each, by_day.get(each, ()), now, zone) if each.month == month.month else None for each in days]
        weeks.append((f"{day:%d %b}", tuple(cells)))
        day += ONE_DAY * 7
    return Grid(f"{month:%B %Y}", ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"), tuple(weeks))


def _day(day: date, runs: Sequence[CalendarRuns], now: datetime, zone: ZoneInfo) -> Cell:
    start, end = _start(day, zone), _start(day + ONE_DAY, zone)
    return Cell(f"{day:%a %d %B %Y}", start, end, tuple(runs), start > now)


def _hour(day: date, hour: int, runs: Sequence[CalendarRuns], now: datetime, zone: ZoneInfo) -> Cell:
    wall = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    start = wall.astimezone(UTC)
    last = wall.replace(fold=1).astimezone(UTC)  # later than `start` where the clocks repeat the hour
    exists = start.astimezone(zone).hour == hour
    label = f"{day:%a %d %b} {hour:02}:00"
    return Cell(label, start, max(start, last) + timedelta(hours=1), tuple(runs), start > now, exists)


def _group(
    runs: Iterable[CalendarRuns], zone: ZoneInfo, key: Callable[[datetime], Place]
) -> dict[Place, tuple[CalendarRuns, ...]]:
    groups: defaultdict[Place, list[CalendarRuns]] = defaultdict(list)
    for item in runs:
        groups[key(item.first_at.astimezone(zone))].append(item)
    return {name: tuple(group) for name, group in groups.items()}


def _start(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _months_back(day: date, count: int) -> date:
    month = day.year * 12 + day.month - 1 - count
    return date(month // 12, month % 12 + 1, 1)
