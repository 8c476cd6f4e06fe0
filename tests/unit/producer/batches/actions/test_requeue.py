"""Tests of how requeued jobs are cut into slices."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from producer.batches.actions.requeue import MAX_SPARSENESS, plan_slices


@given(st.sets(st.integers(0, 5_000), min_size=1), st.integers(1, 50))
def test_slices_cover_each_position_exactly_once(position_set: set[int], slice_size: int) -> None:
    positions = sorted(position_set)

    slices = list(plan_slices(positions, slice_size))

    covered = [position for first, size in slices for position in positions if first <= position < first + size]
    assert covered == positions
    assert all(first + size <= second for (first, size), (second, _) in pairwise(slices))
    for first, size in slices:
        inside = [position for position in positions if first <= position < first + size]
        assert (inside[0], inside[-1]) == (first, first + size - 1)
        assert len(inside) <= slice_size
        assert size <= slice_size * MAX_SPARSENESS
