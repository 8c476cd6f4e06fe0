"""A batch with slices and jobs in many states, written straight to SQL, and its transitions to the end."""

from sqlalchemy import text

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from tests import fake_worker

BATCH_ID = "batch_sound"

# Twelve jobs. `done` was released once and then done. `split` killed its worker and became single slices: one is
# claimed, one waits, and one was the culprit. `again` replayed a failure. The last four jobs wait.
SLICES = (
    # id, start_position, size, state, fencing_token, attempts, worker, leased
    (1, 0, 4, "done", 2, 1, "w-1"),
    (2, 4, 4, "done", 2, 1, "w-2"),
    (3, 5, 1, "leased", 1, 2, "w-1"),
    (4, 6, 1, "queued", 0, 1, None),
    (5, 7, 1, "done", 1, 2, "w-3"),
    (6, 8, 4, "queued", 0, 0, None),
    (7, 0, 1, "done", 1, 1, "w-1"),
)
ATTEMPTS = (
    # slice, start_position, end_position, attempt, fencing_token, outcome
    (1, 0, 4, 1, 1, "released"),
    (1, 0, 4, 1, 2, "done"),
    (2, 4, 8, 1, 1, "lease_expired"),
    (5, 7, 8, 2, 1, "crashed"),
    (7, 0, 1, 1, 1, "done"),
)
RESULTS = (
    # position, seq, status, slice, fencing_token
    (1, 2, "succeeded", 1, 1),
    (2, 3, "succeeded", 1, 2),
    (3, 4, "succeeded", 1, 2),
    (4, 5, "succeeded", 2, 1),
    (7, 6, "failed", 5, 1),
    (0, 7, "succeeded", 7, 1),
)

SET_LEASE_EXPIRY = """
UPDATE slices SET lease_expires_at = {later} WHERE state = 'leased'
"""
SET_CLAIM_TIMES = "UPDATE slices SET first_claimed_at = {now}, leased_at = {now} WHERE fencing_token > 0"

BEGIN_TERMINATION = (
    """INSERT INTO attempts (batch_id, slice_id, start_position, end_position, attempt, fencing_token, outcome)
       SELECT batch_id, id, start_position, start_position + size, attempts, fencing_token, 'batch_ended'
       FROM slices WHERE state = 'leased'""",
    "UPDATE slices SET state = 'done', fencing_token = fencing_token + 1 WHERE state <> 'done'",
    "UPDATE batches SET status = 'cancelling', terminating_as = 'cancelled'",
)
CLOSE_JOBS = (
    """INSERT INTO results (batch_id, position, seq, status, truncated, attempts)
       SELECT batch_id, position, position + {ahead}, '{outcome}', {no}, 0 FROM jobs WHERE position IN ({positions})""",
    "UPDATE batches SET {outcome} = {outcome} + {count}, last_seq = last_seq + {count}",
)


def insert_batch_in_progress(database: Database) -> str:
    """Insert the batch: in progress, six of its twelve jobs answered, one of them for the second time."""
    version, no = fake_worker.ensure_model_version(database), False
    with database.write() as connection:
        connection.execute(
            text("""INSERT INTO batches (id, pipeline, task, model, revision, parameters, metadata, status, total,
                                         succeeded, failed, last_seq)
                    VALUES (:id, 'p', 't', 'm', 'r', '{}', '{}', 'in_progress', 12, 5, 1, 7)"""),
            {"id": BATCH_ID},
        )
        insert_rows(
            connection,
            "jobs",
            ("batch_id", "position", "custom_id", "input"),
            [(BATCH_ID, position, f"id {position}", "{}") for position in range(12)],
        )
        insert_rows(
            connection,
            "slices",
            ("batch_id", "id", "start_position", "size", "state", "fencing_token", "attempts", "worker_id"),
            [(BATCH_ID, *row) for row in SLICES],
        )
        connection.execute(text(SET_CLAIM_TIMES.format(now=database.sql.now)))
        connection.execute(text(SET_LEASE_EXPIRY.format(later=database.sql.now_plus_seconds)), {"seconds": 60.0})
        insert_rows(
            connection,
            "attempts",
            ("batch_id", "slice_id", "start_position", "end_position", "attempt", "fencing_token", "outcome"),
            [(BATCH_ID, *row) for row in ATTEMPTS],
        )
        columns = ("batch_id", "position", "seq", "status", "slice_id", "fencing_token", "attempts", "truncated")
        insert_rows(
            connection,
            "results",
            (*columns, "model_version_id", "output"),
            [(BATCH_ID, *row, 1, no, *((version, "{}") if row[2] == "succeeded" else (None, None))) for row in RESULTS],
        )
        insert_rows(
            connection,
            "superseded_results",
            (*columns, "error_code", "finished_at"),
            [(BATCH_ID, 0, 1, "failed", 1, 1, 1, no, "model_error", "2026-01-01 00:00:00")],
        )
    return BATCH_ID


def begin_termination(database: Database, outcome: str = "cancelled") -> None:
    """Start the termination: revoke the slices and write results for the first unanswered jobs."""
    execute_all(database, *BEGIN_TERMINATION)
    close_jobs(database, outcome, 5, 6, seq_offset=3)


def terminate(database: Database, outcome: str = "cancelled") -> None:
    """Finish the termination by writing the remaining results."""
    begin_termination(database, outcome)
    close_jobs(database, outcome, 8, 9, 10, 11, seq_offset=2)
    execute_all(database, f"UPDATE batches SET status = '{outcome}', terminating_as = NULL")


def close_jobs(database: Database, outcome: str, *positions: int, seq_offset: int) -> None:
    """Write results for these unanswered jobs; `seq_offset` is seq minus position."""
    named = {
        "ahead": seq_offset,
        "outcome": outcome,
        "count": len(positions),
        "positions": ", ".join(map(str, positions)),
        "no": "false",
    }
    execute_all(database, *(statement.format(**named) for statement in CLOSE_JOBS))


def execute_all(database: Database, *statements: str) -> None:
    """Execute these statements in one transaction."""
    with database.write() as connection:
        for statement in statements:
            connection.execute(text(statement))
