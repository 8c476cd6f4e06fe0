"""A batch whose rows can't be jobs fails, with the lines that are wrong."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, update

from models.db import Database
from models.lifecycle import termination
from models.states import Termination
from models.tables.batches import Batch
from producer.readers.storable import make_storable
from producer.submission import discard, open_submission
from producer.submission.open_submission import OpenSubmission

MAX_INPUT_ERRORS = 100  # stored with a batch


def input_error(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    """One entry of a batch's errors, in the form that OpenAI has."""
    return {"code": code, "line": line, "message": make_storable(message), "param": param}


def fail_batch(
    database: Database,
    submission: OpenSubmission,
    code: str,
    message: str,
    errors: Sequence[dict[str, Any]] | None = None,
) -> None:
    """Fail a batch that this process reads, with the errors of its lines; does nothing if another process has it.

    One that is `validating` loses the jobs that it has so far; one that is in progress already keeps its results.
    """
    if submission.ingesting:
        discard.abort_stream(database, submission, message)
        return
    stored = list(errors or [input_error(code, message)])[:MAX_INPUT_ERRORS]
    discard.delete_ingested_rows(database, discard.restart(database, submission))

    def work(connection: Connection) -> None:
        if not open_submission.lock_if_held(connection, database.sql, submission):
            return
        connection.execute(
            update(Batch).where(Batch.id == submission.batch_id).values(input_errors=stored, read_request=None)
        )
        termination.begin_termination(
            connection, database.sql, submission.batch_id, Termination.FAILED, code, make_storable(message)
        )
        termination.close_chunk(connection, database.sql, submission.batch_id)

    database.transact(work)
