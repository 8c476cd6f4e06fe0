"""Outcomes turn a job's raw outputs, or the exception in their place, into a result that any database stores."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from models.documents import to_json
from models.errors import JobError
from models.states import JobOutcome
from worker.adapters.interface import Adapter
from worker.engine.assembly import PartialJob
from worker.engine.bisection import strip_tracebacks
from worker.failures import is_out_of_memory, is_transient
from worker.leasing.commit import JobResult, RetryableFailure
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

# An even number of backslashes before `u0000` is text that spells the escape out, which is allowed.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")

UNAVAILABLE = "unavailable"
OUT_OF_MEMORY_MESSAGE = (
    "it does not fit into the device's memory, even alone; cut it, or set max_length for the pipeline"
)


def results_for(adapter: Adapter, partial_job: PartialJob, max_attempts: int) -> list[JobResult | RetryableFailure]:
    """Return the results of a complete job and of its duplicates; the first carries the cost for all.

    max_attempts: the limit for batches without one; a transient failure before it is a RetryableFailure.
    """
    result = _decode_result(adapter, partial_job)
    if isinstance(result, Exception):
        return [_retry_or_fail(job, result, job.lease.max_attempts or max_attempts) for job in partial_job.jobs]
    if len(partial_job.jobs) == 1:
        return [result]
    free_result = replace(result, tokens=0, padded_tokens=0, device_seconds=0.0)
    return [result, *(replace(free_result, lease=job.lease, position=job.position) for job in partial_job.jobs[1:])]


def _decode_result(adapter: Adapter, partial_job: PartialJob) -> JobResult | Exception:
    """The result of a job, or its transient error."""
    job, raw_outputs = partial_job.jobs[0], partial_job.raw_outputs
    job_result = partial(
        JobResult,
        job.lease,
        job.position,
        truncated=partial_job.truncated,
        tokens=partial_job.tokens,
        padded_tokens=partial_job.padded_tokens,
        device_seconds=partial_job.device_seconds,
    )
    try:
        failure = next((output for output in raw_outputs if isinstance(output, Exception)), None)
        if failure is None:
            output = _to_valid_json(adapter.decode(partial_job.encoded_rows, raw_outputs))
            return job_result(status=JobOutcome.SUCCEEDED, output=output)
    except Exception as error:
        failure = strip_tracebacks(error)
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


def _to_valid_json(output: Any) -> str:
    """The output as JSON that both databases store; raises JobError where they would not."""
    try:
        document = to_json(output)
        document.encode()
    except ValueError:
        raise JobError("invalid_output", "the model gave an output that is not valid JSON text") from None
    if ESCAPED_NUL.search(document):
        raise JobError("invalid_output", "the model gave a NUL character, which no database stores")
    return document
