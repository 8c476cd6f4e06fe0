"""Wrong keys are counted by address."""

import pytest

from models.errors import TooManyRequests
from producer.server.pages.access import guesses
from producer.server.pages.access.guesses import MAX_OF_ADDRESS, WINDOW_SECONDS, GuessLimit


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_waits_after_its_share_and_others_do_not() -> None:
    clock = Clock()
    limit = GuessLimit(clock)
    for _ in range(MAX_OF_ADDRESS):
        limit.note_wrong_key("10.0.0.1")

    clock.now += 20
    with pytest.raises(TooManyRequests, match="try again in 40 seconds") as caught:
        limit.note_wrong_key("10.0.0.1")

    assert caught.value.retry_after_seconds == WINDOW_SECONDS - 20
    limit.note_wrong_key("10.0.0.2")
    clock.now += 41
    limit.note_wrong_key("10.0.0.1")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "MAX_REMEMBERED_ADDRESSES", 5)
    limit = GuessLimit(Clock())
    for number in range(100):
        limit.note_wrong_key(f"10.0.0.{number}")

    assert len(limit._windows) == 5
