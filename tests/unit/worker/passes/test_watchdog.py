"""The watchdog reports a call that hangs, and nothing else."""

import threading
import time

from worker.passes.watchdog import Watchdog


def test_a_call_within_its_limit_is_fine() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    with watchdog.watch():
        assert not watchdog.run_once(time.monotonic() + 900)


def test_a_call_beyond_its_limit_hangs() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    with watchdog.watch():
        assert watchdog.run_once(time.monotonic() + 1_100)


def test_the_rest_of_a_call_has_the_rest_of_the_time() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    with watchdog.watch(elapsed_seconds=800.0):
        assert not watchdog.run_once(time.monotonic() + 100)
        assert watchdog.run_once(time.monotonic() + 300)


def test_nothing_hangs_between_calls() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    with watchdog.watch():
        pass
    assert not watchdog.run_once(time.monotonic() + 100_000)


def test_progress_restarts_the_time() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    with watchdog.watch():
        watchdog._call_started_at[threading.get_ident()] -= 1_100.0
        assert watchdog.run_once(time.monotonic())
        watchdog.reset_timer()
        assert not watchdog.run_once(time.monotonic())


def test_the_thread_reports_a_hang() -> None:
    reported = threading.Event()
    watchdog = Watchdog(0.02, reported.set)
    watchdog.start()
    with watchdog.watch():
        assert reported.wait(60)
    watchdog.stop()


def test_each_thread_has_its_own_time() -> None:
    watchdog = Watchdog(1_000.0, lambda: None)
    inside, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with watchdog.watch():
            inside.set()
            assert leave.wait(60)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(60)
    with watchdog.watch():
        pass

    assert watchdog.run_once(time.monotonic() + 1_100)
    leave.set()
    thread.join()
    assert not watchdog.run_once(time.monotonic() + 1_100)
