"""The device lock goes to the thread that has waited longest, and is free after an error."""

import threading
import time

import pytest

from worker.passes.device_lock import DeviceLock

WAIT_SECONDS = 180


@pytest.fixture
def lock() -> DeviceLock:
    return DeviceLock()


def wait_for_waiters(lock: DeviceLock, count: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(lock._waiting) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_threads_take_their_turns_in_the_order_in_which_they_came(lock: DeviceLock) -> None:
    turns: list[int] = []

    def take_turn(number: int) -> None:
        with lock:
            turns.append(number)

    threads = [threading.Thread(target=take_turn, args=(number,)) for number in range(5)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            wait_for_waiters(lock, number + 1)
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert turns == [0, 1, 2, 3, 4]


def test_a_thread_with_pass_after_pass_lets_a_waiting_one_in_between(lock: DeviceLock) -> None:
    turns: list[str] = []

    def take_turn() -> None:
        with lock:
            turns.append("other")

    other = threading.Thread(target=take_turn)
    with lock:
        other.start()
        wait_for_waiters(lock, 1)
        turns.append("first")
    with lock:  # asked for at once, and yet behind the other
        turns.append("second")
    other.join(WAIT_SECONDS)

    assert turns == ["first", "other", "second"]


def test_no_two_threads_hold_it(lock: DeviceLock) -> None:
    held, seen = 0, 0

    def work() -> None:
        nonlocal held, seen
        for _ in range(200):
            with lock:
                held += 1
                seen = max(seen, held)
                time.sleep(0)
                held -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)

    assert (held, seen) == (0, 1)


def test_an_error_frees_it(lock: DeviceLock) -> None:
    with pytest.raises(ValueError, match="no pass"), lock:
        raise ValueError("no pass")

    with lock:
        assert not lock._waiting
