"""What a retry would do, before anybody decides it: how many jobs run again, and what becomes of the others."""

from dataclasses import dataclass

from sqlalchemy import text

from models import error_catalogue
from models.db import Database
from models.error_catalogue import Explanation, Remedy
from models.states import JobOutcome
from producer.batches import failure_counts
from producer.batches.actions.retry import RetrySelection
from producer.batches.failure_counts import CodeCount, FailureCounts
from producer.batches.views import BatchView

MAX_CHOICES = 50  # codes among which somebody may choose

SELECT_JOB = """
SELECT r.status, r.error_code, r.error_message, j.invalid FROM jobs j
LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND j.position = :position
"""


@dataclass(frozen=True, slots=True)
class PlannedCode:
    """Failed jobs with one code.

    is_chosen: whether the selection takes them
    """

    count: CodeCount
    explanation: Explanation
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """What a retry with a selection would do.

    codes: those of jobs that can run again; is_chosen says which of them do
    invalid: rows that no retry helps, only a repair
    cancelled, expired: jobs with these outcomes; `outcomes` of the selection says whether they run again
    is_exact: False where there are more failures than were counted
    """

    batch: BatchView
    selection: RetrySelection
    codes: tuple[PlannedCode, ...]
    invalid: tuple[CodeCount, ...]
    cancelled: int
    expired: int
    is_exact: bool

    @property
    def chosen(self) -> tuple[PlannedCode, ...]:
        """The codes that the selection takes."""
        return tuple(code for code in self.codes if code.is_chosen)

    @property
    def has_choice(self) -> bool:
        """Whether somebody may choose among the codes: all are known, and other outcomes have none."""
        is_of_failed = not self.selection.codes and self.selection.outcomes == (JobOutcome.FAILED,)
        can_name_all = len(self.codes) <= MAX_CHOICES and all(code.count.code for code in self.codes)
        return is_of_failed and self.is_exact and can_name_all

    @property
    def is_upper_bound(self) -> bool:
        """Whether `jobs` may include rows that were invalid, because not all failures were counted."""
        return not self.is_exact and not self.selection.codes and JobOutcome.FAILED in self.selection.outcomes

    @property
    def jobs(self) -> int:
        """How many jobs run again. Unless it `is_exact`: at least so many, or at most if it `is_upper_bound`."""
        outcomes = self.selection.outcomes
        failed = sum(code.count.jobs for code in self.chosen)
        if not self.is_exact and not self.selection.codes and JobOutcome.FAILED in outcomes:
            failed = self.batch.counts.failed - self.invalid_rows
        others = ((JobOutcome.CANCELLED, self.cancelled), (JobOutcome.EXPIRED, self.expired))
        return failed + sum(count for outcome, count in others if outcome in outcomes)

    @property
    def suggested_jobs(self) -> int:
        """How many jobs a retry may help, now or after a change; the others need another input."""
        return sum(code.count.jobs for code in self.chosen if code.explanation.remedy is not Remedy.INPUT)

    @property
    def names_invalid(self) -> bool:
        """Whether the selection has a code of rows that no retry helps."""
        return any((count.code or "") in self.selection.codes for count in self.invalid)

    @property
    def invalid_rows(self) -> int:
        """How many rows no retry helps."""
        return sum(count.jobs for count in self.invalid)


@dataclass(frozen=True, slots=True)
class JobToRetry:
    """One job and why it failed."""

    position: int
    outcome: JobOutcome | None
    code: str | None
    message: str | None
    is_invalid: bool

    @property
    def can_retry(self) -> bool:
        """Whether it has ended in a way that a retry changes."""
        return self.outcome not in (None, JobOutcome.SUCCEEDED) and not self.is_invalid


def plan_retry(database: Database, batch: BatchView, selection: RetrySelection) -> RetryPlan:
    """Return what a retry would do; reads at most 10,000 failures."""
    counts = failure_counts.count_failures(database, batch.id) if batch.counts.failed else FailureCounts((), True)
    takes_failed = JobOutcome.FAILED in selection.outcomes
    codes = tuple(
        PlannedCode(
            count,
            error_catalogue.explain(count.code),
            takes_failed and (not selection.codes or (count.code or "") in selection.codes),
        )
        for count in counts.retryable
    )
    return RetryPlan(
        batch, selection, codes, counts.invalid, batch.counts.cancelled, batch.counts.expired, counts.is_exact
    )


def find_job(database: Database, batch_id: str, position: int) -> JobToRetry | None:
    """Return the job at a position, if there is one."""
    with database.read() as connection:
        row = connection.execute(text(SELECT_JOB), {"batch_id": batch_id, "position": position}).one_or_none()
    if row is None:
        return None
    outcome = None if row.status is None else JobOutcome(row.status)
    return JobToRetry(position, outcome, row.error_code, row.error_message, bool(row.invalid))
