"""Verdicts over slices whose holders are gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.quarantine import (
    CRASH_LOOP_JOBS,
    QUARANTINE_AFTER_CRASHES,
    QUARANTINE_AFTER_LOST_LEASES,
    Recovery,
    decide_recovery,
    is_crash_loop,
    must_run_alone,
)


@pytest.mark.parametrize(
    ("size", "deaths", "lapses", "expected"),
    [
        (1024, 1, 0, Recovery.REQUEUE),
        (1024, 2, 0, Recovery.SPLIT),
        (1024, 0, 4, Recovery.REQUEUE),
        (1024, 0, 5, Recovery.SPLIT),
        (1, 2, 0, Recovery.REQUEUE),
        (1, 3, 0, Recovery.DEAD_LETTER),
        (1, 0, 7, Recovery.REQUEUE),
        (1, 0, 8, Recovery.DEAD_LETTER),
    ],
)
def test_with_three_attempts(size: int, deaths: int, lapses: int, expected: Recovery) -> None:
    assert decide_recovery(size, deaths, lapses, 3) is expected


@given(st.integers(1, 5), st.integers(0, 20), st.integers(0, 40), st.integers(3, 10))
def test_only_a_single_suspect_is_ever_buried(size: int, deaths: int, lapses: int, most: int) -> None:
    if decide_recovery(size, deaths, lapses, most) is Recovery.DEAD_LETTER:
        assert size == 1
        assert must_run_alone(deaths, lapses)


@given(st.integers(3, 10))
def test_a_killer_is_closed_after_at_most_max_attempts_deaths(most: int) -> None:
    size, deaths = 1024, 0
    while (found := decide_recovery(size, deaths, 0, most)) is not Recovery.DEAD_LETTER:
        size = 1 if found is Recovery.SPLIT else size
        deaths += 1
    assert deaths == max(most, QUARANTINE_AFTER_CRASHES + 1)
    assert QUARANTINE_AFTER_LOST_LEASES > QUARANTINE_AFTER_CRASHES


def test_a_batch_is_hopeless_when_many_inputs_ended_their_workers_and_none_was_answered() -> None:
    assert is_crash_loop(CRASH_LOOP_JOBS, 0)
    assert not is_crash_loop(CRASH_LOOP_JOBS - 1, 0)
    assert not is_crash_loop(1_000_000, 1)
