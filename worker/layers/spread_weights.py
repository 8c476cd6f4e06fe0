"""Models whose weights lie on several devices or on disk; Accelerate brings them to the layers that need them."""

from collections import Counter
from typing import Any

import torch

from worker.layers import torchao_linear

DISK = "disk"


def is_spread(model: Any) -> bool:
    """Whether the weights lie on more than one device, or partly on disk."""
    places = set((getattr(model, "hf_device_map", None) or {}).values())
    return len(places) > 1 or DISK in places


def pipeline_device(model: Any) -> torch.device | None:
    """The device to give to a pipeline of transformers, which refuses one if Accelerate loaded the model."""
    return None if getattr(model, "hf_device_map", None) else model.device


def bytes_by_place(model: Any) -> dict[str, int]:
    """The bytes of weights and buffers on each device, or on `disk`."""
    sizes: Counter[str] = Counter()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        place = _place_on_map(model, name) if tensor.device.type == "meta" else str(tensor.device)
        sizes[place] += torchao_linear.size_bytes(tensor)
    return dict(sizes)


def bytes_on(model: Any, device: torch.device) -> int:
    """The bytes of weights and buffers that stay on this device."""
    tensors = (tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.device == device)
    return sum(torchao_linear.size_bytes(tensor) for tensor in tensors)


def _place_on_map(model: Any, name: str) -> str:
    """The place of a weight that is brought to its layer for each pass: the machine's memory, or disk."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), -1, -1))
    place = next((model.hf_device_map[prefix] for prefix in prefixes if prefix in model.hf_device_map), DISK)
    return str(place)
