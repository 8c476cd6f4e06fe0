"""Calendars of runs: where a run is, which state a cell has, and days on which clocks change."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models.states import RunState
from producer.schedules.history import calendar, calendar_runs
from producer.schedules.history.calendar import Cell, Grid
from producer.schedules.history.calendar_runs import CalendarRuns, of_mark
from producer.schedules.history.run_marks import RunMark

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def mark(time: str, state: RunState = RunState.COMPLETED, **fields: Any) -> RunMark:
    values: dict[str, Any] = {
        "started_at": None,
        "finished_at": None,
        "error_code": None,
        "rows": 10,
        "failed": 0,
        "drift": None,
        "max_drift": None,
    }
    return RunMark("nightly", datetime.fromisoformat(f"{time}Z"), state, **(values | fields))


def run(time: str, state: RunState = RunState.COMPLETED, **fields: Any) -> CalendarRuns:
    return of_mark(mark(time, state, **fields))


def cells(grid: Grid) -> list[Cell]:
    return [cell for _, row in grid.rows for cell in row if cell is not None]


def test_a_run_is_on_its_day_in_the_zone_of_the_schedule() -> None:
    [month] = calendar.month_grids([run("2026-11-23T23:30:00")], NOW, BERLIN)

    assert month.title == "November 2026"
    [cell] = [cell for cell in cells(month) if cell.runs]
    assert cell.label == "Tue 24 November 2026"
    assert (cell.start, cell.end) == (datetime(2026, 11, 23, 23, tzinfo=UTC), datetime(2026, 11, 24, 23, tzinfo=UTC))


def test_a_month_has_whole_weeks_and_only_its_days() -> None:
    [month] = calendar.month_grids([run("2026-11-23T02:00:00")], NOW, BERLIN)

    assert len(cells(month)) == 30
    assert {len(row) for _, row in month.rows} == {7}
    assert [cell is None for cell in month.rows[0][1]] == [True] * 6 + [False], "1 November is a Sunday"
    assert [cell.is_future for cell in cells(month)] == [False] * 25 + [True] * 5


def test_months_begin_with_the_first_run_and_pass_the_turn_of_the_year() -> None:
    months = calendar.month_grids([run("2025-12-30T02:00:00")], datetime(2026, 2, 3, tzinfo=UTC), BERLIN)

    assert [month.title for month in months] == ["December 2025", "January 2026", "February 2026"]
    assert len(calendar.month_grids([run("2020-01-01T02:00:00")], NOW, BERLIN)) == calendar.MONTHS


def test_a_cell_has_the_worst_state_of_its_runs() -> None:
    good, drifted = run("2026-11-24T01:00:00"), run("2026-11-24T02:00:00", drift=0.3, max_drift=0.2)
    failed = run("2026-11-24T03:00:00", RunState.FAILED)
    [month] = calendar.month_grids([good, drifted, failed], NOW, BERLIN)
    [cell] = [cell for cell in cells(month) if cell.runs]

    assert (cell.state, cell.worst) == ("failed", failed)
    assert [item.state for item in cell.runs] == ["completed", "drifted", "failed"]


def test_a_drift_counts_only_above_the_limit_of_the_schedule() -> None:
    assert calendar_runs.state_of(mark("2026-11-24T02:00:00", drift=0.3)) == "completed"
    assert calendar_runs.state_of(mark("2026-11-24T02:00:00", drift=0.2, max_drift=0.2)) == "completed"
    assert calendar_runs.state_of(mark("2026-11-24T02:00:00", drift=0.21, max_drift=0.2)) == "drifted"


def hours_of(grid: Grid, day: str) -> tuple[Cell | None, ...]:
    return dict(grid.rows)[day]


def test_an_hour_that_the_clocks_repeat_has_the_runs_of_both() -> None:
    now = datetime(2026, 10, 26, 12, tzinfo=UTC)
    marks = [run(f"2026-10-25T0{hour}:00:00") for hour in range(3)]
    hours = hours_of(calendar.hour_grid(marks, now, BERLIN), "Sun 25 Oct")

    two = hours[2]
    assert two is not None
    assert len(two.runs) == 2, "02:00 CEST and 02:00 CET"
    assert two.end - two.start == timedelta(hours=2)
    assert [len(cell.runs) for cell in hours if cell] == [0, 0, 2, 1] + [0] * 20


def test_an_hour_that_the_clocks_skip_does_not_exist() -> None:
    now = datetime(2026, 3, 30, 12, tzinfo=UTC)
    marks = [run("2026-03-29T00:00:00"), run("2026-03-29T01:00:00")]
    hours = hours_of(calendar.hour_grid(marks, now, BERLIN), "Sun 29 Mar")

    assert [cell.exists for cell in hours if cell] == [True, True, False] + [True] * 21
    assert [len(cell.runs) for cell in hours if cell][:5] == [0, 1, 0, 1, 0]


def test_hours_show_a_fortnight_with_today_first() -> None:
    grid = calendar.hour_grid([], NOW, BERLIN)

    assert [label for label, _ in grid.rows][:2] == ["Wed 25 Nov", "Tue 24 Nov"]
    assert len(grid.rows) == calendar.DAYS
    assert [cell.is_future for cell in grid.rows[0][1] if cell] == [False] * 14 + [True] * 10


def test_runs_that_were_counted_add_up_to_an_hour() -> None:
    first = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    counted = [
        CalendarRuns("completed", 14, first),
        CalendarRuns("failed", 1, first + timedelta(minutes=7)),
        CalendarRuns("completed", 15, first + timedelta(minutes=15)),
    ]
    cell = hours_of(calendar.hour_grid(counted, NOW, BERLIN), "Wed 25 Nov")[11]

    assert cell is not None
    assert (cell.count, cell.state, cell.worst.first_at, cell.rows) == (30, "failed", counted[1].first_at, None)
    assert cell.counts == [("failed", 1), ("completed", 29)]


@pytest.mark.parametrize(("by_hour", "first"), [(True, "2026-11-11T23:00"), (False, "2026-06-30T22:00")])
def test_the_calendar_begins_with_a_whole_day_or_month(by_hour: bool, first: str) -> None:
    assert calendar.first_moment(NOW, BERLIN, by_hour=by_hour) == datetime.fromisoformat(f"{first}Z")
