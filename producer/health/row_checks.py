"""SQL queries that find rows of batches which violate their invariants; a sound batch yields none.

Every query is about the batches `:batch_ids`: one large one, or many small ones at once. The database runs it in one
pass over their rows and returns only a handful of them: a million jobs take seconds.
"""

from typing import NamedTuple

from models.lifecycle.guard_counters import VERDICTS
from models.states import BatchStatus
from models.vectors import MAX_DIMENSIONS

MAX_PLACES = 5


class Violation(NamedTuple):
    """One kind of violation.

    description: noun phrase for the rows that are counted
    place_noun: kind of their places: `position`, `seq` or `slice`
    is_warning: the violation may resolve itself
    """

    description: str
    place_noun: str
    is_warning: bool = False


class RowCheck(NamedTuple):
    """A query that yields `(batch_id, fault, place)` for each violation, in batches with one of these statuses.

    guarded_only: whether it concerns only batches with guards
    vectors_only: whether it concerns only batches with vectors
    origins_only: whether it concerns only batches whose jobs are results of another
    """

    query: str
    statuses: frozenset[BatchStatus]
    guarded_only: bool = False
    vectors_only: bool = False
    origins_only: bool = False


# A superseded result keeps its seq.
SELECT_REPEATED_SEQS = """
SELECT batch_id, 'duplicate_seq' AS fault, seq AS place FROM (
    SELECT batch_id, seq FROM superseded_results WHERE batch_id IN :batch_ids
    UNION ALL
    SELECT r.batch_id, r.seq FROM superseded_results p JOIN results r ON r.batch_id = p.batch_id AND r.seq = p.seq
    WHERE p.batch_id IN :batch_ids AND r.batch_id IN :batch_ids
) AS seqs GROUP BY batch_id, seq HAVING count(*) > 1
"""

# Compares each result with its job, its slice, the claim that wrote it, and its model version. A claim is known if it
# was recorded in `attempts`, or if it is the slice's latest. Old versions recorded neither attempts nor `leased_at`, so
# the check for unknown claims is skipped in batches that have such slices (u).
SELECT_INVALID_RESULTS = """
SELECT batch_id, fault, place FROM (
    SELECT r.batch_id, r.position AS place, CASE
        WHEN j.position IS NULL THEN 'orphan_result'
        WHEN j.invalid AND r.status <> 'failed' THEN 'invalid_row_run'
        WHEN r.reused_from IS NOT NULL AND (r.status <> 'succeeded' OR r.model_version_id IS NULL
                                            OR r.slice_id IS NOT NULL OR r.fencing_token IS NOT NULL)
            THEN 'invalid_reuse'
        WHEN r.reused_from IS NULL AND r.status = 'succeeded'
             AND (r.slice_id IS NULL OR r.fencing_token IS NULL OR r.model_version_id IS NULL) THEN 'unfenced_result'
        WHEN r.slice_id IS NOT NULL AND s.id IS NULL THEN 'slice_missing'
        WHEN r.fencing_token > s.fencing_token THEN 'fencing_token_ahead'
        WHEN r.position < s.start_position OR r.position >= s.start_position + s.size THEN 'wrong_slice'
        WHEN r.fencing_token < s.fencing_token AND a.fencing_token IS NULL AND u.batch_id IS NULL THEN 'unknown_claim'
        WHEN r.model_version_id IS NOT NULL AND m.id IS NULL THEN 'unknown_model'
        WHEN r.outputs <> CASE r.status WHEN 'succeeded' THEN 1 ELSE 0 END THEN 'wrong_outputs'
        END AS fault
    FROM (SELECT batch_id, position, status, slice_id, fencing_token, model_version_id, reused_from,
                 {outputs} AS outputs
          FROM results WHERE batch_id IN :batch_ids
          UNION ALL
          SELECT batch_id, position, status, slice_id, fencing_token, model_version_id, CAST(NULL AS TEXT), {outputs}
          FROM superseded_results WHERE batch_id IN :batch_ids) AS r
    LEFT JOIN (SELECT DISTINCT batch_id FROM slices
               WHERE batch_id IN :batch_ids AND first_claimed_at IS NOT NULL AND leased_at IS NULL) AS u
           ON u.batch_id = r.batch_id
    LEFT JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position AND j.batch_id IN :batch_ids
    LEFT JOIN slices s ON s.id = r.slice_id AND s.batch_id = r.batch_id AND s.batch_id IN :batch_ids
    LEFT JOIN (SELECT DISTINCT batch_id, slice_id, fencing_token FROM attempts WHERE batch_id IN :batch_ids) AS a
           ON a.batch_id = r.batch_id AND a.slice_id = r.slice_id AND a.fencing_token = r.fencing_token
    LEFT JOIN model_versions m ON m.id = r.model_version_id
) AS checked WHERE fault IS NOT NULL
"""

# An output is JSON or a vector.
OUTPUTS = "CASE WHEN output IS NULL THEN 0 ELSE 1 END + CASE WHEN vector IS NULL THEN 0 ELSE 1 END"

# Vectors of one batch come from one model, and tables and files have one column for them.
SELECT_INVALID_VECTORS = """
SELECT batch_id, fault, place FROM (
    SELECT batch_id, position AS place, CASE
        WHEN NOT is_valid THEN 'invalid_vector'
        WHEN length > min(CASE WHEN is_valid THEN length END) OVER (PARTITION BY batch_id) THEN 'unequal_vectors'
        END AS fault
    FROM (SELECT batch_id, position, {length} AS length, {is_valid} AS is_valid
          FROM results WHERE batch_id IN :batch_ids AND vector IS NOT NULL
          UNION ALL
          SELECT batch_id, position, {length}, {is_valid}
          FROM superseded_results WHERE batch_id IN :batch_ids AND vector IS NOT NULL) AS vectors
) AS checked WHERE fault IS NOT NULL
"""
VECTOR_LENGTH = {"postgresql": "cardinality(vector)", "sqlite": "length(vector)"}
# The audit gives SQLite the function.
IS_VALID_VECTOR = {
    "postgresql": f"(cardinality(vector) BETWEEN 1 AND {MAX_DIMENSIONS}"
    " AND NOT vector && CAST('{NaN,Infinity,-Infinity}' AS real[]))",
    "sqlite": "is_valid_vector(vector)",
}

# A sweep along the positions: an unfinished slice adds 1 at its first job, and subtracts 1 after its last. The sum at
# an unanswered job is the number of slices that will run it. Slice boundaries sort before the job at that position.
SELECT_MISCOVERED_JOBS = """
SELECT batch_id, CASE depth WHEN 0 THEN 'unassigned' ELSE 'assigned_twice' END AS fault, place FROM (
    SELECT batch_id, place, job,
           sum(step) OVER (PARTITION BY batch_id ORDER BY place, job ROWS UNBOUNDED PRECEDING) AS depth
    FROM (
        SELECT batch_id, start_position AS place, 1 AS step, 0 AS job FROM slices
        WHERE batch_id IN :batch_ids AND state <> 'done'
        UNION ALL
        SELECT batch_id, start_position + size, -1, 0 FROM slices WHERE batch_id IN :batch_ids AND state <> 'done'
        UNION ALL
        SELECT j.batch_id, j.position, 0, 1 FROM jobs j
        WHERE j.batch_id IN :batch_ids
          AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position
                          AND r.batch_id IN :batch_ids)
    ) AS steps
) AS sweep WHERE job = 1 AND depth <> 1
"""

SELECT_UNANSWERED_JOBS = """
SELECT j.batch_id, 'unanswered_job' AS fault, j.position AS place FROM jobs j
WHERE j.batch_id IN :batch_ids
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position
                  AND r.batch_id IN :batch_ids)
"""

SELECT_UNFINISHED_SLICES = """
SELECT batch_id, 'unfinished_slice' AS fault, id AS place FROM slices
WHERE batch_id IN :batch_ids AND state <> 'done'
"""

SELECT_INVALID_SLICES = """
SELECT batch_id, fault, place FROM (
    SELECT s.batch_id, s.id AS place, CASE
        WHEN s.size < 1 OR s.start_position < 0 OR s.start_position + s.size > b.total THEN 'slice_out_of_range'
        WHEN s.state NOT IN ('queued', 'leased', 'done') THEN 'unknown_slice_status'
        WHEN s.state = 'leased' AND (s.worker_id IS NULL OR s.lease_expires_at IS NULL) THEN 'incomplete_lease'
        WHEN s.state = 'leased' AND s.lease_expires_at < {later} THEN 'lease_expired'
        END AS fault
    FROM slices s JOIN batches b ON b.id = s.batch_id
    WHERE s.batch_id IN :batch_ids AND b.id IN :batch_ids
) AS checked WHERE fault IS NOT NULL
"""

# A redacted input is written with the result that holds the verdict; a retry moves that result away.
SELECT_MISREDACTED_JOBS = """
SELECT batch_id, fault, place FROM (
    SELECT j.batch_id, j.position AS place, CASE
        WHEN j.redacted AND v.batch_id IS NULL THEN 'redacted_without_verdict'
        WHEN NOT j.redacted AND v.must_be_redacted = 1 THEN 'redaction_not_stored'
        WHEN NOT j.redacted AND j.original_input IS NOT NULL THEN 'original_of_unredacted'
        END AS fault
    FROM jobs j
    LEFT JOIN (SELECT batch_id, position, max(must_be_redacted) AS must_be_redacted FROM (
                   SELECT batch_id, position, action, stage, 1 AS must_be_redacted FROM ({verdicts_of_successes}) AS new
                   UNION ALL SELECT batch_id, position, action, stage, 0 FROM ({verdicts}) AS all_of_them
                   UNION ALL SELECT batch_id, position, action, stage, 0 FROM ({superseded_verdicts}) AS old
               ) AS verdicts WHERE stage = 'input' AND action = 'redact' GROUP BY batch_id, position) AS v
           ON v.batch_id = j.batch_id AND v.position = j.position
    WHERE j.batch_id IN :batch_ids
) AS checked WHERE fault IS NOT NULL
"""
OF_BATCHES = "r.batch_id IN :batch_ids AND r.guards IS NOT NULL"
COMPUTED_SUCCESS = f"{OF_BATCHES} AND r.status = 'succeeded' AND r.reused_from IS NULL"

# Each result of the source became at most one job. The source itself may be deleted.
SELECT_INVALID_ORIGINS = """
SELECT batch_id, fault, place FROM (
    SELECT j.batch_id, j.position AS place, CASE
        WHEN j.source_batch_id <> b.source_batch_id OR j.source_batch_id IS NULL OR b.source_batch_id IS NULL
            THEN 'wrong_origin'
        WHEN row_number() OVER (PARTITION BY j.batch_id, j.source_position ORDER BY j.position) > 1
            THEN 'duplicate_origin'
        END AS fault
    FROM jobs j JOIN batches b ON b.id = j.batch_id
    WHERE j.batch_id IN :batch_ids AND b.id IN :batch_ids AND j.source_position IS NOT NULL
) AS checked WHERE fault IS NOT NULL
"""

# The number of violations of each kind in each batch, and the first few places.
COUNT_VIOLATIONS = """
SELECT batch_id, fault, place, count_of_fault FROM (
    SELECT batch_id, fault, place, count(*) OVER (PARTITION BY batch_id, fault) AS count_of_fault,
           row_number() OVER (PARTITION BY batch_id, fault ORDER BY place) AS nth
    FROM ({query}) AS violations
) AS ranked WHERE nth <= :limit ORDER BY batch_id, fault, place
"""

ENDED_STATUSES = frozenset(status for status in BatchStatus if status.has_ended)
ACCEPTED_STATUSES = frozenset(BatchStatus) - {BatchStatus.VALIDATING, BatchStatus.DELETING}

CHECKS = (
    RowCheck(SELECT_REPEATED_SEQS, ACCEPTED_STATUSES),
    RowCheck(SELECT_INVALID_RESULTS, ACCEPTED_STATUSES),
    RowCheck(SELECT_INVALID_SLICES, ACCEPTED_STATUSES),
    RowCheck(SELECT_MISCOVERED_JOBS, frozenset({BatchStatus.IN_PROGRESS})),
    RowCheck(SELECT_UNFINISHED_SLICES, ENDED_STATUSES | {BatchStatus.CANCELLING}),
    RowCheck(SELECT_UNANSWERED_JOBS, ENDED_STATUSES),
    RowCheck(SELECT_MISREDACTED_JOBS, ACCEPTED_STATUSES, guarded_only=True),
    RowCheck(SELECT_INVALID_VECTORS, ACCEPTED_STATUSES, vectors_only=True),
    RowCheck(SELECT_INVALID_ORIGINS, ACCEPTED_STATUSES, origins_only=True),
)


def format_query(check: RowCheck, dialect: str, later: str) -> str:
    """Fill in what differs between the databases; `later` is SQL for now + :seconds."""
    verdicts = VERDICTS[dialect]
    return check.query.format(
        later=later,
        outputs=OUTPUTS,
        length=VECTOR_LENGTH[dialect],
        is_valid=IS_VALID_VECTOR[dialect],
        verdicts=verdicts.format(results="results", condition=OF_BATCHES),
        verdicts_of_successes=verdicts.format(results="results", condition=COMPUTED_SUCCESS),
        superseded_verdicts=verdicts.format(results="superseded_results", condition=OF_BATCHES),
    )


VIOLATIONS = {
    "duplicate_seq": Violation("seqs of more than one result", "seq"),
    "orphan_result": Violation("results without a job", "position"),
    "invalid_row_run": Violation("results of invalid rows that did not fail", "position"),
    "unfenced_result": Violation("results that succeeded without slice, fencing token or model version", "position"),
    "invalid_reuse": Violation("reused results that failed, have no model version, or a claim", "position"),
    "slice_missing": Violation("results of a slice that the batch does not have", "position"),
    "fencing_token_ahead": Violation("results with a fencing token that their slice never issued", "position"),
    "wrong_slice": Violation("results of a slice that does not contain their job", "position"),
    "unknown_claim": Violation("results written under a claim that was not recorded", "position"),
    "unknown_model": Violation("results of a model version that does not exist", "position"),
    "wrong_outputs": Violation(
        "results that succeeded without one output, or have one and did not succeed", "position"
    ),
    "invalid_vector": Violation("vectors that are empty, too long or have a number that is not finite", "position"),
    "unequal_vectors": Violation("vectors that are longer than others of the batch", "position"),
    "wrong_origin": Violation("jobs that are results of another batch than their batch names", "position"),
    "duplicate_origin": Violation("jobs that are the result which an earlier job is already", "position"),
    "unassigned": Violation("unanswered jobs in no slice that will be run", "position"),
    "assigned_twice": Violation("unanswered jobs in several slices that will be run", "position"),
    "unanswered_job": Violation("unanswered jobs though the batch has ended", "position"),
    "unfinished_slice": Violation("slices that are not done although the batch has ended or is cancelling", "slice"),
    "slice_out_of_range": Violation("slices that reach beyond the batch's jobs", "slice"),
    "unknown_slice_status": Violation("slices in an unknown state", "slice"),
    "incomplete_lease": Violation("leased slices without an expiry or a worker", "slice"),
    "redacted_without_verdict": Violation("redacted jobs without a verdict that says so", "position"),
    "redaction_not_stored": Violation("jobs that a guard redacted, with their inputs as submitted", "position"),
    "original_of_unredacted": Violation("jobs with an original input that were not redacted", "position"),
    "lease_expired": Violation("leases that expired long ago and were not reclaimed", "slice", is_warning=True),
}
