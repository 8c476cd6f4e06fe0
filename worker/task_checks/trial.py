"""A trial runs inputs through an adapter as the engine does, without a database, and keeps what goes wrong."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from models import vectors
from models.documents import to_json
from models.errors import JobError
from models.tasks.spec import TaskSpec
from worker.adapters.interface import Adapter, BulkDecodingAdapter, DecodableJob
from worker.adapters.output_json import to_valid_json
from worker.adapters.own.error_place import error_place
from worker.adapters.rows import MicroBatch, Row
from worker.leasing.leases import Job, Lease
from worker.passes.bisection import isolate_failures
from worker.passes.planning import plan_micro_batches

# Of the JobErrors that Batchmill makes of what an author's code raised or returned; None = any other exception.
FAULT_CODES = frozenset((None, "task_error", "invalid_output"))

Item = TypeVar("Item")


class WrongCount(Exception):
    """A method of the adapter returned another number of results than it was given items."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one input.

    document: the output as JSON; None if the input failed.
    code: the error's code; None if there is none, because the exception is no JobError.
    problem: the error in words; for an exception its type and place, never its text, which may quote an input.
    """

    document: str | None = None
    code: str | None = None
    problem: str | None = None

    @property
    def is_fault(self) -> bool:
        """Whether the adapter is to blame: it raised something else than a JobError, or returned what it must not."""
        return self.problem is not None and self.code in FAULT_CODES

    @property
    def output(self) -> Any:
        """The output, parsed."""
        return None if self.document is None else json.loads(self.document)


@dataclass(frozen=True, slots=True)
class Incident:
    """An exception of the adapter while it had several items at once; each was then tried alone, as the engine does."""

    items: int
    code: str | None
    problem: str


class Trial:
    """Runs inputs of one task through a loaded adapter; `incidents` has the failures of several items at once.

    budget_tokens: the padded tokens of a micro-batch, unless a call names another number.
    """

    def __init__(self, adapter: Adapter, spec: TaskSpec, parameters: Mapping[str, Any], budget_tokens: int) -> None:
        self.adapter = adapter
        self.spec = spec
        self.parameters = dict(parameters)
        self.incidents: list[Incident] = []
        self._budget_tokens = budget_tokens

    def answer(
        self,
        inputs: Sequence[tuple[int, Mapping[str, Any]]],
        *,
        budget_tokens: int | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> dict[int, Answer]:
        """Return the answer of each input, by its number; all are encoded in one call, as those of one portion are."""
        lease = Lease(1, "check", 0, len(inputs), 1, 1, parameters=dict(parameters or self.parameters))
        jobs = [Job(lease, number, dict(stored), len(to_json(stored))) for number, stored in inputs]
        return self.answer_jobs(jobs, budget_tokens)

    def answer_jobs(self, jobs: Sequence[Job], budget_tokens: int | None = None) -> dict[int, Answer]:
        """As `answer`, for jobs that may have different parameters."""
        encoded = isolate_failures(self._watched("encode", self.adapter.encode), jobs)
        failed = {job.position: rows for job, rows in encoded if isinstance(rows, Exception)}
        rows = [row for _, own in encoded if not isinstance(own, Exception) for row in own]
        raw: dict[int, Any] = {}
        for micro_batch in plan_micro_batches(rows, budget_tokens or self._budget_tokens, self.adapter.max_rows):
            forward = self._watched("forward", self._forward)
            raw |= {id(row): output for row, output in isolate_failures(forward, micro_batch.rows)}
        computed: list[tuple[Job, DecodableJob]] = []
        for job, own in encoded:
            if isinstance(own, Exception):
                continue
            outputs = [raw[id(row)] for row in own]
            failure = next((output for output in outputs if isinstance(output, Exception)), None)
            if failure is None:
                computed.append((job, (own, outputs)))
            else:
                failed[job.position] = failure
        answers = {number: self._failure(error) for number, error in failed.items()}
        return answers | self._decode(computed)

    def _forward(self, rows: Sequence[Row]) -> list[Any]:
        return self.adapter.forward(MicroBatch(tuple(rows)))

    def _decode(self, computed: Sequence[tuple[Job, DecodableJob]]) -> dict[int, Answer]:
        documents: list[str | bytes | Exception] = []
        if isinstance(self.adapter, BulkDecodingAdapter):
            bulk = self._watched("decode_many", lambda jobs: list(self.adapter.decode_many(jobs)))  # type: ignore[attr-defined]
            documents = [document for _, document in isolate_failures(bulk, [each for _, each in computed])]
        else:
            documents = [self._decode_alone(each) for _, each in computed]
        return {
            job.position: self._failure(document) if isinstance(document, Exception) else Answer(_as_json(document))
            for (job, _), document in zip(computed, documents, strict=True)
        }

    def _decode_alone(self, job: DecodableJob) -> str | bytes | Exception:
        def decode(jobs: Sequence[DecodableJob]) -> list[str | bytes]:
            output = self.adapter.decode(*jobs[0])
            return [output if isinstance(output, bytes) else to_valid_json(output)]

        [(_, document)] = isolate_failures(self._watched("decode", decode), [job])
        return document

    def _watched(self, method: str, work: Callable[[Sequence[Any]], Sequence[Any]]) -> Callable[[Any], Sequence[Any]]:
        """Wrap a method of the adapter: count its results, and describe its exceptions while their frames are there."""

        def run(items: Sequence[Any]) -> Sequence[Any]:
            try:
                results = work(items)
                if len(results) != len(items):
                    raise WrongCount(f"{method} gave {len(results):,} results for {len(items):,} inputs or rows")
            except Exception as error:
                problem = describe(error, method)
                error.add_note(problem)
                if len(items) > 1:
                    self.incidents.append(Incident(len(items), getattr(error, "code", None), problem))
                raise
            return results

        return run

    def _failure(self, error: Exception) -> Answer:
        code = error.code if isinstance(error, JobError) else None
        notes = getattr(error, "__notes__", None)
        return Answer(code=code, problem=notes[-1] if notes else describe(error, "decode"))


def describe(error: BaseException, method: str) -> str:
    """Describe an error of a method of the adapter, with its place, but without its text unless it is ours."""
    if isinstance(error, JobError):
        return f"{error.code}: {error}"
    if isinstance(error, WrongCount):
        return str(error)
    place = error_place(error)
    return f"{method} raised {type(error).__name__}" + (f" at {place}" if place else "")


def _as_json(document: str | bytes) -> str:
    return document if isinstance(document, str) else vectors.vector_json(document)
