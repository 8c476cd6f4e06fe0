"""Snapshots of the state that a model keeps from one pass to the next, and their restoration.

Some models change as they read. BigBird drops its sparse attention at the first short text and never returns to it;
rotary positions with dynamic scaling grow with the longest text. Weights are not part of the state.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch

PLAIN_TYPES = (type(None), bool, int, float, str, torch.Tensor)

# A larger buffer is a lookup table that no pass changes; copying it would only cost memory.
MAX_BUFFER_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ModuleSnapshot:
    """One module's earlier state: its submodules, its buffers with copies of their numbers, its plain attributes."""

    module: torch.nn.Module
    submodules: dict[str, torch.nn.Module | None]
    buffers: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]
    attributes: dict[str, Any]

    @classmethod
    def capture(cls, module: torch.nn.Module) -> "ModuleSnapshot":
        """A snapshot of the module's present state."""
        buffers = {name: (buffer, _copy_buffer(buffer)) for name, buffer in module._buffers.items()}
        return cls(module, dict(module._modules), buffers, _plain_attributes(module))

    @property
    def has_changed(self) -> bool:
        """Whether the module differs from the snapshot."""
        attributes, module = _plain_attributes(self.module), self.module
        return (
            module._modules != self.submodules
            or module._buffers.keys() != self.buffers.keys()
            or attributes.keys() != self.attributes.keys()
            or any(
                not _is_equal(module._buffers[name], copy)
                for name, (_, copy) in self.buffers.items()
                if copy is not None
            )
            or any(not _is_equal(attributes[name], value) for name, value in self.attributes.items())
        )

    def restore(self) -> None:
        """Return the module to the snapshot."""
        module = self.module
        module._modules.clear()
        module._modules.update(self.submodules)
        for name in module._buffers.keys() - self.buffers.keys():
            del module._buffers[name]
        for name, (buffer, copy) in self.buffers.items():
            if buffer is not None and copy is not None:
                buffer.copy_(copy)
            module._buffers[name] = buffer
        for name in _plain_attributes(module).keys() - self.attributes.keys():
            del module.__dict__[name]
        module.__dict__.update(self.attributes)


class ModelState:
    """A model's state, apart from its weights, at the time when this object is made.

    class_names: names of the module classes to capture, None = all.
    """

    def __init__(self, model: torch.nn.Module, class_names: Container[str] | None = None) -> None:
        self._snapshots = [
            ModuleSnapshot.capture(module)
            for module in model.modules()
            if class_names is None or type(module).__name__ in class_names
        ]

    def changed_classes(self) -> frozenset[str]:
        """The names of the classes whose modules have changed."""
        return frozenset(type(snapshot.module).__name__ for snapshot in self._snapshots if snapshot.has_changed)

    def restore(self) -> None:
        """Return the model to the captured state."""
        for snapshot in self._snapshots:
            snapshot.restore()


def _plain_attributes(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if isinstance(value, PLAIN_TYPES)}


def _copy_buffer(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None or buffer.numel() > MAX_BUFFER_ELEMENTS else buffer.detach().clone()


def _is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left is right or torch.equal(left, right)
    return type(left) is type(right) and bool(left == right)
