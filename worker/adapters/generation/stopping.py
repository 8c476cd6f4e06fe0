"""Checks that watch a generation without changing its tokens: finite scores, interruption and stop strings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from models.errors import JobError
from worker.adapters.generation.row_state import RowAware
from worker.adapters.generation.time_limit import RowTimeLimit
from worker.adapters.interface import Interrupted

MAX_INT32 = 2**31 - 1


class FiniteScoreCheck(LogitsProcessor, RowAware):
    """Records the rows whose scores are not numbers, which `argmax` would accept silently.

    ended_mask: booleans `(rows,)`, the running rows whose scores count no more; None = all count.
    """

    def __init__(self) -> None:
        self.ended_mask: torch.Tensor | None = None
        # Zero while all scores of a row were numbers, then NaN: of the running rows, and of all.
        self._running: torch.Tensor | None = None
        self._all: torch.Tensor | None = None
        self._row_indices: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores unchanged."""
        zeros = scores.amax(dim=-1) * 0
        if self.ended_mask is not None:
            zeros.masked_fill_(self.ended_mask, 0)
        self._running = zeros if self._running is None else self._running.add_(zeros)
        return scores

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep watching these rows; what was recorded about the others stays."""
        assert self._running is not None
        if self._all is None or self._row_indices is None:
            self._all, self._row_indices = self._running, row_indices
        else:
            self._all[self._row_indices] = self._running
            self._row_indices = self._row_indices[row_indices]
        self._running = self._running[row_indices]

    def finite_rows(self, row_count: int) -> list[bool]:
        """Return for each row whether all scores of all its beams were numbers."""
        if self._running is None:
            return [True] * row_count
        recorded = self._running
        if self._all is not None and self._row_indices is not None:
            self._all[self._row_indices] = self._running
            recorded = self._all
        finite: list[bool] = recorded.isfinite().view(row_count, -1).all(dim=1).tolist()
        return finite


class InterruptCriteria(StoppingCriteria, RowAware):
    """Aborts a run between two tokens when `should_interrupt()` is true."""

    def __init__(self, should_interrupt: Callable[[], bool]) -> None:
        self._should_interrupt = should_interrupt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """End no sequence. Raises Interrupted."""
        self.check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def check(self) -> None:
        """Do nothing, or raise Interrupted."""
        if self._should_interrupt():
            raise Interrupted

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Do nothing: there is no state per row."""


class StopStringTracker(StoppingCriteria, RowAware):
    """Ends a sequence at a stop string, and records its length at that point.

    padding_lengths: int `(rows,)`, the padding tokens in front of each row, which are hidden from the search.
    """

    def __init__(self, stop_criteria: StopStringCriteria, padding_lengths: torch.Tensor) -> None:
        self._stop_criteria = stop_criteria
        self._padding_lengths = padding_lengths
        self._lengths_at_stop = torch.full_like(padding_lengths, MAX_INT32)
        self._row_indices = torch.arange(len(padding_lengths), device=padding_lengths.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Return booleans `(sequences,)`: the sequences that have ended."""
        sequences_per_row = input_ids.shape[0] // self._padding_lengths.shape[0]
        padding = self._padding_lengths.repeat_interleave(sequences_per_row)[:, None]
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        # An id beyond every vocabulary matches no text.
        ended: torch.Tensor = self._stop_criteria(input_ids.masked_fill(positions < padding, MAX_INT32), scores)
        if sequences_per_row == 1:
            # Without an index by booleans, for which the host would wait on CUDA.
            lengths = self._lengths_at_stop[self._row_indices]
            shorter = lengths.clamp(max=input_ids.shape[1])
            self._lengths_at_stop[self._row_indices] = torch.where(ended, shorter, lengths)
        return ended

    def ended(self) -> list[bool]:
        """Return for each sequence, of those at the beginning, whether it ended at a stop string. Not for beams."""
        flags: list[bool] = (self._lengths_at_stop < MAX_INT32).tolist()
        return flags

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep watching these rows; the recorded lengths of the others stay."""
        self._padding_lengths, self._row_indices = self._padding_lengths[row_indices], self._row_indices[row_indices]

    def lengths_at_end(self, prompt_width: int) -> list[int]:
        """Return each row's new tokens at its first stop string, a huge number without one. Not for beam search."""
        lengths: list[int] = (self._lengths_at_stop - prompt_width).tolist()
        return lengths


class EndTracker(Protocol):
    """What ends sequences before their end token, and records where; of the sequences at the beginning."""

    def ended(self) -> list[bool]:
        """Return for each sequence whether it ended so."""

    def lengths_at_end(self, prompt_width: int) -> list[int]:
        """Return each sequence's new tokens at that point, a huge number if it did not end so."""


class Controls(Protocol):
    """What changes the scores of rows, and may end or fail a row; see `row_controls.py`."""

    @property
    def processors(self) -> Sequence[LogitsProcessor]:
        """In the order in which they run."""

    @property
    def criteria(self) -> Sequence[StoppingCriteria]:
        """What may end a row."""

    @property
    def schema(self) -> EndTracker | None:
        """What ends a text that meets its schema; None = there is no schema."""

    def errors(self, row_count: int) -> list[JobError | None]:
        """Return the error of each row, None = there is none."""


@dataclass(frozen=True, slots=True)
class GenerationHooks:
    """The checks of one run; those that may be None are so when the settings have none."""

    finite_scores: FiniteScoreCheck
    interrupt_criteria: InterruptCriteria
    stop_strings: StopStringTracker | None
    time_limit: RowTimeLimit | None
    controls: Controls | None = None

    @property
    def stopping_criteria(self) -> StoppingCriteriaList:
        """The checks that may end a row or abort the run."""
        checks = (self.interrupt_criteria, self.stop_strings, self.time_limit)
        own = self.controls.criteria if self.controls else ()
        return StoppingCriteriaList([*(check for check in checks if check is not None), *own])

    def ended(self) -> list[bool]:
        """Return for each sequence whether a stop string or its schema ended it; empty = nothing looks."""
        return [any(flags) for flags in zip(*(tracker.ended() for tracker in self._end_trackers), strict=True)]

    def lengths_at_end(self, prompt_width: int) -> list[int]:
        """Return each sequence's new tokens at that point, a huge number for others. Not for beam search."""
        lengths = [tracker.lengths_at_end(prompt_width) for tracker in self._end_trackers]
        return [min(of_sequence) for of_sequence in zip(*lengths, strict=True)]

    @property
    def _end_trackers(self) -> list[EndTracker]:
        trackers = (self.stop_strings, self.controls.schema if self.controls else None)
        return [tracker for tracker in trackers if tracker is not None]
