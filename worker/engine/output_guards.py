"""Output guards read the outputs of jobs before they are stored, in the write thread."""

from collections.abc import Sequence
from dataclasses import replace

from models.documents import from_json, to_json
from models.errors import JobError
from models.guards.screening import Screening
from models.states import JobOutcome
from worker.engine import outcomes
from worker.guards.screener import Screener
from worker.leasing.job_results import JobResult, RetryableFailure

Outcome = JobResult | RetryableFailure
WITHOUT_TEXTS = "[]"


class OutputGuards:
    """Screens the outputs of results; used by the write thread alone.

    guard_count: guards of both stages, all of which must have read what succeeds.
    max_attempts: the limit for batches without one.
    max_chunk_characters: of outputs that guard models read together, None = there are no such guards.
    """

    def __init__(
        self, screener: Screener, guard_count: int, max_attempts: int, max_chunk_characters: int | None = None
    ) -> None:
        self.max_chunk_characters = max_chunk_characters if screener.has_models else None
        self._screener = screener
        self._guard_count = guard_count
        self._max_attempts = max_attempts

    def screen(self, job_outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Return the outcomes with the guards' verdicts; those without an output stay as they are.

        Equal outputs are read once. Raises Interrupted and DeviceLost, and RuntimeError if a guard was left out.
        """
        screened = self._screen(job_outcomes) if self._screener.has_guards else job_outcomes
        if self._guard_count and not all(map(self._is_fully_read, screened)):
            raise RuntimeError("a result lacks the verdict of a guard")  # a defect; nothing is written
        return screened

    def _is_fully_read(self, outcome: Outcome) -> bool:
        if not isinstance(outcome, JobResult) or outcome.status is not JobOutcome.SUCCEEDED:
            return True
        return len(outcome.verdicts) == self._guard_count

    def _screen(self, job_outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        outputs = {output: None for outcome in job_outcomes if (output := _document(outcome)) is not None}
        documents = [from_json(output) for output in outputs]
        screenings: dict[str | None, Screening] = dict(zip(outputs, self._screener.screen(documents), strict=True))
        screened: list[Outcome] = []
        for outcome in job_outcomes:
            output = _document(outcome)
            if isinstance(outcome, JobResult) and output is not None:
                screening = screenings[output]
                screened.append(self._apply(outcome, screening))
                if screening.device_seconds:  # the first result carries the time for all
                    screenings[output] = replace(screening, device_seconds=None)
            else:
                screened.append(outcome)
        return screened

    def _apply(self, result: JobResult, screening: Screening) -> Outcome:
        """Return the result as the guards leave it."""
        screened = replace(
            result, verdicts=(*result.verdicts, *screening.verdicts), guard_seconds=_add_seconds(result, screening)
        )
        if screening.error is not None:
            return self._fail(screened, screening.error)
        return screened if screening.redacted is None else replace(screened, output=to_json(screening.redacted))

    def _fail(self, result: JobResult, error: Exception) -> Outcome:
        if isinstance(error, JobError):
            code, message = error.code, str(error)
        else:
            outcome = outcomes.retry_or_fail(result.lease, result.position, error, self._max_attempts)
            if isinstance(outcome, RetryableFailure):
                return outcome
            code, message = outcomes.UNAVAILABLE, outcome.error_message or ""
        failed = replace(result, status=JobOutcome.FAILED, output=None, vector=None)
        return replace(failed, error_code=code, error_message=message)


def _document(outcome: Outcome) -> str | None:
    """The output that guards read, None without one; a vector has no texts, and passes as a document without any."""
    if not isinstance(outcome, JobResult):
        return None
    return outcome.output if outcome.vector is None else WITHOUT_TEXTS


def _add_seconds(result: JobResult, screening: Screening) -> dict[str, float] | None:
    if not screening.device_seconds:
        return None if result.guard_seconds is None else dict(result.guard_seconds)
    return {**(result.guard_seconds or {}), **screening.device_seconds}
