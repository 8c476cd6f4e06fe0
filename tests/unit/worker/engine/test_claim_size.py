"""Pace: how much work a claim asks for."""

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.claim_size import ClaimSizer

durations = st.just(0.0) | st.floats(1e-9, 1e6)  # a monotonic clock counts in nanoseconds


class TestRoom:
    def test_is_the_least_while_the_pace_is_unknown(self) -> None:
        assert ClaimSizer(10.0, 4096).jobs_to_claim() == 1

    def test_holds_the_window_s_seconds_of_work(self) -> None:
        pace = ClaimSizer(10.0, 4096)

        pace.record(50, 2.0)

        assert pace.jobs_to_claim() == 250

    def test_is_bounded_by_the_window_s_jobs(self) -> None:
        pace = ClaimSizer(10.0, 100)

        pace.record(1_000_000, 1.0)

        assert pace.jobs_to_claim() == 100

    def test_is_never_less_than_one_job(self) -> None:
        pace = ClaimSizer(1.0, 100)

        pace.record(1, 3600.0)

        assert pace.jobs_to_claim() == 1

    def test_follows_a_change_of_pace_within_a_few_windows(self) -> None:
        pace = ClaimSizer(1.0, 100_000)
        pace.record(1000, 1.0)

        rooms = []
        for _ in range(4):
            pace.record(100, 1.0)
            rooms.append(pace.jobs_to_claim())

        assert rooms == [550, 325, 212, 156]

    def test_is_not_changed_by_a_window_of_nothing(self) -> None:
        pace = ClaimSizer(1.0, 1000)
        pace.record(10, 1.0)

        pace.record(0, 5.0)
        pace.record(5, 0.0)

        assert pace.jobs_to_claim() == 10

    @given(st.lists(st.tuples(st.integers(0, 10**6), durations), max_size=20), st.integers(1, 10**5))
    def test_is_always_a_usable_number(self, windows: list[tuple[int, float]], most: int) -> None:
        pace = ClaimSizer(10.0, most)

        for jobs, seconds in windows:
            pace.record(jobs, seconds)

        assert 1 <= pace.jobs_to_claim() <= most
