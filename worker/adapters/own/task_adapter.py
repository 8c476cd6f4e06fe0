"""What the author of a task writes for the worker. Version 1 of the interface, in `batchmill.TaskAdapter`."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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

    features: lists of whole numbers, one for each token, as a tokenizer gives them for one text without padding;
        `input_ids` among them. Batchmill pads them and makes the `attention_mask`.
    truncated: whether a text was cut.
    key: only rows with equal keys share a forward pass.
    data: whatever `decode` needs to know of this row.
    """

    features: Mapping[str, Sequence[int]] = field(repr=False)
    truncated: bool = False
    key: Hashable = None
    data: Any = field(default=None, repr=False)


class TaskAdapter(ABC):
    """Turns inputs into rows, rows into raw outputs, and the raw outputs of an input into its result.

    The three steps run in threads of their own, each in one thread at a time. An exception fails only the inputs that
    cause it; a JobError fails its input with that code and message. Parameters come with their defaults.

    model_class: the class that loads the model by `from_pretrained`: one of transformers' auto classes, or a
        PreTrainedModel of your own.
    can_pad: whether rows of different lengths may share a pass, padded and masked. It is tried when the model is
        loaded; False spares the trial.
    uses_tokenizer: whether `encode` needs the tokenizer of the model's folder; if False, `self.tokenizer` is None, and
        the folder need not have one.
    """

    model_class: ClassVar[Any]
    can_pad: ClassVar[bool] = True
    uses_tokenizer: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, options: AdapterOptions) -> None:
        self.model, self.tokenizer, self.options = model, tokenizer, options

    @abstractmethod
    def encode(self, input: Mapping[str, Any], parameters: Mapping[str, Any]) -> ModelRow | Sequence[ModelRow]:  # noqa: A002
        """Return the rows of an input. Raises JobError for an input that can't be processed."""

    @abstractmethod
    def forward(self, tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, Any]) -> Any:
        """Run one forward pass; return one raw output for each row, in their order.

        A tensor, a dictionary of tensors, or a model's output may hold all rows: each row then gets its part.

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
        """As `encode` for inputs with equal parameters, such as by one call of the tokenizer; may be overridden.

        A JobError in the place of rows fails its input.
        """
        raise NotImplementedError

    def decode_many(
        self,
        inputs: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        rows: Sequence[Sequence[ModelRow]],
        outputs: Sequence[Sequence[Any]],
    ) -> Sequence[Any]:
        """As `decode` for inputs with equal parameters, in their order; may be overridden.

        A JobError in the place of a result fails its input.
        """
        raise NotImplementedError

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        """Read further files of the model's folder when it is loaded; may be overridden.

        Return the tokens of the longest input where these files name it, else None. Raises batchmill.ModelError if the
        files are unusable.
        """
        return None
