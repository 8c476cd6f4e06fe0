"""Rows of a pipeline's call, with the size of what they hold, which may be a table."""

from dataclasses import dataclass
from typing import Any, ClassVar

from worker.adapters.rows import ROW_BYTES, TOKEN_BYTES, Row


@dataclass(frozen=True, slots=True)
class PassInputs:
    """The features of a row: the model inputs of one pass.

    input_index: which input of the pipeline's call they belong to; nearly always the only one.
    seed: of the random numbers that the pass may draw.
    """

    inputs: Any
    forward_parameters: dict[str, Any]
    input_index: int
    seed: int


@dataclass(frozen=True, slots=True)
class PassOutput:
    """The output of a pass for one row, with its size, which bounds how many wait to be written."""

    value: Any
    nbytes: int


@dataclass(slots=True)
class GenericRow(Row):
    """A row with the memory of its model inputs, which may hold a table."""

    input_bytes: int = 0

    @property
    def memory_bytes(self) -> int:
        """As `Row.memory_bytes`."""
        return ROW_BYTES + TOKEN_BYTES * self.length + self.input_bytes


class TokenlessRow(GenericRow):
    """A row whose model inputs have no tokens that could be counted."""

    has_tokens: ClassVar[bool] = False
