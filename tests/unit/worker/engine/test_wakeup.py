"""The doorbell: who rings waits until the engine looks."""

import threading
from collections.abc import Iterator

import pytest

from tests.servers import WAIT_TIMEOUT_SECONDS, wait_until
from worker.engine.wakeup import WakeupSignal


class Ringer:
    """A Celery thread that brings one bell."""

    def __init__(self, doorbell: WakeupSignal) -> None:
        self._thread = threading.Thread(target=doorbell.notify_and_wait)
        self._thread.start()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(WAIT_TIMEOUT_SECONDS)
        assert not self.waits


def sleepers(doorbell: WakeupSignal) -> int:
    """How many threads the doorbell keeps waiting right now."""
    return len(doorbell._condition._waiters)  # nothing public tells, and a test that guesses would sleep


@pytest.fixture
def doorbell() -> Iterator[WakeupSignal]:
    doorbell = WakeupSignal()
    yield doorbell
    doorbell.close()  # lets go whomever a failed test left waiting


class TestDoorbell:
    def test_wakes_the_engine_and_keeps_the_ringer_until_it_looks(self, doorbell: WakeupSignal) -> None:
        ringer = Ringer(doorbell)

        doorbell.wait(WAIT_TIMEOUT_SECONDS)
        assert ringer.waits, "the engine has woken but not looked"

        doorbell.acknowledge()
        ringer.join()

    def test_keeps_who_rings_while_the_engine_is_busy_until_its_next_look(self, doorbell: WakeupSignal) -> None:
        doorbell.acknowledge()  # and now it is busy with what it found

        ringer = Ringer(doorbell)
        doorbell.wait(WAIT_TIMEOUT_SECONDS)
        assert ringer.waits, "an earlier look is no answer to a later bell"

        doorbell.acknowledge()
        ringer.join()

    def test_one_look_answers_everybody(self, doorbell: WakeupSignal) -> None:
        ringers = [Ringer(doorbell) for _ in range(3)]
        wait_until(lambda: sleepers(doorbell) == 3, "all three to wait")

        doorbell.acknowledge()

        for ringer in ringers:
            ringer.join()

    def test_a_look_takes_the_bell_down(self, doorbell: WakeupSignal) -> None:
        doorbell.notify()
        doorbell.acknowledge()

        waiter = threading.Thread(target=doorbell.wait, args=(WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        wait_until(lambda: sleepers(doorbell) == 1, "the engine to sleep")

        doorbell.notify()
        waiter.join(WAIT_TIMEOUT_SECONDS)
        assert not waiter.is_alive()

    def test_waits_no_longer_than_asked_without_a_bell(self, doorbell: WakeupSignal) -> None:
        doorbell.wait(0.001)

    def test_a_bell_before_the_wait_is_not_missed(self, doorbell: WakeupSignal) -> None:
        doorbell.notify()

        waiter = threading.Thread(target=doorbell.wait, args=(10 * WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        waiter.join(WAIT_TIMEOUT_SECONDS)

        assert not waiter.is_alive()

    def test_closing_lets_everybody_go(self, doorbell: WakeupSignal) -> None:
        ringer = Ringer(doorbell)
        wait_until(lambda: sleepers(doorbell) == 1, "the ringer to wait")

        doorbell.close()

        ringer.join()
        Ringer(doorbell).join()  # nor does a later one wait
        waiter = threading.Thread(target=doorbell.wait, args=(10 * WAIT_TIMEOUT_SECONDS,))
        waiter.start()
        waiter.join(WAIT_TIMEOUT_SECONDS)
        assert not waiter.is_alive()
