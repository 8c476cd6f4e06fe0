"""Sums of the minutes of activity."""

from datetime import UTC, datetime, timedelta

import pytest

from producer.activity import throughput
from producer.activity.minutes import Span
from producer.activity.throughput import MinuteRow

NOW = datetime(2026, 11, 30, 12, 0, 30, tzinfo=UTC)
SPAN = Span(NOW, 60)


def row(age: int, pipeline: str = "p", succeeded: int = 60, failed: int = 0) -> MinuteRow:
    return MinuteRow(SPAN.last - age, pipeline, succeeded, failed, 10 * succeeded, succeeded / 100)


def test_the_span_ends_with_the_current_minute() -> None:
    assert SPAN.starts[-1] == NOW.replace(second=0)
    assert SPAN.starts[0] == NOW.replace(second=0) - timedelta(minutes=59)
    assert SPAN.elapsed_seconds == 30.0


def test_minutes_without_work_are_zeros() -> None:
    [pipeline] = throughput.sum_up(SPAN, [row(59), row(2, failed=6)]).pipelines

    assert len(pipeline.per_minute) == 60
    assert (pipeline.per_minute[0], pipeline.per_minute[-3], sum(pipeline.per_minute)) == (60, 66, 126)
    assert (pipeline.succeeded, pipeline.failed, pipeline.jobs) == (120, 6, 126)


def test_the_pace_is_over_the_minutes_in_which_it_worked() -> None:
    [pipeline] = throughput.sum_up(SPAN, [row(50), row(0, succeeded=30)]).pipelines

    assert pipeline.busy_seconds == 90
    assert pipeline.jobs_per_second == 1.0
    assert pipeline.tokens_per_second == 10.0
    assert pipeline.jobs_per_device_second == pytest.approx(100.0)


def test_the_pace_now_is_over_this_minute_and_the_one_before() -> None:
    counted = throughput.sum_up(SPAN, [row(1), row(0, succeeded=30), row(2, succeeded=9999)])

    assert counted.jobs_per_second == 1.0


def test_the_pipeline_with_the_most_jobs_is_first() -> None:
    counted = throughput.sum_up(SPAN, [row(1, "a", 5), row(1, "b", 9), row(1, "c", 5)])

    assert [pipeline.pipeline for pipeline in counted.pipelines] == ["b", "a", "c"]


def test_nothing_was_done() -> None:
    counted = throughput.sum_up(SPAN, [])

    assert (counted.pipelines, counted.jobs, counted.jobs_per_second) == ((), 0, 0.0)
    [idle] = throughput.sum_up(SPAN, [MinuteRow(SPAN.last, "p", 0, 0, 0, 0.0)]).pipelines
    assert idle.jobs_per_device_second is None
