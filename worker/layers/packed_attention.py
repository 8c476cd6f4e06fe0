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

NAME = "batchmill_packed"
# Models that pass any of these have an attention with more to it.
UNKNOWN = ("position_bias", "softcap", "s_aux")

Places = Sequence[Sequence[int]]
current: ContextVar["Layout | None"] = ContextVar("layout of the packed pass", default=None)


class Held(Exception):
    """The last layer's keys and values are known: nothing more is wanted of this call."""


class Layout:
    """Where the texts are in one packed pass; `kept` are the positions of each that the head looks at, None for all.

    `tokens` are the places of all tokens in `(rows × width)`, `outputs` those of the kept ones; `queries` are the kept
    ones' places among the packed tokens.
    """

    def __init__(self, lengths: Sequence[int], width: int, device: Any, kept: Places | None) -> None:
        self.shape = (len(lengths), width)
        self.lengths = lengths
        self.kept = None if kept is None else [len(places) for places in kept]
        padded = [width * row for row in range(len(lengths))]
        self.tokens = _places([range(length) for length in lengths], padded).to(device)
        self.positions = self.tokens % width
        self.outputs, self.queries = self.tokens, self.tokens
        if kept is not None:
            self.outputs = _places(kept, padded).to(device)
            self.queries = _places(kept, [0, *accumulate(lengths)][:-1]).to(device)
        self.holding = False
        self.held: tuple[torch.Tensor, torch.Tensor] | None = None

    def attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """`(1, tokens, heads, size)`, from `(1, heads, tokens, size)`; queries are all tokens', or the kept ones'.

        With `mask`, `(width, width)`, positions of a text see some others of it only.
        """
        wanted = self.lengths if self.held is None else self.kept or self.lengths
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        if (len(query), len(key)) != (sum(wanted), sum(self.lengths)):
            raise ValueError("attention over other tokens than those of the texts")
        attention = _varlen if query.device.type == "cuda" else _by_length
        return attention(query, key, value, wanted, self.lengths, scaling, mask)[None]


def attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float | None = None, dropout: float = 0.0, is_causal: bool | None = None, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """As transformers calls an attention. Raises ValueError for a kind of attention that can't be packed."""
    layout = current.get()
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if layout is None or causal or len(query) != 1:
        raise ValueError("not the attention of a packed encoder")
    if any(options.get(name) is not None for name in UNKNOWN):
        raise ValueError("an attention with more to it than queries, keys and values")
    if attention_mask is not None and (layout.holding or query.device.type == "cuda"):
        raise ValueError("a text's positions do not all see each other, which is not for here")
    if layout.holding:
        layout.held = key, value
        raise Held
    key, value = layout.held or (key, value)
    return layout.attended(query, key, value, scaling, attention_mask), None


def visible(kv_length: int, mask_function: Any, device: Any, **_other: Any) -> torch.Tensor | None:
    """As transformers asks for a mask: None where all positions of a text see each other, else `(width, width)`."""
    if mask_function is bidirectional_mask_function:
        return None
    places = torch.arange(kv_length, device=device)
    mask: torch.Tensor = mask_function(0, 0, places[:, None], places)
    return mask


def _by_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, wanted: Sequence[int], lengths: Sequence[int],
    scaling: float | None, mask: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """Neighbours of equal length share a call: sorted as rows are, few calls are left."""
    alike = [(texts, *sizes) for sizes, texts in _runs(zip(wanted, lengths, strict=True))]
    queries = query.split([texts * asked for texts, asked, _ in alike])
    keys, values = (states.split([texts * length for texts, _, length in alike]) for states in (key, value))
    found = [
        scaled_dot_product_attention(
            _each(q, texts), _each(k, texts), _each(v, texts), _within(mask, length), scale=scaling
        )
        .transpose(1, 2)
        .flatten(0, 1)
        for (texts, _, length), q, k, v in zip(alike, queries, keys, values, strict=True)
    ]
    return torch.cat(found)


def _each(states: torch.Tensor, texts: int) -> torch.Tensor:
    """`(texts, heads, tokens, size)` of texts of equal length, from `(tokens of all, heads, size)`."""
    return states.view(texts, len(states) // texts, *states.shape[1:]).transpose(1, 2)


def _within(mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """The mask of one text, or None where it hides nothing."""
    if mask is None or mask[:length, :length].all():
        return None
    return mask[:length, :length]


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, wanted: Sequence[int], lengths: Sequence[int],
    scaling: float | None, _mask: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    asked, given = (
        torch.tensor([0, *accumulate(sizes)], dtype=torch.int32).to(query.device, non_blocking=True)
        for sizes in (wanted, lengths)
    )
    found = varlen_attn(query, key, value, asked, given, max(wanted), max(lengths), scale=scaling)
    assert isinstance(found, torch.Tensor)
    return found


def _runs(items: Any) -> Iterator[tuple[Any, int]]:
    return ((item, sum(1 for _ in alike)) for item, alike in groupby(items))


def _places(columns: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
    return torch.from_numpy(
        np.concatenate([np.asarray(each, dtype=np.int64) + start for each, start in zip(columns, starts, strict=True)])
    )


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, visible)
