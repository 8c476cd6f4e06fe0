"""A lone input without memory: its own fault, or that of other processes on the device."""

import pytest

from models.states import JobOutcome
from worker.adapters.rows import Row
from worker.engine import outcomes
from worker.engine.assembly import PartAssembler
from worker.failures import mark_transient
from worker.leasing.job_results import JobResult, RetryableFailure
from worker.leasing.leases import Job, Lease

OutOfMemoryError = type("OutOfMemoryError", (RuntimeError,), {})


def result_of(error: Exception, retries: int) -> JobResult | RetryableFailure:
    job = Job(Lease(1, "batch", 0, 100, 1, 1, retries=retries), 7, {})
    [result] = outcomes.results_for(
        None,  # type: ignore[arg-type]  # nothing is decoded
        PartAssembler().add([(Row(job, None, 4, truncated=False), error)], 4, 0.0),
        max_attempts=3,
    )
    return result


@pytest.mark.parametrize("retries", [0, 2])
def test_an_input_too_large_for_the_share_fails_at_once(retries: int) -> None:
    result = result_of(OutOfMemoryError("CUDA out of memory"), retries)

    assert isinstance(result, JobResult)
    assert (result.status, result.error_code) == (JobOutcome.FAILED, "out_of_memory")


def test_an_input_whose_memory_others_had_is_tried_again_until_the_last_attempt() -> None:
    error = OutOfMemoryError("CUDA out of memory")
    mark_transient(error)

    first, last = result_of(error, 0), result_of(error, 2)

    assert isinstance(first, RetryableFailure)
    assert isinstance(last, JobResult)
    assert (last.status, last.error_code) == (JobOutcome.FAILED, "unavailable")
