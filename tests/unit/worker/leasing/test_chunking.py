"""Chunking groups items up to a total size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.leasing.chunking import split_into_chunks


@pytest.mark.parametrize(
    ("sizes", "max_items", "expected"),
    [
        ([], math.inf, []),
        ([3, 3, 4, 1], math.inf, [[3, 3, 4], [1]]),
        ([1, 11, 1], math.inf, [[1], [11], [1]]),
        ([1, 1, 1], 2, [[1, 1], [1]]),
        ([0, 0, 0], math.inf, [[0, 0, 0]]),
        ([12], math.inf, [[12]]),
    ],
)
def test_a_chunk_is_as_large_as_it_may_be(sizes: list[int], max_items: float, expected: list[list[int]]) -> None:
    assert list(split_into_chunks(sizes, int, 10, max_items)) == expected


@given(st.lists(st.integers(0, 15)), st.integers(1, 5))
def test_nothing_is_lost_and_only_a_single_item_is_too_large(sizes: list[int], max_items: int) -> None:
    chunks = list(split_into_chunks(sizes, int, 10, max_items))

    assert [size for chunk in chunks for size in chunk] == sizes
    assert all(chunk and len(chunk) <= max_items for chunk in chunks)
    assert all(sum(chunk) <= 10 or len(chunk) == 1 for chunk in chunks)
