"""A forecast scales the past batches of the most similar size."""

import pytest

from producer.dry_run.forecast import CLAIM_SECONDS, PastBatch, forecast


def past(jobs: int, seconds: float, characters_per_job: int = 100) -> PastBatch:
    return PastBatch(jobs, jobs * characters_per_job, seconds)


@pytest.mark.parametrize(
    ("jobs", "seconds"), [(1_000, 1.0), (2_000, 2.0 - CLAIM_SECONDS), (500, 0.5 + CLAIM_SECONDS / 2)]
)
def test_the_time_grows_with_the_characters(jobs: int, seconds: float) -> None:
    prediction = forecast([past(1_000, 1.0)], jobs, jobs * 100)

    assert prediction is not None
    assert prediction.seconds == pytest.approx(seconds)
    assert prediction.jobs_per_second == pytest.approx(jobs / seconds)
    assert not prediction.is_upper_bound


def test_longer_inputs_take_longer() -> None:
    prediction = forecast([past(1_000, 10.0)], 1_000, 300_000)

    assert prediction is not None
    assert prediction.seconds == pytest.approx(30.0, rel=0.05)


def test_batches_of_similar_size_decide() -> None:
    batches = [past(1, 0.05), past(2, 0.05), past(10_000, 10.0), past(9_000, 90.0), past(11_000, 11.0)]

    prediction = forecast(batches, 10_000, 1_000_000)

    assert prediction is not None
    assert prediction.seconds == pytest.approx(10.0, rel=0.01)  # one exceptional batch does not count


@pytest.mark.parametrize(
    ("past_jobs", "jobs", "is_upper_bound"), [(10, 10_000, True), (100, 300, False), (500, 10_000, False)]
)
def test_small_batches_give_an_upper_bound_for_large_ones(past_jobs: int, jobs: int, *, is_upper_bound: bool) -> None:
    prediction = forecast([past(past_jobs, 0.1)], jobs, jobs * 100)

    assert prediction is not None
    assert prediction.is_upper_bound == is_upper_bound


def test_far_smaller_batches_do_not_outvote_a_similar_one() -> None:
    prediction = forecast([past(10_000, 5.0), past(2, 0.02), past(2, 0.02)], 10_000, 1_000_000)

    assert prediction is not None
    assert prediction.seconds == pytest.approx(5.0)
    assert not prediction.is_upper_bound


@pytest.mark.parametrize(("batches", "jobs"), [([], 10), ([past(10, 1.0)], 0)])
def test_nothing_to_compare_gives_no_forecast(batches: list[PastBatch], jobs: int) -> None:
    assert forecast(batches, jobs, jobs * 100) is None
