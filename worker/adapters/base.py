"""The surface of an adapter: all that the engine knows of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.errors import JobError
from worker.batching import Encoded, MicroBatch
from worker.claims import Job


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an input may be, in tokens with the special ones, and what happens past that."""

    max_length: int | None
    truncate: bool


class Adapter(Protocol):
    """Turns jobs into tokens, tokens into logits, logits into the task's output."""

    most_rows: int

    def encode(self, jobs: Sequence[Job]) -> list[Encoded | JobError]:
        """Tokenize, in order; a JobError in the place of an input that can't be answered."""

    def forward(self, batch: MicroBatch) -> list[Any]:
        """One forward pass; one raw output per row, in order, already on the CPU."""

    def decode(self, row: Encoded, raw: Any) -> Any:
        """A row's output as `pipeline(...)` gives it; raises JobError when it is not fit to be written."""
