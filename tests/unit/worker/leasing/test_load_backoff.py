"""Load backoff: tried again for ever, ever less often, and at a bounded share of the process' time."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.load_backoff import MAX_SECONDS, PAUSE_TO_LOAD_RATIO, LoadBackoff


def backoff() -> LoadBackoff:
    return LoadBackoff(Random(0))


def test_a_target_is_due_until_it_fails_and_again_after_the_pause() -> None:
    ours = backoff()
    assert ours.is_due("a", 0.0)

    tries, pause, _ = ours.record_failure("a", "no device", 100.0, 0.1)

    assert (tries, ours.is_due("a", 100.0 + pause - 0.01), ours.is_due("a", 100.0 + pause)) == (1, False, True)
    assert ours.is_due("b", 100.0)


@given(st.integers(1, 2000))
def test_pauses_grow_to_half_a_minute_and_no_further(tries: int) -> None:
    ours = backoff()
    pauses = [ours.record_failure("a", "no device", 0.0, 0.0)[1] for _ in range(tries)]

    assert all(
        LoadBackoff.max_pause_seconds(number) / 2 <= pause <= MAX_SECONDS for number, pause in enumerate(pauses, 1)
    )


def test_a_load_that_takes_long_is_tried_less_often() -> None:
    assert backoff().record_failure("a", "no memory", 0.0, 30.0)[1] == PAUSE_TO_LOAD_RATIO * 30.0


def test_a_message_is_new_once() -> None:
    ours = backoff()

    assert [ours.record_failure("a", message, 0.0, 0.0)[2] for message in ("x", "x", "y", "y")] == [
        True,
        False,
        True,
        False,
    ]


def test_a_success_forgets_what_failed() -> None:
    ours = backoff()
    ours.record_failure("a", "no device", 0.0, 0.0)

    ours.record_success("a")

    assert ours.is_due("a", 0.0)
    assert ours.record_failure("a", "no device", 0.0, 0.0)[0] == 1


def test_goes_on_from_a_process_before() -> None:
    ours = backoff()

    ours.restore("a", 4, 10.0)

    assert (ours.is_due("a", 9.0), ours.is_due("a", 10.0), ours.record_failure("a", "x", 10.0, 0.0)[0]) == (
        False,
        True,
        5,
    )
