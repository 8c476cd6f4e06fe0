"""The trial of a task of one's own when its model is loaded: how rows may share passes without changing results.

The task's example, and shorter and longer inputs like it, run alone, beside rows of equal length, and padded beside
longer ones. If padding changes an output, only rows of equal length share a pass; if other rows do, each runs alone.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from models.errors import JobError, ModelError
from models.tasks.own.own_spec import OwnTaskSpec
from worker.adapters.own.comparison import are_same
from worker.adapters.own.own_rows import INPUT_IDS, OwnFeatures
from worker.adapters.probes.probe_scores import reraise_machine_problem
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization.token_array import TokenArray
from worker.leasing.leases import Job, Lease

MAX_ROWS = 8  # of all example inputs together
MAX_COMPANY_ROWS = 4  # of which each meets others in a pass
MAX_SECONDS = 120.0  # of the whole trial; the load of a large model should not take much longer
MAX_TEXT_CHARACTERS = 400  # of a lengthened text
COMPANION_TOKENS = 8  # that a companion has more than the longest row


class Steps(Protocol):
    """The steps of the adapter on trial; each raises what the author's code raises."""

    def encode_strictly(self, job: Job) -> list[Row]:
        """The rows of an input."""

    def forward_rows(self, micro_batch: MicroBatch) -> list[Any]:
        """One raw output for each row."""

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        """The result of an input."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How rows may share passes.

    reason: why not all may share them, None = they may.
    is_failure: whether the example itself could not be computed.
    without_fault: how they would without a fault that its author can mend, None = there is none.
    """

    sharing: Sharing
    reason: str | None = None
    is_failure: bool = False
    without_fault: Sharing | None = None


class _TooSlow(Exception):
    """The trial has taken its time."""


class TaskTrial:
    """One trial.

    can_pad: whether rows may be padded at all.
    max_length: tokens of the longest row, None = no limit.
    max_seconds: after this time, rows run alone without further passes.
    last_progress: when the last pass ended, by the monotonic clock.
    """

    def __init__(
        self,
        spec: OwnTaskSpec,
        steps: Steps,
        dtype: torch.dtype,
        *,
        can_pad: bool,
        max_length: int | None,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self.last_progress = time.monotonic()
        self._spec, self._steps, self._dtype = spec, steps, dtype
        self._can_pad, self._max_length = can_pad, max_length
        self._deadline = self.last_progress + max_seconds

    def run(self) -> TrialResult:
        """Compute the example in all ways.

        Raises ModelError if its outputs can't be repeated, and problems of the machine.
        """
        if self._spec.is_random(self._parameters):
            return TrialResult(Sharing.ALONE, "it samples, so that its outputs can't be compared")
        try:
            return self._compare()
        except ModelError:
            raise
        except _TooSlow:
            return TrialResult(Sharing.ALONE, "its trial takes too long")
        except Exception as error:
            reraise_machine_problem(error)
            code = f" ({error.code})" if isinstance(error, JobError) else f" ({type(error).__name__})"
            return TrialResult(Sharing.ALONE, f"its example input fails{code}", is_failure=True)

    @property
    def _parameters(self) -> dict[str, Any]:
        return self._spec.check_parameters(self._spec.task.example_parameters)

    def _compare(self) -> TrialResult:
        jobs = list(self._encode_examples())
        alone = [[self._forward([row])[0] for row in rows] for rows in jobs]
        results = [self._steps.decode(rows, outputs) for rows, outputs in zip(jobs, alone, strict=True)]
        again = [self._forward([row])[0] for row in jobs[0]]
        if not self._same(alone[0], again) or not self._same(results[0], self._steps.decode(jobs[0], again)):
            raise ModelError(
                f"task {self._spec.name} gave its example input two different outputs; let it draw no random numbers "
                "and keep nothing between passes, or let is_random say so"
            )
        rows, outputs = [row for rows in jobs for row in rows], [output for raw in alone for output in raw]
        best = Sharing.TOGETHER if self._can_pad else Sharing.BY_LENGTH
        if not self._matches_in_pass(rows, outputs):
            return TrialResult(Sharing.ALONE, "other rows change its outputs", without_fault=best)
        if not self._can_pad:
            return TrialResult(Sharing.BY_LENGTH, "its rows can't be padded")
        padded = self._forward_padded(rows)
        if padded is None or not self._same(outputs, padded):
            return TrialResult(Sharing.BY_LENGTH, "padding changes its outputs", without_fault=best)
        remaining = iter(padded)
        padded_results = [self._steps.decode(rows, [next(remaining) for _ in rows]) for rows in jobs]
        if not self._same(results, padded_results):
            return TrialResult(Sharing.BY_LENGTH, "padding changes its results", without_fault=best)
        return TrialResult(Sharing.TOGETHER)

    def _encode_examples(self) -> Iterator[list[Row]]:
        """The rows of the example, and of those of its variants that the task takes."""
        lease, count = Lease(0, "", 0, 1, 0, 0, parameters=self._parameters), 0
        for position, example in enumerate(vary_texts(self._spec.example_input)):
            try:
                job_input = self._spec.normalise(example)
                rows = self._steps.encode_strictly(Job(lease, position, job_input))
            except Exception as error:
                if not position:
                    raise
                reraise_machine_problem(error)
                continue
            count += len(rows)
            if position and count > MAX_ROWS:
                return
            yield rows

    def _matches_in_pass(self, rows: Sequence[Row], outputs: Sequence[Any]) -> bool:
        """Whether each row gets its output first, last, and beside another text of equal length."""
        try:
            for row, output in list(zip(rows, outputs, strict=True))[:MAX_COMPANY_ROWS]:
                first, *_, last = self._forward([row, *_companions(row), row])
                if not (self._same(output, first) and self._same(output, last)):
                    return False
        except _TooSlow:
            raise
        except Exception as error:  # it can't read rows together
            reraise_machine_problem(error)
            return False
        return True

    def _forward_padded(self, rows: Sequence[Row]) -> list[Any] | None:
        """The outputs of rows that are padded to a longer one; None if that fails."""
        groups: dict[Hashable, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.key, []).append(index)
        outputs: dict[int, Any] = {}
        try:
            for indices in groups.values():
                group = [rows[index] for index in indices]
                padded = self._forward([*group, self._longer_row(group)])
                outputs.update(zip(indices, padded[:-1], strict=True))
        except _TooSlow:
            raise
        except Exception as error:  # it can't read padding
            reraise_machine_problem(error)
            return None
        return [outputs[index] for index in range(len(rows))]

    def _longer_row(self, rows: Sequence[Row]) -> Row:
        longest = max(rows, key=lambda row: row.length)
        room = COMPANION_TOKENS if self._max_length is None else self._max_length - longest.length
        return _lengthen(longest, max(0, min(COMPANION_TOKENS, room)))

    def _forward(self, rows: Sequence[Row]) -> list[Any]:
        if time.monotonic() > self._deadline:
            raise _TooSlow
        outputs = self._steps.forward_rows(MicroBatch(tuple(replace(row, width=None, max_rows=None) for row in rows)))
        self.last_progress = time.monotonic()
        return outputs

    def _same(self, left: Any, right: Any) -> bool:
        return are_same(left, right, self._dtype)


def vary_texts(example: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The example input, and the same with texts of half, twice and three times their words."""
    variants = [dict(example)]
    for halves in (1, 4, 6):
        variant = {name: _scale(value, halves) for name, value in example.items()}
        if variant not in variants:
            variants.append(variant)
    return variants


def _scale(value: Any, halves: int) -> Any:
    if isinstance(value, str):
        words = value.split()
        kept = words[: max(1, len(words) // 2)] if halves == 1 else words * (halves // 2)
        return " ".join(kept)[:MAX_TEXT_CHARACTERS] or value
    return value


def _companions(row: Row) -> list[Row]:
    """Other rows of the same length: the tokens between the first and the last in reverse, and all alike."""
    return [_change_tokens(row, _reverse), _change_tokens(row, _repeat_first)]


def _lengthen(row: Row, more: int) -> Row:
    """A row with the first token inside `more` times again."""
    return _change_tokens(row, lambda inner: inner + inner[:1] * more)


def _change_tokens(row: Row, change: Callable[["TokenArray[int]"], "TokenArray[int]"]) -> Row:
    """The row with other tokens between its first and its last; of a shorter row, all are others."""
    arrays = {
        name: values[:1] + change(values[1:-1]) + values[-1:] if len(values) > 2 else change(values)
        for name, values in row.features.items()
    }
    features = OwnFeatures(arrays, row.features.model_row, row.features.parameters)
    return replace(row, features=features, length=len(features[INPUT_IDS]))


def _reverse(inner: "TokenArray[int]") -> "TokenArray[int]":
    return inner[::-1]


def _repeat_first(inner: "TokenArray[int]") -> "TokenArray[int]":
    return inner[:1] * len(inner)
