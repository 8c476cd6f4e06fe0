"""Logits processors that tests name, as `tests.factories.logits_controls:NAME`."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import SuppressTokensLogitsProcessor

from models.errors import JobError
from worker.adapters.control.logits_control import LogitsControl, LogitsRow

MODULE = __name__


def throw(error: BaseException) -> None:
    """Raise an error."""
    raise error


FAILURES: dict[str, Callable[[str, torch.Tensor], Any]] = {
    "raise": lambda text, _scores: throw(ValueError(f"secret of {text}")),
    "exit": lambda _text, _scores: throw(SystemExit(3)),
    "keyboard": lambda _text, _scores: throw(KeyboardInterrupt()),
    "generator": lambda _text, _scores: throw(GeneratorExit()),
    "own": lambda _text, _scores: throw(JobError("own_code", "the author's own words")),
    "code": lambda _text, _scores: throw(JobError("no code\0", "a\ud800")),
    "shape": lambda _text, scores: scores[:3],
    "none": lambda _text, _scores: None,
    "nan": lambda _text, scores: scores * torch.nan,
    "empty": lambda _text, scores: torch.full_like(scores, -torch.inf),
}


class NoDigits(LogitsControl):
    """Forbids every token with a digit, all rows at once."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__(model, tokenizer)
        self._ids = digit_ids(tokenizer)

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        scores[self._ids] = -torch.inf
        return scores

    def call_many(self, rows: Sequence[LogitsRow], scores: torch.Tensor) -> torch.Tensor:
        scores[:, self._ids] = -torch.inf
        return scores


class Fragile(LogitsControl):
    """Raises in various ways for rows whose prompts have a marker token, after a few tokens of others."""

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        assert self.tokenizer.eos_token_id not in row.new_ids.tolist(), "a row that has ended is called"
        text = self.tokenizer.decode(row.prompt_ids)
        failures = (failure for word, failure in FAILURES.items() if word in text)
        return next(failures, lambda _text, scores: scores)(text, scores) if len(row.new_ids) > 1 else scores


class FragileMany(Fragile):
    """The same, all rows at once."""

    def call_many(self, rows: Sequence[LogitsRow], scores: torch.Tensor) -> torch.Tensor:
        return torch.stack([self(row, row_scores) for row, row_scores in zip(rows, scores, strict=True)])


class Mixing(NoDigits):
    """Lets the rows of a call share a score, which makes a text depend on others."""

    def call_many(self, rows: Sequence[LogitsRow], scores: torch.Tensor) -> torch.Tensor:
        return scores + scores.mean()


class FragileByLength(LogitsControl):
    """Raises for rows whose prompts have an odd number of tokens, after a few tokens."""

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        if len(row.new_ids) == 3 and len(row.prompt_ids) % 2:
            raise ValueError
        return scores


def no_digits(model: Any, tokenizer: Any) -> Callable[[LogitsRow, torch.Tensor], torch.Tensor]:
    """As NoDigits, by a function."""
    ids = digit_ids(tokenizer)
    return lambda _row, scores: scores.index_fill(0, torch.tensor(ids), -torch.inf)


def suppress_digits(model: Any, tokenizer: Any) -> SuppressTokensLogitsProcessor:
    """As NoDigits, by a processor of transformers."""
    return SuppressTokensLogitsProcessor(digit_ids(tokenizer))


def count_up(model: Any, tokenizer: Any) -> Callable[[LogitsRow, torch.Tensor], torch.Tensor]:
    """Writes tokens that depend on the prompt's length and on how many were written: 5 + tokens of both."""

    def control(row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        chosen = 5 + len(row.prompt_ids) + len(row.new_ids)
        return torch.where(torch.arange(len(scores)) == chosen, 0.0, -torch.inf)

    return control


def broken(model: Any, tokenizer: Any) -> None:
    """Makes nothing that can be called."""


def raising(model: Any, tokenizer: Any) -> None:
    """Can't be made."""
    raise ValueError("no file")


def exiting(model: Any, tokenizer: Any) -> None:
    """Can't be made, and ends Python."""
    raise SystemExit(3)


def digit_ids(tokenizer: Any) -> list[int]:
    """The tokens with a digit."""
    return [index for token, index in tokenizer.get_vocab().items() if any(sign.isdigit() for sign in token)]
