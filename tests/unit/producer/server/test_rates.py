import pytest

from models.errors import TooManyRequests
from producer.server.requests import rates
from producer.server.requests.rates import RateLimit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(60, clock)

    for _ in range(10):
        limit.take("a")
    with pytest.raises(TooManyRequests, match="more than 60 requests a minute") as refused:
        limit.take("a")

    assert refused.value.retry_after_seconds == pytest.approx(1.0)
    limit.take("b")  # a key does not pay for another
    clock.now += 1.0
    limit.take("a")
    with pytest.raises(TooManyRequests):
        limit.take("a")


def test_a_small_rate_lets_one_request_through() -> None:
    limit = RateLimit(1, Clock())

    limit.take("a")
    with pytest.raises(TooManyRequests) as refused:
        limit.take("a")

    assert refused.value.retry_after_seconds == pytest.approx(60.0)


def test_no_rate_is_no_limit() -> None:
    limit = RateLimit(None, Clock())

    for _ in range(1000):
        limit.take("a")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_REMEMBERED_KEYS", 3)
    limit = RateLimit(1, Clock())

    for number in range(10):
        limit.take(str(number))

    assert len(limit._buckets) == 3
