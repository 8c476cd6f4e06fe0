"""Torch's variable-length attention, which takes texts of all lengths in one call, on CUDA in half precision.

Newer versions of torch have more options: `num_splits` is there from 2.12 on.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import varlen

OPTIONS = frozenset(inspect.signature(varlen.varlen_attn).parameters)


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """A mask under which each token sees those of its text that are at most `reach` tokens before or after it."""

    reach: int


def is_available(device: torch.device) -> bool:
    """Whether packed passes on this device use variable-length attention."""
    return device.type == "cuda"


def find_window(mask_function: Callable[..., torch.Tensor], width: int) -> SlidingWindow | None:
    """The sliding window that a mask of transformers stands for; None if it is another mask, or torch has no windows.

    The function is called with a few positions on the CPU, because a look at numbers on the device would wait for it.
    """
    positions = torch.arange(width)
    queries = torch.tensor([0, width // 2, width - 1])[:, None]
    is_visible = mask_function(0, 0, queries, positions)
    reach = int(is_visible[0].sum()) - 1
    is_window = torch.equal(is_visible, (positions - queries).abs() <= reach)
    return SlidingWindow(reach) if is_window and reach >= 0 and "window_size" in OPTIONS else None


def compute_attention(
    states: Sequence[torch.Tensor],
    offsets: Sequence[torch.Tensor],
    max_lengths: Sequence[int],
    scaling: float | None,
    window: SlidingWindow | None,
) -> torch.Tensor:
    """`(tokens, heads, size)`.

    states: queries, keys and values, each `(tokens, heads, size)`.
    offsets: int32, where each text begins and the last one ends, of the queries and of the keys.
    max_lengths: tokens of the longest text, of the queries and of the keys.
    """
    options: dict[str, Any] = {"scale": scaling}
    if window is not None:
        options["window_size"] = (window.reach, window.reach)
    if "num_splits" in OPTIONS:
        # The number of splits of a long text's keys depends on the other texts, and changes the order of sums.
        options["num_splits"] = 1
    attention: Any = varlen.varlen_attn
    output: torch.Tensor = attention(*states, *offsets, *max_lengths, **options)
    return output
