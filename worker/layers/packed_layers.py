"""Hooks that let an encoder's layers see the tokens of all texts in one row, without padding.

Embeddings and heads still see padded rows, so positions and token types stay as usual. Hooks on the layers remove the
padding in between, and restore it at the end. Attention is the only part of a layer that looks at more than one token,
so only attention must know where a text ends. The model's config names the packed attention during a packed pass only.

Some heads look at few positions: a classifier at the first, a language model's at the masks. The last layer then
computes only keys and values for the other positions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import pad

from worker.layers import onednn_linear, spread_weights
from worker.layers.packed_attention import ATTENTION_NAME, KeysValuesCaptured, PackedLayout, current_layout

HALF_DTYPES = (torch.float16, torch.bfloat16)  # the dtypes that variable-length attention supports on CUDA


def unsupported_reason(model: Any) -> str | None:
    """The reason why there is no packed attention for this model's settings, device or dtype; None if there is one."""
    attention, device = model.config._attn_implementation, model.device.type
    if model.config.is_encoder_decoder:
        return "it is an encoder-decoder"
    if spread_weights.is_spread(model):
        return "its weights lie on several devices or on disk"
    if attention != "sdpa":
        return f"its attention is {attention}, and only sdpa is packed"
    if device == "cuda" and model.dtype not in HALF_DTYPES:
        dtype = str(model.dtype).removeprefix("torch.")
        return f"packed attention on CUDA needs half precision, and its dtype is {dtype}; set dtype to float16"
    return None if device in ("cpu", "cuda") else f"there is no packed attention on {device}"


class PackedLayers:
    """The hooks on a model's layers; raises ValueError where the model has no list of layers."""

    def __init__(self, model: Any) -> None:
        self._config = model.config
        self._rounds_tokens = onednn_linear.is_used_in(model)
        layers = next((part for part in model.base_model.modules() if isinstance(part, torch.nn.ModuleList)), None)
        if not layers:
            raise ValueError("the model has no list of layers")
        self._hooks = [
            layers[0].register_forward_pre_hook(_pack, with_kwargs=True),
            *(layer.register_forward_pre_hook(_rotate_positions, with_kwargs=True) for layer in layers),
            layers[-1].register_forward_pre_hook(_keep_needed_positions, with_kwargs=True),
            layers[-1].register_forward_hook(_unpack),
        ]

    def remove(self) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def activate(self, layout: PackedLayout) -> Iterator[None]:
        """Calls of the model inside this context are packed; later ones are not, even after an exception."""
        if self._rounds_tokens:
            layout.add_filler(onednn_linear.padded_token_count(layout.token_lengths.total))
        attention = self._config._attn_implementation
        token = current_layout.set(layout)
        self._config._attn_implementation = ATTENTION_NAME
        try:
            yield
        finally:
            self._config._attn_implementation = attention
            current_layout.reset(token)


def _pack(_layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Remove the padding before the first layer."""
    layout = current_layout.get()
    if layout is None:
        return None
    states = args[0]
    if states.shape[:2] != layout.shape:
        raise ValueError("the first layer's input is not one state per token")
    packed = states.flatten(0, 1)[layout.token_indices]
    if layout.filler_count:
        packed = pad(packed, (0, 0, 0, layout.filler_count))
    return (packed[None], *args[1:]), options


def _rotate_positions(_layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Select each token's rotation by its position, where layers receive rotations for `(1, width)`."""
    layout = current_layout.get()
    if layout is None or options.get("position_embeddings") is None:
        return None
    return args, _select_position_embeddings(options, layout.positions_with_filler)


def _select_position_embeddings(options: dict[str, Any], positions: torch.Tensor) -> dict[str, Any]:
    if options.get("position_embeddings") is None:
        return options
    return {**options, "position_embeddings": tuple(part[:, positions] for part in options["position_embeddings"])}


def _keep_needed_positions(layer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Run the last layer for the needed positions only, after capturing all positions' keys and values."""
    layout = current_layout.get()
    if layout is None or not layout.reduces_output:
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
    """Restore the padding after the last layer; padding and positions that are not needed hold zeros."""
    layout = current_layout.get()
    if layout is None:
        return None
    states = output[0] if isinstance(output, tuple) else output
    rows, width = layout.shape
    padded = states.new_zeros(rows * width, states.shape[-1])
    padded[layout.output_indices] = states[0, : len(layout.output_indices)]
    padded = padded.view(rows, width, -1)
    layout.captured_kv = None
    return (padded, *output[1:]) if isinstance(output, tuple) else padded
