"""The watchdog barks when a call does not come back, and at nothing else."""

import threading
import time

from worker.engine.watchdog import Watchdog


def test_a_call_within_its_time_is_left_alone() -> None:
    watchdog = Watchdog(10.0, lambda: None)
    with watchdog.watch():
        assert not watchdog.run_once(time.monotonic() + 9)


def test_a_call_that_takes_too_long_is_told() -> None:
    watchdog = Watchdog(10.0, lambda: None)
    with watchdog.watch():
        assert watchdog.run_once(time.monotonic() + 11)


def test_between_calls_there_is_nothing_to_watch() -> None:
    watchdog = Watchdog(10.0, lambda: None)
    with watchdog.watch():
        pass
    assert not watchdog.run_once(time.monotonic() + 1_000)


def test_what_comes_forward_has_its_time_again() -> None:
    watchdog = Watchdog(0.2, lambda: None)
    with watchdog.watch():
        watchdog._call_started_at[threading.get_ident()] -= 0.3
        assert watchdog.run_once(time.monotonic())
        watchdog.reset_timer()
        assert not watchdog.run_once(time.monotonic())


def test_the_thread_barks_once() -> None:
    barked = threading.Event()
    watchdog = Watchdog(0.02, barked.set)
    watchdog.start()
    with watchdog.watch():
        assert barked.wait(10)
    watchdog.stop()


def test_each_thread_is_watched_for_itself() -> None:
    watchdog = Watchdog(10.0, lambda: None)
    inside, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with watchdog.watch():
            inside.set()
            assert leave.wait(10)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(10)
    with watchdog.watch():
        pass

    assert watchdog.run_once(time.monotonic() + 11)
    leave.set()
    thread.join()
    assert not watchdog.run_once(time.monotonic() + 11)
