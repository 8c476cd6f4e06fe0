"""Flat arrays of rows reach the device unchanged, in one copy or in several."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.layers import ragged_rows

CPU = torch.device("cpu")


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), max_size=20))
def test_flat_indices_are_each_row_s_own(rows: list[tuple[int, int]]) -> None:
    starts, lengths = (np.array([row[part] for row in rows], dtype=np.int64) for part in (0, 1))

    indices = ragged_rows.flat_indices(starts, lengths)

    assert indices.tolist() == [start + offset for start, length in rows for offset in range(length)]


def test_one_copy_holds_what_several_would() -> None:
    arrays = [np.arange(6).reshape(2, 3), np.array([], dtype=np.int64), np.array([2**31 - 1, 0])]

    joined = ragged_rows.join_for_copy(arrays)
    parts = ragged_rows.split_copy(joined, arrays)

    assert joined.dtype == torch.int32
    assert [part.dtype for part in parts] == [torch.int64] * 3
    for part, separate in zip(parts, ragged_rows.to_device(arrays, CPU), strict=True):
        assert torch.equal(part, separate)
