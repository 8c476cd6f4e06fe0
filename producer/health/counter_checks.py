"""Tallies: a batch's counters against its rows. One row of numbers, and what in it contradicts itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.states import BatchStatus, Outcome

NUMBERS = """
SELECT b.status, b.ending, b.total, b.succeeded, b.failed, b.cancelled, b.expired, b.last_seq, b.reused, b.reading,
       j.jobs, j.first_position, j.last_position,
       r.results, r.succeeded_rows, r.failed_rows, r.cancelled_rows, r.expired_rows,
       r.reused_rows, r.results + p.past AS seqs, least_seq, most_seq
FROM batches b
CROSS JOIN (SELECT count(*) AS jobs, min(position) AS first_position, max(position) AS last_position
            FROM jobs WHERE batch_id = :batch_id) j
CROSS JOIN (SELECT count(*) AS results,
                   count(*) FILTER (WHERE status = 'succeeded') AS succeeded_rows,
                   count(*) FILTER (WHERE status = 'failed') AS failed_rows,
                   count(*) FILTER (WHERE status = 'cancelled') AS cancelled_rows,
                   count(*) FILTER (WHERE status = 'expired') AS expired_rows,
                   count(reused_from) AS reused_rows
            FROM results WHERE batch_id = :batch_id) r
CROSS JOIN (SELECT count(*) AS past FROM past_results WHERE batch_id = :batch_id) p
CROSS JOIN (SELECT min(seq) AS least_seq, max(seq) AS most_seq FROM (
                SELECT min(seq) AS seq FROM results WHERE batch_id = :batch_id
                UNION ALL SELECT max(seq) FROM results WHERE batch_id = :batch_id
                UNION ALL SELECT min(seq) FROM past_results WHERE batch_id = :batch_id
                UNION ALL SELECT max(seq) FROM past_results WHERE batch_id = :batch_id) ends) s
WHERE b.id = :batch_id
"""

POSITION_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT position, lag(position, 1, -1) OVER (ORDER BY position) AS before FROM jobs WHERE batch_id = :batch_id
) AS gaps WHERE position > before + 1 ORDER BY place LIMIT :most
"""

SEQ_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS before FROM (
        SELECT seq FROM results WHERE batch_id = :batch_id
        UNION ALL SELECT seq FROM past_results WHERE batch_id = :batch_id
    ) AS seqs
) AS gaps WHERE seq > before + 1 ORDER BY place LIMIT :most
"""

# Of what is still read in nothing is promised yet, of what is deleted nothing any more.
UNPROMISED = frozenset({BatchStatus.VALIDATING, BatchStatus.DELETING})


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Numbers of a batch's row that its other rows contradict; `places` is a query that yields some, or None."""

    fault: str
    message: str
    places: str | None = None


def compared(numbers: Any) -> Iterator[Mismatch]:
    """Hold a row of `NUMBERS` against itself."""
    if numbers.status not in set(BatchStatus):
        yield Mismatch("unknown_status", f"its status is {numbers.status!r}, which there is not")
    elif numbers.status not in UNPROMISED:
        yield from _contradictions(numbers, BatchStatus(numbers.status))


def _contradictions(numbers: Any, status: BatchStatus) -> Iterator[Mismatch]:
    yield from _counted(numbers)
    yield from _ordered(numbers)
    ended = sum(getattr(numbers, outcome) for outcome in Outcome)
    if status is BatchStatus.COMPLETED and ended != numbers.total:
        yield Mismatch("not_ended", f"it is completed, but {ended:,} of its {numbers.total:,} jobs have ended")
    if status is BatchStatus.IN_PROGRESS and numbers.results >= numbers.jobs and not numbers.reading:
        yield Mismatch("not_completed", f"it is in progress though each of its {numbers.jobs:,} jobs has ended")
    if status is BatchStatus.CANCELLING and numbers.ending is None:
        yield Mismatch("no_ending", "it is cancelling, but nothing says what it will be")


def _counted(numbers: Any) -> Iterator[Mismatch]:
    for outcome in (*Outcome, "reused"):
        counter, rows = getattr(numbers, outcome), getattr(numbers, f"{outcome}_rows")
        if counter != rows:
            yield Mismatch("counter", f"it counts {counter:,} {outcome}, its results are {rows:,}")
    if numbers.results != sum(getattr(numbers, f"{outcome}_rows") for outcome in Outcome):
        yield Mismatch("unknown_outcome", "it has results with an outcome that there is not")


def _ordered(numbers: Any) -> Iterator[Mismatch]:
    if (numbers.jobs, numbers.first_position or 0, _past(numbers.last_position)) != (numbers.total, 0, numbers.total):
        there = f"{numbers.jobs:,} jobs, from {numbers.first_position} to {numbers.last_position}"
        yield Mismatch("positions", f"its total is {numbers.total:,}, there are {there}", POSITION_GAPS)
    # As many as there should be, none below 1, none above the last, and (by `REPEATED_SEQS`) none twice: then all.
    if (numbers.seqs, numbers.least_seq or 1, numbers.most_seq or 0) != (numbers.last_seq, 1, numbers.last_seq):
        there = f"{numbers.seqs:,} results, from seq {numbers.least_seq} to {numbers.most_seq}"
        yield Mismatch("seqs", f"its last_seq is {numbers.last_seq:,}, there are {there}", SEQ_GAPS)


def _past(last: int | None) -> int:
    return 0 if last is None else last + 1
