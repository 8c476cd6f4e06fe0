"""Forward passes of a pipeline over the model inputs of several rows, and the outputs of each row."""

from collections import UserDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import pad_collate_fn
from transformers.utils import ModelOutput

IDS = "input_ids"


class Passes:
    """Runs model inputs, each of one row, together in one pass."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        has_padding = pipe.tokenizer is not None and pipe.tokenizer.pad_token_id is not None
        self._collate = pad_collate_fn(pipe.tokenizer, None) if has_padding else None

    @property
    def can_share(self) -> bool:
        """Whether rows can be put together at all."""
        return self._collate is not None

    def run(self, inputs: Sequence[Any], forward_parameters: Mapping[str, Any]) -> list[Any]:
        """One output for each of the inputs, on the CPU, as if each had run alone.

        Raises ValueError where the outputs of several rows can't be separated.
        """
        if len(inputs) == 1 or self._collate is None:
            return [self._pipe.forward(one, **forward_parameters) for one in inputs]
        outputs = self._pipe.forward(self._collate([dict(one) for one in inputs]), **forward_parameters)
        return [_select(outputs, index, len(inputs)) for index in range(len(inputs))]


def shared_form(inputs: Any) -> Hashable | None:
    """The form of a row's model inputs, which is equal for rows that may share a pass; None if it must run alone."""
    if not isinstance(inputs, Mapping | UserDict) or row_count(inputs) != 1:
        return None
    return tuple(sorted((str(name), _form(value)) for name, value in inputs.items()))


def row_count(inputs: Any) -> int | None:
    """How many sequences a row's model inputs hold; None = unknown."""
    ids = inputs.get(IDS) if isinstance(inputs, Mapping | UserDict) else None
    return len(ids) if isinstance(ids, torch.Tensor) and ids.ndim == 2 else None


def find_ids(inputs: Any) -> Iterator[torch.Tensor]:
    """Every tensor of token ids in model inputs, at any depth."""
    if isinstance(inputs, Mapping | UserDict):
        for name, value in inputs.items():
            if name == IDS and isinstance(value, torch.Tensor):
                yield value
            else:
                yield from find_ids(value)
    elif isinstance(inputs, list | tuple):
        for value in inputs:
            yield from find_ids(value)


def memory_bytes(value: Any) -> int:
    """The approximate memory of model inputs or outputs."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return int(value.nbytes)
    if isinstance(value, Mapping | UserDict):
        return sum(memory_bytes(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(memory_bytes(inner) for inner in value)
    if isinstance(value, str):
        return len(value)
    usage = getattr(value, "memory_usage", None)  # of a table of pandas
    return int(usage(deep=False).sum()) if usage is not None else 32


def without_bfloat16(value: Any) -> Any:
    """Outputs whose numbers NumPy can hold, which has no bfloat16; float32 holds them exactly."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, Mapping | UserDict):
        converted = {name: without_bfloat16(inner) for name, inner in value.items()}
        return type(value)(**converted) if isinstance(value, ModelOutput) else converted
    return tuple(map(without_bfloat16, value)) if isinstance(value, tuple) else value


def _form(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {value.ndim} {tuple(value.shape[2:])}"
    return type(value).__name__


def _select(outputs: Any, index: int, count: int) -> Any:
    """One row's part of the outputs of a pass, in which tensors keep an axis of one row."""
    if isinstance(outputs, torch.Tensor | np.ndarray):
        return outputs if outputs.ndim == 0 else _checked(outputs, count)[index : index + 1]
    if isinstance(outputs, list):
        return _checked(outputs, count)[index]
    if isinstance(outputs, tuple):
        return tuple(_select(value, index, count) for value in outputs)
    if isinstance(outputs, Mapping | UserDict):
        selected = {name: _select(value, index, count) for name, value in outputs.items()}
        return type(outputs)(**selected) if isinstance(outputs, ModelOutput) else selected
    return outputs


def _checked(outputs: Any, count: int) -> Any:
    if len(outputs) != count:
        raise ValueError(f"a pass of {count} rows gave {len(outputs)} outputs")
    return outputs
