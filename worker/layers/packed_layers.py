"""Packed passes: an encoder's layers see the tokens of all texts in one row, without padding.

Embeddings and heads still see padded rows, so positions and types of tokens are what they ever are. In between, hooks
on the layers take the padding out and put it in again. Attention is the only work of a layer that looks at more than
one token, so only that has to know where a text ends; the model's config names ours during a packed pass and at no
other time.

Heads that look at a few positions (a classifier at the first, a language model's at the masks) need no others from the
last layer: there the others give keys and values, and go no further.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from worker.layers.packed_attention import ATTENTION_NAME, KeysValuesCaptured, PackedLayout, current_layout

HALF_DTYPES = (torch.float16, torch.bfloat16)  # what attention over texts of any length takes on CUDA


def is_packing_supported(model: Any) -> bool:
    """Whether there is an attention for packed passes where this model is, and nobody asked for another."""
    on = {"cpu": True, "cuda": model.dtype in HALF_DTYPES}
    usual = model.config._attn_implementation == "sdpa" and not model.config.is_encoder_decoder
    return usual and on.get(model.device.type, False)


class PackedLayers:
    """A model whose layers may be packed; raises ValueError where it has no list of layers."""

    def __init__(self, model: Any) -> None:
        self._config = model.config
        layers = next((part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)), None)
        if not layers:
            raise ValueError("no list of layers was found")
        self._hooks = [
            layers[0].register_forward_pre_hook(_pack, with_kwargs=True),
            *(layer.register_forward_pre_hook(_rotate_positions, with_kwargs=True) for layer in layers),
            layers[-1].register_forward_pre_hook(_keep_needed_positions, with_kwargs=True),
            layers[-1].register_forward_hook(_unpack),
        ]

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def activate(self, layout: PackedLayout) -> Iterator[None]:
        """Calls of the model in here are packed; whatever they raise, those after it are as before."""
        usual = self._config._attn_implementation
        token = current_layout.set(layout)
        self._config._attn_implementation = ATTENTION_NAME
        try:
            yield
        finally:
            self._config._attn_implementation = usual
            current_layout.reset(token)


def _pack(_layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Take the padding out before the first layer."""
    layout = current_layout.get()
    if layout is None:
        return None
    states = args[0]
    if states.shape[:2] != layout.shape:
        raise ValueError("the layers do not begin with a state for each token")
    return (states.flatten(0, 1)[layout.token_indices][None], *args[1:]), options


def _rotate_positions(_layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Give each token the rotation of its position, where a layer gets such for `(1, width)`."""
    layout = current_layout.get()
    return None if layout is None else (args, _select_position_embeddings(options, layout.positions))


def _select_position_embeddings(options: dict[str, Any], positions: torch.Tensor) -> dict[str, Any]:
    if options.get("position_embeddings") is None:
        return options
    return {**options, "position_embeddings": tuple(part[:, positions] for part in options["position_embeddings"])}


def _keep_needed_positions(layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Go through the last layer with the kept positions alone, once all positions' keys and values are known."""
    layout = current_layout.get()
    if layout is None or layout.output_counts is None:
        return None
    layout.capturing = True
    try:
        layer.forward(*args, **options)
    except KeysValuesCaptured:
        pass
    finally:
        layout.capturing = False
    return (args[0][:, layout.query_indices], *args[1:]), _select_position_embeddings(options, layout.query_indices)


def _unpack(_layer: Any, _args: Any, output: Any) -> Any:
    """Put the padding in again behind the last layer; it holds zeros, and so do positions that nobody looks at."""
    layout = current_layout.get()
    if layout is None:
        return None
    states = output[0] if isinstance(output, tuple) else output
    rows, width = layout.shape
    padded = states.new_zeros(rows * width, states.shape[-1])
    padded[layout.output_indices] = states[0]
    padded = padded.view(rows, width, -1)
    layout.captured_kv = None
    return (padded, *output[1:]) if isinstance(output, tuple) else padded
