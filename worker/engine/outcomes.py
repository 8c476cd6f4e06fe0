"""Outcomes turn a job's raw outputs, or the exception in their place, into a result that any database stores."""

from collections.abc import Iterator, Sequence, Sized
from dataclasses import replace
from functools import partial
from itertools import islice

import structlog

from models.errors import JobError
from models.states import JobOutcome
from worker.adapters.interface import Adapter, BulkDecodingAdapter
from worker.adapters.output_json import check_json, to_valid_json
from worker.engine.assembly import PartialJob
from worker.engine.bisection import strip_tracebacks
from worker.failures import is_out_of_memory, is_transient
from worker.leasing.commit import JobResult, RetryableFailure
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

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
    for partial_job, output in _decode(adapter, partial_jobs):
        result = _result(partial_job, output)
        if isinstance(result, Exception):
            for job in partial_job.jobs:
                yield _retry_or_fail(job, result, job.lease.max_attempts or max_attempts)
            continue
        yield result
        if len(partial_job.jobs) > 1:
            free_result = replace(result, tokens=0, padded_tokens=0, device_seconds=0.0)
            for job in partial_job.jobs[1:]:
                yield replace(free_result, lease=job.lease, position=job.position)


def _decode(adapter: Adapter, partial_jobs: Sequence[PartialJob]) -> Iterator[tuple[PartialJob, str | Exception]]:
    """Pair each job with its output as JSON, or with its error."""
    outputs = _decode_computed(adapter, [job for job in partial_jobs if job.failure is None])
    for partial_job in partial_jobs:
        yield partial_job, partial_job.failure or next(outputs)


def _decode_computed(adapter: Adapter, partial_jobs: Sequence[PartialJob]) -> Iterator[str | Exception]:
    """Yield one output or error for each job whose rows were all computed."""
    decoded = 0
    if isinstance(adapter, BulkDecodingAdapter):
        try:
            for output in _decode_together(adapter, partial_jobs):
                yield output
                decoded += 1
        except Exception as error:
            log.warning("outputs.bulk_decoding_failed", jobs=len(partial_jobs) - decoded, error=type(error).__name__)
    for partial_job in partial_jobs[decoded:]:
        yield _decode_alone(adapter, partial_job)


def _decode_together(adapter: BulkDecodingAdapter, partial_jobs: Sequence[PartialJob]) -> Iterator[str | Exception]:
    outputs = adapter.decode_many([(job.encoded_rows, job.raw_outputs) for job in partial_jobs])
    if isinstance(outputs, Sized) and len(outputs) != len(partial_jobs):
        raise ValueError("the adapter decoded another number of jobs")
    for output in islice(outputs, len(partial_jobs)):
        yield output if isinstance(output, Exception) else _document_or_error(output)


def _document_or_error(document: str) -> str | Exception:
    try:
        return check_json(document)
    except JobError as error:
        return error


def _decode_alone(adapter: Adapter, partial_job: PartialJob) -> str | Exception:
    try:
        return to_valid_json(adapter.decode(partial_job.encoded_rows, partial_job.raw_outputs))
    except Exception as error:
        return error


def _result(partial_job: PartialJob, output: str | Exception) -> JobResult | Exception:
    """The result of a job, or its transient error."""
    job = partial_job.jobs[0]
    job_result = partial(
        JobResult,
        job.lease,
        job.position,
        truncated=partial_job.truncated,
        tokens=partial_job.tokens,
        padded_tokens=partial_job.padded_tokens,
        device_seconds=partial_job.device_seconds,
    )
    if isinstance(output, str):
        return job_result(status=JobOutcome.SUCCEEDED, output=output)
    failure = strip_tracebacks(output)
    if isinstance(failure, JobError):
        return job_result(status=JobOutcome.FAILED, error_code=failure.code, error_message=str(failure))
    if is_transient(failure):  # asked first: other processes may have had the memory
        return failure
    if is_out_of_memory(failure):
        return job_result(status=JobOutcome.FAILED, error_code="out_of_memory", error_message=OUT_OF_MEMORY_MESSAGE)
    log.warning("job.failed", batch_id=job.lease.batch_id, position=job.position, error=type(failure).__name__)
    message = f"the model could not answer this input ({type(failure).__name__})"
    return job_result(status=JobOutcome.FAILED, error_code="model_error", error_message=message)


def _retry_or_fail(job: Job, error: Exception, max_attempts: int) -> JobResult | RetryableFailure:
    attempt = job.lease.retries + 1
    message = f"a resource was busy or unreachable ({type(error).__name__}), at attempt {attempt} of {max_attempts}"
    if attempt < max_attempts:
        return RetryableFailure(job.lease, job.position, UNAVAILABLE, message)
    return JobResult(job.lease, job.position, JobOutcome.FAILED, error_code=UNAVAILABLE, error_message=message)
