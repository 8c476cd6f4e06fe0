"""TODO."""

import torch

# How far two passes may be apart, as a part of the largest score: what a product of another shape may cost.
CLOSE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}


def agree(one: torch.Tensor, other: torch.Tensor, allowed: float | None = None) -> bool:
    """Whether two passes' scores are so close, as a part of the largest; None allows what their precision may cost."""
    part = CLOSE.get(one.dtype, 0.0) if allowed is None else allowed
    return torch.allclose(one, other, rtol=0.0, atol=part * largest(one), equal_nan=True)


def largest(scores: torch.Tensor) -> float:
    """The largest size among scores that are numbers, 0.0 where none is: damaged weights answer with NaN."""
    return torch.nan_to_num(scores.abs(), nan=0.0, posinf=0.0).max().item()
