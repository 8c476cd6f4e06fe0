"""Whether two raw outputs, or two results, of a task of one's own are the same. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

# Relative to the largest number, and at least to 1: scores are promised within 1e-5 in float32.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-5, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def are_same(left: Any, right: Any, dtype: torch.dtype) -> bool:
    """Whether the two differ by rounding at most.

    A larger tensor may hold padding after its numbers, so its first ones are compared.

    dtype: the model's.
    """
    if isinstance(left, torch.Tensor | np.ndarray) and isinstance(right, torch.Tensor | np.ndarray):
        return _are_same_tensors(torch.as_tensor(left), torch.as_tensor(right), dtype)
    if isinstance(left, float) and isinstance(right, int | float):
        return _are_same_tensors(torch.tensor(left, dtype=torch.float64), torch.tensor(float(right)).double(), dtype)
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(are_same(left[key], right[key], dtype) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(are_same, left, right, [dtype] * len(left)))
    try:
        return bool(left == right)
    except Exception:  # of an author's class
        return False


def _are_same_tensors(left: torch.Tensor, right: torch.Tensor, dtype: torch.dtype) -> bool:
    if left.ndim != right.ndim or left.dtype != right.dtype:
        return False
    overlap = tuple(slice(min(sizes)) for sizes in zip(left.shape, right.shape, strict=True))
    left, right = left[overlap], right[overlap]
    if not left.is_floating_point():
        return bool(torch.equal(left, right))
    largest = float(torch.nan_to_num(left.abs(), nan=0.0, posinf=0.0).max()) if left.numel() else 0.0
    tolerance = TOLERANCE.get(dtype, TOLERANCE[torch.float32]) * max(1.0, largest)
    return torch.allclose(left, right, rtol=0.0, atol=tolerance, equal_nan=True)
