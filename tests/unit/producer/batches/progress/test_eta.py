import pytest

from producer.batches.progress.eta import MAX_SAMPLE_AGE_SECONDS, MIN_OBSERVED_SECONDS, SEGMENTS, Eta, EtaEstimator


def estimator_after(*ended: int, every: float = 1.0) -> EtaEstimator:
    """Return an estimator with samples at even intervals, each with that many ended jobs."""
    estimator = EtaEstimator()
    for index, count in enumerate(ended):
        estimator.record(index * every, count)
    return estimator


def test_a_constant_rate_has_narrow_bounds() -> None:
    assert estimator_after(*range(0, 210, 10)).estimate(500) == Eta(10.0, 50.0, 50.0, 50.0)


def test_a_varying_rate_has_wider_bounds() -> None:
    steady = estimator_after(*range(0, 400, 10)).estimate(1_000)
    bursty = estimator_after(*(index // 5 * 50 for index in range(40))).estimate(1_000)

    assert steady is not None
    assert bursty is not None
    assert bursty.latest is not None
    assert bursty.earliest < bursty.seconds < bursty.latest
    assert steady.latest == pytest.approx(steady.seconds)


def test_a_rate_that_varies_too_much_has_no_upper_bound() -> None:
    eta = estimator_after(*[0] * 20, 1_000).estimate(1_000)

    assert eta is not None
    assert eta.latest is None
    assert eta.earliest < eta.seconds


def test_only_the_recent_rate_counts() -> None:
    slow = range(0, 200, 1)
    fast = range(200, 200 + 100 * (int(MAX_SAMPLE_AGE_SECONDS) + 1), 100)

    eta = estimator_after(*slow, *fast).estimate(100)

    assert eta is not None
    assert eta.jobs_per_second == pytest.approx(100.0)


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
def test_too_few_samples_give_no_estimate(ended: list[int], every: float) -> None:
    assert estimator_after(*ended, every=every).estimate(10) is None


def test_a_retry_discards_earlier_samples() -> None:
    estimator = estimator_after(*range(0, 200, 10))
    estimator.record(20.0, 0)

    assert estimator.estimate(10) is None
