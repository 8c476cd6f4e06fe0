"""int8 on a CPU: linear layers whose weights are int8, and whose inputs are made so token by token.

Torch's own dynamic layer takes one range for all that is in a pass, so that padding and other texts' outliers coarsen a
text's numbers, and its answer depends on its company. Here every token has a range of its own: sums of integers are
exact, so a token comes out bit by bit the same in any company, and rows may share passes as they do in float32.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.ao.quantization
from torch.ao.nn.quantized.dynamic import Linear

# As fine as x86 without VNNI takes it: there two products of 8 bits by 8 are summed up in 16, and would overflow.
HALF_RANGE, ZERO_POINT = 63, 64
WEIGHT_RANGE = 127
ENGINES = ("x86", "fbgemm")  # torch's kernels that have the product below


class Int8Linear(torch.nn.Module):
    """In the place of a float32 `torch.nn.Linear`: float32 `(…, in)` to float32 `(…, out)`.

    Each output has a scale for its weights, each token one for its numbers; both are symmetric.
    """

    weight = None  # what some models look at, to see whether it is a tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = _max_magnitude(weight).squeeze(-1).double() / WEIGHT_RANGE
        centred = torch.zeros(len(weight), dtype=torch.long)
        quantized = torch.quantize_per_channel(weight, scales, centred, 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(quantized, None)
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().clone()
        self.bias = torch.nn.Buffer(bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The product, each token brought to the range of 1 before and back after."""
        largest = _max_magnitude(inputs)
        product = _int8_matmul(inputs / largest, 1 / HALF_RANGE, ZERO_POINT, self._packed)
        return torch.addcmul(self.bias, product, largest)

    def dequantize_weight(self) -> torch.Tensor:
        """The weights, float32 `(out, in)`."""
        weights: torch.Tensor = torch.ops.quantized.linear_unpack(self._packed)[0].dequantize()
        return weights


def quantize(model: Any) -> int:
    """Put int8 in the place of a model's linear layers, in place; returns how many there were.

    On a processor whose kernels lack the product (ARM's), the layers are torch's own, with one range for a whole pass.
    """
    found = [
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is torch.nn.Linear  # kinds of it have weights that something else reads
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch wants this in a package of its own some day; the exact pin keeps it
        for module, name in found:
            setattr(module, name, _quantize_layer(getattr(module, name)))
    return len(found)


def is_quantized_across_rows(model: Any) -> bool:
    """Whether numbers of all rows of a pass are rounded by what is largest among them, so that other rows show.

    So it is with torch's own dynamic layers, and with those of bitsandbytes that keep outliers apart.
    """
    return any(isinstance(layer, Linear) or _has_outlier_threshold(layer) for layer in model.modules())


def _has_outlier_threshold(layer: Any) -> bool:
    return type(layer).__name__ == "Linear8bitLt" and getattr(layer.state, "threshold", 0.0) > 0.0


@contextmanager
def float32_fallback(model: Any) -> Iterator[None]:
    """Layers of int8 compute in float32 in here: what goes in is not rounded, so passes of other shapes agree."""
    layers = [layer for layer in model.modules() if isinstance(layer, (Int8Linear, Linear))]
    for layer in layers:
        setattr(layer, "forward", partial(_float32_forward, layer))  # noqa: B010  # over the method, for a while
    try:
        yield
    finally:
        for layer in layers:
            delattr(layer, "forward")


def _float32_forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    ours = isinstance(layer, Int8Linear)
    weights, bias = (layer.dequantize_weight(), layer.bias) if ours else (layer.weight().dequantize(), layer.bias())
    return torch.nn.functional.linear(inputs, weights, bias)


def _quantize_layer(linear: torch.nn.Linear) -> Any:
    if torch.backends.quantized.engine in ENGINES:
        return Int8Linear(linear)
    layers: Any = torch.ao.quantization
    return layers.quantize_dynamic(torch.nn.Sequential(linear), {torch.nn.Linear}, dtype=torch.qint8)[0]


def _max_magnitude(values: torch.Tensor) -> torch.Tensor:
    # Two passes that write next to nothing are faster than one over `numbers.abs()`, and than `aminmax` by ten times.
    largest = torch.maximum(values.amax(-1, keepdim=True), values.amin(-1, keepdim=True).neg_())
    return largest.clamp_(min=torch.finfo(torch.float32).tiny)


_int8_matmul = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
