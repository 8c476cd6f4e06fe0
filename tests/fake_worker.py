"""A fake worker that writes results and ends batches as `worker/leasing/commit.py` would."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, text

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.documents import to_json
from models.states import BatchStatus, JobOutcome
from models.tables.results import ModelVersion
from models.tables.workers import Worker
from worker.leasing import commit

RESULT_COLUMNS = (
    "batch_id",
    "position",
    "seq",
    "status",
    "output",
    "error_code",
    "error_message",
    "truncated",
    "attempts",
    "model_version_id",
)
WITH_VECTOR = (*RESULT_COLUMNS, "vector")

UPDATE_BATCH_COUNTERS = """
UPDATE batches SET last_seq = last_seq + :written, guarded_seq = last_seq + :written,
       succeeded = succeeded + :succeeded, failed = failed + :failed,
       tokens = tokens + :written * 6, padded_tokens = padded_tokens + :written * 8, revision = 'abc'
WHERE id = :batch_id
"""


def ensure_model_version(database: Database) -> int:
    """Return the id of a model version, the same at every call."""
    values = dict.fromkeys(
        ("fingerprint", "task", "model", "revision", "tokenizer", "tokenizer_revision", "attention"), "abc"
    )
    with database.write() as connection:
        known: int | None = connection.scalar(text("SELECT id FROM model_versions"))
        if known is not None:
            return known
        row = {**values, "dtype": "float32", "device": "cpu", "libraries": {}}
        made: int = connection.execute(insert(ModelVersion).values(row).returning(ModelVersion.id)).scalar_one()
        return made


def write_results(database: Database, batch_id: str, outputs: Sequence[tuple[int, Any]]) -> None:
    """Write results in this order: a position with its output, a vector, or a JobError's code as a `str`."""
    made_by = ensure_model_version(database)
    with database.write() as connection:
        last = connection.scalar(text("SELECT last_seq FROM batches WHERE id = :id"), {"id": batch_id})
        rows = []
        for seq, (position, answer) in enumerate(outputs, start=last + 1):
            failed = isinstance(answer, str)
            status = JobOutcome.FAILED if failed else JobOutcome.SUCCEEDED
            vector = answer if isinstance(answer, bytes) else None
            output = None if failed or vector is not None else to_json(answer)
            error = (answer, "it could not be answered") if failed else (None, None)
            rows.append((batch_id, position, seq, status.value, output, *error, False, 1, made_by, vector))
        insert_rows(connection, "results", WITH_VECTOR, rows, [commit.RESULT_COLUMNS[name] for name in WITH_VECTOR])
        failures = sum(isinstance(answer, str) for _, answer in outputs)
        counts = {"written": len(outputs), "failed": failures, "succeeded": len(outputs) - failures}
        connection.execute(text(UPDATE_BATCH_COUNTERS), {"batch_id": batch_id, **counts})


def end_batch(database: Database, batch_id: str, status: BatchStatus = BatchStatus.COMPLETED) -> None:
    """End a batch with this status."""
    with database.write() as connection:
        connection.execute(
            text(f"UPDATE batches SET status = :status, {status.value}_at = {database.sql.now} WHERE id = :id"),
            {"status": status.value, "id": batch_id},
        )
        connection.execute(
            text(f"""UPDATE slices SET state = 'done', done_at = {database.sql.now},
                 first_claimed_at = {database.sql.now_plus_seconds}, leased_at = {database.sql.now_plus_seconds}
                 WHERE batch_id = :id"""),
            {"id": batch_id, "seconds": -2.0},
        )


def register_worker(database: Database, pipeline: str, *, heartbeat_age_seconds: float = 0.0) -> None:
    """Insert a worker's row with a last heartbeat of this age."""
    values = {
        "id": f"w-{heartbeat_age_seconds}",
        "host": "here",
        "pid": 7,
        "device": "cpu",
        "model": "m",
        "state": "ready",
    }
    with database.write() as connection:
        connection.execute(insert(Worker).values(**values, pipeline=pipeline, served_pipelines=[pipeline]))
        connection.execute(
            text(f"UPDATE workers SET heartbeat_at = {database.sql.now_plus_seconds} WHERE id = :id"),
            {"id": values["id"], "seconds": -heartbeat_age_seconds},
        )
