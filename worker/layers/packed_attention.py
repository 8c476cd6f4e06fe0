"""Attention over one row that holds all texts' tokens, in which each text attends only to itself.

Importing this module registers the attention and its mask with transformers.
"""

from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

from worker.layers import varlen_attention
from worker.layers.varlen_attention import SlidingWindow

ATTENTION_NAME = "batchmill_packed"
# A model that passes any of these needs an attention that packing does not compute.
UNSUPPORTED_OPTIONS = ("position_bias", "softcap", "s_aux")

Positions = Sequence[Sequence[int]]
current_layout: ContextVar["PackedLayout | None"] = ContextVar("layout of the packed pass", default=None)


class KeysValuesCaptured(Exception):
    """Raised to leave the last layer early, once its keys and values are captured."""


class PackedLayout:
    """The layout of the texts in one packed pass.

    lengths: tokens of each text.
    width: tokens of a padded row.
    output_positions: positions of each text that the head looks at, None = all.

    `token_indices` are the indices of all tokens in the flattened padded rows, `output_indices` those of the positions
    that the head looks at; `query_indices` are the latter's indices among the packed tokens.
    """

    def __init__(self, lengths: Sequence[int], width: int, device: Any, output_positions: Positions | None) -> None:
        self.shape = (len(lengths), width)
        self.lengths = lengths
        self.output_counts = None if output_positions is None else list(map(len, output_positions))
        row_starts = [width * row for row in range(len(lengths))]
        self.token_indices = _flat_indices([range(length) for length in lengths], row_starts).to(device)
        self.positions = self.token_indices % width
        self.output_indices, self.query_indices = self.token_indices, self.token_indices
        if output_positions is not None:
            self.output_indices = _flat_indices(output_positions, row_starts).to(device)
            self.query_indices = _flat_indices(output_positions, [0, *accumulate(lengths)][:-1]).to(device)
        self.capturing = False
        self.captured_kv: tuple[torch.Tensor, torch.Tensor] | None = None

    def compute_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        mask: torch.Tensor | SlidingWindow | None,
    ) -> torch.Tensor:
        """`(1, tokens, heads, size)`, from `(1, heads, tokens, size)`.

        query: states of all tokens, or of the head's positions once keys and values are captured.
        mask: `(width, width)` or a window, the positions of a text that each other one sees, None = all.
        """
        query_lengths = self.lengths if self.captured_kv is None else self.output_counts or self.lengths
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        if (len(query), len(key)) != (sum(query_lengths), sum(self.lengths)):
            raise ValueError("the attention's tokens are not those of the texts")
        if varlen_attention.is_available(query.device) and not isinstance(mask, torch.Tensor):
            return _varlen_attention((query, key, value), query_lengths, self.lengths, scaling, mask)[None]
        assert not isinstance(mask, SlidingWindow)
        text_lengths = zip(query_lengths, self.lengths, strict=True)
        return _sdpa_by_length(query, key, value, text_lengths, scaling, mask)[None]


def packed_attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The signature that transformers calls. Raises ValueError for a kind of attention that can't be packed."""
    layout = current_layout.get()
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if layout is None or causal or len(query) != 1:
        raise ValueError("not the attention of a packed encoder")
    if any(options.get(name) is not None for name in UNSUPPORTED_OPTIONS):
        raise ValueError("the attention needs more than queries, keys and values")
    if attention_mask is not None and layout.capturing:
        raise ValueError("packing supports masks within a text only for all positions")
    if layout.capturing:
        layout.captured_kv = key, value
        raise KeysValuesCaptured
    key, value = layout.captured_kv or (key, value)
    return layout.compute_attention(query, key, value, scaling, attention_mask), None


def packed_mask(
    kv_length: int, mask_function: Any, device: torch.device, **_other: Any
) -> torch.Tensor | SlidingWindow | None:
    """The mask, `(width, width)` or a window; None where all positions of a text see each other."""
    if mask_function is bidirectional_mask_function:
        return None
    if varlen_attention.is_available(device) and (window := varlen_attention.find_window(mask_function, kv_length)):
        return window
    positions = torch.arange(kv_length, device=device)
    mask: torch.Tensor = mask_function(0, 0, positions[:, None], positions)
    return mask


def _sdpa_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    text_lengths: Iterable[tuple[int, int]],
    scaling: float | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """One call for each run of texts of equal length; rows are sorted by length, so there are few.

    text_lengths: for each text its queries and its keys.
    """
    runs = [(sum(1 for _ in group), *lengths) for lengths, group in groupby(text_lengths)]
    queries = query.split([texts * length for texts, length, _ in runs])
    keys, values = (states.split([texts * length for texts, _, length in runs]) for states in (key, value))
    outputs = [
        scaled_dot_product_attention(
            _split_texts(q, texts),
            _split_texts(k, texts),
            _split_texts(v, texts),
            _mask_for_length(mask, length),
            scale=scaling,
        )
        .transpose(1, 2)
        .flatten(0, 1)
        for (texts, _, length), q, k, v in zip(runs, queries, keys, values, strict=True)
    ]
    return torch.cat(outputs)


def _split_texts(states: torch.Tensor, texts: int) -> torch.Tensor:
    """`(texts, heads, tokens, size)`, from `(tokens of all, heads, size)`, of texts of equal length."""
    return states.view(texts, len(states) // texts, *states.shape[1:]).transpose(1, 2)


def _mask_for_length(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """The mask of one text; None where it hides nothing."""
    if mask is None or mask[:length, :length].all():
        return None
    return mask[:length, :length]


def _varlen_attention(
    states: Sequence[torch.Tensor],
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scaling: float | None,
    window: SlidingWindow | None,
) -> torch.Tensor:
    offsets = [
        torch.tensor([0, *accumulate(lengths)], dtype=torch.int32).to(states[0].device, non_blocking=True)
        for lengths in (query_lengths, key_lengths)
    ]
    max_lengths = (max(query_lengths), max(key_lengths))
    return varlen_attention.compute_attention(states, offsets, max_lengths, scaling, window)


def _flat_indices(positions: Positions, starts: Sequence[int]) -> torch.Tensor:
    return torch.from_numpy(
        np.concatenate([np.asarray(row, dtype=np.int64) + start for row, start in zip(positions, starts, strict=True)])
    )


AttentionInterface.register(ATTENTION_NAME, packed_attention_forward)
AttentionMaskInterface.register(ATTENTION_NAME, packed_mask)
