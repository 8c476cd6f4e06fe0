"""Attempts: how the claims of a batch's slices ended, and everything that became of one job."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import TextualSelect, column, text

from models.columns import UtcDateTime
from models.db import Database
from models.errors import NotFound
from producer.batches import views
from producer.results.pages import format_timestamp

# What just succeeded is told by the results. The newest, since the first of many tell little.
SELECT_BATCH_ATTEMPTS = """
SELECT 'attempt' AS kind, first, past, number, ending, worker_id, slice_id, token, error_code, error_message,
       claimed_at, ended_at
FROM attempts WHERE batch_id = :batch_id AND ending <> 'done' ORDER BY id DESC LIMIT :limit
"""

SELECT_RESULT = """
SELECT '{kind}' AS kind, position AS first, position + 1 AS past, attempts AS number, status AS ending,
       NULL AS worker_id, slice_id, token, error_code, error_message, NULL AS claimed_at, finished_at AS ended_at
FROM {table} WHERE batch_id = :batch_id AND position = :position
"""

# Each in the order of its own clock; of one moment, the claim stands before what came of it.
SELECT_JOB_HISTORY = f"""
SELECT * FROM (
    SELECT 'attempt' AS kind, position AS first, position + 1 AS past, number, ending, worker_id, slice_id, token,
           error_code, error_message, claimed_at, ended_at
    FROM job_attempts WHERE batch_id = :batch_id AND position = :position
    UNION ALL {SELECT_RESULT.format(kind="past_result", table="past_results")}
    UNION ALL {SELECT_RESULT.format(kind="result", table="results")}
) AS history ORDER BY ended_at, kind
"""  # noqa: S608

SELECT_POSITION = "SELECT position FROM jobs WHERE batch_id = :batch_id AND {key} = :value"


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One claim's end, or one outcome, of the jobs from `first` up to and without `past`."""

    kind: str  # attempt | past_result | result
    start_position: int
    end_position: int
    attempt: int  # which try it was, from 1; 0 for an outcome without any
    outcome: str  # an attempt's ending, or a result's status
    worker_id: str | None
    slice_id: int | None
    fencing_token: int | None
    error_code: str | None
    error_message: str | None
    claimed_at: datetime | None
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill attempts --json` prints it; positions are from 0, moments ISO 8601 in UTC."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "object": self.kind,
            "first_position": self.start_position,
            "last_position": self.end_position - 1,
            "attempt": self.attempt,
            "ending": self.outcome,
            "worker": self.worker_id,
            "slice": self.slice_id,
            "token": self.fencing_token,
            "error": error,
            "claimed_at": self.claimed_at and format_timestamp(self.claimed_at),
            "ended_at": format_timestamp(self.ended_at),
        }


def list_attempts(database: Database, batch_id: str, limit: int) -> list[AttemptView]:
    """The claims that did not just succeed, the last `limit` of them, in their order; raises NotFound."""
    views.get_batch(database, batch_id)
    return _query_attempts(database, SELECT_BATCH_ATTEMPTS, batch_id=batch_id, limit=limit)[::-1]


def job_history(database: Database, batch_id: str, position: int) -> list[AttemptView]:
    """All that became of one job: its claims, results that a replay took back, and its result; raises NotFound."""
    views.get_batch(database, batch_id)
    _find_position(database, batch_id, "position", position)
    return _query_attempts(database, SELECT_JOB_HISTORY, batch_id=batch_id, position=position)


def find_position(database: Database, batch_id: str, custom_id: str) -> int:
    """Where the job with this custom_id stands; raises NotFound."""
    views.get_batch(database, batch_id)
    return _find_position(database, batch_id, "custom_id", custom_id)


def _find_position(database: Database, batch_id: str, key_column: str, value: object) -> int:
    with database.read() as connection:
        found: int | None = connection.scalar(
            text(SELECT_POSITION.format(key=key_column)), {"batch_id": batch_id, "value": value}
        )
    if found is None:
        raise NotFound(f"{batch_id} has no job with the {key_column} {str(value)[:80]!r}")
    return found


def _query_attempts(database: Database, query: str, **params: Any) -> list[AttemptView]:
    with database.read() as connection:
        return [AttemptView(*row) for row in connection.execute(_typed_query(query), params)]


def _typed_query(query: str) -> TextualSelect:
    moments = {"claimed_at": UtcDateTime, "ended_at": UtcDateTime}
    return text(query).columns(*(column(name, moments.get(name)) for name in AttemptView.__slots__))
