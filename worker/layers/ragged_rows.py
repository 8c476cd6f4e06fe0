"""Rows of different lengths as flat arrays, and their way to the device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Integers = npt.NDArray[np.int64]


def flat_indices(starts: Integers, lengths: Integers) -> Integers:
    """Return, for each row, the `lengths` consecutive indices that begin at its start, all in one array."""
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def to_device(arrays: Sequence[Integers], device: Any) -> list[torch.Tensor]:
    """Return the arrays as int64 tensors on the device; a GPU gets all of them in one asynchronous copy."""
    if device.type != "cuda":
        return [torch.from_numpy(array).to(device) for array in arrays]
    return split_copy(join_for_copy(arrays).pin_memory().to(device, non_blocking=True), arrays)


def join_for_copy(arrays: Sequence[Integers]) -> torch.Tensor:
    """Return the arrays' numbers in one int32 tensor; token ids and the tokens of a pass are far fewer than 2³¹."""
    return torch.from_numpy(np.concatenate([array.ravel() for array in arrays], dtype=np.int32, casting="same_kind"))


def split_copy(joined: torch.Tensor, arrays: Sequence[Integers]) -> list[torch.Tensor]:
    """Return the parts of a joined tensor as int64, with the shapes of the arrays that it was made from."""
    parts = joined.long().split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]
