"""Usage as stacked bars, and the sums behind it."""

from datetime import date

import pytest

from producer.server.pages.operations import usage_chart
from producer.tenants import usage_summary
from producer.tenants.usage import Days, UsageRow
from producer.tenants.usage_summary import Measure

WEEK = Days(date(2026, 11, 20), date(2026, 11, 26))


def row(day: str, pipeline: str, succeeded: int, *, failed: int = 0, seconds: float = 0.0) -> UsageRow:
    return UsageRow(day, "default", pipeline, succeeded, failed, succeeded * 10, succeeded * 12, seconds)


def draw(rows: list[UsageRow], measure: Measure = Measure.ROWS, days: Days = WEEK) -> usage_chart.Chart:
    groups = usage_summary.group_by(rows, lambda item: item.pipeline, measure)
    return usage_chart.draw(usage_summary.list_periods(rows, days, lambda item: item.pipeline), groups, measure)


def test_each_day_has_a_bar_also_without_usage() -> None:
    chart = draw([row("2026-11-21", "a", 60, failed=40), row("2026-11-23", "b", 25)])

    assert [bar.label for bar in chart.bars] == [f"2026-11-{day}" for day in range(20, 27)]
    assert [bar.amount for bar in chart.bars] == [0, 100, 0, 25, 0, 0, 0]
    assert [segment.height for segment in chart.bars[1].segments] == [usage_chart.HEIGHT]
    assert [segment.height for segment in chart.bars[3].segments] == [usage_chart.HEIGHT / 4]
    assert chart.bars[3].segments[0].number == 2, "the colour is that of the pipeline"


def test_a_report_of_all_times_has_the_months_with_usage() -> None:
    ever = Days(date.min, date.max)
    rows = [row("2026-09", "a", 1), row("2026-11", "a", 1)]

    assert [bar.label for bar in draw(rows, days=ever).bars] == ["2026-09", "2026-10", "2026-11"]
    assert [bar.label for bar in draw([], days=ever).bars] == ["9999-12"]
    assert [bar.label for bar in draw([], days=Days(date(9999, 12, 30), date.max)).bars] == ["9999-12-30", "9999-12-31"]


def test_segments_stand_on_each_other() -> None:
    [bar] = [bar for bar in draw([row("2026-11-21", "a", 75), row("2026-11-21", "b", 25)]).bars if bar.segments]

    first, second = bar.segments
    assert first.y + first.height == usage_chart.HEIGHT
    assert second.y + second.height == first.y
    assert (first.height, second.y) == (usage_chart.HEIGHT * 0.75, 0.0)


def test_small_groups_are_one() -> None:
    chart = draw([row("2026-11-21", f"pipeline {number}", 100 - number) for number in range(8)])

    assert chart.names == (*(f"pipeline {number}" for number in range(5)), usage_chart.OTHERS)
    [bar] = [bar for bar in chart.bars if bar.segments]
    assert len(bar.segments) == 6
    assert bar.amount == sum(100 - number for number in range(8))


def test_exactly_five_groups_have_no_others() -> None:
    chart = draw([row("2026-11-21", f"pipeline {number}", 1) for number in range(5)])

    assert usage_chart.OTHERS not in chart.names


@pytest.mark.parametrize(("measure", "amount"), [(Measure.TOKENS, 30), (Measure.HOURS, 2.0), (Measure.ROWS, 4)])
def test_what_is_added_up_is_chosen(measure: Measure, amount: float) -> None:
    chart = draw([row("2026-11-21", "a", 3, failed=1, seconds=7200)], measure)

    assert max(bar.amount for bar in chart.bars) == amount == chart.highest


def test_a_long_time_has_a_bar_for_each_month() -> None:
    days = Days(date(2025, 12, 15), date(2026, 11, 25))

    chart = draw([row("2025-12-31", "a", 1), row("2026-11-01", "a", 2), row("2026-11-25", "a", 3)], days=days)

    assert [bar.label for bar in chart.bars][:2] == ["2025-12", "2026-01"]
    assert [bar.amount for bar in chart.bars] == [1, *[0] * 10, 5]


def test_without_usage_there_is_nothing_to_draw() -> None:
    chart = draw([])

    assert chart.names == ()
    assert all(bar.segments == () for bar in chart.bars)
