"""What the author of a logits processor writes. Version 1 of the interface, in `batchmill.LogitsControl`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class LogitsRow:
    """One text that is being written.

    prompt_ids: int64 `(tokens,)`, the tokens of the prompt, or of an encoder-decoder's input.
    new_ids: int64 `(tokens,)`, the tokens written so far, empty at first.
    parameters: those of the batch.
    """

    prompt_ids: torch.Tensor
    new_ids: torch.Tensor
    parameters: Mapping[str, Any]


class LogitsControl(ABC):
    """Changes the scores of a row's next token; made once, when the model is loaded.

    It must keep nothing from one call to the next: each gets everything written so far, and a row may begin again after
    a retry. An exception fails its row with code `processor_error`; a JobError, with that code and message.

    Any class or function will do that takes a model and its tokenizer, and returns what can be called like this one.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    @abstractmethod
    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores of the next token, float32 `(vocabulary,)` as those given, which may be changed in place.

        A token with minus infinity is never written; one token at least must have a finite score.
        """

    def call_many(self, rows: Sequence[LogitsRow], scores: torch.Tensor) -> torch.Tensor:
        """As a call for each row, with scores `(rows, vocabulary)`; override it where one computation is faster.

        Each row's scores must be those of a call for it alone.
        """
        return torch.stack([self(row, row_scores) for row, row_scores in zip(rows, scores, strict=True)])
