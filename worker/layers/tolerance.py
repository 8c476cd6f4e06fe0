"""How closely two forward passes of one model must agree, per dtype."""

import torch

# How far two passes may be apart, as a part of the largest score: what a product of another shape may cost.
RELATIVE_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def scores_match(left: torch.Tensor, right: torch.Tensor, max_relative_difference: float | None = None) -> bool:
    """Whether two passes' scores are so close, as a part of the largest; None allows what their precision may cost."""
    part = RELATIVE_TOLERANCE.get(left.dtype, 0.0) if max_relative_difference is None else max_relative_difference
    return torch.allclose(left, right, rtol=0.0, atol=part * max_magnitude(left), equal_nan=True)


def max_magnitude(scores: torch.Tensor) -> float:
    """The largest size among scores that are numbers, 0.0 where none is: damaged weights answer with NaN."""
    return torch.nan_to_num(scores.abs(), nan=0.0, posinf=0.0).max().item()
