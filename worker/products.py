"""Products: which of torch's two libraries multiplies a linear layer's float32 matrices on this CPU.

Torch asks MKL, which leaves AVX-512 unused on processors that are not Intel's; oneDNN, which it brings along and asks
in bfloat16, uses what there is. Both answer with the same numbers up to float32's last digits.
"""

import time
from functools import cache
from statistics import median
from typing import Any

import torch
from torch.nn.functional import linear

ROWS, WIDTH, TRIES = 256, 768, 7  # the trial: a base-sized layer, some 3 ms each time
WORTH = 1.2  # oneDNN must be faster by so much: less is a busy machine's noise


class DnnLinear(torch.nn.Linear):
    """A float32 linear layer on a CPU, multiplied by oneDNN. For inference: it knows no gradient."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 (torch's name)
        """The same as torch's own."""
        return _product(input, self.weight, self.bias)


def quicken(model: Any) -> int:
    """Let oneDNN multiply where it is faster here; weights stay as they are. Returns how many layers there are."""
    if not dnn_is_faster():
        return 0
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    for layer in layers:
        layer.__class__ = DnnLinear  # the same object: what shares its weights goes on sharing them
    return len(layers)


@cache
def dnn_is_faster() -> bool:
    """Try both, once for each process."""
    backend: Any = torch.backends.mkldnn
    if not backend.is_available():
        return False
    with torch.inference_mode():
        numbers, weight, bias = torch.randn(ROWS, WIDTH), torch.randn(WIDTH, WIDTH), torch.randn(WIDTH)
        seconds: dict[Any, list[float]] = {linear: [], _product: []}
        for _ in range(TRIES):
            for multiply, taken in seconds.items():
                started = time.perf_counter()
                multiply(numbers, weight, bias)
                taken.append(time.perf_counter() - started)
    return median(seconds[linear]) > WORTH * median(seconds[_product])


def _product(numbers: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if numbers.numel() == 0:  # which oneDNN does not take
        return linear(numbers, weight, bias)
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(numbers, weight, bias, "none", [], "")
    return product
