"""Model state: what a model keeps from one pass to the next, and how it is put back.

Some models change as they read: BigBird drops its sparse attention at the first short text and never takes it up again,
rotary positions with dynamic scaling grow with the longest text. Weights are no part of it.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import torch

PLAIN = (type(None), bool, int, float, str, torch.Tensor)

# A larger buffer is a table that is read, and copying it would cost memory.
LARGEST_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """One module as it was: its parts, its buffers with a copy of their numbers, and its plain attributes."""

    module: torch.nn.Module
    parts: dict[str, torch.nn.Module | None]
    buffers: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, module: torch.nn.Module) -> "Kept":
        """The module as it is now."""
        buffers = {name: (buffer, _copied(buffer)) for name, buffer in module._buffers.items()}
        return cls(module, dict(module._modules), buffers, _plain(module))

    @property
    def has_changed(self) -> bool:
        """Whether the module is not any more as it was."""
        now, module = _plain(self.module), self.module
        return (
            module._modules != self.parts
            or module._buffers.keys() != self.buffers.keys()
            or now.keys() != self.attributes.keys()
            or any(
                not _equal(module._buffers[name], copy) for name, (_, copy) in self.buffers.items() if copy is not None
            )
            or any(not _equal(now[name], value) for name, value in self.attributes.items())
        )

    def restore(self) -> None:
        """Make the module what it was."""
        module = self.module
        module._modules.clear()
        module._modules.update(self.parts)
        for name in module._buffers.keys() - self.buffers.keys():
            del module._buffers[name]
        for name, (buffer, copy) in self.buffers.items():
            if buffer is not None and copy is not None:
                buffer.copy_(copy)
            module._buffers[name] = buffer
        for name in _plain(module).keys() - self.attributes.keys():
            del module.__dict__[name]
        module.__dict__.update(self.attributes)


class ModelState:
    """What a model is like now, apart from its weights.

    kinds: names of module classes to look at, None = all.
    """

    def __init__(self, model: torch.nn.Module, kinds: Container[str] | None = None) -> None:
        self._kept = [Kept.of(module) for module in model.modules() if kinds is None or type(module).__name__ in kinds]

    def changed(self) -> frozenset[str]:
        """The names of the classes whose modules are not any more as they were."""
        return frozenset(type(kept.module).__name__ for kept in self._kept if kept.has_changed)

    def restore(self) -> None:
        """Make the model what it was when this was made."""
        for kept in self._kept:
            kept.restore()


def _plain(module: torch.nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if isinstance(value, PLAIN)}


def _copied(buffer: torch.Tensor | None) -> torch.Tensor | None:
    return None if buffer is None or buffer.numel() > LARGEST_BUFFER else buffer.detach().clone()


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one is other or torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)
