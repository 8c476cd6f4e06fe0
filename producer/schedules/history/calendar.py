"""Calendars of runs: months of days for schedules that run about daily, and days of hours for those that run often.

Days and hours are those of the schedule's zone. An hour that the clocks skip has no cell, and one that they repeat has
the runs of both. Pure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from models.states import RunState
from producer.schedules.history.run_marks import RunMark

Place = TypeVar("Place")

ONE_DAY = timedelta(days=1)
MAX_DAILY_RUNS = 2  # with more, a day is too coarse
MONTHS, DAYS = 5, 14  # that are shown
DRIFTED = "drifted"
# The state of a cell is the first of these that one of its runs has.
STATES = ("failed", "missed", "skipped", DRIFTED, "running", "waiting", "completed")


@dataclass(frozen=True, slots=True)
class Cell:
    """A day or an hour with its runs, the oldest first.

    label: of the day or the hour, for people
    exists: False for an hour that the clocks skip
    """

    label: str
    start: datetime
    end: datetime
    marks: tuple[RunMark, ...]
    is_future: bool
    exists: bool = True

    @property
    def state(self) -> str | None:
        """The worst state of the runs; None without runs."""
        return min(map(state_of, self.marks), key=STATES.index, default=None)

    @property
    def worst(self) -> RunMark:
        """The first run in that state."""
        return next(mark for mark in self.marks if state_of(mark) == self.state)


@dataclass(frozen=True, slots=True)
class Grid:
    """A month or a fortnight: rows of cells under the names of columns; None where there is no day."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def state_of(mark: RunMark) -> str:
    """Return the state of a run, which is `drifted` if it completed with results unlike those before."""
    return DRIFTED if mark.state is RunState.COMPLETED and mark.has_drifted else mark.state.value


def first_moment(now: datetime, zone: ZoneInfo, *, by_hour: bool) -> datetime:
    """Return the time from which on a calendar shows runs."""
    today = now.astimezone(zone).date()
    return _start(today - ONE_DAY * (DAYS - 1) if by_hour else _months_back(today, MONTHS - 1), zone)


def month_grids(marks: Iterable[RunMark], now: datetime, zone: ZoneInfo) -> list[Grid]:
    """Return the last five months, the oldest first, with a row for each week; none is before the first run."""
    by_day = _group(marks, zone, lambda local: local.date())
    today = now.astimezone(zone).date()
    first = min(by_day, default=today)
    months = [_months_back(today, back) for back in range(MONTHS - 1, -1, -1)]
    return [
        _month(month, by_day, now, zone) for month in months if (month.year, month.month) >= (first.year, first.month)
    ]


def hour_grid(marks: Sequence[RunMark], now: datetime, zone: ZoneInfo, *, is_cut: bool = False) -> Grid:
    """Return the last fourteen days, the latest first, with a column for each hour.

    is_cut: whether there are more runs before the first; then only the days are shown whose runs are all there, and
    today
    """
    by_hour = _group(marks, zone, lambda local: (local.date(), local.hour))
    today = now.astimezone(zone).date()
    days = [today - ONE_DAY * back for back in range(DAYS)]
    if is_cut:
        first = marks[0].scheduled_at.astimezone(zone).date()
        days = [day for day in days if day > first or day == today]
    rows = []
    for day in days:
        cells = [_hour(day, hour, by_hour.get((day, hour), ()), now, zone) for hour in range(24)]
        rows.append((f"{day:%a %d %b}", tuple(cells)))
    return Grid("", tuple(f"{hour:02}" for hour in range(24)), tuple(rows))


def _month(month: date, by_day: dict[date, tuple[RunMark, ...]], now: datetime, zone: ZoneInfo) -> Grid:
    day = month - ONE_DAY * month.weekday()
    weeks: list[tuple[str, tuple[Cell | None, ...]]] = []
    while day.replace(day=1) <= month:
        days = [day + ONE_DAY * number for number in range(7)]
        cells = [_day(each, by_day.get(each, ()), now, zone) if each.month == month.month else None for each in days]
        weeks.append((f"{day:%d %b}", tuple(cells)))
        day += ONE_DAY * 7
    return Grid(f"{month:%B %Y}", ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"), tuple(weeks))


def _day(day: date, marks: Sequence[RunMark], now: datetime, zone: ZoneInfo) -> Cell:
    start, end = _start(day, zone), _start(day + ONE_DAY, zone)
    return Cell(f"{day:%a %d %B %Y}", start, end, tuple(marks), start > now)


def _hour(day: date, hour: int, marks: Sequence[RunMark], now: datetime, zone: ZoneInfo) -> Cell:
    wall = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
    start = wall.astimezone(UTC)
    last = wall.replace(fold=1).astimezone(UTC)  # later than `start` where the clocks repeat the hour
    exists = start.astimezone(zone).hour == hour
    label = f"{day:%a %d %b} {hour:02}:00"
    return Cell(label, start, max(start, last) + timedelta(hours=1), tuple(marks), start > now, exists)


def _group(
    marks: Iterable[RunMark], zone: ZoneInfo, key: Callable[[datetime], Place]
) -> dict[Place, tuple[RunMark, ...]]:
    groups: defaultdict[Place, list[RunMark]] = defaultdict(list)
    for mark in marks:
        groups[key(mark.scheduled_at.astimezone(zone))].append(mark)
    return {name: tuple(group) for name, group in groups.items()}


def _start(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _months_back(day: date, count: int) -> date:
    month = day.year * 12 + day.month - 1 - count
    return date(month // 12, month % 12 + 1, 1)
