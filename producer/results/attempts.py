"""Attempts: how the claims of a batch's slices ended, and everything that became of one job."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import TextualSelect, column, text

from models.columns import Moment
from models.db import Database
from models.errors import NotFound
from producer.batches import views
from producer.results.pages import iso

# What just succeeded is told by the results. The newest, since the first of many tell little.
OF_BATCH = """
SELECT 'attempt' AS kind, first, past, number, ending, worker_id, slice_id, token, error_code, error_message,
       claimed_at, ended_at
FROM attempts WHERE batch_id = :batch_id AND ending <> 'done' ORDER BY id DESC LIMIT :limit
"""

RESULT = """
SELECT '{kind}' AS kind, position AS first, position + 1 AS past, attempts AS number, status AS ending,
       NULL AS worker_id, slice_id, token, error_code, error_message, NULL AS claimed_at, finished_at AS ended_at
FROM {table} WHERE batch_id = :batch_id AND position = :position
"""

# Each in the order of its own clock; of one moment, the claim stands before what came of it.
OF_JOB = f"""
SELECT * FROM (
    SELECT 'attempt' AS kind, position AS first, position + 1 AS past, number, ending, worker_id, slice_id, token,
           error_code, error_message, claimed_at, ended_at
    FROM job_attempts WHERE batch_id = :batch_id AND position = :position
    UNION ALL {RESULT.format(kind="past_result", table="past_results")}
    UNION ALL {RESULT.format(kind="result", table="results")}
) AS history ORDER BY ended_at, kind
"""  # noqa: S608

POSITION = "SELECT position FROM jobs WHERE batch_id = :batch_id AND {key} = :value"


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One claim's end, or one outcome, of the jobs from `first` up to and without `past`."""

    kind: str  # attempt | past_result | result
    first: int
    past: int
    number: int  # which try it was, from 1; 0 for an outcome without any
    ending: str  # an attempt's ending, or a result's status
    worker_id: str | None
    slice_id: int | None
    token: int | None
    error_code: str | None
    error_message: str | None
    claimed_at: datetime | None
    ended_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill attempts --json` prints it; positions are from 0, moments ISO 8601 in UTC."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "object": self.kind,
            "first_position": self.first,
            "last_position": self.past - 1,
            "attempt": self.number,
            "ending": self.ending,
            "worker": self.worker_id,
            "slice": self.slice_id,
            "token": self.token,
            "error": error,
            "claimed_at": self.claimed_at and iso(self.claimed_at),
            "ended_at": iso(self.ended_at),
        }


def of_batch(database: Database, batch_id: str, limit: int) -> list[AttemptView]:
    """The claims that did not just succeed, the last `limit` of them, in their order; raises NotFound."""
    views.get(database, batch_id)
    return _read(database, OF_BATCH, batch_id=batch_id, limit=limit)[::-1]


def of_job(database: Database, batch_id: str, position: int) -> list[AttemptView]:
    """All that became of one job: its claims, results that a replay took back, and its result; raises NotFound."""
    views.get(database, batch_id)
    _position(database, batch_id, "position", position)
    return _read(database, OF_JOB, batch_id=batch_id, position=position)


def position_of(database: Database, batch_id: str, custom_id: str) -> int:
    """Where the job with this custom_id stands; raises NotFound."""
    views.get(database, batch_id)
    return _position(database, batch_id, "custom_id", custom_id)


def _position(database: Database, batch_id: str, key: str, value: object) -> int:
    with database.read() as connection:
        found: int | None = connection.scalar(text(POSITION.format(key=key)), {"batch_id": batch_id, "value": value})
    if found is None:
        raise NotFound(f"{batch_id} has no job with the {key} {str(value)[:80]!r}")
    return found


def _read(database: Database, query: str, **named: Any) -> list[AttemptView]:
    with database.read() as connection:
        return [AttemptView(*row) for row in connection.execute(_typed(query), named)]


def _typed(query: str) -> TextualSelect:
    moments = {"claimed_at": Moment, "ended_at": Moment}
    return text(query).columns(*(column(name, moments.get(name)) for name in AttemptView.__slots__))
