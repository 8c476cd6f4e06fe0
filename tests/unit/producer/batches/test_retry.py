"""Slices over positions that are tried again."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from producer.batches.retry import MAX_SPARSENESS, plan_slices


@given(st.sets(st.integers(0, 5_000), min_size=1), st.integers(1, 50))
def test_slices_cover_each_position_once_and_overlap_nowhere(chosen: set[int], slice_jobs: int) -> None:
    positions = sorted(chosen)

    made = list(plan_slices(positions, slice_jobs))

    covered = [position for first, size in made for position in positions if first <= position < first + size]
    assert covered == positions
    assert all(first + size <= second for (first, size), (second, _) in pairwise(made))
    for first, size in made:
        inside = [position for position in positions if first <= position < first + size]
        assert (inside[0], inside[-1]) == (first, first + size - 1)
        assert len(inside) <= slice_jobs
        assert size <= slice_jobs * MAX_SPARSENESS
