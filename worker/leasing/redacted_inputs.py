"""A job's input changes in one case: a guard redacted it, and the commit of its result stores what the model read.

It happens under the batch's lock and the slice's fence, in the transaction that writes the result with the verdict.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text

from models.dialects.fragments import SqlFragments, comma_separated

if TYPE_CHECKING:
    from worker.leasing.job_results import JobResult

# The model reads this: a retry starts again from the input as submitted, if it was kept.
INPUT_TO_READ = "coalesce(j.original_input, j.input)"

# The input of a job that was redacted before is not what was submitted, so it never becomes the original.
STORE_REDACTED_INPUT = """
UPDATE jobs SET input = {input}, redacted = true,
       original_input = CASE WHEN NOT :keep_original THEN NULL WHEN redacted THEN original_input ELSE input END
WHERE batch_id = :batch_id AND position = :position
"""
INPUT_VALUE = {"postgresql": "CAST(:input AS jsonb)", "sqlite": ":input"}

# A retry may read the original again and redact nothing, because the guard has changed. Only batches that were retried
# have superseded results; the others look up no job.
RESTORE_ORIGINALS = """
UPDATE jobs SET input = original_input, original_input = NULL, redacted = false
WHERE EXISTS (SELECT 1 FROM superseded_results p WHERE p.batch_id = :batch_id)
  AND batch_id = :batch_id AND position {in_numbers} AND original_input IS NOT NULL
"""


def store_inputs(connection: Connection, sql: SqlFragments, batch_id: str, results: "Sequence[JobResult]") -> None:
    """Store the inputs that the model read, for jobs of a batch whose row is locked, with their results."""
    redacted: list[dict[str, Any]] = [
        {
            "batch_id": batch_id,
            "position": result.position,
            "input": result.redacted_input,
            "keep_original": result.keep_original,
        }
        for result in results
        if result.redacted_input is not None
    ]
    if redacted:
        statement = STORE_REDACTED_INPUT.format(input=INPUT_VALUE[connection.dialect.name])
        connection.execute(text(statement), redacted)
    unredacted = [result.position for result in results if result.verdicts and result.redacted_input is None]
    if unredacted:
        statement = RESTORE_ORIGINALS.format(in_numbers=sql.in_numbers)
        connection.execute(text(statement), {"batch_id": batch_id, "numbers": comma_separated(unredacted)})
