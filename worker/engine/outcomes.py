"""Answers: what a job's raw output, or the exception in its place, comes to, in a form that any database takes."""

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

# Behind an even number of backslashes it is text that spells the escape out, and is fine.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


UNAVAILABLE = "unavailable"
OUT_OF_MEMORY_MESSAGE = (
    "it does not fit into the device's memory, even alone; cut it, or set max_length for the pipeline"
)


def results_for(adapter: Adapter, partial_job: PartialJob, max_attempts: int) -> list[JobResult | RetryableFailure]:
    """The answers to a job all of whose rows have come back, and to its twins. A failure is its own row's alone.

    A Deferral where it failed of what may pass with time, unless that was the last of its batch's `max_attempts`. What
    it cost the device is told of the first; the others cost nothing.
    """
    answer = _decode_result(adapter, partial_job)
    if isinstance(answer, Exception):
        return [_defer(job, answer, job.lease.max_attempts or max_attempts) for job in partial_job.jobs]
    if len(partial_job.jobs) == 1:
        return [answer]
    free = replace(answer, tokens=0, padded_tokens=0, device_seconds=0.0)
    twins = [replace(free, lease=twin.lease, position=twin.position) for twin in partial_job.jobs[1:]]
    return [answer, *twins]


def _decode_result(adapter: Adapter, partial_job: PartialJob) -> JobResult | Exception:
    """The answer to a job, or what may pass with time."""
    job, raw = partial_job.jobs[0], partial_job.raw_outputs
    answer = partial(
        JobResult,
        job.lease,
        job.position,
        truncated=partial_job.truncated,
        tokens=partial_job.tokens,
        padded_tokens=partial_job.padded_tokens,
        device_seconds=partial_job.device_seconds,
    )
    try:
        failure = next((one for one in raw if isinstance(one, Exception)), None)
        if failure is None:
            return answer(
                status=JobOutcome.SUCCEEDED, output=_to_valid_json(adapter.decode(partial_job.encoded_rows, raw))
            )
    except Exception as error:
        failure = strip_tracebacks(error)
    if isinstance(failure, JobError):
        return answer(status=JobOutcome.FAILED, error_code=failure.code, error_message=str(failure))
    if is_out_of_memory(failure):
        return answer(status=JobOutcome.FAILED, error_code="out_of_memory", error_message=OUT_OF_MEMORY_MESSAGE)
    if is_transient(failure):
        return failure
    log.warning("a job failed", batch=job.lease.batch_id, position=job.position, kind=type(failure).__name__)
    message = f"the model could not answer this input ({type(failure).__name__})"
    return answer(status=JobOutcome.FAILED, error_code="model_error", error_message=message)


def _defer(job: Job, error: Exception, max_attempts: int) -> JobResult | RetryableFailure:
    tries = job.lease.retries + 1
    message = f"what it needs was busy or away ({type(error).__name__}), at try {tries} of {max_attempts}"
    if tries < max_attempts:
        return RetryableFailure(job.lease, job.position, UNAVAILABLE, message)
    return JobResult(job.lease, job.position, JobOutcome.FAILED, error_code=UNAVAILABLE, error_message=message)


def _to_valid_json(output: Any) -> str:
    """The output as JSON that both databases take; raises JobError when they would not."""
    try:
        document = to_json(output)
        document.encode()
    except ValueError:
        raise JobError("invalid_output", "the model gave an output that is not valid JSON text") from None
    if ESCAPED_NUL.search(document):
        raise JobError("invalid_output", "the model gave a NUL character, which no database stores")
    return document
