"""Output guards leave nothing that a guard has not read."""

from typing import Any

import pytest

from models.guards.definition import Guard
from models.guards.verdict import Verdict
from models.states import JobOutcome
from tests.factories.guards import make_screener
from worker.engine.output_guards import OutputGuards
from worker.leasing.job_results import JobResult, RetryableFailure
from worker.leasing.leases import Lease

LEASE = Lease(1, "batch", 0, 4, 1, 1)
GUARDS = {
    "names": Guard(on="output", action="redact", pattern="Ann"),
    "secrets": Guard(on="output", action="fail", pattern="key"),
}
PASSED = Verdict("before", "input", "pass")


def result(output: str | None, **fields: Any) -> JobResult:
    status = JobOutcome.FAILED if output is None else JobOutcome.SUCCEEDED
    return JobResult(LEASE, 0, status, output, **fields)


def output_guards(guard_count: int = 2) -> OutputGuards:
    return OutputGuards(make_screener(GUARDS, stage="output"), guard_count, max_attempts=3)


def test_outputs_are_redacted_and_blocked() -> None:
    redacted, blocked = output_guards().screen([result('{"text":"Ann"}'), result('{"text":"a key"}')])

    assert isinstance(redacted, JobResult)
    assert isinstance(blocked, JobResult)
    assert redacted.output == '{"text":"[REDACTED]"}'
    assert (blocked.status, blocked.output, blocked.error_code) == (JobOutcome.FAILED, None, "guard_blocked")


def test_vectors_pass_since_they_have_no_texts() -> None:
    outcomes = [JobResult(LEASE, position, JobOutcome.SUCCEEDED, vector=bytes(8)) for position in range(2)]

    for outcome, screened in zip(outcomes, output_guards().screen(outcomes), strict=True):
        assert isinstance(screened, JobResult)
        assert (screened.status, screened.output, screened.vector) == (outcome.status, None, outcome.vector)
        assert [verdict.action for verdict in screened.verdicts] == ["pass", "pass"]


def test_failures_are_not_read() -> None:
    outcomes = [result(None, error_code="model_error"), RetryableFailure(LEASE, 0, "unavailable", "busy")]

    assert output_guards().screen(outcomes) == outcomes


def test_verdicts_on_the_input_come_first() -> None:
    [screened] = output_guards(3).screen([result('"fine"', verdicts=(PASSED,), guard_seconds={"before": 0.5})])

    assert isinstance(screened, JobResult)
    assert [verdict.guard for verdict in screened.verdicts] == ["before", "names", "secrets"]
    assert screened.guard_seconds == {"before": 0.5}


def test_a_result_that_a_guard_has_not_read_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="lacks the verdict"):
        output_guards(3).screen([result('"fine"')])


def test_without_guards_nothing_is_done() -> None:
    outcomes = [result('"fine"')]

    assert OutputGuards(make_screener({}, stage="output"), 0, max_attempts=3).screen(outcomes) is outcomes
