"""Retrying runs jobs of an ended batch again, in the same batch and at the same positions.

The jobs are requeued 20,000 at a time. The batch is consistent after each chunk, so an interrupted retry has retried a
part.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Connection, Text, TextClause, bindparam, text

from models import validation
from models.db import Database
from models.dialects.fragments import comma_separated
from models.errors import NothingToRetry, UsageError
from models.states import JobOutcome
from producer.advice import DoorText, join_texts
from producer.batches import views
from producer.batches.actions.requeue import Requeue, check_ended
from producer.batches.views import BatchView
from producer.tenants.job_cap import CapOf, no_cap
from producer.times import Deadline

CHUNK_JOBS = 20_000
POSITIONS = range(2**62)
MAX_POSITIONS = 10_000  # that a selection names

# A row that was invalid on submission is not retryable. The range is bounded on both sides, so that a
# chunk reads only its own positions.
SELECT_RETRYABLE = """
SELECT r.position, r.status FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.position > :after AND r.position <= :last AND r.status IN :outcomes
  AND NOT j.invalid AND (:any_code OR r.error_code IN :codes) AND (:any_position OR r.position {in_numbers})
ORDER BY r.position
"""

SELECT_LAST_POSITION = "SELECT coalesce(max(position), -1) FROM results WHERE batch_id = :batch_id"


# A batch over its failure limit would exceed it again at the first result, so its remaining failures raise the limit.
RAISE_FAILURE_LIMIT = """
UPDATE batches SET max_failures = max_failures + failed - (
    SELECT count(*) FROM results r WHERE r.batch_id = :batch_id AND r.status = 'failed' AND :takes_failed
      AND (:any_code OR r.error_code IN :codes) AND (:any_position OR r.position {in_numbers}))
WHERE id = :batch_id AND failed > max_failures
"""

COUNT_FAILURES_BY_CODE = """
SELECT r.error_code AS code, j.invalid AS invalid, count(*) AS jobs
FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.status = 'failed'
GROUP BY r.error_code, j.invalid ORDER BY count(*) DESC, r.error_code
"""

GUARD_CODES = ("guard_blocked", "guard_failed")  # of failures that a guard decided

EXPANDED_CODES = bindparam("codes", expanding=True, type_=Text())


@dataclass(frozen=True, slots=True)
class RetrySelection:
    """The jobs to retry.

    outcomes: outcomes of these jobs
    codes: error codes of these jobs; empty = any
    positions: their places among the inputs, from 0; empty = any
    """

    outcomes: tuple[JobOutcome, ...] = (JobOutcome.FAILED,)
    codes: tuple[str, ...] = ()
    positions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.positions) > MAX_POSITIONS:
            message = f"{len(self.positions):,} positions are too many; name at most {MAX_POSITIONS:,} at once"
            raise UsageError(message, param="positions")
        if any(isinstance(position, bool) or position not in POSITIONS for position in self.positions):
            raise UsageError("a position is the number of a job among the inputs, from 0", param="positions")

    def includes_failure(self, code: str) -> bool:
        """Whether all failed jobs with this error code are selected."""
        return not self.positions and JobOutcome.FAILED in self.outcomes and (not self.codes or code in self.codes)


@dataclass(frozen=True, slots=True)
class RetryResult:
    """The number of a batch's requeued jobs, and of the slices to send wakeups for.

    invalid_rows: failed rows that a retry can't help, by error code, most frequent first
    guarded_rows: requeued jobs that a guard had stopped
    """

    batch_id: str
    pipeline: str
    jobs: int
    slices: int
    invalid_rows: Mapping[str, int] = field(default_factory=dict)
    guarded_rows: int = 0

    @property
    def advice(self) -> str | None:
        """Sentences on the rows that a retry can't help, or only after a change of guards; None = there are none."""
        parts = []
        if self.guarded_rows:
            parts.append(_guarded_rows_message(self.batch_id, self.guarded_rows))
        if self.invalid_rows:
            parts.append(_invalid_rows_message(self.batch_id, self.invalid_rows))
        return join_texts("; ", parts) or None


def retry_jobs(
    database: Database,
    batch_id: str,
    selection: RetrySelection,
    slice_size: int,
    deadline: Deadline | None = None,
    cap_of: CapOf = no_cap,
) -> RetryResult:
    """Requeue the selected jobs of a batch that has ended.

    slice_size: jobs per slice
    deadline: the batch's new deadline; None keeps the old one, unless it has passed
    cap_of: returns the most unanswered jobs that a tenant may have

    Raises NotFound, NothingToRetry when no selected job can be retried, UsageError when the batch has not ended or an
    error code does not occur in it, and TooManyJobs when its tenant may have no more; those before are requeued then.
    """
    batch = views.get_batch(database, batch_id)
    check_ended(batch)
    with database.read() as connection:
        last_position = connection.execute(text(SELECT_LAST_POSITION), {"batch_id": batch_id}).scalar_one()
        failures = _count_failures(connection, batch_id, selection)
    _check_codes(batch_id, selection, [row.code for row in failures])
    retry = _Retry(Requeue(database, batch, slice_size, deadline, cap_of), selection)
    jobs, slice_count = 0, 0
    first, last = _range_of(selection, last_position)
    for position in range(first - 1, last, CHUNK_JOBS):
        chunk = database.transact(partial(retry.requeue_chunk, after_position=position, is_continuation=jobs > 0))
        jobs, slice_count = jobs + chunk[0], slice_count + chunk[1]
    invalid_rows = {row.code: row.jobs for row in failures if row.invalid and selection.includes_failure(row.code)}
    if jobs == 0:
        raise NothingToRetry(_nothing_to_retry_message(batch, selection, invalid_rows))
    guarded_rows = sum(row.jobs for row in failures if row.code in GUARD_CODES and selection.includes_failure(row.code))
    return RetryResult(batch_id, batch.pipeline, jobs, slice_count, invalid_rows, guarded_rows)


@dataclass(frozen=True, slots=True)
class _Retry:
    """One call of `retry_jobs`."""

    requeue: Requeue
    selection: RetrySelection

    def requeue_chunk(self, connection: Connection, *, after_position: int, is_continuation: bool) -> tuple[int, int]:
        """Requeue the selected jobs of the chunk after `after_position`; returns how many, and in how many slices."""
        self.requeue.lock_and_check(connection, is_continuation=is_continuation)
        params = _selection_params(self.requeue.batch_id, self.selection, after_position)
        in_numbers = self.requeue.database.sql.in_numbers
        rows = connection.execute(_retryable_query(in_numbers), params).all()
        if not rows:
            return 0, 0
        if not is_continuation:
            query = text(RAISE_FAILURE_LIMIT.format(in_numbers=in_numbers)).bindparams(EXPANDED_CODES)
            takes_failed = JobOutcome.FAILED in self.selection.outcomes
            connection.execute(query, {**params, "takes_failed": takes_failed})
        positions = [row.position for row in rows]
        return len(positions), self.requeue.requeue(connection, positions, Counter(row.status for row in rows))


def _count_failures(connection: Connection, batch_id: str, selection: RetrySelection) -> Sequence[Any]:
    """Count the batch's failures by code, unless positions and no codes are selected, which need no look at others."""
    if selection.positions and not selection.codes:
        return ()
    return connection.execute(text(COUNT_FAILURES_BY_CODE), {"batch_id": batch_id}).all()


def _range_of(selection: RetrySelection, last_position: int) -> tuple[int, int]:
    """Return the first and the last position that may be selected. Pure."""
    if not selection.positions:
        return 0, last_position
    return min(selection.positions), min(last_position, max(selection.positions))


def _retryable_query(in_numbers: str) -> TextClause:
    query = text(SELECT_RETRYABLE.format(in_numbers=in_numbers))
    return query.bindparams(bindparam("outcomes", expanding=True), EXPANDED_CODES)


def _selection_params(batch_id: str, selection: RetrySelection, after_position: int) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "after": after_position,
        "last": after_position + CHUNK_JOBS,
        "any_code": not selection.codes,
        "outcomes": [outcome.value for outcome in selection.outcomes],
        "codes": list(selection.codes),
        "any_position": not selection.positions,
        "numbers": comma_separated(selection.positions),
    }


def _check_codes(batch_id: str, selection: RetrySelection, codes: Sequence[str]) -> None:
    """Raise UsageError if no failed job has any of the selected codes, which are probably misspelt."""
    if not selection.codes or selection.outcomes != (JobOutcome.FAILED,) or not set(selection.codes).isdisjoint(codes):
        return
    code = selection.codes[0]
    known = (
        validation.suggest(code, list(dict.fromkeys(codes)), "its codes are") if codes else "no job of it has failed"
    )
    raise UsageError(f"{batch_id} has no failed job with the code {code[:80]!r}; {known}", param="codes")


def _nothing_to_retry_message(batch: BatchView, selection: RetrySelection, invalid_rows: Mapping[str, int]) -> str:
    if invalid_rows:
        return _invalid_rows_message(batch.id, invalid_rows)
    outcomes = " or ".join(outcome.value for outcome in selection.outcomes)
    if selection.positions:
        return f"{batch.id} has no {outcomes} jobs at these positions that could be tried again"
    counts = {JobOutcome.CANCELLED: batch.counts.cancelled, JobOutcome.EXPIRED: batch.counts.expired}
    others = [
        f"{count:,} are {outcome.value}: " + _choose_status(outcome)
        for outcome, count in counts.items()
        if count and outcome not in selection.outcomes
    ]
    return join_texts("; ", [f"{batch.id} has no {outcomes} jobs, so there is nothing to try again", *others])


def _choose_status(outcome: JobOutcome) -> DoorText:
    return DoorText(
        f"--status {outcome.value}",
        http=f'"status": ["{outcome.value}"]',
        page=f"choose those that are {outcome.value}",
    )


def _guarded_rows_message(batch_id: str, count: int) -> str:
    return (
        f"guards had stopped {count:,} of them and will again, unless a guard was changed meanwhile; to put other "
        "inputs in their places: "
        + DoorText(
            f"batchmill submit --repair {batch_id} FILE",
            http=f"POST /api/batches/{batch_id}/repair",
            page="correct them on the batch's page",
        )
    )


def _invalid_rows_message(batch_id: str, invalid_rows: Mapping[str, int]) -> str:
    codes = ", ".join(f"{count:,} {code}" for code, count in invalid_rows.items())
    return (
        f"{sum(invalid_rows.values()):,} rows were invalid when they were submitted ({codes}), so a retry can't help "
        "them; correct them and put them back: "
        + DoorText(
            f"batchmill errors {batch_id} -o errors.jsonl, then batchmill submit --repair {batch_id} errors.jsonl",
            http=f"GET /api/batches/{batch_id}/errors, then POST /api/batches/{batch_id}/repair",
            page="the batch's page has them as a file, and takes it back",
        )
    )
