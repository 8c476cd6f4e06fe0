"""Soundness: what holds of a batch's rows at any moment, as SQL that finds what offends.

Every query is about the batch `:batch_id` and is answered by the database in one pass over the batch's rows: a million
jobs take seconds, and only a handful of rows come back. A sound batch yields none.
"""

from typing import NamedTuple

from models.states import BatchStatus

MAX_PLACES = 5


class Violation(NamedTuple):
    """One kind of thing that can be wrong: what is counted of it, and what its places are."""

    description: str
    place_noun: str
    is_warning: bool = False


class RowCheck(NamedTuple):
    """A query that yields `(fault, place)` for whatever offends, in batches that have one of these statuses."""

    query: str
    statuses: frozenset[BatchStatus]


# A replay keeps what it takes back, under the seq that it had.
SELECT_REPEATED_SEQS = """
SELECT 'seq_repeated' AS fault, seq AS place FROM (
    SELECT seq FROM past_results WHERE batch_id = :batch_id
    UNION ALL
    SELECT seq FROM results
    WHERE batch_id = :batch_id AND seq IN (SELECT seq FROM past_results WHERE batch_id = :batch_id)
) AS seqs GROUP BY seq HAVING count(*) > 1
"""

# Each result against its job, the slice that it was computed in, the claim that wrote it, and the model that made it.
# A claim is known by its record, or since no later one followed. Claims from before there were records left none: they
# left no `leased_at` either, and in a batch that has such a slice nobody can tell.
SELECT_INVALID_RESULTS = """
SELECT fault, place FROM (
    SELECT r.position AS place, CASE
        WHEN j.position IS NULL THEN 'orphan'
        WHEN r.reused_from IS NOT NULL AND (r.status <> 'succeeded' OR r.model_version_id IS NULL
                                            OR r.slice_id IS NOT NULL OR r.token IS NOT NULL) THEN 'misfiled'
        WHEN r.reused_from IS NULL AND r.status = 'succeeded'
             AND (r.slice_id IS NULL OR r.token IS NULL OR r.model_version_id IS NULL) THEN 'unfenced'
        WHEN r.slice_id IS NOT NULL AND s.id IS NULL THEN 'slice_gone'
        WHEN r.token > s.token THEN 'token_ahead'
        WHEN r.position < s.first OR r.position >= s.first + s.size THEN 'other_slice'
        WHEN r.token < s.token AND a.token IS NULL AND u.slices = 0 THEN 'unclaimed'
        WHEN r.model_version_id IS NOT NULL AND m.id IS NULL THEN 'unknown_model'
        END AS fault
    FROM (SELECT position, status, slice_id, token, model_version_id, reused_from
          FROM results WHERE batch_id = :batch_id
          UNION ALL
          SELECT position, status, slice_id, token, model_version_id, CAST(NULL AS TEXT)
          FROM past_results WHERE batch_id = :batch_id) AS r
    CROSS JOIN (SELECT count(*) AS slices FROM slices
                WHERE batch_id = :batch_id AND claimed_at IS NOT NULL AND leased_at IS NULL) AS u
    LEFT JOIN jobs j ON j.batch_id = :batch_id AND j.position = r.position
    LEFT JOIN slices s ON s.id = r.slice_id AND s.batch_id = :batch_id
    LEFT JOIN (SELECT DISTINCT slice_id, token FROM attempts WHERE batch_id = :batch_id) AS a
           ON a.slice_id = r.slice_id AND a.token = r.token
    LEFT JOIN model_versions m ON m.id = r.model_version_id
) AS told WHERE fault IS NOT NULL
"""

# Along the positions: a slice that is not done opens at its first job and closes behind its last. How many are open
# where an open job stands is how many will run it. A boundary goes before the job at the same place.
SELECT_MISCOVERED_JOBS = """
SELECT CASE depth WHEN 0 THEN 'uncovered' ELSE 'covered_twice' END AS fault, place FROM (
    SELECT place, job, sum(step) OVER (ORDER BY place, job ROWS UNBOUNDED PRECEDING) AS depth FROM (
        SELECT first AS place, 1 AS step, 0 AS job FROM slices WHERE batch_id = :batch_id AND state <> 'done'
        UNION ALL
        SELECT first + size, -1, 0 FROM slices WHERE batch_id = :batch_id AND state <> 'done'
        UNION ALL
        SELECT j.position, 0, 1 FROM jobs j
        WHERE j.batch_id = :batch_id
          AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = :batch_id AND r.position = j.position)
    ) AS steps
) AS sweep WHERE job = 1 AND depth <> 1
"""

SELECT_UNANSWERED_JOBS = """
SELECT 'open' AS fault, j.position AS place FROM jobs j
WHERE j.batch_id = :batch_id
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = :batch_id AND r.position = j.position)
"""

SELECT_UNFINISHED_SLICES = (
    "SELECT 'unfinished' AS fault, id AS place FROM slices WHERE batch_id = :batch_id AND state <> 'done'"
)

SELECT_INVALID_SLICES = """
SELECT fault, place FROM (
    SELECT s.id AS place, CASE
        WHEN s.size < 1 OR s.first < 0 OR s.first + s.size > b.total THEN 'outside'
        WHEN s.state NOT IN ('queued', 'leased', 'done') THEN 'unknown_state'
        WHEN s.state = 'leased' AND (s.worker_id IS NULL OR s.lease_expires_at IS NULL) THEN 'half_leased'
        WHEN s.state = 'leased' AND s.lease_expires_at < {later} THEN 'lapsed'
        END AS fault
    FROM slices s JOIN batches b ON b.id = s.batch_id
    WHERE s.batch_id = :batch_id
) AS told WHERE fault IS NOT NULL
"""

# How many there are of each fault, and the first few places.
COUNT_VIOLATIONS = """
SELECT fault, place, many FROM (
    SELECT fault, place, count(*) OVER (PARTITION BY fault) AS many,
           row_number() OVER (PARTITION BY fault ORDER BY place) AS nth
    FROM ({query}) AS found
) AS ranked WHERE nth <= :most ORDER BY fault, place
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
)

VIOLATIONS = {
    "seq_repeated": Violation("seqs that stand at more than one result", "seq"),
    "orphan": Violation("results without a job", "position"),
    "unfenced": Violation("results that succeeded without slice, token or model version", "position"),
    "misfiled": Violation("reused results that failed, have no model version, or a claim", "position"),
    "slice_gone": Violation("results of a slice that the batch has not", "position"),
    "token_ahead": Violation("results with a token that their slice never gave out", "position"),
    "other_slice": Violation("results of a slice that does not have their job", "position"),
    "unclaimed": Violation("results written under a claim that nobody recorded", "position"),
    "unknown_model": Violation("results of a model version that is not there", "position"),
    "uncovered": Violation("open jobs in no slice that will be run", "position"),
    "covered_twice": Violation("open jobs in several slices that will be run", "position"),
    "open": Violation("open jobs though the batch has ended", "position"),
    "unfinished": Violation("slices that are not done though nothing of the batch may be run any more", "slice"),
    "outside": Violation("slices that reach beyond the batch's jobs", "slice"),
    "unknown_state": Violation("slices in a state that there is not", "slice"),
    "half_leased": Violation("leased slices without an expiry or a worker", "slice"),
    "lapsed": Violation("leases that ran out long ago, and nobody reclaims them", "slice", is_warning=True),
}
