"""Watchers: processors and criteria of ours, which change nothing of what is written but its end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList, StopStringCriteria

from worker.adapters.generation.row_state import ByRow
from worker.adapters.interface import Interrupted


class Soundness(LogitsProcessor, ByRow):
    """Watches for scores that are not numbers, which would otherwise be taken for a choice."""

    def __init__(self) -> None:
        self._sound: torch.Tensor | None = None
        self._here: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        sound = scores.amax(dim=-1).isfinite()
        if self._sound is None or self._here is None:
            self._sound, self._here = sound, torch.arange(len(sound), device=sound.device)
        else:
            self._sound[self._here] &= sound
        return scores

    def keep(self, places: torch.Tensor) -> None:
        """What was seen of the others is kept, too."""
        assert self._here is not None
        self._here = self._here[places]

    def of(self, rows: int) -> list[bool]:
        """For each row, whether all scores of all its beams were numbers."""
        if self._sound is None:
            return [True] * rows
        sound: list[bool] = self._sound.view(rows, -1).all(dim=1).tolist()
        return sound


class Interruption(StoppingCriteria, ByRow):
    """Gives a run up between two tokens, when told to."""

    def __init__(self, interrupt: Callable[[], bool]) -> None:
        self._interrupt = interrupt

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Ends none of the sequences; raises Interrupted."""
        if self._interrupt():
            raise Interrupted
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    def keep(self, places: torch.Tensor) -> None:
        """All rows are the same to it."""


class Ends(StoppingCriteria, ByRow):
    """Ends a sequence at a stop string, and keeps how long it was then.

    What stands in the place of the padding, `padding` tokens for each row, is hidden from the search.
    """

    def __init__(self, stops: StopStringCriteria, padding: torch.Tensor) -> None:
        self._stops = stops
        self._padding = padding
        self._lengths = torch.full_like(padding, 2**31 - 1)
        self._here = torch.arange(len(padding), device=padding.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Booleans `(sequences,)`: which have ended."""
        each = input_ids.shape[0] // self._padding.shape[0]
        padding = self._padding.repeat_interleave(each)[:, None]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        # An id beyond every vocabulary is no text.
        done: torch.Tensor = self._stops(input_ids.masked_fill(places < padding, 2**31 - 1), scores)
        if each == 1:
            self._lengths[self._here[done]] = self._lengths[self._here[done]].clamp(max=input_ids.shape[1])
        return done

    def keep(self, places: torch.Tensor) -> None:
        """How long the others were is kept, too."""
        self._padding, self._here = self._padding[places], self._here[places]

    def lengths(self, width: int) -> list[int]:
        """How many new tokens each row, not of beams, had at its first stop string; a huge number if it had none."""
        lengths: list[int] = (self._lengths - width).tolist()
        return lengths


@dataclass(frozen=True, slots=True)
class Watchers:
    """Those of one run; `ends` where there are stop strings."""

    soundness: Soundness
    interruption: Interruption
    ends: Ends | None

    @property
    def criteria(self) -> StoppingCriteriaList:
        """Those that may end a row, or all of it."""
        return StoppingCriteriaList([self.interruption, *([self.ends] if self.ends else [])])
