"""The pace over time from marks, with bursts, gaps, jobs that nobody computed, and clocks that step back."""

from datetime import UTC, datetime, timedelta

import pytest

from producer.results.summaries.marks import Mark, Marks, seq_at, spread
from producer.results.summaries.pace_curve import MAX_INTERVALS, estimate_rest, pace_curve

BEGAN = datetime(2026, 3, 1, tzinfo=UTC)


def mark(seq: int, seconds: float, *, is_worked: bool = True) -> Mark:
    return Mark(seq, BEGAN + timedelta(seconds=seconds), is_worked)


def test_an_even_pace_is_even() -> None:
    later = (mark(100 * number, 10 * number) for number in range(2, 61))

    curve = pace_curve(Marks(BEGAN, (mark(1, 10), *later)))

    assert len(curve.times) == MAX_INTERVALS
    assert curve.jobs_per_second == pytest.approx([10.0] * MAX_INTERVALS)
    assert curve.times[-1] == BEGAN + timedelta(seconds=600)


def test_slices_that_land_together_are_no_peak() -> None:
    bursts = [mark(place, 10 * (1 + place // 100) + 0.001 * (place % 2)) for place in range(1, 1000, 50)]

    curve = pace_curve(Marks(BEGAN, tuple(bursts)))

    assert max(curve.jobs_per_second) < 25


def test_a_batch_of_a_few_seconds_has_no_course() -> None:
    """Its results land slice by slice, which would be drawn as peaks of tens of milliseconds."""
    short = Marks(BEGAN, tuple(mark(100 * number, 0.1 * number) for number in range(1, 30)))
    longer = Marks(BEGAN, tuple(mark(100 * number, 0.5 * number) for number in range(1, 30)))

    assert len(pace_curve(short).times) == 2
    assert not pace_curve(short).is_drawable
    assert len(pace_curve(longer).times) == 14
    assert pace_curve(longer).is_drawable


def test_no_job_is_counted_twice_or_lost() -> None:
    marks = (mark(7, 3), mark(7, 3), mark(30, 4), mark(31, 4), mark(90, 9), mark(400, 60))

    curve = pace_curve(Marks(BEGAN, marks))
    step = (curve.times[1] - curve.times[0]).total_seconds()

    assert sum(curve.jobs_per_second) * step == pytest.approx(400 - 6)


def test_jobs_that_nobody_computed_do_not_count() -> None:
    reused = [mark(seq, 0, is_worked=False) for seq in (1, 500, 1000)]
    worked = [mark(1000 + 10 * number, 10.0 * number) for number in range(1, 11)]
    cancelled = [mark(5000, 100.5, is_worked=False)]

    curve = pace_curve(Marks(BEGAN, (*reused, *worked, *cancelled)))

    assert curve.jobs_per_second == pytest.approx([1.0] * len(curve.times))


def test_a_batch_that_waits_has_no_pace_at_the_end() -> None:
    marks = Marks(BEGAN, tuple(mark(10 * number, number) for number in range(1, 11)))

    curve = pace_curve(marks, BEGAN + timedelta(seconds=100))

    assert curve.times[-1] == BEGAN + timedelta(seconds=100)
    assert curve.jobs_per_second[0] > 5
    assert curve.jobs_per_second[-1] == 0


def test_a_retry_weeks_later_leaves_the_pace_of_the_work() -> None:
    weeks = 19 * 86_400
    work = [mark(1, 1), *(mark(170 * number, 10 * number) for number in range(1, 61))]
    retry = [mark(10_200 + 100 * number, weeks + 6 * number) for number in range(1, 11)]

    curve = pace_curve(Marks(BEGAN, (*work, *retry)))

    assert curve.jobs_per_second == pytest.approx([17.0] * MAX_INTERVALS)
    assert (curve.began, curve.times[-1]) == (BEGAN, BEGAN + timedelta(seconds=600))
    assert [(pause.began, pause.ended) for pause in curve.pauses] == [(work[-1].finished_at, retry[0].finished_at)]


def test_several_pauses_are_left_out_and_the_longest_stretch_stays() -> None:
    day = 86_400
    first = [mark(number, number) for number in range(1, 11)]
    second = [mark(10 + 10 * number, day + number) for number in range(1, 31)]

    curve = pace_curve(Marks(BEGAN, (*first, *second)), BEGAN + timedelta(days=30))

    assert curve.jobs_per_second == pytest.approx([10.0] * 29)
    assert [round(pause.seconds / day) for pause in curve.pauses] == [1, 29]


def test_slices_that_take_minutes_are_no_pauses() -> None:
    bursts = [mark(place, 2000 * (1 + place // 100) + 0.001 * (place % 2)) for place in range(1, 300, 20)]

    curve = pace_curve(Marks(BEGAN, tuple(bursts)))

    assert curve.pauses == ()
    assert (curve.began, curve.times[-1]) == (BEGAN, bursts[-1].finished_at)


@pytest.mark.parametrize("marks", [(), (mark(1, 0),), (mark(1, 5, is_worked=False), mark(2, 6, is_worked=False))])
def test_too_few_results_have_no_curve(marks: tuple[Mark, ...]) -> None:
    curve = pace_curve(Marks(None, marks))

    assert not curve.is_drawable
    assert curve.times == ()


def test_a_single_burst_is_one_interval() -> None:
    curve = pace_curve(Marks(BEGAN, (mark(1, 4), mark(20, 4))))

    assert curve.jobs_per_second == pytest.approx((5.0,))
    assert not curve.is_drawable


def test_a_clock_that_steps_back_draws_no_negative_pace() -> None:
    marks = (mark(10, 10), mark(20, 5), mark(30, 20), mark(40, 30))

    curve = pace_curve(Marks(BEGAN, marks))

    assert min(curve.jobs_per_second) >= 0


def test_the_rest_is_estimated_from_recent_marks() -> None:
    recent = tuple(mark(100 * number, 5 * number) for number in range(24))

    eta = estimate_rest(Marks(BEGAN, recent, recent), 1000)

    assert eta is not None
    assert eta.jobs_per_second == pytest.approx(20.0)
    assert eta.seconds == pytest.approx(50.0)
    assert estimate_rest(Marks(BEGAN, recent, recent[:3]), 1000) is None


def test_numbers_are_spread_with_both_ends() -> None:
    assert spread(5, 7, 60) == [5, 6, 7]
    assert spread(1, 1000, 4) == [1, 334, 667, 1000]
    assert len(spread(1, 10**9, 60)) == 60


def test_the_number_of_results_at_a_time() -> None:
    marks = (mark(1, 0), mark(101, 100), mark(101, 100), mark(201, 110))

    assert seq_at(marks, BEGAN - timedelta(seconds=5)) == 1
    assert seq_at(marks, BEGAN + timedelta(seconds=50)) == 51
    assert seq_at(marks, BEGAN + timedelta(seconds=105)) == 151
    assert seq_at(marks, BEGAN + timedelta(seconds=500)) == 201
