"""Rows: what jobs become for the model, and the micro-batches that share a forward pass. Sizes are in tokens."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from worker.leasing.leases import Job

ROW_BYTES = 600  # of a row in memory beside its tokens: itself, its features and its place in a window
TOKEN_BYTES = 8  # with the type of a token, or its place in a text

# Embeddings and heads see even packed rows padded. That is little work, as long as the padding is of the tokens' order.
MAX_PADDING_FACTOR = 2

MAX_MICRO_BATCH_TOKENS = 2**20  # the most padded tokens that a micro-batch may have


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a forward pass: a job, tokenized, or one of the parts of a job that takes several rows.

    Only rows with an equal `key` may share a pass. `width` is what the row must be padded to whatever its company, and
    `most` how many rows its pass may have whatever the budget; None leaves them to the longest, and to the budget.
    A `packed` row shares its pass without padding.
    `twins` are further jobs with the same input and parameters, which get the same answer.
    """

    job: Job
    features: Any
    length: int
    truncated: bool
    key: Hashable = None
    part_index: int = 0
    part_count: int = 1
    width: int | None = None
    max_rows: int | None = None
    packed: bool = False
    duplicates: tuple[Job, ...] = ()

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that is answered by this row."""
        return (self.job, *self.duplicates)

    @property
    def memory_bytes(self) -> int:
        """About what it takes in memory, in bytes, without its job's input."""
        return ROW_BYTES + TOKEN_BYTES * self.length

    @property
    def padded_length(self) -> int:
        """The least width that it needs."""
        return self.width or self.length

    def computed_tokens(self, width: int) -> int:
        """The tokens that the device computes for it in a pass of this width."""
        return self.length if self.packed else width


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What goes through the model in one forward pass, each row padded to the longest unless they are packed."""

    rows: tuple[Row, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max(row.padded_length for row in self.rows)

    @property
    def padded_tokens(self) -> int:
        """What the device really computes: rows × width, or where rows are packed the tokens alone."""
        width = self.width
        return sum(row.computed_tokens(width) for row in self.rows)
