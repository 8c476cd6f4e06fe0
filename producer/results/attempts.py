"""The history of attempts: how the claims of a batch's slices ended, and each attempt and result of one job."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.documents import format_timestamp
from models.errors import NotFound
from producer.batches import views

# Successful attempts are left out, because the results show them. The newest ones are the most useful.
SELECT_BATCH_ATTEMPTS = """
SELECT 'attempt' AS kind, start_position, end_position, attempt, outcome, worker_id, slice_id, fencing_token,
       error_code, error_message, claimed_at, ended_at
FROM attempts WHERE batch_id = :batch_id AND outcome <> 'done' ORDER BY id DESC LIMIT :limit
"""

SELECT_RESULT = """
SELECT '{kind}' AS kind, position AS start_position, position + 1 AS end_position, attempts AS attempt,
       status AS outcome, NULL AS worker_id, slice_id, fencing_token, error_code, error_message,
       NULL AS claimed_at, finished_at AS ended_at
FROM {table} WHERE batch_id = :batch_id AND position = :position
"""

# Ordered by the time at which each ended; at equal times, `kind` puts the attempt before its result.
SELECT_JOB_HISTORY = f"""
SELECT * FROM (
    SELECT 'attempt' AS kind, position AS start_position, position + 1 AS end_position, attempt, outcome,
           worker_id, slice_id, fencing_token, error_code, error_message, claimed_at, ended_at
    FROM job_attempts WHERE batch_id = :batch_id AND position = :position
    UNION ALL {SELECT_RESULT.format(kind="superseded_result", table="superseded_results")}
    UNION ALL {SELECT_RESULT.format(kind="result", table="results")}
) AS history ORDER BY ended_at, kind
"""  # noqa: S608

SELECT_POSITION = "SELECT position FROM jobs WHERE batch_id = :batch_id AND {key} = :value"


@dataclass(frozen=True, slots=True)
class AttemptView:
    """The end of one claim, or one result, for the jobs from `start_position` to just before `end_position`."""

    kind: str  # attempt | superseded_result | result
    start_position: int
    end_position: int
    attempt: int  # from 1; 0 for a result without an attempt
    outcome: str  # of the attempt, or the result's status
    worker_id: str | None
    slice_id: int | None
    fencing_token: int | None
    error_code: str | None
    error_message: str | None
    claimed_at: datetime | None
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill attempts --json` prints: positions from 0, times ISO 8601 in UTC."""
        return {
            "object": self.kind,
            "first_position": self.start_position,
            "last_position": self.end_position - 1,
            "attempt": self.attempt,
            "outcome": self.outcome,
            "worker_id": self.worker_id,
            "slice_id": self.slice_id,
            "fencing_token": self.fencing_token,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "claimed_at": self.claimed_at and format_timestamp(self.claimed_at),
            "ended_at": format_timestamp(self.ended_at),
        }


def list_attempts(database: Database, batch_id: str, limit: int) -> list[AttemptView]:
    """Return the last `limit` attempts that did not simply succeed, oldest first; raises NotFound."""
    views.check_exists(database, batch_id)
    return _query_attempts(database, SELECT_BATCH_ATTEMPTS, batch_id=batch_id, limit=limit)[::-1]


def job_history(database: Database, batch_id: str, position: int) -> list[AttemptView]:
    """Return one job's attempts, superseded results and result, oldest first; raises NotFound."""
    views.check_exists(database, batch_id)
    _find_position(database, batch_id, "position", position)
    return _query_attempts(database, SELECT_JOB_HISTORY, batch_id=batch_id, position=position)


def find_position(database: Database, batch_id: str, custom_id: str) -> int:
    """Return the position of the job with this custom_id; raises NotFound."""
    views.check_exists(database, batch_id)
    return _find_position(database, batch_id, "custom_id", custom_id)


def _find_position(database: Database, batch_id: str, key_column: str, value: object) -> int:
    with database.read() as connection:
        position: int | None = connection.scalar(
            text(SELECT_POSITION.format(key=key_column)), {"batch_id": batch_id, "value": value}
        )
    if position is None:
        raise NotFound(f"{batch_id} has no job with the {key_column} {str(value)[:80]!r}")
    return position


def _query_attempts(database: Database, query: str, **params: Any) -> list[AttemptView]:
    timestamps = {"claimed_at": UtcDateTime, "ended_at": UtcDateTime}
    typed_query = text(query).columns(*(column(name, timestamps.get(name)) for name in AttemptView.__slots__))
    with database.read() as connection:
        return [AttemptView(*row) for row in connection.execute(typed_query, params)]
