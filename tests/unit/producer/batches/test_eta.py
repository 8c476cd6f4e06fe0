import pytest

from producer.batches.eta import MAX_SAMPLE_AGE_SECONDS, MIN_OBSERVED_SECONDS, SEGMENTS, Eta, EtaEstimator


def seen(*ended: int, every: float = 1.0) -> EtaEstimator:
    """Looks in even steps, with so many jobs ended at each."""
    forecaster = EtaEstimator()
    for place, count in enumerate(ended):
        forecaster.record(place * every, count)
    return forecaster


def test_an_even_pace_is_sure() -> None:
    assert seen(*range(0, 210, 10)).estimate(500) == Eta(10.0, 50.0, 50.0, 50.0)


def test_an_uneven_one_is_less_so() -> None:
    little = seen(*range(0, 400, 10)).estimate(1_000)
    bursts = seen(*(place // 5 * 50 for place in range(40))).estimate(1_000)

    assert little is not None
    assert bursts is not None
    assert bursts.latest is not None
    assert bursts.soonest < bursts.seconds < bursts.latest
    assert little.latest == pytest.approx(little.seconds)


def test_where_it_varies_too_much_there_is_no_latest() -> None:
    forecast = seen(*[0] * 20, 1_000).estimate(1_000)

    assert forecast is not None
    assert forecast.latest is None
    assert forecast.soonest < forecast.seconds


def test_it_is_the_present_pace_that_counts() -> None:
    slow = range(0, 200, 1)
    fast = range(200, 200 + 100 * (int(MAX_SAMPLE_AGE_SECONDS) + 1), 100)

    forecast = seen(*slow, *fast).estimate(100)

    assert forecast is not None
    assert forecast.jobs_per_second == pytest.approx(100.0)


@pytest.mark.parametrize(
    ("ended", "every"),
    [
        ([], 1.0),
        ([3], 1.0),
        (range(SEGMENTS), 1.0),
        (range(SEGMENTS + 1), MIN_OBSERVED_SECONDS / SEGMENTS / 2),
        ([7] * 30, 1.0),
    ],
)
def test_too_little_tells_nothing(ended: list[int], every: float) -> None:
    assert seen(*ended, every=every).estimate(10) is None


def test_a_replay_begins_anew() -> None:
    forecaster = seen(*range(0, 200, 10))
    forecaster.record(20.0, 0)

    assert forecaster.estimate(10) is None
