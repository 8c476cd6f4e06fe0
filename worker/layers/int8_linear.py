"""Linear layers for CPUs with int8 weights, whose inputs are quantized token by token.

Torch's own dynamic layer uses one range for a whole pass. Padding and outliers of other rows then coarsen a row's
numbers, and its output depends on the other rows. Here every token has its own range. Integer sums are exact, so a
token's output is bit-identical whatever else is in the pass, and rows share passes as in float32.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.ao.quantization
from torch.ao.nn.quantized.dynamic import Linear

from worker.layers import torchao_linear

# The finest range for x86 without VNNI, where two 8-bit products are summed in 16 bits: a wider one would overflow.
HALF_RANGE, ZERO_POINT = 63, 64
WEIGHT_RANGE = 127
ENGINES = ("x86", "fbgemm")  # torch's kernels that have `_int8_matmul`


class Int8Linear(torch.nn.Module):
    """A replacement for a float32 `torch.nn.Linear`: float32 `(…, in)` to float32 `(…, out)`.

    Weights have one scale per output, inputs one per token; both are symmetric.
    """

    weight = None  # some models check whether this is a tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        scales = _max_magnitude(weight).squeeze(-1).double() / WEIGHT_RANGE
        zero_points = torch.zeros(len(weight), dtype=torch.long)
        quantized = torch.quantize_per_channel(weight, scales, zero_points, 0, torch.qint8)
        self.packed_bytes = weight.numel()  # which no parameter or buffer counts
        self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().clone()
        self.bias = torch.nn.Buffer(bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The product; each token is scaled to the range of 1 before it, and back after it."""
        magnitudes = _max_magnitude(inputs)
        product = _int8_matmul(inputs / magnitudes, 1 / HALF_RANGE, ZERO_POINT, self._packed)
        return torch.addcmul(self.bias, product, magnitudes)

    def dequantize_weight(self) -> torch.Tensor:
        """The weights, float32 `(out, in)`."""
        weights: torch.Tensor = torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()
        return weights

    def to_linear(self) -> torch.nn.Linear:
        """A float32 layer with the same weights."""
        linear = torch.nn.Linear(self.in_features, self.out_features, device="meta")
        linear.weight = torch.nn.Parameter(self.dequantize_weight(), requires_grad=False)
        linear.bias = torch.nn.Parameter(self.bias.clone(), requires_grad=False)
        return linear


LAYERS = (Int8Linear, Linear)


def quantize(model: Any) -> int:
    """Replace a model's linear layers by int8 ones, in place; returns how many there were.

    Where torch's kernels lack the product (on ARM), the layers are torch's own, with one range for a whole pass.
    """
    children = [
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is torch.nn.Linear  # other code reads the weights of its subclasses
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch plans to move this to another package; its version is pinned
        for module, name in children:
            setattr(module, name, _quantize_layer(getattr(module, name)))
    return len(children)


def packed_sizes(model: Any) -> dict[int, int]:
    """The bytes of the packed weights of each int8 layer of a model, by the identity of the weights."""
    return {id(layer._packed): layer.packed_bytes for layer in model.modules() if isinstance(layer, Int8Linear)}


def is_quantized_across_rows(model: Any) -> bool:
    """Whether one range rounds the numbers of all rows of a pass, so that an output depends on the other rows.

    True of torch's own dynamic layers, and of bitsandbytes layers that separate outliers.
    """
    return any(
        isinstance(layer, Linear) or _has_outlier_threshold(layer) or torchao_linear.rounds_across_rows(layer)
        for layer in model.modules()
    )


def _has_outlier_threshold(layer: Any) -> bool:
    return type(layer).__name__ == "Linear8bitLt" and getattr(layer.state, "threshold", 0.0) > 0.0


@contextmanager
def float32_fallback(model: Any) -> Iterator[None]:
    """Layers that round inputs compute without that inside this context, so passes of other shapes agree."""
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, (Int8Linear, Linear)) or torchao_linear.rounds_inputs(layer)
    ]
    for layer in layers:
        setattr(layer, "forward", partial(_float32_forward, layer))  # noqa: B010  # hides the method until `delattr`
    try:
        yield
    finally:
        for layer in layers:
            delattr(layer, "forward")


def _float32_forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    if torchao_linear.rounds_inputs(layer):
        return torchao_linear.float32_forward(layer, inputs)
    if isinstance(layer, Int8Linear):
        weights, bias = layer.dequantize_weight(), layer.bias
    else:
        weights, bias = layer.weight().dequantize(), layer.bias()
    return torch.nn.functional.linear(inputs, weights, bias)


def _quantize_layer(linear: torch.nn.Linear) -> Any:
    if torch.backends.quantized.engine in ENGINES:
        return Int8Linear(linear)
    layers: Any = torch.ao.quantization
    return layers.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, dtype=torch.qint8)[0]


def _max_magnitude(values: torch.Tensor) -> torch.Tensor:
    # Two passes that write almost nothing are faster than one over `values.abs()`, and ten times faster than `aminmax`.
    magnitudes = torch.maximum(values.amax(-1, keepdim=True), values.amin(-1, keepdim=True).neg_())
    return magnitudes.clamp_(min=torch.finfo(torch.float32).tiny)


_int8_matmul = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
