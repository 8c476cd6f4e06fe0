"""Linear layers whose weights torchao quantized: what they are asked without importing torchao.

torchao replaces a layer's weight by another class of tensor, and leaves the layer as it is. Such a weight also knows
whether and how its layer rounds inputs: token by token, or all rows of a pass together.
"""

from typing import Any

import torch


def is_quantized(tensor: torch.Tensor) -> bool:
    """Whether torchao quantized this tensor."""
    return type(tensor).__module__.startswith("torchao.")


def rounds_inputs(layer: Any) -> bool:
    """Whether this layer rounds its inputs, so that the least difference may become a larger one."""
    weight = getattr(layer, "weight", None)
    return isinstance(weight, torch.Tensor) and is_quantized(weight) and _input_rounding(weight) is not None


def rounds_across_rows(layer: Any) -> bool:
    """Whether one range rounds the inputs of all rows of a pass."""
    if not rounds_inputs(layer):
        return False
    return type(_input_rounding(layer.weight).granularity).__name__ != "PerRow"


def float32_forward(layer: Any, inputs: torch.Tensor) -> torch.Tensor:
    """The layer's product without rounding of inputs."""
    return torch.nn.functional.linear(inputs, layer.weight.dequantize().to(inputs.dtype), layer.bias)


def size_bytes(tensor: torch.Tensor) -> int:
    """The memory that a tensor takes; torch itself counts a quantized one as if it were not."""
    if not is_quantized(tensor):
        return tensor.nbytes
    flattened: Any = tensor
    parts = (getattr(tensor, name) for name in flattened.__tensor_flatten__()[0])
    return sum(part.nbytes for part in parts if isinstance(part, torch.Tensor))


def _input_rounding(weight: Any) -> Any:
    """How torchao rounds the inputs of the layer with this weight; None if it does not."""
    return getattr(weight, "act_quant_kwargs", None)
