"""Checks of batches' counters against their rows: one query reads both, and pure functions compare them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.lifecycle.guard_counters import COUNT_BY_GUARD, COUNTERS, VERDICTS
from models.states import BatchStatus, JobOutcome

SELECT_COUNTERS = """
SELECT b.id, b.status, b.terminating_as, b.total, b.succeeded, b.failed, b.cancelled, b.expired, b.last_seq, b.reused,
       b.ingesting, b.guarded, coalesce(r.guarded_rows, 0) AS guarded_rows,
       coalesce(r.vectors, 0) + coalesce(p.vectors, 0) AS vectors,
       coalesce(j.origins, 0) AS origins,
       coalesce(j.jobs, 0) AS jobs, j.first_position, j.last_position, coalesce(r.results, 0) AS results,
       coalesce(r.succeeded_rows, 0) AS succeeded_rows, coalesce(r.failed_rows, 0) AS failed_rows,
       coalesce(r.cancelled_rows, 0) AS cancelled_rows, coalesce(r.expired_rows, 0) AS expired_rows,
       coalesce(r.reused_rows, 0) AS reused_rows, coalesce(r.results, 0) + coalesce(p.superseded, 0) AS seqs,
       CASE WHEN p.min_seq IS NULL OR r.min_seq < p.min_seq THEN r.min_seq ELSE p.min_seq END AS min_seq,
       CASE WHEN p.max_seq IS NULL OR r.max_seq > p.max_seq THEN r.max_seq ELSE p.max_seq END AS max_seq
FROM batches b
LEFT JOIN (SELECT batch_id, count(*) AS jobs, min(position) AS first_position, max(position) AS last_position,
                  count(source_position) AS origins
           FROM jobs WHERE batch_id IN :batch_ids GROUP BY batch_id) j ON j.batch_id = b.id
LEFT JOIN (SELECT batch_id, count(*) AS results, min(seq) AS min_seq, max(seq) AS max_seq,
                  count(*) FILTER (WHERE status = 'succeeded') AS succeeded_rows,
                  count(*) FILTER (WHERE status = 'failed') AS failed_rows,
                  count(*) FILTER (WHERE status = 'cancelled') AS cancelled_rows,
                  count(*) FILTER (WHERE status = 'expired') AS expired_rows,
                  count(reused_from) AS reused_rows, count(guards) AS guarded_rows, count(vector) AS vectors
           FROM results WHERE batch_id IN :batch_ids GROUP BY batch_id) r ON r.batch_id = b.id
LEFT JOIN (SELECT batch_id, count(*) AS superseded, count(vector) AS vectors, min(seq) AS min_seq, max(seq) AS max_seq
           FROM superseded_results WHERE batch_id IN :batch_ids GROUP BY batch_id) p ON p.batch_id = b.id
WHERE b.id IN :batch_ids ORDER BY b.id
"""

SELECT_POSITION_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT position, lag(position, 1, -1) OVER (ORDER BY position) AS before FROM jobs WHERE batch_id = :batch_id
) AS gaps WHERE position > before + 1 ORDER BY place LIMIT :limit
"""

SELECT_SEQ_GAPS = """
SELECT before + 1 AS place FROM (
    SELECT seq, lag(seq, 1, 0) OVER (ORDER BY seq) AS before FROM (
        SELECT seq FROM results WHERE batch_id = :batch_id
        UNION ALL SELECT seq FROM superseded_results WHERE batch_id = :batch_id
    ) AS seqs
) AS gaps WHERE seq > before + 1 ORDER BY place LIMIT :limit
"""

# The counters of each guard beside its verdicts in the results, where they differ.
SELECT_GUARD_MISMATCHES = f"""
SELECT batch_id, guard, {", ".join(f"sum({name}) AS {name}, sum({name}_rows) AS {name}_rows" for name in COUNTERS)}
FROM (
    SELECT batch_id, guard, {", ".join(COUNTERS)}, {", ".join(f"0 AS {name}_rows" for name in COUNTERS)}
    FROM batch_guards WHERE batch_id IN :batch_ids
    UNION ALL
    SELECT batch_id, guard, {", ".join("0" for _ in COUNTERS)}, {", ".join(COUNTERS)}
    FROM (SELECT batch_id, guard, {COUNT_BY_GUARD} FROM ({{verdicts}}) AS verdicts GROUP BY batch_id, guard) AS counted
) AS compared GROUP BY batch_id, guard
HAVING {" OR ".join(f"sum({name}) <> sum({name}_rows)" for name in COUNTERS)} ORDER BY batch_id, guard
"""  # noqa: S608
GUARDED_RESULTS = "r.batch_id IN :batch_ids AND r.guards IS NOT NULL"

# Nothing is guaranteed yet while a batch is being read, and nothing any more while it is being deleted.
UNCHECKED_STATUSES = frozenset({BatchStatus.VALIDATING, BatchStatus.DELETING})


@dataclass(frozen=True, slots=True)
class CounterMismatch:
    """A counter of a batch that its rows contradict.

    places_query: query that yields the first places concerned; None = there are none
    """

    code: str
    message: str
    places_query: str | None = None


def check_counters(counters: Any) -> Iterator[CounterMismatch]:
    """Yield the contradictions within a row of `SELECT_COUNTERS`."""
    if counters.status not in set(BatchStatus):
        yield CounterMismatch("unknown_status", f"its status is {counters.status!r}, which does not exist")
    elif counters.status not in UNCHECKED_STATUSES:
        yield from _find_contradictions(counters, BatchStatus(counters.status))


def guard_mismatches_query(dialect: str) -> str:
    """The query for rows of guards whose counters differ from the verdicts in the results."""
    verdicts = VERDICTS[dialect].format(results="results", condition=GUARDED_RESULTS)
    return SELECT_GUARD_MISMATCHES.format(verdicts=verdicts)


def describe_guard_mismatch(row: Any) -> CounterMismatch:
    """The contradiction in a row of that query."""
    differing = [name for name in COUNTERS if getattr(row, name) != getattr(row, f"{name}_rows")]
    counters = ", ".join(f"{getattr(row, name):,} {name}" for name in differing)
    rows = ", ".join(f"{getattr(row, f'{name}_rows'):,}" for name in differing)
    return CounterMismatch("guard_mismatch", f"it counts {counters} by the guard {row.guard}, its results are {rows}")


def _find_contradictions(counters: Any, status: BatchStatus) -> Iterator[CounterMismatch]:
    yield from _check_outcome_counts(counters)
    yield from _check_positions_and_seqs(counters)
    ended = sum(getattr(counters, outcome) for outcome in JobOutcome)
    if status is BatchStatus.COMPLETED and ended != counters.total:
        yield CounterMismatch("not_ended", f"it is completed, but {ended:,} of its {counters.total:,} jobs have ended")
    if status is BatchStatus.IN_PROGRESS and counters.results >= counters.jobs and not counters.ingesting:
        yield CounterMismatch("not_completed", f"it is in progress though each of its {counters.jobs:,} jobs has ended")
    if counters.guarded_rows and not counters.guarded:
        yield CounterMismatch("not_guarded", f"it has no guards, but {counters.guarded_rows:,} results have verdicts")
    if status is BatchStatus.CANCELLING and counters.terminating_as is None:
        yield CounterMismatch("missing_terminating_as", "it is cancelling, but terminating_as is not set")


def _check_outcome_counts(counters: Any) -> Iterator[CounterMismatch]:
    for outcome in (*JobOutcome, "reused"):
        counter, rows = getattr(counters, outcome), getattr(counters, f"{outcome}_rows")
        if counter != rows:
            yield CounterMismatch("counter_mismatch", f"it counts {counter:,} {outcome}, its results are {rows:,}")
    if counters.results != sum(getattr(counters, f"{outcome}_rows") for outcome in JobOutcome):
        yield CounterMismatch("unknown_outcome", "it has results with an unknown outcome")


def _check_positions_and_seqs(counters: Any) -> Iterator[CounterMismatch]:
    last_position = -1 if counters.last_position is None else counters.last_position
    positions = (counters.jobs, counters.first_position or 0, last_position + 1)
    if positions != (counters.total, 0, counters.total):
        jobs = f"{counters.jobs:,} jobs, from {counters.first_position} to {counters.last_position}"
        yield CounterMismatch(
            "position_mismatch", f"its total is {counters.total:,}, there are {jobs}", SELECT_POSITION_GAPS
        )
    # The expected number, from 1 to the last, and no seq twice (`SELECT_REPEATED_SEQS`): then none is missing.
    if (counters.seqs, counters.min_seq or 1, counters.max_seq or 0) != (counters.last_seq, 1, counters.last_seq):
        seqs = f"{counters.seqs:,} results, from seq {counters.min_seq} to {counters.max_seq}"
        yield CounterMismatch(
            "seq_mismatch", f"its last_seq is {counters.last_seq:,}, there are {seqs}", SELECT_SEQ_GAPS
        )
