"""Watchers: processors and criteria of ours, which change nothing of what is written but its end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from worker.adapters.generation.row_state import RowAware
from worker.adapters.interface import Interrupted


class FiniteScoreCheck(LogitsProcessor, RowAware):
    """Watches for scores that are not numbers, which would otherwise be taken for a choice."""

    def __init__(self) -> None:
        self._is_finite: torch.Tensor | None = None
        self._row_indices: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        sound = scores.amax(dim=-1).isfinite()
        if self._is_finite is None or self._row_indices is None:
            self._is_finite, self._row_indices = sound, torch.arange(len(sound), device=sound.device)
        else:
            self._is_finite[self._row_indices] &= sound
        return scores

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """What was seen of the others is kept, too."""
        assert self._row_indices is not None
        self._row_indices = self._row_indices[row_indices]

    def finite_rows(self, row_count: int) -> list[bool]:
        """For each row, whether all scores of all its beams were numbers."""
        if self._is_finite is None:
            return [True] * row_count
        sound: list[bool] = self._is_finite.view(row_count, -1).all(dim=1).tolist()
        return sound


class InterruptCriteria(StoppingCriteria, RowAware):
    """Gives a run up between two tokens, when told to."""

    def __init__(self, should_interrupt: Callable[[], bool]) -> None:
        self._should_interrupt = should_interrupt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Ends none of the sequences; raises Interrupted."""
        if self._should_interrupt():
            raise Interrupted
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """All rows are the same to it."""


class StopStringTracker(StoppingCriteria, RowAware):
    """Ends a sequence at a stop string, and keeps how long it was then.

    What stands in the place of the padding, `padding` tokens for each row, is hidden from the search.
    """

    def __init__(self, stop_criteria: StopStringCriteria, padding_lengths: torch.Tensor) -> None:
        self._stop_criteria = stop_criteria
        self._padding_lengths = padding_lengths
        self._lengths_at_stop = torch.full_like(padding_lengths, 2**31 - 1)
        self._row_indices = torch.arange(len(padding_lengths), device=padding_lengths.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Booleans `(sequences,)`: which have ended."""
        each = input_ids.shape[0] // self._padding_lengths.shape[0]
        padding = self._padding_lengths.repeat_interleave(each)[:, None]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        # An id beyond every vocabulary is no text.
        done: torch.Tensor = self._stop_criteria(input_ids.masked_fill(places < padding, 2**31 - 1), scores)
        if each == 1:
            self._lengths_at_stop[self._row_indices[done]] = self._lengths_at_stop[self._row_indices[done]].clamp(
                max=input_ids.shape[1]
            )
        return done

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """How long the others were is kept, too."""
        self._padding_lengths, self._row_indices = self._padding_lengths[row_indices], self._row_indices[row_indices]

    def lengths_at_stop(self, prompt_width: int) -> list[int]:
        """How many new tokens each row, not of beams, had at its first stop string; a huge number if it had none."""
        lengths: list[int] = (self._lengths_at_stop - prompt_width).tolist()
        return lengths


@dataclass(frozen=True, slots=True)
class GenerationHooks:
    """Those of one run; `ends` where there are stop strings."""

    finite_scores: FiniteScoreCheck
    interrupt_criteria: InterruptCriteria
    stop_strings: StopStringTracker | None

    @property
    def stopping_criteria(self) -> StoppingCriteriaList:
        """Those that may end a row, or all of it."""
        return StoppingCriteriaList([self.interrupt_criteria, *([self.stop_strings] if self.stop_strings else [])])
