"""Attention over one row that holds all texts' tokens, in which each text attends only to itself.

Importing this module registers the attention and its mask with transformers.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

from worker.layers import varlen_attention
from worker.layers.ragged_rows import Integers, flat_indices, to_device
from worker.layers.varlen_attention import SlidingWindow

ATTENTION_NAME = "batchmill_packed"
# A model that passes any of these needs an attention that packing does not compute.
UNSUPPORTED_OPTIONS = ("position_bias", "softcap", "s_aux")

Positions = Sequence[Sequence[int]]
Run = tuple[int, int, int]  # consecutive texts of equal length: how many, and each one's queries and keys
current_layout: ContextVar["PackedLayout | None"] = ContextVar("layout of the packed pass", default=None)


class KeysValuesCaptured(Exception):
    """Raised to leave the last layer early, once its keys and values are captured."""


class TextLengths:
    """The lengths of the texts in one packed pass, as attention wants them.

    values: tokens of each text.
    offsets: int32 on the device, where each text begins, and where the last one ends.
    """

    def __init__(self, values: Integers, offsets: torch.Tensor) -> None:
        self.values, self.offsets = values, offsets
        self.total, self.longest = int(values.sum()), int(values.max())


class PackedLayout:
    """The layout of the texts in one packed pass.

    lengths: tokens of each text.
    width: tokens of a padded row.
    output_positions: positions of each text that the head looks at, None = all.

    `token_indices` are the indices of all tokens in the flattened padded rows, `output_indices` those of the positions
    that the head looks at; `query_indices` are the latter's indices among the packed tokens. Everything that a layer
    needs is computed here, once for all layers.
    """

    def __init__(self, lengths: Sequence[int], width: int, device: Any, output_positions: Positions | None) -> None:
        self.shape = (len(lengths), width)
        key_lengths = np.array(lengths, dtype=np.int64)
        row_starts = width * np.arange(len(lengths))
        token_indices = flat_indices(row_starts, key_lengths)
        self.reduces_output = output_positions is not None
        query_lengths, output_indices, query_indices = key_lengths, token_indices, token_indices
        if output_positions is not None:
            query_lengths = np.array(list(map(len, output_positions)), dtype=np.int64)
            positions = np.array(list(chain.from_iterable(output_positions)), dtype=np.int64)
            output_indices = positions + np.repeat(row_starts, query_lengths)
            query_indices = positions + np.repeat(key_lengths.cumsum() - key_lengths, query_lengths)
        self.token_indices, self.output_indices, self.query_indices, key_offsets, query_offsets = to_device(
            [token_indices, output_indices, query_indices, _offsets(key_lengths), _offsets(query_lengths)], device
        )
        self.token_lengths = TextLengths(key_lengths, key_offsets.int())
        self.output_lengths = TextLengths(query_lengths, query_offsets.int())
        self.filler_count = 0
        self.capturing = False
        self.captured_kv: tuple[torch.Tensor, torch.Tensor] | None = None

    @cached_property
    def positions(self) -> torch.Tensor:
        """The position of each token in its text, for layers that rotate by it."""
        return self.token_indices % self.shape[1]

    @cached_property
    def positions_with_filler(self) -> torch.Tensor:
        """The position of each packed token in its text; 0 for filler."""
        return pad(self.positions, (0, self.filler_count)) if self.filler_count else self.positions

    def add_filler(self, packed_size: int) -> None:
        """Let the pass have this many tokens, for layers that prefer some sizes; filler has no text and no output."""
        self.filler_count = packed_size - self.token_lengths.total

    @cached_property
    def token_runs(self) -> list[Run]:
        """The runs of a layer that computes all tokens."""
        return _runs(self.token_lengths.values, self.token_lengths.values)

    @cached_property
    def output_runs(self) -> list[Run]:
        """The runs of a layer that computes the head's positions only."""
        return _runs(self.output_lengths.values, self.token_lengths.values)

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
        query_lengths = self.token_lengths if self.captured_kv is None else self.output_lengths
        query_filler = self.filler_count if self.captured_kv is None else 0
        token_count = self.token_lengths.total
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        if (len(query), len(key)) != (query_lengths.total + query_filler, token_count + self.filler_count):
            raise ValueError("the attention's tokens are not those of the texts")
        query = query[: len(query) - query_filler]
        key, value = key[:token_count], value[:token_count]
        if varlen_attention.is_available(query.device) and not isinstance(mask, torch.Tensor):
            lengths = (query_lengths, self.token_lengths)
            output = varlen_attention.compute_attention(
                (query, key, value),
                [part.offsets for part in lengths],
                [part.longest for part in lengths],
                scaling,
                mask,
            )
            return pad(output, (0, 0, 0, 0, 0, query_filler))[None] if query_filler else output[None]
        assert not isinstance(mask, SlidingWindow)
        runs = self.token_runs if self.captured_kv is None else self.output_runs
        return _sdpa_by_length(query, key, value, runs, scaling, mask, query_filler)[None]


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
    runs: Sequence[Run],
    scaling: float | None,
    mask: torch.Tensor | None,
    filler_count: int,
) -> torch.Tensor:
    """One call for each run of texts of equal length; rows are sorted by length, so there are few.

    filler_count: zeros to append to the output.
    """
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
    filler = [query.new_zeros(filler_count, *query.shape[1:])] if filler_count else []
    return torch.cat(outputs + filler)


def _split_texts(states: torch.Tensor, texts: int) -> torch.Tensor:
    """`(texts, heads, tokens, size)`, from `(tokens of all, heads, size)`, of texts of equal length."""
    return states.view(texts, len(states) // texts, *states.shape[1:]).transpose(1, 2)


def _mask_for_length(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """The mask of one text; None where it hides nothing."""
    if mask is None or mask[:length, :length].all():
        return None
    return mask[:length, :length]


def _runs(query_lengths: Integers, key_lengths: Integers) -> list[Run]:
    """Group consecutive texts with equal numbers of queries and of keys."""
    has_changed = (np.diff(query_lengths) != 0) | (np.diff(key_lengths) != 0)
    edges = np.concatenate([[0], np.flatnonzero(has_changed) + 1, [len(key_lengths)]])
    starts = edges[:-1]
    return list(zip(np.diff(edges).tolist(), query_lengths[starts].tolist(), key_lengths[starts].tolist(), strict=True))


def _offsets(lengths: Integers) -> Integers:
    """Return where each text begins, and where the last one ends."""
    return np.concatenate([[0], lengths.cumsum()])


AttentionInterface.register(ATTENTION_NAME, packed_attention_forward)
AttentionMaskInterface.register(ATTENTION_NAME, packed_mask)
