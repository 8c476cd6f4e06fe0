"""Rows are tokenized inputs of jobs, and micro-batches are the rows of one forward pass; lengths are in tokens."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.leasing.leases import Job

ROW_BYTES = 600  # memory of a row without its tokens: the object, its features and its entry in the claim
TOKEN_BYTES = 8  # a token with its type, or with its offset in the text

# Embeddings and heads see even packed rows padded. That costs little while there is no more padding than tokens.
MAX_PADDING_FACTOR = 2

MAX_MICRO_BATCH_TOKENS = 2**20  # padded tokens


@dataclass(slots=True)  # not frozen, which would quadruple the time to make one
class Row:
    """One row of a forward pass: a tokenized job, or one part of a job that takes several rows. Not to be changed.

    key: only rows with equal keys may share a pass.
    width: tokens to pad this row to, None = the longest row of the pass.
    max_rows: the most rows in a pass with this one, None = whatever the token budget allows.
    packed: whether the row shares its pass without padding.
    window_count: windows in which the job's text is read.
    has_tokens: whether `length` counts tokens; a row without any still has a length.
    duplicates: further jobs with the same input and parameters, which get the same result.
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
    window_count: int = 1
    has_tokens: ClassVar[bool] = True

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that this row answers."""
        return (self.job, *self.duplicates)

    @property
    def memory_bytes(self) -> int:
        """The approximate size in memory, without the input of the job."""
        return ROW_BYTES + TOKEN_BYTES * self.length

    @property
    def padded_length(self) -> int:
        """The smallest width that the row fits into."""
        return self.width or self.length

    def computed_tokens(self, width: int) -> int:
        """The tokens that the device computes for this row in a pass of this width."""
        return self.length if self.packed else width


class GeneratedTexts(list[list[int]]):
    """A raw output of an adapter that generates: the tokens of each text of a row.

    tokens: that the model generated, with the end of each text.
    has_ended: whether every text ended by itself, so that its limits of tokens and of time did not cut it off.
    is_out_of_time: whether the limit of time cut one off; its job counts as truncated.
    """

    __slots__ = ("has_ended", "is_out_of_time", "tokens")

    def __init__(self, texts: Iterable[list[int]], tokens: int, *, has_ended: bool, is_out_of_time: bool) -> None:
        super().__init__(texts)
        self.tokens = tokens
        self.has_ended = has_ended
        self.is_out_of_time = is_out_of_time


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The rows of one forward pass, padded to the longest unless they are packed."""

    rows: tuple[Row, ...]

    @property
    def width(self) -> int:
        """The length that every row is padded to."""
        return max([row.width or row.length for row in self.rows])

    @property
    def padded_tokens(self) -> int:
        """The tokens that the device computes: rows × width, or the rows' own tokens where they are packed."""
        packed_tokens = [row.length for row in self.rows if row.packed]
        return sum(packed_tokens) + (len(self.rows) - len(packed_tokens)) * self.width
