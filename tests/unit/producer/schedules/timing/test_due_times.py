"""Which times run: each is decided once, however time is cut up, and a late one as the schedule says."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.schedules.timing.cron import Cron
from producer.schedules.timing.due_times import (
    MAX_DUE,
    MAX_MISSED_LISTED,
    ON_TIME_TOLERANCE,
    CatchupPolicy,
    DueDecision,
    decide_due_times,
)

FOREVER = timedelta.max
DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
NIGHTLY = Cron.parse("0 2 * * *", "Europe/Berlin")
EVERY_MINUTE = Cron.parse("* * * * *")
CRONS = [NIGHTLY, Cron.parse("*/15 * * * *", "Australia/Lord_Howe"), Cron.parse("30 1,2 * * *", "America/New_York")]
MONDAY = datetime(2026, 11, 23, 12, tzinfo=UTC)  # the last night was at 01:00
TONIGHT = datetime(2026, 11, 24, 1, tzinfo=UTC)


def harness(*days: int) -> tuple[datetime, ...]:
    return tuple(datetime(2026, 11, day, 1, tzinfo=UTC) for day in days)


def stats(now: datetime, catchup: CatchupPolicy, window: timedelta = DAY) -> DueDecision:
    return decide_due_times(NIGHTLY, evaluated_until=MONDAY, now=now, catchup=catchup, max_age=window)


def test_before_the_scheduled_time_there_is_nothing_to_do() -> None:
    assert stats(TONIGHT - SECOND, "latest") == DueDecision((), (), 0, TONIGHT - SECOND, TONIGHT)


@pytest.mark.parametrize("catchup", get_args(CatchupPolicy))
@pytest.mark.parametrize("late", [timedelta(), SECOND, ON_TIME_TOLERANCE])
@pytest.mark.parametrize("window", [timedelta(), DAY])
def test_a_run_on_time_runs_whatever_was_said(catchup: CatchupPolicy, late: timedelta, window: timedelta) -> None:
    now = TONIGHT + late
    assert stats(now, catchup, window) == DueDecision((TONIGHT,), (), 0, now, TONIGHT + DAY)


def test_a_late_run_starts_within_the_window_or_not_at_all() -> None:
    now = TONIGHT + HOUR
    assert stats(now, "latest").due == stats(now, "all").due == (TONIGHT,)
    assert stats(now, "latest", HOUR).due == (TONIGHT,)
    for decision in (stats(now, "none"), stats(now, "latest", HOUR - SECOND), stats(now, "all", HOUR - SECOND)):
        assert decision == DueDecision((), (TONIGHT,), 1, now, TONIGHT + DAY)


def test_after_nights_away() -> None:
    friday = datetime(2026, 11, 27, 8, tzinfo=UTC)
    assert stats(friday, "latest", FOREVER)[:3] == (harness(27), harness(24, 25, 26), 3)
    assert stats(friday, "latest")[:3] == (harness(27), harness(24, 25, 26), 3)
    assert stats(friday, "latest", HOUR)[:3] == ((), harness(24, 25, 26, 27), 4)
    assert stats(friday, "all", FOREVER)[:3] == (harness(24, 25, 26, 27), (), 0)
    assert stats(friday, "all", 2 * DAY)[:3] == (harness(26, 27), harness(24, 25), 2)
    assert stats(friday, "none", FOREVER)[:3] == ((), harness(24, 25, 26, 27), 4)


def test_a_clock_that_goes_back_decides_nothing_and_forgets_nothing() -> None:
    assert stats(MONDAY - 30 * DAY, "all", FOREVER) == DueDecision((), (), 0, MONDAY, TONIGHT)
    assert stats(MONDAY, "all", FOREVER) == DueDecision((), (), 0, MONDAY, TONIGHT)


def test_of_a_clock_s_hour_that_comes_twice_one_run_starts() -> None:
    cron = Cron.parse("30 2 * * *", "Europe/Berlin")
    noon = evaluated_until = datetime(2026, 10, 24, 12, tzinfo=UTC)
    due: list[datetime] = []
    for minutes in range(0, 24 * 60, 7):
        decision = decide_due_times(
            cron, evaluated_until=evaluated_until, now=noon + minutes * MINUTE, catchup="latest", max_age=DAY
        )
        due += decision.due
        evaluated_until = decision.evaluated_until
    assert due == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]


def test_years_away_are_decided_at_once() -> None:
    evaluated_until, now = datetime(2001, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    minutes = (now - evaluated_until) // MINUTE
    decision = decide_due_times(EVERY_MINUTE, evaluated_until=evaluated_until, now=now, catchup="latest", max_age=DAY)
    assert (decision.due, decision.missed_count, decision.evaluated_until) == ((now,), minutes - 1, now)
    assert len(decision.missed) == MAX_MISSED_LISTED
    assert decision.missed[-1] == now - MINUTE
    assert decision.missed[0] == now - MAX_MISSED_LISTED * MINUTE


def test_more_than_can_be_taken_at_once_are_taken_in_turns() -> None:
    evaluated_until, now = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    ids: list[datetime] = []
    while evaluated_until < now:
        decision = decide_due_times(
            EVERY_MINUTE, evaluated_until=evaluated_until, now=now, catchup="all", max_age=FOREVER
        )
        assert 0 < len(decision.due) <= MAX_DUE
        assert decision.next_run_at == decision.evaluated_until + MINUTE
        ids += decision.due
        evaluated_until = decision.evaluated_until
    assert ids == [datetime(2026, 1, 1, tzinfo=UTC) + n * MINUTE for n in range(1, 2 * 24 * 60 + 1)]


@st.composite
def lives(draw: st.DrawFn) -> list[datetime]:
    """When somebody looks: now and then, for weeks, over clocks that are changed, and with a clock that may go back."""
    start = draw(st.sampled_from([datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)]))
    steps = st.integers(-7200, 5 * 86_400) | st.integers(0, 900) | st.integers(0, 7200)
    looks = [start]
    for step in draw(st.lists(steps, min_size=1, max_size=25)):
        looks.append(looks[-1] + timedelta(seconds=step))
    return looks


@given(
    st.sampled_from(CRONS),
    lives(),
    st.sampled_from(get_args(CatchupPolicy)),
    st.sampled_from([timedelta(), MINUTE, HOUR, 3 * DAY, FOREVER]),
)
@settings(max_examples=150, deadline=None)
def test_each_time_is_decided_once_however_time_is_cut_up(
    cron: Cron, looks: list[datetime], catchup: CatchupPolicy, window: timedelta
) -> None:
    start = evaluated_until = looks[0]
    due: list[datetime] = []
    missed: list[datetime] = []
    count = 0
    for now in [*looks, max(looks)]:
        while True:
            decision = decide_due_times(cron, evaluated_until=evaluated_until, now=now, catchup=catchup, max_age=window)
            assert decision.evaluated_until >= evaluated_until
            assert all(scheduled_at <= decision.evaluated_until for scheduled_at in (*decision.due, *decision.missed))
            assert decision.next_run_at == next(cron.times_after(decision.evaluated_until))
            assert len(decision.missed) == min(decision.missed_count, MAX_MISSED_LISTED)
            for scheduled_at in decision.due:
                assert now - scheduled_at <= max(window, ON_TIME_TOLERANCE)
            evaluated_until = decision.evaluated_until
            due += decision.due
            missed += decision.missed
            count += decision.missed_count
            if evaluated_until >= now:
                break
    scheduled_times = list(cron.times_between(start, max(looks)))
    assert len(due) + count == len(scheduled_times)
    assert len(set(due) | set(missed)) == len(due) + len(missed)
    assert set(due) | set(missed) <= set(scheduled_times)
    assert due == sorted(due)
    if catchup == "all" and window == FOREVER:
        assert due == scheduled_times
    if catchup == "none":
        assert all(any(timedelta() <= now - scheduled_at <= ON_TIME_TOLERANCE for now in looks) for scheduled_at in due)
