"""Products: which of torch's two libraries multiplies a linear layer's float32 matrices on this CPU.

Torch asks MKL, which leaves AVX-512 unused on processors that are not Intel's; oneDNN, which it brings along and asks
in bfloat16, uses what there is. Both answer with the same numbers up to float32's last digits.
"""

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import linear

CPUINFO_PATH = Path("/proc/cpuinfo")
INTEL_VENDOR = "GenuineIntel"


class OneDnnLinear(torch.nn.Linear):
    """A float32 linear layer on a CPU, multiplied by oneDNN. For inference: it knows no gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """The same as torch's own."""
        return _onednn_linear(input, self.weight, self.bias)


def use_onednn(model: Any) -> int:
    """Let oneDNN multiply where it is the faster one; weights stay as they are. Returns how many layers there are."""
    if not is_onednn_faster():
        return 0
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    for layer in layers:
        layer.__class__ = OneDnnLinear  # the same object: what shares its weights goes on sharing them
    return len(layers)


@cache
def is_onednn_faster() -> bool:
    """Whether this is a processor with AVX-512 that is not Intel's.

    By what it is and not by a trial: noise must not let two processes on one machine add up in different orders.
    """
    backend: Any = torch.backends.mkldnn
    if not backend.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return _cpu_vendor() not in (None, INTEL_VENDOR)


def _cpu_vendor() -> str | None:
    with suppress(OSError):
        for line in CPUINFO_PATH.read_text().splitlines():
            if line.startswith("vendor_id"):
                return line.rpartition(":")[2].strip()
    return None


def _onednn_linear(inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if inputs.numel() == 0:  # which oneDNN does not take
        return linear(inputs, weight, bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
    return product
