"""Loads the operator's logits processors and applies them row by row, so that one that raises fails only its row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from models import operator_code
from models.errors import BatchmillError, JobError, LoadFailed
from models.foreign_errors import first_line
from models.tasks.own.input_fields import checked_job_error
from worker.adapters.control.logits_control import LogitsControl, LogitsRow
from worker.adapters.interface import Interrupted
from worker.adapters.own.error_place import error_place
from worker.adapters.tokenization import vocabulary
from worker.failures import is_machine_problem

PROCESSOR_ERROR = "processor_error"

TRIAL_TOKENS = 8

Control = Callable[[LogitsRow, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class LogitsProcessors:
    """The processors of a pipeline, in the order in which they run, each with the reference that names it."""

    controls: Sequence[tuple[str, Control]]

    @classmethod
    def load(cls, references: Sequence[str], model: Any, tokenizer: Any) -> "LogitsProcessors":
        """Import and make each processor. Raises LoadFailed: the code is this machine's, and says nothing of the model.

        Raises SettingsError if there is no such code here.
        """
        return cls([(reference, _make(reference, model, tokenizer)) for reference in references])

    def __bool__(self) -> bool:
        return bool(self.controls)

    def apply(self, rows: Sequence[LogitsRow], scores: torch.Tensor) -> list[JobError | None]:
        """Change scores `(rows, vocabulary)` in place; return for each row the error of a processor, or None."""
        errors: list[JobError | None] = [None] * len(rows)
        for reference, control in self.controls:
            indices = [index for index, error in enumerate(errors) if error is None]
            if len(indices) > 1 and _has_call_many(control) and _apply_to_many(control, rows, scores, indices):
                continue
            for index in indices:
                errors[index] = _apply_to_one(reference, control, rows[index], scores[index])
        return errors


def non_finite_error() -> JobError:
    """The error of a row whose processors left scores that choose no token."""
    return JobError(
        PROCESSOR_ERROR, "the logits processors left no token, or scores that are not numbers; correct their code"
    )


def _make(reference: str, model: Any, tokenizer: Any) -> Control:
    factory = operator_code.load_object(reference)
    try:
        control = factory(model, tokenizer)
    except BatchmillError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise LoadFailed(
            f"{reference} can't be made of a model and its tokenizer ({reason}); correct its code"
        ) from error
    if isinstance(control, LogitsProcessor):
        return _TransformersProcessor(control)
    if not callable(control):
        raise LoadFailed(f"{reference} made a {type(control).__name__}, which can't be called; correct its code")
    made: Control = control
    if _has_call_many(made):
        _check_call_many(reference, made, model)
    return made


@torch.inference_mode()
def _check_call_many(reference: str, control: Any, model: Any) -> None:
    """Raise LoadFailed if rows together get other scores than each alone, in a trial with rows of a few tokens."""
    size = vocabulary.size(model)
    if size is None:
        return
    tokens = torch.arange(TRIAL_TOKENS, device=model.device) % size
    rows = [LogitsRow(tokens[: count + 3], tokens[:count], {}) for count in range(TRIAL_TOKENS - 3)]
    scores = torch.cos(torch.arange(len(rows) * size, device=model.device)).view(len(rows), size)
    try:
        alone = torch.stack([control(row, one.clone()) for row, one in zip(rows, scores, strict=True)])
        together = control.call_many(rows, scores.clone())
        is_same = alone.shape == together.shape and torch.allclose(alone, together, equal_nan=True)
    except (Exception, SystemExit):  # rows of a trial may be none that it can process; those of jobs fail by themselves
        return
    if not is_same:
        raise LoadFailed(f"{reference} gives rows other scores by call_many than by a call for each; correct its code")


@dataclass(frozen=True, slots=True)
class _TransformersProcessor:
    """A processor of transformers, which sees one row at a time, without padding."""

    processor: LogitsProcessor

    def __call__(self, row: LogitsRow, scores: torch.Tensor) -> torch.Tensor:
        ids = torch.cat([row.prompt_ids, row.new_ids])
        changed: torch.Tensor = self.processor(ids[None], scores[None])[0]
        return changed


def _has_call_many(control: Control) -> bool:
    return isinstance(control, LogitsControl) and type(control).call_many is not LogitsControl.call_many


def _apply_to_many(control: Any, rows: Sequence[LogitsRow], scores: torch.Tensor, indices: Sequence[int]) -> bool:
    """Whether the rows at these indices could be processed together; if not, their scores are as before."""
    try:
        given = scores[list(indices)]
        changed = control.call_many([rows[index] for index in indices], given)
        if changed.shape != given.shape:
            return False
        scores[list(indices)] = changed.to(scores.dtype)
    except BaseException as error:  # one row may be to blame, which a call for each shows
        if _ends_pass(error):
            raise
        return False
    return True


def _apply_to_one(reference: str, control: Control, row: LogitsRow, scores: torch.Tensor) -> JobError | None:
    try:
        changed = control(row, scores)
        if not isinstance(changed, torch.Tensor) or changed.shape != scores.shape:
            got = tuple(changed.shape) if isinstance(changed, torch.Tensor) else type(changed).__name__
            problem = f"returned {got} instead of scores of shape {tuple(scores.shape)}"
            return JobError(PROCESSOR_ERROR, f"{reference} {problem}; correct its code")
        scores.copy_(changed)
    except JobError as error:
        return _storable(reference, error)
    except BaseException as error:  # a SystemExit or KeyboardInterrupt of its code would end the worker
        if _ends_pass(error):
            raise
        place = error_place(error)
        # What it says is left out: it may quote the input.
        problem = f"raised {type(error).__name__}" + (f" at {place}" if place else "")
        return JobError(PROCESSOR_ERROR, f"{reference} {problem}; correct its code")
    return None


def _ends_pass(error: BaseException) -> bool:
    """Whether an error says nothing about the processor that it came through."""
    return isinstance(error, Interrupted) or is_machine_problem(error)


def _storable(reference: str, error: JobError) -> JobError:
    """The error that an author raised on purpose, without the tensors of its frames."""
    if checked_job_error(error, reference) is error:
        return error.with_traceback(None)
    problem = "raised a JobError that can't be stored; its code must have small letters, digits and '_'"
    return JobError(PROCESSOR_ERROR, f"{reference} {problem}")
