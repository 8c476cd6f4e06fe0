"""Load backoff: attempts never end, become rarer, and take a bounded share of the process' time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.load_problems.load_backoff import MAX_SECONDS, PAUSE_TO_LOAD_RATIO, LoadBackoff


def backoff() -> LoadBackoff:
    return LoadBackoff(Random(0))


def test_a_target_is_due_until_it_fails_and_again_after_the_pause() -> None:
    retries = backoff()
    assert retries.is_due("a", 0.0)

    attempts, pause, _ = retries.record_failure("a", "no device", 100.0, 0.1)

    assert (attempts, retries.is_due("a", 100.0 + pause - 0.01), retries.is_due("a", 100.0 + pause)) == (1, False, True)
    assert retries.is_due("b", 100.0)


@given(st.integers(1, 2000))
def test_pauses_grow_to_half_a_minute_and_no_further(attempts: int) -> None:
    retries = backoff()
    pauses = [retries.record_failure("a", "no device", 0.0, 0.0)[1] for _ in range(attempts)]

    assert all(
        LoadBackoff.max_pause_seconds(number) / 2 <= pause <= MAX_SECONDS for number, pause in enumerate(pauses, 1)
    )


def test_a_slow_load_is_tried_less_often() -> None:
    assert backoff().record_failure("a", "no memory", 0.0, 30.0)[1] == PAUSE_TO_LOAD_RATIO * 30.0


def test_a_message_is_new_once() -> None:
    retries = backoff()

    assert [retries.record_failure("a", message, 0.0, 0.0)[2] for message in ("x", "x", "y", "y")] == [
        True,
        False,
        True,
        False,
    ]


def test_a_success_clears_earlier_failures() -> None:
    retries = backoff()
    retries.record_failure("a", "no device", 0.0, 0.0)

    retries.record_success("a")

    assert retries.is_due("a", 0.0)
    assert retries.record_failure("a", "no device", 0.0, 0.0)[0] == 1


def test_continues_from_a_previous_process() -> None:
    retries = backoff()

    retries.restore("a", 4, 10.0)

    assert (retries.is_due("a", 9.0), retries.is_due("a", 10.0), retries.record_failure("a", "x", 10.0, 0.0)[0]) == (
        False,
        True,
        5,
    )
