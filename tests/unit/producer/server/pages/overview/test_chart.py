"""The lines of the chart of throughput."""

from datetime import UTC, datetime

from producer.activity import throughput
from producer.activity.minutes import Span
from producer.activity.throughput import MinuteRow, Throughput
from producer.server.pages.overview.chart import MAX_LINES, chart_lines

SPAN = Span(datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC), 60)


def counted(*rows: tuple[int, str, int]) -> Throughput:
    return throughput.sum_up(SPAN, [MinuteRow(SPAN.last - age, name, jobs, 0, 0, 0.0) for age, name, jobs in rows])


def test_a_minute_that_goes_on_is_left_out() -> None:
    [line] = chart_lines(counted((2, "p", 9), (1, "p", 9), (0, "p", 4)))

    assert len(line.values) == 59
    assert line.values[-1] == 9


def test_the_first_jobs_are_seen_at_once() -> None:
    [line] = chart_lines(counted((0, "p", 4)))

    assert len(line.values) == 60
    assert line.values[-1] == 4


def test_many_pipelines_are_summed() -> None:
    lines = chart_lines(counted(*((5, f"p{number:02}", 100 - number) for number in range(MAX_LINES + 3))))

    assert len(lines) == MAX_LINES + 1
    assert lines[-1].name == "3 others"
    assert max(lines[-1].values) == sum(100 - number for number in range(MAX_LINES, MAX_LINES + 3))


def test_nothing_was_done() -> None:
    assert chart_lines(counted()) == []
