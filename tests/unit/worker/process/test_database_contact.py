"""The time for which a process has reached the database without a gap."""

import pytest

from worker.process.database_contact import DatabaseContact

MAX_GAP_SECONDS = 30.0


class Clocks:
    """Two clocks; only `suspend` makes them differ."""

    def __init__(self) -> None:
        self.monotonic, self.time_of_day = 1000.0, 1_700_000_000.0

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.time_of_day += seconds

    def suspend(self, seconds: float) -> None:
        self.time_of_day += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def contact(clocks: Clocks) -> DatabaseContact:
    return DatabaseContact(MAX_GAP_SECONDS, lambda: clocks.monotonic, lambda: clocks.time_of_day)


def test_there_is_none_before_the_first_answer(contact: DatabaseContact) -> None:
    assert contact.seconds() == 0


def test_it_goes_on_from_answer_to_answer(contact: DatabaseContact, clocks: Clocks) -> None:
    contact.record()
    for _ in range(4):
        clocks.advance(MAX_GAP_SECONDS)
        contact.record()
    clocks.advance(1)

    assert contact.seconds() == 4 * MAX_GAP_SECONDS + 1


@pytest.mark.parametrize("cause", ["advance", "suspend"])
def test_a_gap_ends_it_before_and_after_the_next_answer(contact: DatabaseContact, clocks: Clocks, cause: str) -> None:
    contact.record()
    clocks.advance(MAX_GAP_SECONDS)
    contact.record()

    getattr(clocks, cause)(MAX_GAP_SECONDS + 1)

    assert contact.seconds() == 0
    contact.record()
    clocks.advance(5)
    assert contact.seconds() == 5


def test_a_clock_that_is_set_back_changes_nothing(contact: DatabaseContact, clocks: Clocks) -> None:
    contact.record()
    clocks.advance(10)
    clocks.suspend(-3600)

    contact.record()

    assert contact.seconds() == 10
