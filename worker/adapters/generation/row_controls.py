"""Row controls steer the rows of one run, wherever a row stands in it: the operator's processors, and output schemas.

They come after transformers' own processors and before the sampler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from models.errors import JobError
from worker.adapters.control import logits_processors
from worker.adapters.control.logits_control import LogitsRow
from worker.adapters.control.logits_processors import LogitsProcessors
from worker.adapters.generation.row_state import RowAware
from worker.adapters.generation.schema_run import SchemaEndCriteria, SchemaRun
from worker.adapters.generation.stopping import FiniteScoreCheck


@dataclass(frozen=True, slots=True)
class ControlledRow:
    """What a row's processors see of it: the tokens of its prompt, int64 `(tokens,)`, and its parameters."""

    prompt_ids: torch.Tensor
    parameters: Mapping[str, Any]


class ProcessorRun(LogitsProcessor, RowAware):
    """Applies processors to the sequences that are still being written.

    rows: those of the run, in order; its tensors may have filler rows behind them.
    tensor_rows: the rows of its tensors.
    prompt_width: columns of `input_ids` before the new tokens.
    end_ids: tokens that end a text.
    ended_mask: booleans `(sequences,)`, those that have ended; None = only their end tokens show it.
    """

    def __init__(
        self,
        processors: LogitsProcessors,
        rows: Sequence[ControlledRow],
        tensor_rows: int,
        prompt_width: int,
        end_ids: Sequence[int],
    ) -> None:
        self.ended_mask: torch.Tensor | None = None
        self.errors: list[JobError | None] = [None] * len(rows)
        self._processors = processors
        self._rows = rows
        self._tensor_rows = tensor_rows
        self._prompt_width = prompt_width
        self._end_ids = end_ids
        self._row_indices: list[int] | None = None  # of each sequence

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores `(sequences, vocabulary)`, which the processors have changed."""
        if self._row_indices is None:
            self._row_indices = [index * self._tensor_rows // len(input_ids) for index in range(len(input_ids))]
        new_ids = input_ids[:, self._prompt_width :]
        running = self._running(new_ids)
        if not running:
            return scores
        rows = [self._rows[self._row_indices[index]] for index in running]
        changed = scores[running]
        errors = self._processors.apply(
            [
                LogitsRow(row.prompt_ids, new_ids[index], row.parameters)
                for row, index in zip(rows, running, strict=True)
            ],
            changed,
        )
        scores[running] = changed
        for index, error in zip(running, errors, strict=True):
            row = self._row_indices[index]
            self.errors[row] = self.errors[row] or error
        return scores

    def failed_mask(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return booleans `(sequences,)`: those of rows that have failed."""
        failed = [row < len(self._rows) and self.errors[row] is not None for row in self._row_indices or ()]
        return torch.tensor(failed, dtype=torch.bool, device=input_ids.device)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep only the sequences at these indices."""
        if self._row_indices is not None:
            self._row_indices = [self._row_indices[index] for index in row_indices.tolist()]

    def _running(self, new_ids: torch.Tensor) -> list[int]:
        """The sequences to process: those of no filler row, and of none that has ended or failed."""
        assert self._row_indices is not None
        end_ids = torch.tensor(self._end_ids, dtype=new_ids.dtype, device=new_ids.device)
        ended = torch.isin(new_ids, end_ids).any(dim=1)
        if self.ended_mask is not None:
            ended |= self.ended_mask
        return [
            index
            for index, (row, has_ended) in enumerate(zip(self._row_indices, ended.tolist(), strict=True))
            if not has_ended and row < len(self._rows) and self.errors[row] is None
        ]


class FailedRowCriteria(StoppingCriteria, RowAware):
    """Ends the sequences of rows whose processors failed."""

    def __init__(self, run: ProcessorRun) -> None:
        self._run = run

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Return booleans `(sequences,)`."""
        return self._run.failed_mask(input_ids)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Do nothing: the processors keep the state."""


class RowControls:
    """The processors and criteria of one run.

    ends_rows: whether a sequence can end by itself; the beams of a row can't.
    """

    def __init__(self, processors: ProcessorRun | None, schema: SchemaRun | None, *, ends_rows: bool) -> None:
        self.schema = schema
        self._run, self._finite_scores = processors, FiniteScoreCheck()
        self.processors: list[LogitsProcessor] = []
        self.criteria: list[StoppingCriteria] = []
        if processors is not None:
            self.processors += [processors, self._finite_scores]
            self.criteria += [FailedRowCriteria(processors)] if ends_rows else []
        if schema is not None:  # last, so that nothing else changes what it allows
            self.processors.append(schema)
            self.criteria.append(SchemaEndCriteria(schema))

    def errors(self, row_count: int) -> list[JobError | None]:
        """Return the error of each row, None = there is none."""
        finite = self._finite_scores.finite_rows(row_count)
        failures = self._run.errors if self._run is not None else [None] * row_count
        return [
            error or (None if is_finite else logits_processors.non_finite_error())
            for error, is_finite in zip(failures, finite, strict=False)
        ]
