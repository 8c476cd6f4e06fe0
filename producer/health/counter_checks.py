"""Tallies: a batch's counters against its rows. One row of numbers, and what in it contradicts itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.states import BatchStatus, JobOutcome

SELECT_COUNTERS = """
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

SELECT_POSITION_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT position, lag(position, 1, -1) OVER (ORDER BY position) AS before FROM jobs WHERE batch_id = :batch_id
) AS gaps WHERE position > before + 1 ORDER BY place LIMIT :most
"""

SELECT_SEQ_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS before FROM (
        SELECT seq FROM results WHERE batch_id = :batch_id
        UNION ALL SELECT seq FROM past_results WHERE batch_id = :batch_id
    ) AS seqs
) AS gaps WHERE seq > before + 1 ORDER BY place LIMIT :most
"""

# Of what is still read in nothing is promised yet, of what is deleted nothing any more.
UNCHECKED_STATUSES = frozenset({BatchStatus.VALIDATING, BatchStatus.DELETING})


@dataclass(frozen=True, slots=True)
class CounterMismatch:
    """Numbers of a batch's row that its other rows contradict; `places` is a query that yields some, or None."""

    code: str
    message: str
    places_query: str | None = None


def check_counters(counters: Any) -> Iterator[CounterMismatch]:
    """Hold a row of `NUMBERS` against itself."""
    if counters.status not in set(BatchStatus):
        yield CounterMismatch("unknown_status", f"its status is {counters.status!r}, which there is not")
    elif counters.status not in UNCHECKED_STATUSES:
        yield from _find_contradictions(counters, BatchStatus(counters.status))


def _find_contradictions(counters: Any, status: BatchStatus) -> Iterator[CounterMismatch]:
    yield from _check_outcome_counts(counters)
    yield from _check_positions_and_seqs(counters)
    ended = sum(getattr(counters, outcome) for outcome in JobOutcome)
    if status is BatchStatus.COMPLETED and ended != counters.total:
        yield CounterMismatch("not_ended", f"it is completed, but {ended:,} of its {counters.total:,} jobs have ended")
    if status is BatchStatus.IN_PROGRESS and counters.results >= counters.jobs and not counters.reading:
        yield CounterMismatch("not_completed", f"it is in progress though each of its {counters.jobs:,} jobs has ended")
    if status is BatchStatus.CANCELLING and counters.ending is None:
        yield CounterMismatch("no_ending", "it is cancelling, but nothing says what it will be")


def _check_outcome_counts(counters: Any) -> Iterator[CounterMismatch]:
    for outcome in (*JobOutcome, "reused"):
        counter, rows = getattr(counters, outcome), getattr(counters, f"{outcome}_rows")
        if counter != rows:
            yield CounterMismatch("counter", f"it counts {counter:,} {outcome}, its results are {rows:,}")
    if counters.results != sum(getattr(counters, f"{outcome}_rows") for outcome in JobOutcome):
        yield CounterMismatch("unknown_outcome", "it has results with an outcome that there is not")


def _check_positions_and_seqs(counters: Any) -> Iterator[CounterMismatch]:
    if (counters.jobs, counters.first_position or 0, _end_position(counters.last_position)) != (
        counters.total,
        0,
        counters.total,
    ):
        there = f"{counters.jobs:,} jobs, from {counters.first_position} to {counters.last_position}"
        yield CounterMismatch("positions", f"its total is {counters.total:,}, there are {there}", SELECT_POSITION_GAPS)
    # As many as there should be, none below 1, none above the last, and (by `REPEATED_SEQS`) none twice: then all.
    if (counters.seqs, counters.least_seq or 1, counters.most_seq or 0) != (counters.last_seq, 1, counters.last_seq):
        there = f"{counters.seqs:,} results, from seq {counters.least_seq} to {counters.most_seq}"
        yield CounterMismatch("seqs", f"its last_seq is {counters.last_seq:,}, there are {there}", SELECT_SEQ_GAPS)


def _end_position(last_position: int | None) -> int:
    return 0 if last_position is None else last_position + 1
