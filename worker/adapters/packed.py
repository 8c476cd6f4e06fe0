"""Packed passes: an encoder's layers see the tokens of all texts in one row, without padding, and each text attends to
itself alone.

Embeddings and heads still see padded rows, so positions and types of tokens are what they ever are. In between, hooks
on the layers take the padding out and put it in again. Attention is the only work of a layer that looks at more than
one token, so only that has to know where a text ends; it is registered with transformers under a name, which the
model's config has during a packed pass and at no other time.

Heads that look at a few positions (a classifier at the first, a language model's at the masks) need no others from the
last layer: there the others give keys and values, and go no further.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "batchmill_packed"
# What our attention can do without: models that pass any more of these have an attention of another kind.
UNKNOWN = ("position_bias", "softcap", "s_aux", "sliding_window")
HALF = (torch.float16, torch.bfloat16)  # what attention over texts of any length takes on CUDA
Places = Sequence[Sequence[int]]
_current: ContextVar["Layout | None"] = ContextVar("layout of the packed pass", default=None)


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
        self.outputs, self.queries = self.tokens, self.tokens
        if kept is not None:
            self.outputs = _places(kept, padded).to(device)
            self.queries = _places(kept, [0, *accumulate(lengths)][:-1]).to(device)
        self.holding = False
        self.held: tuple[torch.Tensor, torch.Tensor] | None = None

    def attended(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None
    ) -> torch.Tensor:
        """`(1, tokens, heads, size)`, from `(1, heads, tokens, size)`; queries are all tokens', or the kept ones'."""
        wanted = self.lengths if self.held is None else self.kept or self.lengths
        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
        if (len(query), len(key)) != (sum(wanted), sum(self.lengths)):
            raise ValueError("attention over other tokens than those of the texts")
        attention = _varlen if query.device.type == "cuda" else _by_length
        return attention(query, key, value, wanted, self.lengths, scaling)[None]


class PackedLayers:
    """A model whose layers may be packed; raises ValueError where it has no list of layers."""

    def __init__(self, model: Any) -> None:
        self._config = model.config
        layers = next((part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)), None)
        if not layers:
            raise ValueError("no list of layers was found")
        self._hooks = [
            layers[0].register_forward_pre_hook(_pack, with_kwargs=True),
            layers[-1].register_forward_pre_hook(_narrow, with_kwargs=True),
            layers[-1].register_forward_hook(_unpack),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def over(self, layout: Layout) -> Iterator[None]:
        """Calls of the model in here are packed; whatever they raise, those after it are as before."""
        usual = self._config._attn_implementation
        token = _current.set(layout)
        self._config._attn_implementation = NAME
        try:
            yield
        finally:
            self._config._attn_implementation = usual
            _current.reset(token)


def possible(model: Any) -> bool:
    """Whether there is an attention for packed passes where this model is, and nobody asked for another."""
    on = {"cpu": True, "cuda": model.dtype in HALF}
    usual = model.config._attn_implementation == "sdpa" and not model.config.is_encoder_decoder
    return usual and on.get(model.device.type, False)


def attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float | None = None, dropout: float = 0.0, is_causal: bool | None = None, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """As transformers calls an attention. Raises ValueError for a kind of attention that can't be packed."""
    layout = _current.get()
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if layout is None or causal or attention_mask is not None or len(query) != 1:
        raise ValueError("not the attention of a packed encoder")
    if any(options.get(name) is not None for name in UNKNOWN):
        raise ValueError("an attention with more to it than queries, keys and values")
    if layout.holding:
        layout.held = key, value
        raise Held
    key, value = layout.held or (key, value)
    return layout.attended(query, key, value, scaling), None


AttentionInterface.register(NAME, attend)


def _pack(_layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Take the padding out before the first layer."""
    layout = _current.get()
    if layout is None:
        return None
    states = args[0]
    if states.shape[:2] != layout.shape:
        raise ValueError("the layers do not begin with a state for each token")
    return (states.flatten(0, 1)[layout.tokens][None], *args[1:]), options


def _narrow(layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Go through the last layer with the kept positions alone, once all positions' keys and values are known."""
    layout = _current.get()
    if layout is None or layout.kept is None:
        return None
    layout.holding = True
    try:
        layer.forward(*args, **options)
    except Held:
        pass
    finally:
        layout.holding = False
    return (args[0][:, layout.queries], *args[1:]), options


def _unpack(_layer: Any, _args: Any, output: Any) -> Any:
    """Put the padding in again behind the last layer; it holds zeros, and so do positions that nobody looks at."""
    layout = _current.get()
    if layout is None:
        return None
    states = output[0] if isinstance(output, tuple) else output
    rows, width = layout.shape
    padded = states.new_zeros(rows * width, states.shape[-1])
    padded[layout.outputs] = states[0]
    padded = padded.view(rows, width, -1)
    layout.held = None
    return (padded, *output[1:]) if isinstance(output, tuple) else padded


def _by_length(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, wanted: Sequence[int], lengths: Sequence[int],
    scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """Neighbours of equal length share a call: sorted as rows are, few calls are left."""
    alike = [(texts, *sizes) for sizes, texts in _runs(zip(wanted, lengths, strict=True))]
    queries = query.split([texts * asked for texts, asked, _ in alike])
    keys, values = (states.split([texts * length for texts, _, length in alike]) for states in (key, value))
    found = [
        scaled_dot_product_attention(_each(q, texts), _each(k, texts), _each(v, texts), scale=scaling)
        .transpose(1, 2)
        .flatten(0, 1)
        for (texts, _, _), q, k, v in zip(alike, queries, keys, values, strict=True)
    ]
    return torch.cat(found)


def _each(states: torch.Tensor, texts: int) -> torch.Tensor:
    """`(texts, heads, tokens, size)` of texts of equal length, from `(tokens of all, heads, size)`."""
    return states.view(texts, len(states) // texts, *states.shape[1:]).transpose(1, 2)


def _varlen(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, wanted: Sequence[int], lengths: Sequence[int],
    scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    from torch.nn.attention.varlen import varlen_attn

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
