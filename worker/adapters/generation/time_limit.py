"""The time limit of a row: the seconds of the device that it may take, as its share of each token's time.

`max_time` of transformers counts the seconds of a whole run, so a row would end earlier beside slow neighbours. A share
is what a row costs: a run of 30 rows that takes 3 seconds counts 0.1 seconds for each.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import StoppingCriteria

from worker.adapters.generation.row_state import RowAware


class RowTimeLimit(StoppingCriteria, RowAware):
    """Ends the rows of a run once each has had `max_seconds`.

    It measures the time between two tokens itself, until `share_time` lets the caller count it with `add`.

    sequences: of the run; the beams of a row are one.
    sequences_per_row: that are drawn for each input, all of which count as its time.
    """

    def __init__(
        self,
        max_seconds: float,
        sequences: int,
        sequences_per_row: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_seconds = max_seconds
        self._sequences = sequences
        self._sequences_per_row = sequences_per_row
        self._clock = clock
        self._measured_until: float | None = clock()
        self._seconds = 0.0  # of one row

    @property
    def is_over(self) -> bool:
        """Whether the rows have had their time."""
        return self._seconds > self._max_seconds

    def share_time(self) -> None:
        """Let the caller count the time, because rows of several runs are computed together."""
        self._measured_until = None

    def add(self, sequence_seconds: float) -> None:
        """Count so many seconds for each sequence."""
        self._seconds += sequence_seconds * self._sequences_per_row

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Return booleans `(sequences,)`: all end together."""
        if self._measured_until is not None:
            now = self._clock()
            self.add((now - self._measured_until) / self._sequences)
            self._measured_until = now
        return torch.full((len(input_ids),), self.is_over, dtype=torch.bool, device=input_ids.device)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Share the time among these sequences from here on."""
        self._sequences = max(1, len(row_indices))
