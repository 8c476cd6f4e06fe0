"""Quarantine: the treatment of slices that lost their holders."""

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
    ("size", "crashes", "lost_leases", "expected"),
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
def test_with_three_attempts(size: int, crashes: int, lost_leases: int, expected: Recovery) -> None:
    assert decide_recovery(size, crashes, lost_leases, 3) is expected


@given(st.integers(1, 5), st.integers(0, 20), st.integers(0, 40), st.integers(3, 10))
def test_only_a_single_quarantined_job_is_dead_lettered(size: int, crashes: int, lost_leases: int, limit: int) -> None:
    if decide_recovery(size, crashes, lost_leases, limit) is Recovery.DEAD_LETTER:
        assert size == 1
        assert must_run_alone(crashes, lost_leases)


@given(st.integers(3, 10))
def test_a_crashing_job_is_dead_lettered_after_max_attempts(limit: int) -> None:
    size, crashes = 1024, 0
    while (recovery := decide_recovery(size, crashes, 0, limit)) is not Recovery.DEAD_LETTER:
        size = 1 if recovery is Recovery.SPLIT else size
        crashes += 1
    assert crashes == max(limit, QUARANTINE_AFTER_CRASHES + 1)
    assert QUARANTINE_AFTER_LOST_LEASES > QUARANTINE_AFTER_CRASHES


def test_a_batch_is_a_crash_loop_when_many_inputs_crashed_workers_and_none_was_answered() -> None:
    assert is_crash_loop(CRASH_LOOP_JOBS, 0)
    assert not is_crash_loop(CRASH_LOOP_JOBS - 1, 0)
    assert not is_crash_loop(1_000_000, 1)
