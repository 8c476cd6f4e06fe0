"""Tolerances within which two forward passes of one model must agree, per dtype."""

import torch

# The rounding that products of another shape may cause, relative to the largest score.
RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def scores_match(left: torch.Tensor, right: torch.Tensor, max_relative_difference: float | None = None) -> bool:
    """Whether two passes' scores agree.

    max_relative_difference: relative to the largest score, None = the tolerance of their dtype.
    """
    fraction = RELATIVE_TOLERANCE.get(left.dtype, 0.0) if max_relative_difference is None else max_relative_difference
    return torch.allclose(left, right, rtol=0.0, atol=fraction * max_magnitude(left), equal_nan=True)


def max_magnitude(scores: torch.Tensor) -> float:
    """The largest magnitude among the finite scores; 0.0 where none is finite, as with damaged weights."""
    return torch.nan_to_num(scores.abs(), nan=0.0, posinf=0.0).max().item()
