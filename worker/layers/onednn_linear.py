"""Linear layers whose products oneDNN computes at a few sizes, where that is faster on this CPU.

Torch uses MKL for float32, which leaves AVX-512 unused on processors that are not Intel's. OneDNN comes with torch,
which uses it for bfloat16, and makes use of AVX-512. Both give the same numbers up to float32's last digits.

OneDNN compiles code for each shape of a product and keeps it, so a new number of tokens costs milliseconds and up to
3 MB. Numbers of tokens are therefore rounded up to a few sizes (decision 0029).
"""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

CPUINFO_PATH = Path("/proc/cpuinfo")
INTEL_VENDOR = "GenuineIntel"

# Sizes from one power of two to the next. Up to as many tokens all sizes exist, so that decoding a few rows costs
# nothing more; above that, filler tokens are at most a sixteenth of the others.
SIZES_PER_OCTAVE = 16

# What oneDNN applies to a product: its name, and its kind of approximation ("none" is the exact GELU).
PLAIN, GELU = ("none", ""), ("gelu", "none")


class OneDnnLinear(torch.nn.Linear):
    """A linear layer on a CPU, float32 or bfloat16, multiplied by oneDNN. For inference only: it has no gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """The product, equal to that of torch's own layer."""
        return _onednn_linear(input, self.weight, self.bias)


class OneDnnGeluLinear(OneDnnLinear):
    """A linear layer and the GELU after it; oneDNN applies it to the product while that is in the caches."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """The GELU of the product."""
        return _onednn_linear(input, self.weight, self.bias, GELU)


class OneDnnConv1D(Conv1D):
    """The linear layer of GPT-2 and its relatives, whose weight is transposed, multiplied by oneDNN."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The product, equal to that of transformers' own layer, which computes a single token faster."""
        if x.numel() == x.shape[-1]:
            output: torch.Tensor = super().forward(x)
            return output
        return _onednn_linear(x, self.weight.t(), self.bias)


ONEDNN_CLASSES: dict[type, type] = {torch.nn.Linear: OneDnnLinear, Conv1D: OneDnnConv1D}


def use_onednn(model: Any) -> int:
    """Switch linear layers to oneDNN where it is faster, with the same weights; returns how many were switched."""
    dtypes = {torch.float32: is_onednn_faster(), torch.bfloat16: is_bfloat16_supported()}
    layers = [
        module for module in model.modules() if type(module) in ONEDNN_CLASSES and dtypes.get(module.weight.dtype)
    ]
    for layer in layers:
        layer.__class__ = ONEDNN_CLASSES[type(layer)]  # the object stays the same, so tied weights stay tied
    return len(layers)


def is_used_in(model: Any) -> bool:
    """Whether a linear layer of the model is multiplied by oneDNN."""
    return any(isinstance(module, (OneDnnLinear, OneDnnConv1D)) for module in model.modules())


@cache
def is_onednn_faster() -> bool:
    """Whether this is a processor with AVX-512 that is not Intel's.

    A timing trial would be subject to noise: two processes on one machine could then sum in different orders.
    """
    backend: Any = torch.backends.mkldnn
    if not backend.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return _cpu_vendor() not in (None, INTEL_VENDOR)


def is_bfloat16_supported() -> bool:
    """Whether torch itself multiplies bfloat16 by oneDNN here, so that only the sizes change."""
    backend: Any = torch.backends.mkldnn
    # Builds without oneDNN, as for Apple silicon, lack the operator itself.
    return backend.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_vendor() -> str | None:
    with suppress(OSError):
        for line in CPUINFO_PATH.read_text().splitlines():
            if line.startswith("vendor_id"):
                return line.rpartition(":")[2].strip()
    return None


def padded_token_count(tokens: int) -> int:
    """The smallest size that so many tokens fit into."""
    step = 1 << max(0, (tokens - 1).bit_length() - SIZES_PER_OCTAVE.bit_length())
    return -(-tokens // step) * step


def _onednn_linear(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, then: tuple[str, str] = PLAIN
) -> torch.Tensor:
    if inputs.numel() == 0:  # oneDNN rejects empty inputs, and no function changes an empty output
        return linear(inputs, weight, bias)
    tokens = inputs.numel() // inputs.shape[-1]
    size = padded_token_count(tokens)
    if size == tokens:
        return _multiply(inputs, weight, bias, then)
    padded = inputs.new_empty(size, inputs.shape[-1])
    padded[:tokens] = inputs.reshape(tokens, -1)
    padded[tokens:] = 0.0
    return _multiply(padded, weight, bias, then)[:tokens].view(*inputs.shape[:-1], -1)


def _multiply(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, then: tuple[str, str]
) -> torch.Tensor:
    name, approximation = then
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, name, [], approximation)
    return product
