"""Outcomes turn a job's raw outputs, or the exception in their place, into a result that any database stores."""

from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from itertools import islice
from typing import Any

import structlog

from models import vectors
from models.documents import to_json
from models.errors import JobError
from models.guards.screening import Screening
from models.states import FinishReason, JobOutcome
from worker.adapters.interface import Adapter, BulkDecodingAdapter
from worker.adapters.output_json import NUL, check_json, to_valid_json
from worker.adapters.rows import GeneratedTexts
from worker.engine.assembly import PartialJob
from worker.failures import is_out_of_memory, is_transient
from worker.guards.screener import GuardUnavailable
from worker.leasing.job_results import JobResult, RetryableFailure
from worker.leasing.leases import Job, Lease
from worker.passes.bisection import strip_tracebacks

log = structlog.get_logger(__name__)

Output = str | bytes  # JSON, or a vector as in `models/vectors.py`

UNAVAILABLE = "unavailable"
OUT_OF_MEMORY_MESSAGE = (
    "it does not fit into the device's memory, even alone; cut it, or set max_length for the pipeline"
)


def results_for(
    adapter: Adapter, partial_jobs: Sequence[PartialJob], max_attempts: int
) -> Iterator[JobResult | RetryableFailure]:
    """Yield the results of complete jobs and of their duplicates; the first of a job carries the cost for all.

    max_attempts: the limit for batches without one; a transient failure before it is a RetryableFailure.
    """
    for partial_job, output in zip(partial_jobs, _decode(adapter, partial_jobs), strict=True):
        result = _failure(partial_job, output) if isinstance(output, Exception) else _success(partial_job, output)
        if isinstance(result, Exception):
            screening = partial_job.jobs[0].screening
            for job in partial_job.jobs:
                yield retry_or_fail(job.lease, job.position, result, max_attempts, screening)
                screening = None if screening is None else replace(screening, device_seconds=None)
            continue
        yield result
        if len(partial_job.jobs) > 1:
            free_result = replace(result, tokens=0, padded_tokens=0, device_seconds=0.0, guard_seconds=None)
            for job in partial_job.jobs[1:]:
                yield replace(free_result, lease=job.lease, position=job.position)


def _decode(adapter: Adapter, partial_jobs: Sequence[PartialJob]) -> Iterator[Output | Exception]:
    """Yield for each job its output as JSON or as a vector, or its error."""
    failures = [partial_job.failure for partial_job in partial_jobs]
    if failures.count(None) == len(failures):
        return _decode_computed(adapter, partial_jobs)
    computed = [job for job, failure in zip(partial_jobs, failures, strict=True) if failure is None]
    outputs = _decode_computed(adapter, computed)
    return (next(outputs) if failure is None else failure for failure in failures)


def _decode_computed(adapter: Adapter, partial_jobs: Sequence[PartialJob]) -> Iterator[Output | Exception]:
    """Yield one output or error for each job whose rows were all computed."""
    decoded = 0
    if isinstance(adapter, BulkDecodingAdapter):
        try:
            for output in _decode_together(adapter, partial_jobs):
                yield output if isinstance(output, Exception) else _checked_or_error(output)
                decoded += 1
        except Exception as error:
            log.warning("outputs.bulk_decoding_failed", jobs=len(partial_jobs) - decoded, error=type(error).__name__)
    for partial_job in partial_jobs[decoded:]:
        yield _decode_alone(adapter, partial_job)


def _decode_together(adapter: BulkDecodingAdapter, partial_jobs: Sequence[PartialJob]) -> Iterable[Output | Exception]:
    outputs = adapter.decode_many([(job.encoded_rows, job.raw_outputs) for job in partial_jobs])
    if isinstance(outputs, Sized) and len(outputs) != len(partial_jobs):
        raise ValueError("the adapter decoded another number of jobs")
    return islice(outputs, len(partial_jobs))


def _checked_or_error(output: Output) -> Output | Exception:
    try:
        if isinstance(output, bytes):
            return _check_dimensions(output)
        return output if output.isascii() and NUL not in output else check_json(output)
    except JobError as error:
        return error


def _decode_alone(adapter: Adapter, partial_job: PartialJob) -> Output | Exception:
    try:
        output = adapter.decode(partial_job.encoded_rows, partial_job.raw_outputs)
        if not isinstance(output, bytes):
            return to_valid_json(output)
        if not vectors.is_valid(_check_dimensions(output)):
            raise JobError(
                "invalid_output", "the model gave a vector of numbers that are not finite; try dtype float32"
            )
        return output
    except Exception as error:
        return error


def _check_dimensions(vector: bytes) -> bytes:
    """Return the vector; raises JobError if no database has room for it."""
    dimensions = vectors.dimensions(vector)
    if not dimensions:
        raise JobError("invalid_output", "the model gave a vector without numbers")
    if dimensions > vectors.MAX_DIMENSIONS:
        limit = f"a database stores {vectors.MAX_DIMENSIONS:,}; set dimensions for the pipeline"
        raise JobError("output_too_large", f"the model gave a vector of {dimensions:,} numbers; {limit}")
    return vector


def _success(partial_job: PartialJob, output: Output) -> JobResult:
    job = partial_job.jobs[0]
    result = JobResult(
        job.lease,
        job.position,
        JobOutcome.SUCCEEDED,
        None if isinstance(output, bytes) else output,
        output if isinstance(output, bytes) else None,
        truncated=partial_job.truncated,
        tokens=partial_job.tokens,
        padded_tokens=partial_job.padded_tokens,
        device_seconds=partial_job.device_seconds,
        windows=partial_job.encoded_rows[0].window_count or None,
        input_tokens=partial_job.tokens if partial_job.encoded_rows[0].has_tokens else None,
        **_screening_fields(job.screening),
    )
    return _with_text_ends(result, partial_job) if isinstance(partial_job.raw_outputs[0], GeneratedTexts) else result


def _failure(partial_job: PartialJob, error: Exception) -> JobResult | Exception:
    """The result of a job without an output, or its transient error."""
    job, row, failure = partial_job.jobs[0], partial_job.encoded_rows[0], strip_tracebacks(error)
    if not isinstance(failure, JobError) and is_transient(failure):  # also a lack of memory that other processes had
        return failure
    code, message = _describe_failure(job, failure)
    result = JobResult(
        job.lease,
        job.position,
        JobOutcome.FAILED,
        error_code=code,
        error_message=message,
        truncated=partial_job.truncated,
        tokens=partial_job.tokens,
        padded_tokens=partial_job.padded_tokens,
        device_seconds=partial_job.device_seconds,
        windows=None if row.features is None else row.window_count,  # none of an input that no model read
        input_tokens=partial_job.tokens if row.has_tokens and row.features is not None else None,
        **_screening_fields(job.screening),
    )
    return _with_text_ends(result, partial_job) if isinstance(partial_job.raw_outputs[0], GeneratedTexts) else result


def _with_text_ends(result: JobResult, partial_job: PartialJob) -> JobResult:
    """The result of a job that generates, with its tokens and how its texts ended."""
    generated = [texts for texts in partial_job.raw_outputs if isinstance(texts, GeneratedTexts)]
    return replace(
        result,
        input_tokens=partial_job.encoded_rows[0].length,  # several texts that are drawn for it are rows of one prompt
        output_tokens=sum(texts.tokens for texts in generated),
        finish_reason=(FinishReason.STOP if all(texts.has_ended for texts in generated) else FinishReason.LENGTH).value,
    )


def _describe_failure(job: Job, failure: Exception) -> tuple[str, str]:
    """The code and the message of an error that is not transient."""
    if isinstance(failure, JobError):
        return failure.code, str(failure)
    if is_out_of_memory(failure):
        return "out_of_memory", OUT_OF_MEMORY_MESSAGE
    log.warning("job.failed", batch_id=job.lease.batch_id, position=job.position, error=type(failure).__name__)
    return "model_error", f"the model could not answer this input ({type(failure).__name__})"


def retry_or_fail(
    lease: Lease, position: int, error: Exception, max_attempts: int, screening: Screening | None = None
) -> JobResult | RetryableFailure:
    """The outcome of a job with a transient error: another attempt while there is one left."""
    attempt, max_attempts = lease.retries + 1, lease.max_attempts or max_attempts
    problem = f"a resource was busy or unreachable ({type(error).__name__})"
    if isinstance(error, GuardUnavailable):
        problem = str(error)
    message = f"{problem}, at attempt {attempt} of {max_attempts}"
    if attempt < max_attempts:
        return RetryableFailure(lease, position, UNAVAILABLE, message)
    failed = JobOutcome.FAILED
    return JobResult(
        lease, position, failed, error_code=UNAVAILABLE, error_message=message, **_screening_fields(screening)
    )


def _screening_fields(screening: Screening | None) -> dict[str, Any]:
    """The fields of a result that say what the guards made of its input."""
    if screening is None:
        return {}
    return {
        "verdicts": screening.verdicts,
        "guard_seconds": screening.device_seconds,
        "redacted_input": None if screening.redacted is None else to_json(screening.redacted),
        "keep_original": screening.keep_original,
    }
