"""Wrong keys are counted by address and in all."""

import pytest

from models.errors import TooManyRequests
from producer.server.pages.access import guesses
from producer.server.pages.access.guesses import MAX_OF_ADDRESS, MAX_OF_ALL, WINDOW_SECONDS, GuessLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guess(limit: GuessLimit, address: str, times: int) -> None:
    for _ in range(times):
        limit.check(address)
        limit.note_wrong_key(address)


def test_an_address_waits_after_its_share_and_others_do_not() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    guess(limit, "10.0.0.1", MAX_OF_ADDRESS)

    clock.now += 20
    with pytest.raises(TooManyRequests, match="try again in 40 seconds") as caught:
        limit.check("10.0.0.1")

    assert caught.value.retry_after_seconds == WINDOW_SECONDS - 20
    limit.check("10.0.0.2")
    clock.now += 41
    limit.check("10.0.0.1")


def test_all_addresses_together_have_a_limit() -> None:
    limit = GuessLimit(Clock())
    for number in range(MAX_OF_ALL // MAX_OF_ADDRESS):
        guess(limit, f"10.0.0.{number}", MAX_OF_ADDRESS)

    with pytest.raises(TooManyRequests):
        limit.check("10.0.1.1")


def test_memory_is_bounded_and_the_sum_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MAX_REMEMBERED_ADDRESSES", 5)
    limit = GuessLimit(Clock())
    for number in range(MAX_OF_ALL):
        limit.note_wrong_key(f"10.0.0.{number}")

    assert len(limit._windows) == 5
    with pytest.raises(TooManyRequests):
        limit.check("10.0.9.9")
