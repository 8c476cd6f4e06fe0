"""Packed attention: all texts' tokens are in one row, and each text attends to itself alone.

It is registered with transformers under a name, beside the mask that goes with it.
"""

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

ATTENTION_NAME = "batchmill_packed"
# Models that pass any of these have an attention with more to it.
UNSUPPORTED_OPTIONS = ("position_bias", "softcap", "s_aux")

Positions = Sequence[Sequence[int]]
current_layout: ContextVar["PackedLayout | None"] = ContextVar("layout of the packed pass", default=None)


class KeysValuesCaptured(Exception):
    """The last layer's keys and values are known: nothing more is wanted of this call."""


class PackedLayout:
    """Where the texts are in one packed pass; `kept` are the positions of each that the head looks at, None for all.

    `tokens` are the places of all tokens in `(rows × width)`, `outputs` those of the kept ones; `queries` are the kept
    ones' places among the packed tokens.
    """

    def __init__(self, lengths: Sequence[int], width: int, device: Any, output_positions: Positions | None) -> None:
        self.shape = (len(lengths), width)
        self.lengths = lengths
        self.output_counts = None if output_positions is None else [len(places) for places in output_positions]
        padded = [width * row for row in range(len(lengths))]
        self.token_indices = _flat_indices([range(length) for length in lengths], padded).to(device)
        self.positions = self.token_indices % width
        self.output_indices, self.query_indices = self.token_indices, self.token_indices
        if output_positions is not None:
            self.output_indices = _flat_indices(output_positions, padded).to(device)
            self.query_indices = _flat_indices(output_positions, [0, *accumulate(lengths)][:-1]).to(device)
        self.capturing = False
        self.captured_kv: tuple[torch.Tensor, torch.Tensor] | None = None

    def compute_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """`(1, tokens, heads, size)`, from `(1, heads, tokens, size)`; queries are all tokens', or the kept ones'.

        With `mask`, `(width, width)`, positions of a text see some others of it only.
        """
        wanted = self.lengths if self.captured_kv is None else self.output_counts or self.lengths
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        if (len(query), len(key)) != (sum(wanted), sum(self.lengths)):
            raise ValueError("attention over other tokens than those of the texts")
        attention = _varlen_attention if query.device.type == "cuda" else _sdpa_by_length
        return attention(query, key, value, wanted, self.lengths, scaling, mask)[None]


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
    """As transformers calls an attention. Raises ValueError for a kind of attention that can't be packed."""
    layout = current_layout.get()
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if layout is None or causal or len(query) != 1:
        raise ValueError("not the attention of a packed encoder")
    if any(options.get(name) is not None for name in UNSUPPORTED_OPTIONS):
        raise ValueError("an attention with more to it than queries, keys and values")
    if attention_mask is not None and (layout.capturing or query.device.type == "cuda"):
        raise ValueError("a text's positions do not all see each other, which is not for here")
    if layout.capturing:
        layout.captured_kv = key, value
        raise KeysValuesCaptured
    key, value = layout.captured_kv or (key, value)
    return layout.compute_attention(query, key, value, scaling, attention_mask), None


def packed_mask(kv_length: int, mask_function: Any, device: Any, **_other: Any) -> torch.Tensor | None:
    """As transformers asks for a mask: None where all positions of a text see each other, else `(width, width)`."""
    if mask_function is bidirectional_mask_function:
        return None
    places = torch.arange(kv_length, device=device)
    mask: torch.Tensor = mask_function(0, 0, places[:, None], places)
    return mask


def _sdpa_by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scaling: float | None,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Neighbours of equal length share a call: sorted as rows are, few calls are left."""
    alike = [(texts, *sizes) for sizes, texts in _run_lengths(zip(query_lengths, key_lengths, strict=True))]
    queries = query.split([texts * asked for texts, asked, _ in alike])
    keys, values = (states.split([texts * length for texts, _, length in alike]) for states in (key, value))
    found = [
        scaled_dot_product_attention(
            _split_texts(q, texts),
            _split_texts(k, texts),
            _split_texts(v, texts),
            _mask_for_length(mask, length),
            scale=scaling,
        )
        .transpose(1, 2)
        .flatten(0, 1)
        for (texts, _, length), q, k, v in zip(alike, queries, keys, values, strict=True)
    ]
    return torch.cat(found)


def _split_texts(states: torch.Tensor, texts: int) -> torch.Tensor:
    """`(texts, heads, tokens, size)` of texts of equal length, from `(tokens of all, heads, size)`."""
    return states.view(texts, len(states) // texts, *states.shape[1:]).transpose(1, 2)


def _mask_for_length(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """The mask of one text, or None where it hides nothing."""
    if mask is None or mask[:length, :length].all():
        return None
    return mask[:length, :length]


def _varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    scaling: float | None,
    _mask: torch.Tensor | None,
) -> torch.Tensor:
    asked, given = (
        torch.tensor([0, *accumulate(sizes)], dtype=torch.int32).to(query.device, non_blocking=True)
        for sizes in (query_lengths, key_lengths)
    )
    found = varlen_attn(query, key, value, asked, given, max(query_lengths), max(key_lengths), scale=scaling)
    assert isinstance(found, torch.Tensor)
    return found


def _run_lengths(items: Any) -> Iterator[tuple[Any, int]]:
    return ((item, sum(1 for _ in alike)) for item, alike in groupby(items))


def _flat_indices(positions: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
    return torch.from_numpy(
        np.concatenate(
            [np.asarray(each, dtype=np.int64) + start for each, start in zip(positions, starts, strict=True)]
        )
    )


AttentionInterface.register(ATTENTION_NAME, packed_attention_forward)
AttentionMaskInterface.register(ATTENTION_NAME, packed_mask)
