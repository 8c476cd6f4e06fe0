"""A schema run follows the output schema of its rows from token to token. Not for beam search."""

from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria

from worker.adapters.control.output_schemas import OutputSchemas
from worker.adapters.generation.row_state import RowAware

NOT_ENDED = 2**31 - 1  # more tokens than a text has


class SchemaRun(LogitsProcessor, RowAware):
    """Allows only tokens with which a row's text can go on; it must be the last processor but for the sampler.

    rows: of the run; its tensors may have filler rows behind them, which no schema binds.
    """

    def __init__(self, schemas: OutputSchemas, schema: str, rows: int, tensor_rows: int) -> None:
        self._schemas = schemas
        # None = a filler row, or one whose text has ended.
        self._matchers: list[Any] = [schemas.matcher(schema) if row < rows else None for row in range(tensor_rows)]
        self._row_indices = list(range(tensor_rows))
        self._lengths_at_end = [NOT_ENDED] * tensor_rows  # of all rows, with their prompts

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores `(rows, vocabulary)` that are minus infinity for every token that is not allowed."""
        running = [row for row, matcher in enumerate(self._matchers) if matcher is not None]
        if not running:
            return scores
        bits = self._schemas.allowed_tokens([self._matchers[row] for row in running]).to(scores.device)
        forbidden = _forbidden_mask(bits, scores.shape[-1])
        if len(running) == len(scores):
            return scores.masked_fill_(forbidden, -torch.inf)
        scores[running] = scores[running].masked_fill_(forbidden, -torch.inf)
        return scores

    def advance(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Read the newest token of each row; return booleans `(rows,)`: the rows whose texts have ended."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            matcher = self._matchers[row]
            if matcher is not None and (not matcher.consume_token(token) or matcher.is_stopped()):
                self._matchers[row] = None
                self._lengths_at_end[self._row_indices[row]] = input_ids.shape[1]
        ended = [matcher is None for matcher in self._matchers]
        return torch.tensor(ended, dtype=torch.bool, device=input_ids.device)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Keep only the rows at these indices; the recorded lengths of the others stay."""
        kept = row_indices.tolist()
        self._matchers = [self._matchers[row] for row in kept]
        self._row_indices = [self._row_indices[row] for row in kept]

    def lengths_at_end(self, prompt_width: int) -> list[int]:
        """Return each row's new tokens when its text ended, of those at the beginning; a huge number if it did not."""
        return [length - prompt_width for length in self._lengths_at_end]

    def ended(self) -> list[bool]:
        """Return for each row, of those at the beginning, whether its text ended."""
        return [length < NOT_ENDED for length in self._lengths_at_end]


class SchemaEndCriteria(StoppingCriteria, RowAware):
    """Ends a row when its text can't go on: it is complete, or no text can meet the schema any more."""

    def __init__(self, run: SchemaRun) -> None:
        self._run = run

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """Return booleans `(rows,)`."""
        return self._run.advance(input_ids)

    def select_rows(self, row_indices: torch.Tensor) -> None:
        """Do nothing: the run keeps the state."""


def _forbidden_mask(bits: torch.Tensor, vocabulary_size: int) -> torch.Tensor:
    """Return booleans `(rows, vocabulary)` from the bits of allowed tokens; tokens without a bit are forbidden."""
    places = torch.tensor([1 << bit for bit in range(8)], dtype=torch.uint8, device=bits.device)
    forbidden = ((bits[:, :, None] & places) == 0).flatten(1)[:, :vocabulary_size]
    missing = vocabulary_size - forbidden.shape[1]
    return torch.nn.functional.pad(forbidden, (0, missing), value=True) if missing else forbidden
