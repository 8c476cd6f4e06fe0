"""Model state: what a model keeps from one pass to the next, and how it is put back.

Some models change as they read: BigBird drops its sparse attention at the first short text and never takes it up again,
rotary positions with dynamic scaling grow with the longest text. Weights are no part of it.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch

PLAIN_TYPES = (type(None), bool, int, float, str, torch.Tensor)

# A larger buffer is a table that is read, and copying it would cost memory.
MAX_BUFFER_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ModuleSnapshot:
    """One module as it was: its parts, its buffers with a copy of their numbers, and its plain attributes."""

    module: torch.nn.Module
    submodules: dict[str, torch.nn.Module | None]
    buffers: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]
    attributes: dict[str, Any]

    @classmethod
    def capture(cls, module: torch.nn.Module) -> "ModuleSnapshot":
        """The module as it is now."""
        buffers = {name: (buffer, _copy_buffer(buffer)) for name, buffer in module._buffers.items()}
        return cls(module, dict(module._modules), buffers, _plain_attributes(module))

    @property
    def has_changed(self) -> bool:
        """Whether the module is not any more as it was."""
        now, module = _plain_attributes(self.module), self.module
        return (
            module._modules != self.submodules
            or module._buffers.keys() != self.buffers.keys()
            or now.keys() != self.attributes.keys()
            or any(
                not _is_equal(module._buffers[name], copy)
                for name, (_, copy) in self.buffers.items()
                if copy is not None
            )
            or any(not _is_equal(now[name], value) for name, value in self.attributes.items())
        )

    def restore(self) -> None:
        """Make the module what it was."""
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
    """What a model is like now, apart from its weights.

    kinds: names of module classes to look at, None = all.
    """

    def __init__(self, model: torch.nn.Module, class_names: Container[str] | None = None) -> None:
        self._snapshots = [
            ModuleSnapshot.capture(module)
            for module in model.modules()
            if class_names is None or type(module).__name__ in class_names
        ]

    def changed_classes(self) -> frozenset[str]:
        """The names of the classes whose modules are not any more as they were."""
        return frozenset(type(kept.module).__name__ for kept in self._snapshots if kept.has_changed)

    def restore(self) -> None:
        """Make the model what it was when this was made."""
        for kept in self._snapshots:
            kept.restore()


def _plain_attributes(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if isinstance(value, PLAIN_TYPES)}


def _copy_buffer(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None or buffer.numel() > MAX_BUFFER_ELEMENTS else buffer.detach().clone()


def _is_equal(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left is right or torch.equal(left, right)
    return type(left) is type(right) and bool(left == right)
