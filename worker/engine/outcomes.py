"""Answers: what a job's raw output, or the exception in its place, comes to, in a form that any database takes."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from models.documents import as_json
from models.errors import JobError
from models.states import Outcome
from worker.adapters.interface import Adapter
from worker.engine.assembly import Parts
from worker.engine.bisection import bare
from worker.failures import may_pass, out_of_memory
from worker.leasing.commit import Answer, Deferral
from worker.leasing.leases import Job

log = structlog.get_logger(__name__)

# Behind an even number of backslashes it is text that spells the escape out, and is fine.
ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


UNAVAILABLE = "unavailable"
TOO_LARGE = "it does not fit into the device's memory, even alone; cut it, or set max_length for the pipeline"


def of(adapter: Adapter, parts: Parts, max_attempts: int) -> list[Answer | Deferral]:
    """The answers to a job all of whose rows have come back, and to its twins. A failure is its own row's alone.

    A Deferral where it failed of what may pass with time, unless that was the last of its batch's `max_attempts`. What
    it cost the device is told of the first; the others cost nothing.
    """
    answer = _answer(adapter, parts)
    if isinstance(answer, Exception):
        return [_put_off(job, answer, job.lease.max_attempts or max_attempts) for job in parts.jobs]
    if len(parts.jobs) == 1:
        return [answer]
    free = replace(answer, tokens=0, padded_tokens=0, seconds=0.0)
    twins = [replace(free, lease=twin.lease, position=twin.position) for twin in parts.jobs[1:]]
    return [answer, *twins]


def _answer(adapter: Adapter, parts: Parts) -> Answer | Exception:
    """The answer to a job, or what may pass with time."""
    job, raw = parts.jobs[0], parts.raw
    answer = partial(
        Answer, job.lease, job.position,
        truncated=parts.truncated, tokens=parts.tokens, padded_tokens=parts.padded_tokens, seconds=parts.seconds,
    )  # fmt: skip
    try:
        failure = next((one for one in raw if isinstance(one, Exception)), None)
        if failure is None:
            return answer(status=Outcome.SUCCEEDED, output=_checked(adapter.decode(parts.encoded, raw)))
    except Exception as error:
        failure = bare(error)
    if isinstance(failure, JobError):
        return answer(status=Outcome.FAILED, error_code=failure.code, error_message=str(failure))
    if out_of_memory(failure):
        return answer(status=Outcome.FAILED, error_code="out_of_memory", error_message=TOO_LARGE)
    if may_pass(failure):
        return failure
    log.warning("a job failed", batch=job.lease.batch_id, position=job.position, kind=type(failure).__name__)
    message = f"the model could not answer this input ({type(failure).__name__})"
    return answer(status=Outcome.FAILED, error_code="model_error", error_message=message)


def _put_off(job: Job, error: Exception, most: int) -> Answer | Deferral:
    tries = job.lease.retries + 1
    message = f"what it needs was busy or away ({type(error).__name__}), at try {tries} of {most}"
    if tries < most:
        return Deferral(job.lease, job.position, UNAVAILABLE, message)
    return Answer(job.lease, job.position, Outcome.FAILED, error_code=UNAVAILABLE, error_message=message)


def _checked(output: Any) -> str:
    """The output as JSON that both databases take; raises JobError when they would not."""
    try:
        document = as_json(output)
        document.encode()
    except ValueError:
        raise JobError("invalid_output", "the model gave an output that is not valid JSON text") from None
    if ESCAPED_NUL.search(document):
        raise JobError("invalid_output", "the model gave a NUL character, which no database stores")
    return document
