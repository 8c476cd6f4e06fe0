"""What an author's `forward` returned: one raw output for each row, on the CPU."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

MAX_DEPTH = 8  # of structures of tensors


class RawOutput:
    """The raw output of one row; the queue of outputs is bounded by its bytes."""

    __slots__ = ("nbytes", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.nbytes = count_bytes(value)


def split_rows(outputs: Any, count: int) -> list[Any] | None:
    """Return one raw output for each of `count` rows, on the CPU; None if there are not as many."""
    if isinstance(outputs, Mapping):  # a model's output is one too
        return _split_mapping({str(name): to_cpu(value) for name, value in outputs.items()}, count)
    if isinstance(outputs, torch.Tensor | np.ndarray) and outputs.ndim and len(outputs) == count:
        return list(to_cpu(outputs))
    if isinstance(outputs, list | tuple) and len(outputs) == count:
        return [to_cpu(output) for output in outputs]
    return None


def _split_mapping(outputs: dict[str, Any], count: int) -> list[Any] | None:
    """Each row's part of the tensors, also of those in lists, such as the states of all layers."""
    parts: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, value in outputs.items():
        tensors = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(tensor, torch.Tensor | np.ndarray) for tensor in tensors):
            continue  # such as a cache, which no result needs
        if any(tensor.ndim == 0 or len(tensor) != count for tensor in tensors):
            return None
        for row, part in enumerate(parts):
            part[name] = value[row] if tensors is not value else [tensor[row] for tensor in tensors]
    return parts if all(parts) else None


def to_cpu(value: Any, depth: int = 0) -> Any:
    """The value with its tensors on the CPU; numbers in half precision become float32."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach().to("cpu")
        return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    if depth >= MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {name: to_cpu(item, depth + 1) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_cpu(item, depth + 1) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(to_cpu(item, depth + 1) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: to_cpu(getattr(value, part.name), depth + 1) for part in fields(value)})
    return value


def count_bytes(value: Any, depth: int = 0) -> int:
    """The approximate memory of a raw output."""
    size = getattr(value, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(value, str | bytes):
        return len(value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        return sum(count_bytes(item, depth + 1) for item in value.values())
    if depth < MAX_DEPTH and isinstance(value, list | tuple):
        return sum(count_bytes(item, depth + 1) for item in value)
    return 32
