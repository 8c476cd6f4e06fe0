"""Shared weights: models over one base have their own modules and buffers, but the same parameters.

Two pipelines of one process with the same model, revision, dtype, device and attention take the parameters from memory.
Whatever adds layers or hooks to a model, or replaces some, therefore never changes a parameter in place.
"""

import copy
import threading
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch

from worker.layers import int8_linear
from worker.layers.model_state import MAX_BUFFER_ELEMENTS


@dataclass(eq=False, slots=True, weakref_slot=True)
class BaseModel:
    """A model as it was loaded, which is copied for each pipeline and never runs itself.

    missing: names of weights that its files lack, and that an adapter must have.
    """

    model: Any
    missing: tuple[str, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors that all copies have in common: parameters, and large tables that no pass changes."""
        tables = [buffer for buffer in self.model.buffers() if buffer.numel() > MAX_BUFFER_ELEMENTS]
        return [*self.model.parameters(), *tables]

    def copy(self) -> Any:
        """Return a copy of the modules, with the same parameters."""
        packed = (value for module in self.model.modules() for value in vars(module).values())
        kept = [*self.tensors, *(value for value in packed if isinstance(value, torch.ScriptObject))]
        return copy.deepcopy(self.model, {id(value): value for value in kept})


# A base lives as long as a model that is a copy of it.
_bases: WeakValueDictionary[Hashable, BaseModel] = WeakValueDictionary()
_base_by_model: WeakKeyDictionary[Any, BaseModel] = WeakKeyDictionary()
_lock = threading.Lock()


def share(key: Hashable, device: torch.device, load: Callable[[], BaseModel]) -> tuple[Any, tuple[str, ...]]:
    """Return a model, and the names of the weights that its files lack; it is loaded unless its base is in memory.

    key: equal for models with equal weights.
    device: where the weights must be.
    """
    with _lock:
        base = _bases.get(key)
        if base is None:
            base = load()
        else:
            move(base.tensors, device)
        try:
            model = base.copy()
        except Exception:  # some model can't be copied, and then has its weights for itself
            return base.model, base.missing
        _bases[key] = base
        _base_by_model[model] = base
        return model, base.missing


def shared_sizes(model: Any) -> dict[int, int]:
    """Return the bytes of each tensor that the model may share, packed int8 weights included, by its identity."""
    base = _base_by_model.get(model)
    if base is None:
        return {}
    shared = {id(tensor): tensor.nbytes for tensor in base.tensors} | int8_linear.packed_sizes(base.model)
    own = (*map(id, (*model.parameters(), *model.buffers())), *int8_linear.packed_sizes(model))
    return {identity: shared[identity] for identity in own if identity in shared}


def move_model(model: Any, device: torch.device | str, *, keeps_shared: bool = False) -> None:
    """Move a model's tensors, in place, so that models that share them still do.

    keeps_shared: leave the tensors that it may share where they are.
    """
    shared = shared_sizes(model)
    move([tensor for tensor in model.parameters() if not (keeps_shared and id(tensor) in shared)], device)
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and id(buffer) not in shared:
                module._buffers[name] = buffer.to(device)
            elif buffer is not None and not keeps_shared:
                move([buffer], device)


def move(tensors: Collection[torch.Tensor], device: torch.device | str) -> None:
    """Move tensors in place; those on the device already stay as they are."""
    for tensor in tensors:
        tensor.data = tensor.data.to(device)
