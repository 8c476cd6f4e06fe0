"""The wakeup signal: its caller waits until the engine acknowledges."""

import threading
from collections.abc import Iterator

import pytest

from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.engine.wakeup import WakeupSignal


class Notifier:
    """A Celery thread that received one wakeup."""

    def __init__(self, signal: WakeupSignal) -> None:
        self._thread = threading.Thread(target=signal.notify_and_wait)
        self._thread.start()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(WAIT_TIMEOUT_SECONDS)
        assert not self.waits


def sleepers(signal: WakeupSignal) -> int:
    """The number of threads that wait for the signal."""
    return len(signal._condition._waiters)  # there is no public way, and a test that guesses would sleep


@pytest.fixture
def signal() -> Iterator[WakeupSignal]:
    signal = WakeupSignal()
    yield signal
    signal.close()  # releases the threads of a failed test


class TestWakeupSignal:
    def test_wakes_the_engine_and_blocks_the_notifier_until_it_acknowledges(self, signal: WakeupSignal) -> None:
        notifier = Notifier(signal)

        signal.wait(WAIT_TIMEOUT_SECONDS)
        assert notifier.waits, "the engine has woken but not acknowledged"

        signal.acknowledge()
        notifier.join()

    def test_blocks_a_notifier_while_the_engine_is_busy(self, signal: WakeupSignal) -> None:
        signal.acknowledge()  # the engine is busy from here on

        notifier = Notifier(signal)
        signal.wait(WAIT_TIMEOUT_SECONDS)
        assert notifier.waits, "an earlier acknowledgement does not count for a later wakeup"

        signal.acknowledge()
        notifier.join()

    def test_one_acknowledgement_releases_all_notifiers(self, signal: WakeupSignal) -> None:
        notifiers = [Notifier(signal) for _ in range(3)]
        wait_until(lambda: sleepers(signal) == 3, "all three to wait")

        signal.acknowledge()

        for notifier in notifiers:
            notifier.join()

    def test_an_acknowledgement_clears_the_notification(self, signal: WakeupSignal) -> None:
        signal.notify()
        signal.acknowledge()

        waiter = threading.Thread(target=signal.wait, args=(WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        wait_until(lambda: sleepers(signal) == 1, "the engine to sleep")

        signal.notify()
        waiter.join(WAIT_TIMEOUT_SECONDS)
        assert not waiter.is_alive()

    def test_the_wait_ends_after_its_timeout(self, signal: WakeupSignal) -> None:
        signal.wait(0.001)

    def test_a_notification_before_the_wait_is_not_missed(self, signal: WakeupSignal) -> None:
        signal.notify()

        waiter = threading.Thread(target=signal.wait, args=(10 * WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        waiter.join(WAIT_TIMEOUT_SECONDS)

        assert not waiter.is_alive()

    def test_closing_releases_all_threads(self, signal: WakeupSignal) -> None:
        notifier = Notifier(signal)
        wait_until(lambda: sleepers(signal) == 1, "the notifier to wait")

        signal.close()

        notifier.join()
        Notifier(signal).join()  # a later one does not block either
        waiter = threading.Thread(target=signal.wait, args=(10 * WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        waiter.join(WAIT_TIMEOUT_SECONDS)
        assert not waiter.is_alive()
