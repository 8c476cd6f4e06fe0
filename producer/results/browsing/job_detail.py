"""All about one job: its input, its result, the results before that, and its neighbours."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Connection, column, text

from models.db import Database
from models.dialects.columns import Document, UtcDateTime
from models.errors import NotFound
from models.states import JobOutcome
from models.vectors import from_array_wire, vector_json
from producer.batches.pace import FAILURES_HINT
from producer.results.result_columns import VECTOR_COLUMN

SHOWN_CHARACTERS = 100_000  # of a document
MAX_SUPERSEDED = 20  # the newest

DOCUMENTS = {
    "input": "j.input",
    "original_input": "j.original_input",
    "passthrough": "j.passthrough",
    "output": "r.output",
    "guards": "r.guards",
}

SELECT_JOB = f"""
SELECT j.position, j.custom_id, j.invalid, j.source_batch_id, j.source_position,
       {", ".join(f"substr(CAST({sql} AS TEXT), 1, :most), length(CAST({sql} AS TEXT))" for sql in DOCUMENTS.values())},
       {{vector}} AS vector, r.status, r.error_code, r.error_message, r.truncated, r.windows, r.attempts, r.seq,
       r.finished_at, r.reused_from, r.model_version_id, r.input_tokens, r.output_tokens, r.finish_reason
FROM jobs j LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND j.position = :position
"""  # noqa: S608

SELECT_SUPERSEDED = """
SELECT r.seq, r.status, substr(CAST(r.output AS TEXT), 1, :most) AS output, length(CAST(r.output AS TEXT)) AS length,
       {vector} AS vector, r.error_code, r.error_message, r.finished_at, r.superseded_at
FROM superseded_results r WHERE r.batch_id = :batch_id AND r.position = :position ORDER BY r.seq DESC LIMIT :limit
"""

SELECT_VERSION = """
SELECT model, revision, tokenizer, tokenizer_revision, adapter, adapter_revision, dtype, quantization, attention,
       device, libraries
FROM model_versions WHERE id = :id
"""

# The newest slice that holds the job and is not done.
SELECT_SLICE = """
SELECT state, attempts, retries, available_at, leased_at FROM slices
WHERE batch_id = :batch_id AND state <> 'done' AND start_position <= :position AND start_position + size > :position
ORDER BY id DESC LIMIT 1
"""

SELECT_NEIGHBOUR = "SELECT {best}(j.position) FROM jobs j WHERE j.batch_id = :batch_id AND j.position {sign} :position"
SELECT_FAILED_NEIGHBOUR = """
SELECT {best}(r.position) FROM results r{hint}
WHERE r.batch_id = :batch_id AND r.status = 'failed' AND r.position {sign} :position
"""

SELECT_DOCUMENT = """
SELECT CAST({sql} AS TEXT) AS document, {vector} AS vector FROM jobs j
LEFT JOIN results r ON r.batch_id = j.batch_id AND r.position = j.position
WHERE j.batch_id = :batch_id AND j.position = :position
"""


@dataclass(frozen=True, slots=True)
class Text:
    """A document as JSON, cut after SHOWN_CHARACTERS, and the length of the whole."""

    text: str
    length: int

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it."""
        return self.length > len(self.text)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job, current or superseded; fields that superseded ones need not show are None."""

    status: JobOutcome
    output: Text | None
    vector: bytes | None
    error_code: str | None
    error_message: str | None
    seq: int
    finished_at: datetime
    superseded_at: datetime | None = None
    truncated: bool = False
    windows: int | None = None
    attempts: int = 0
    reused_from: str | None = None
    guards: Text | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The slice that holds a job without a result."""

    state: str
    attempts: int
    retries: int
    available_at: datetime | None
    leased_at: datetime | None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Positions of the jobs before and after a job, and of the failed ones."""

    previous: int | None
    next: int | None
    previous_failed: int | None
    next_failed: int | None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """One job.

    result: None = it is unanswered
    version: what computed the result, by the columns of `model_versions`; None = nothing did
    waiting: where it is unanswered
    """

    position: int
    custom_id: str | None
    is_invalid: bool
    source_batch_id: str | None
    source_position: int | None
    input: Text
    original_input: Text | None
    passthrough: Text | None
    result: JobResult | None
    superseded: tuple[JobResult, ...]
    version: dict[str, Any] | None
    waiting: Waiting | None
    neighbours: Neighbours


def get_job(database: Database, batch_id: str, position: int) -> JobDetail:
    """Return a job of a batch; raises NotFound."""
    with database.read() as connection:
        params = {"batch_id": batch_id, "position": position, "most": SHOWN_CHARACTERS}
        row = connection.execute(_job_query(connection.dialect.name), params).one_or_none()
        if row is None:
            raise NotFound(f"{batch_id} has no job at position {position:,}")
        result = None if row.status is None else _to_result(connection, row)
        return JobDetail(
            position=row.position,
            custom_id=row.custom_id,
            is_invalid=row.invalid,
            source_batch_id=row.source_batch_id,
            source_position=row.source_position,
            input=_text(row, "input") or Text("{}", 2),
            original_input=_text(row, "original_input"),
            passthrough=_text(row, "passthrough"),
            result=result,
            superseded=_read_superseded(connection, params),
            version=_read_version(connection, row.model_version_id),
            waiting=_read_waiting(connection, params) if result is None else None,
            neighbours=_read_neighbours(connection, params),
        )


def read_document(database: Database, batch_id: str, position: int, name: str) -> str:
    """Return a whole document of a job as JSON; raises NotFound if it has none.

    name: one of DOCUMENTS
    """
    dialect = database.engine.dialect.name
    query = text(SELECT_DOCUMENT.format(sql=DOCUMENTS[name], vector=VECTOR_COLUMN[dialect]))
    with database.read() as connection:
        row = connection.execute(query, {"batch_id": batch_id, "position": position}).one_or_none()
        vector = _vector(connection, row.vector) if row is not None and name == "output" else None
    if vector is not None:
        return vector_json(vector)
    if row is None or row.document is None:
        raise NotFound(f"{batch_id} has no {name.replace('_', ' ')} at position {position:,}")
    document: str = row.document
    return document


def _job_query(dialect: str) -> Any:
    types: dict[str, Any] = {"invalid": Boolean, "truncated": Boolean, "finished_at": UtcDateTime}
    names = ["position", "custom_id", "invalid", "source_batch_id", "source_position"]
    names += [part for name in DOCUMENTS for part in (name, f"{name}_length")]
    names += ["vector", "status", "error_code", "error_message", "truncated", "windows", "attempts", "seq"]
    names += ["finished_at", "reused_from", "model_version_id", "input_tokens", "output_tokens", "finish_reason"]
    query = SELECT_JOB.format(vector=VECTOR_COLUMN[dialect])
    return text(query).columns(*(column(name, types.get(name)) for name in names))


def _text(row: Any, name: str) -> Text | None:
    document = getattr(row, name)
    return None if document is None else Text(document, getattr(row, f"{name}_length"))


def _to_result(connection: Connection, row: Any) -> JobResult:
    return JobResult(
        status=JobOutcome(row.status),
        output=_text(row, "output"),
        vector=_vector(connection, row.vector),
        error_code=row.error_code,
        error_message=row.error_message,
        seq=row.seq,
        finished_at=row.finished_at,
        truncated=row.truncated,
        windows=row.windows,
        attempts=row.attempts,
        reused_from=row.reused_from,
        guards=_text(row, "guards"),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        finish_reason=row.finish_reason,
    )


def _vector(connection: Connection, stored: bytes | None) -> bytes | None:
    return from_array_wire(stored) if stored is not None and connection.dialect.name == "postgresql" else stored


def _read_superseded(connection: Connection, params: dict[str, Any]) -> tuple[JobResult, ...]:
    query = text(SELECT_SUPERSEDED.format(vector=VECTOR_COLUMN[connection.dialect.name])).columns(
        *map(column, ("seq", "status", "output", "length", "vector", "error_code", "error_message")),
        column("finished_at", UtcDateTime),
        column("superseded_at", UtcDateTime),
    )
    return tuple(
        JobResult(
            JobOutcome(row.status),
            None if row.output is None else Text(row.output, row.length),
            _vector(connection, row.vector),
            row.error_code,
            row.error_message,
            row.seq,
            row.finished_at,
            row.superseded_at,
        )
        for row in connection.execute(query, {**params, "limit": MAX_SUPERSEDED})
    )


def _read_version(connection: Connection, version_id: int | None) -> dict[str, Any] | None:
    query = text(SELECT_VERSION).columns(libraries=Document)
    row = None if version_id is None else connection.execute(query, {"id": version_id}).one_or_none()
    return None if row is None else dict(row._mapping)


def _read_waiting(connection: Connection, params: dict[str, Any]) -> Waiting | None:
    types = {"available_at": UtcDateTime, "leased_at": UtcDateTime}
    query = text(SELECT_SLICE).columns(*(column(name, types.get(name)) for name in Waiting.__slots__))
    row = connection.execute(query, params).one_or_none()
    return None if row is None else Waiting(*row)


def _read_neighbours(connection: Connection, params: dict[str, Any]) -> Neighbours:
    hint = FAILURES_HINT[connection.dialect.name]
    previous, following = {"best": "max", "sign": "<", "hint": hint}, {"best": "min", "sign": ">", "hint": hint}
    queries = [
        SELECT_NEIGHBOUR.format(**previous),
        SELECT_NEIGHBOUR.format(**following),
        SELECT_FAILED_NEIGHBOUR.format(**previous),
        SELECT_FAILED_NEIGHBOUR.format(**following),
    ]
    return Neighbours(*(connection.scalar(text(query), params) for query in queries))
