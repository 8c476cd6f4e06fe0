"""The claim sizer: how many jobs a claim asks for."""

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.claim_size import ClaimSizer, default_max_jobs

durations = st.just(0.0) | st.floats(1e-9, 1e6)  # a monotonic clock counts in nanoseconds


class TestJobsToClaim:
    def test_is_one_while_the_speed_is_unknown(self) -> None:
        assert ClaimSizer(10.0, 4096).jobs_to_claim() == 1

    def test_is_the_target_seconds_of_work(self) -> None:
        sizer = ClaimSizer(10.0, 4096)

        sizer.record(50, 2.0)

        assert sizer.jobs_to_claim() == 250

    def test_is_bounded_by_max_jobs(self) -> None:
        sizer = ClaimSizer(10.0, 100)

        sizer.record(1_000_000, 1.0)

        assert sizer.jobs_to_claim() == 100

    def test_is_larger_on_a_gpu_unless_a_setting_bounds_it(self) -> None:
        assert default_max_jobs("NVIDIA H200") > default_max_jobs("cpu")

    def test_is_never_less_than_one_job(self) -> None:
        sizer = ClaimSizer(1.0, 100)

        sizer.record(1, 3600.0)

        assert sizer.jobs_to_claim() == 1

    def test_follows_a_change_of_speed_within_a_few_claims(self) -> None:
        sizer = ClaimSizer(1.0, 100_000)
        sizer.record(1000, 1.0)

        sizes = []
        for _ in range(4):
            sizer.record(100, 1.0)
            sizes.append(sizer.jobs_to_claim())

        assert sizes == [550, 325, 212, 156]

    def test_ignores_claims_without_jobs_or_time(self) -> None:
        sizer = ClaimSizer(1.0, 1000)
        sizer.record(10, 1.0)

        sizer.record(0, 5.0)
        sizer.record(5, 0.0)

        assert sizer.jobs_to_claim() == 10

    @given(st.lists(st.tuples(st.integers(0, 10**6), durations), max_size=20), st.integers(1, 10**5))
    def test_is_always_between_one_and_max_jobs(self, claims: list[tuple[int, float]], max_jobs: int) -> None:
        sizer = ClaimSizer(10.0, max_jobs)

        for jobs, seconds in claims:
            sizer.record(jobs, seconds)

        assert 1 <= sizer.jobs_to_claim() <= max_jobs
