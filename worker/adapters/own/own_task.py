"""The adapter of a task of one's own: it runs what the task's author wrote as the engine runs its own adapters."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import structlog
import torch
from transformers import PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from models import operator_code
from models.documents import to_json
from models.errors import JobError, ModelError, SettingsError
from models.tasks.own.own_spec import OwnTaskSpec
from worker.adapters.encoding.collation import Collator
from worker.adapters.interface import DecodableJob, Limits, never_interrupted
from worker.adapters.output_json import to_valid_json
from worker.adapters.outputs.job_groups import decode_in_groups
from worker.adapters.own import results
from worker.adapters.own.author_calls import AuthorCalls
from worker.adapters.own.no_tokenizer import NoTokenizer
from worker.adapters.own.own_rows import OwnParameters, RowMaker, model_rows
from worker.adapters.own.raw_outputs import RawOutput, split_rows
from worker.adapters.own.task_adapter import AdapterOptions, ModelRow, TaskAdapter
from worker.adapters.own.task_errors import TaskErrors, call_author
from worker.adapters.own.trial import TaskTrial, TrialResult
from worker.adapters.probes.sharing import Sharing
from worker.adapters.rows import MicroBatch, Row
from worker.adapters.tokenization import vocabulary
from worker.layers import int8_linear
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)


class OwnTask:
    """The base of the classes that `adapter_class` makes, one for each task.

    spec: the task.
    author_class: its author's adapter.
    uses_tokenizer: whether the model's folder must have one.
    """

    spec: ClassVar[OwnTaskSpec]
    author_class: ClassVar[type[TaskAdapter]]
    auto_model_class: ClassVar[Any]
    uses_tokenizer: ClassVar[bool]
    uses_packing = False

    def __init__(self, model: Any, tokenizer: Any, limits: Limits, _task: str) -> None:
        self.should_interrupt: Callable[[], bool] = never_interrupted
        self.calls = AuthorCalls()
        self._errors = TaskErrors(self.spec.name, limits.pipeline)
        options = AdapterOptions(limits.pipeline or self.spec.name, limits.max_length, limits.truncation)
        own_tokenizer = None if isinstance(tokenizer, NoTokenizer) else tokenizer
        self._author = call_author(self.author_class, model, own_tokenizer, options)
        padding_side: Any = getattr(tokenizer, "padding_side", "right")
        self._collator = Collator(tokenizer, model.device, limits, padding_side=padding_side)
        self.max_rows = self._collator.max_rows
        self._vocabulary_size, self._type_count = _vocabulary_size(model), vocabulary.type_count(model)
        self._rows = RowMaker(self._collator, self._errors, limits.max_length, Sharing.ALONE)
        self._parameters = lru_cache(maxsize=256)(self._complete_parameters)
        result = self._try_example(model, tokenizer, limits)
        self._rows.sharing, self.trial_result = result.sharing, result
        if result.is_failure:
            log.warning("task.example_failed", pipeline=limits.pipeline, task=self.spec.name, reason=result.reason)
        else:
            log.info(
                "task.tried",
                pipeline=limits.pipeline,
                task=self.spec.name,
                sharing=result.sharing.value,
                reason=result.reason,
            )

    def ignore_fault(self) -> None:
        """Let rows share passes in spite of a fault that the trial found; `batchmill tasks check` then shows it."""
        self._rows.sharing = self.trial_result.without_fault or self.trial_result.sharing

    @classmethod
    def complete(cls, model: Any, tokenizer: Any, folder: Path) -> int | None:
        """As `CompletingAdapter`."""
        own_tokenizer = None if isinstance(tokenizer, NoTokenizer) else tokenizer
        length = call_author(cls.author_class.complete, model, own_tokenizer, folder)
        if length is not None and (not isinstance(length, int) or length < 1):
            raise ModelError(f"complete of task {cls.spec.name} must return a number of tokens or None")
        return length

    def encode(self, jobs: Sequence[Job]) -> list[list[Row] | JobError]:
        """The rows of each job, or its JobError."""
        encoded: dict[int, list[Row] | JobError] = {}
        groups: dict[str, list[int]] = {}
        prepared: dict[int, tuple[Job, OwnParameters]] = {}
        for index, job in enumerate(jobs):
            try:
                parameters = self._parameters(to_json(job.lease.parameters))
                prepared[index] = self._complete_input(job), parameters
                groups.setdefault(parameters.key, []).append(index)
            except JobError as error:
                encoded[index] = error
        for indices in groups.values():
            outcomes = self._encode_alike([prepared[index][0] for index in indices], prepared[indices[0]][1])
            encoded.update(zip(indices, outcomes, strict=True))
        known = vocabulary.reject_unknown_tokens([encoded[index] for index in range(len(jobs))], self._vocabulary_size)
        return vocabulary.reject_unknown_types(known, self._type_count)

    def forward(self, micro_batch: MicroBatch) -> list[RawOutput]:
        """One raw output for each row; an error of a single row becomes that of its job."""
        try:
            return [RawOutput(output) for output in self.forward_rows(micro_batch)]
        except Exception as error:
            if len(micro_batch.rows) > 1:
                raise  # the engine runs the rows again in smaller passes
            raise self._errors.raised("forward", error, micro_batch.rows[0].job) from None

    @torch.inference_mode()
    def forward_rows(self, micro_batch: MicroBatch) -> list[Any]:
        """As `Steps`."""
        tensors = self._collator.collate(micro_batch)
        count = len(next(iter(tensors.values())))  # with filler rows
        outputs = self.calls.call_forward(self._author.forward, tensors, micro_batch.rows[0].features.parameters.values)
        parts = split_rows(outputs, count)
        if parts is None:
            given = f"{len(outputs):,}" if isinstance(outputs, list | tuple) else f"a {type(outputs).__name__}"
            raise self._errors.wrong("forward", f"gave {given} where it must give one output for each of {count} rows")
        return parts[: len(micro_batch.rows)]

    def decode(self, rows: Sequence[Row], raw_outputs: Sequence[Any]) -> Any:
        """The result of a job. Raises JobError if it can't be stored."""
        job = rows[0].job
        parameters, outputs = rows[0].features.parameters.values, [_value(raw) for raw in raw_outputs]
        try:
            result = self.calls.call(self._author.decode, job.input, parameters, model_rows(rows), outputs)
        except Exception as error:
            raise self._errors.raised("decode", error, job) from None
        return self._check_result("decode", result, job)

    def encode_strictly(self, job: Job) -> list[Row]:
        """As `Steps`."""
        [encoded] = self.encode([job])
        if isinstance(encoded, JobError):
            raise encoded
        return encoded

    def _encode_alike(self, jobs: Sequence[Job], parameters: OwnParameters) -> list[list[Row] | JobError]:
        """Encode jobs with equal parameters in one call, if the author wrote one; else, or if it fails, one by one."""
        if type(self._author).encode_many is not TaskAdapter.encode_many:
            try:
                given = self.calls.call(self._author.encode_many, [job.input for job in jobs], parameters.values)
                if isinstance(given, list | tuple) and len(given) == len(jobs):
                    return [self._make_rows(job, rows, parameters) for job, rows in zip(jobs, given, strict=True)]
                raise self._errors.wrong("encode_many", f"must give a list of {len(jobs):,}, one for each input")
            except Exception as error:
                if len(jobs) == 1:
                    return [self._as_job_error("encode_many", error, jobs[0])]
            return [encoded for job in jobs for encoded in self._encode_alike([job], parameters)]
        return [self._encode_one(job, parameters) for job in jobs]

    def _encode_one(self, job: Job, parameters: OwnParameters) -> list[Row] | JobError:
        try:
            given = self.calls.call(self._author.encode, job.input, parameters.values)
        except Exception as error:
            return self._as_job_error("encode", error, job)
        return self._make_rows(job, given, parameters)

    def _make_rows(self, job: Job, given: ModelRow | Sequence[ModelRow] | JobError, parameters: OwnParameters) -> Any:
        if isinstance(given, JobError):
            return self._as_job_error("encode", given, job)
        try:
            return self._rows.make_rows(job, given, parameters)
        except JobError as error:
            return error.with_traceback(None)

    def _as_job_error(self, method: str, error: Exception, job: Job) -> JobError:
        """The job's error. Raises a problem of the machine."""
        problem = self._errors.raised(method, error, job)
        if not isinstance(problem, JobError):
            raise problem
        return problem.with_traceback(None)

    def _check_result(self, method: str, result: Any, job: Job) -> Any:
        """Return the result. Raises the JobError that stands in its place, or that of one that can't be stored."""
        if isinstance(result, JobError):
            raise self._errors.raised(method, result, job)
        if result is None and self.spec.example_output is not None:
            raise self._errors.wrong(method, "returned None where it must return a result")
        return results.check_result(result, self._errors)

    def _complete_input(self, job: Job) -> Job:
        """The job with the input that the author's code gets. A prompt makes one without the task's defaults."""
        return job if job.lease.prompt is None else replace(job, input=self.spec.own_input.complete(job.input))

    def _complete_parameters(self, document: str) -> OwnParameters:
        try:
            values = self.spec.complete_stored_parameters(document)
        except ValueError:
            raise self._errors.wrong("parameters", "has another version here, which refuses the batch's") from None
        return OwnParameters(to_json(values), values)

    def _try_example(self, model: Any, tokenizer: Any, limits: Limits) -> TrialResult:
        if int8_linear.is_quantized_across_rows(model):
            return TrialResult(Sharing.ALONE, "its numbers are rounded together with those of other rows")
        can_pad = self._author.can_pad and not vocabulary.lacks_padding(model, tokenizer)
        trial = TaskTrial(self.spec, self, model.dtype, can_pad=can_pad, max_length=limits.max_length)
        with int8_linear.float32_fallback(model):
            return _run_within(limits.trial_seconds, trial, self.spec.name)


class BulkOwnTask(OwnTask):
    """The same for an author's adapter that decodes many inputs in one call."""

    def decode_many(self, jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        """As `BulkDecodingAdapter`; whatever fails together is decoded alone."""
        return decode_in_groups(jobs, self._decode_group)

    def _decode_group(self, _stored: Mapping[str, Any], jobs: Sequence[DecodableJob]) -> Iterator[str | Exception]:
        given = self.calls.call(
            self._author.decode_many,
            [rows[0].job.input for rows, _ in jobs],
            jobs[0][0][0].features.parameters.values,
            [model_rows(rows) for rows, _ in jobs],
            [[_value(raw) for raw in raw_outputs] for _, raw_outputs in jobs],
        )
        if not isinstance(given, list | tuple) or len(given) != len(jobs):
            raise self._errors.wrong("decode_many", f"must give a list of {len(jobs):,}, one for each input")
        return (self._to_json(rows[0].job, result) for (rows, _), result in zip(jobs, given, strict=True))

    def _to_json(self, job: Job, result: Any) -> str | Exception:
        try:
            return to_valid_json(self._check_result("decode_many", result, job))
        except JobError as error:
            return error.with_traceback(None)


def adapter_class(spec: OwnTaskSpec) -> type[OwnTask]:
    """Return the adapter of a task, whose author's class is imported. Raises SettingsError if that can't be used."""
    author_class = operator_code.load_object(spec.task.adapter)
    if not (isinstance(author_class, type) and issubclass(author_class, TaskAdapter)):
        raise SettingsError(f"{spec.task.adapter} must be a class derived from batchmill.TaskAdapter; correct it")
    model_class = getattr(author_class, "model_class", None)
    if not (isinstance(model_class, type) and issubclass(model_class, (PreTrainedModel, _BaseAutoModelClass))):
        raise SettingsError(
            f"{spec.task.adapter} needs model_class: an auto class of transformers, or a PreTrainedModel of its author"
        )
    decodes_many = author_class.decode_many is not TaskAdapter.decode_many
    fields = {
        "spec": spec,
        "author_class": author_class,
        "auto_model_class": author_class.model_class,
        "uses_tokenizer": author_class.uses_tokenizer,
    }
    return type(author_class.__name__, (BulkOwnTask if decodes_many else OwnTask,), fields)


def _value(raw: Any) -> Any:
    return raw.value if isinstance(raw, RawOutput) else raw


def _vocabulary_size(model: Any) -> int | None:
    try:
        return vocabulary.size(model)
    except Exception:  # a model of the author's own may have no embeddings of tokens
        size: Mapping[str, Any] = getattr(model.config, "__dict__", {})
        return size.get("vocab_size") if isinstance(size.get("vocab_size"), int) else None


def _run_within(seconds: float, trial: TaskTrial, task: str) -> TrialResult:
    """Run the trial in a thread. Raises ModelError if a pass does not end in time, since no thread can be ended."""
    outcome: list[TrialResult | BaseException] = []

    def run() -> None:
        try:
            outcome.append(trial.run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, name="task-trial", daemon=True)
    thread.start()
    while thread.is_alive():
        remaining = trial.last_progress + seconds - time.monotonic()
        if remaining <= 0:
            problem = f"did not answer its example input within {seconds:g} s; its author can mend it"
            raise ModelError(f"task {task} {problem}, or the pipeline can set pass_seconds")
        thread.join(remaining)
    [result] = outcome
    if isinstance(result, BaseException):
        raise result
    return result
