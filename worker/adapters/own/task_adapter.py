"""What the author of a task writes for the worker. Version 1 of the interface, in `batchmill.TaskAdapter`."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from models.errors import JobError


@dataclass(frozen=True, slots=True)
class AdapterOptions:
    """The settings of the pipeline that runs the task.

    pipeline: its name.
    max_length: tokens that a row may have, special ones included, None = no limit.
    truncation: what to do with a longer text: cut it (`truncate`), or raise JobError (`error`).
    """

    pipeline: str
    max_length: int | None
    truncation: str


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One row for the model; an input may become several.

    features: lists of numbers, one for each token, as a tokenizer gives them for one text; `input_ids` among them.
    truncated: whether a text was cut.
    key: only rows with equal keys share a forward pass.
    data: whatever `decode` needs to know of this row.
    """

    features: Mapping[str, Sequence[int]]
    truncated: bool = False
    key: Hashable = None
    data: Any = None


class TaskAdapter(ABC):
    """Turns inputs into rows, rows into raw outputs, and the raw outputs of an input into its result.

    The three steps run in threads of their own, each in one thread at a time. An exception fails only the inputs that
    cause it; a JobError fails its input with that code and message.

    model_class: the class that loads the model by `from_pretrained`: one of transformers' auto classes, or a
        PreTrainedModel of your own.
    can_pad: whether rows of different lengths may share a pass, padded and masked. It is tried when the model is
        loaded; False spares the trial.
    """

    model_class: ClassVar[Any]
    can_pad: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, options: AdapterOptions) -> None:
        self.model, self.tokenizer, self.options = model, tokenizer, options

    @abstractmethod
    def encode(self, input: Mapping[str, Any], parameters: Mapping[str, Any]) -> ModelRow | Sequence[ModelRow]:  # noqa: A002
        """Return the rows of an input. Raises JobError for an input that can't be processed."""

    @abstractmethod
    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Run one forward pass; return one raw output for each row, in their order.

        tensors: int64 `(rows, width)` for each feature, and `attention_mask`, on the model's device.
        """

    @abstractmethod
    def decode(
        self,
        input: Mapping[str, Any],  # noqa: A002
        parameters: Mapping[str, Any],
        rows: Sequence[ModelRow],
        outputs: Sequence[Any],
    ) -> Any:
        """Return the result of an input, ready for JSON, from its rows and their raw outputs on the CPU."""

    def encode_many(
        self, inputs: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]
    ) -> Sequence[ModelRow | Sequence[ModelRow] | JobError]:
        """As `encode` for inputs with equal parameters, such as by one call of the tokenizer."""
        return [self._encode_or_error(one, parameters) for one in inputs]

    def _encode_or_error(
        self, one: Mapping[str, Any], parameters: Mapping[str, Any]
    ) -> ModelRow | Sequence[ModelRow] | JobError:
        try:
            return self.encode(one, parameters)
        except JobError as error:
            return error
