"""The store: results, counters and slices close together in one fenced transaction.

Lock order: the batch's row first, then its slices by id. `seq` is drawn under the batch's lock, so commits happen in
`seq` order and a reader's cursor never misses a row.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite

from models.db import Database, Fragments, as_json, insert_rows
from models.states import BatchStatus, Outcome
from models.tables import ModelVersion
from worker.claims import Lease


@dataclass(frozen=True, slots=True)
class Answer:
    """One job's outcome, ready to be written. `tokens`, `padded_tokens` and `seconds` are what it cost the device."""

    lease: Lease
    position: int
    status: Outcome
    output: str | None = None  # JSON
    error_code: str | None = None
    error_message: str | None = None
    truncated: bool = False
    tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Version:
    """What computes the results of this process; becomes a `model_versions` row."""

    task: str
    model: str
    revision: str
    tokenizer: str
    tokenizer_revision: str
    dtype: str
    quantization: str | None
    attention: str
    device: str
    libraries: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of all fields: equal versions share a row."""
        return hashlib.sha256(as_json(sorted(asdict(self).items())).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Closed:
    """What a closing write did: rows written, slices that turned out to be somebody else's, whether the batch ended."""

    written: int
    lost: frozenset[int]
    completed: bool


LOCK_BATCH = """
SELECT status, last_seq, total, succeeded + failed + cancelled + expired AS ended FROM batches
WHERE id = :batch_id {for_update}
"""

# Zero rows: the lease was lost. A finished slice ends here; an unfinished one is only locked against a new claim.
FENCE = """
UPDATE slices SET state = CASE WHEN :finished THEN 'done' ELSE state END,
       done_at = CASE WHEN :finished THEN {now} END
WHERE id = :slice_id AND token = :token AND state = 'leased'
"""

WRITTEN = "SELECT position FROM results WHERE batch_id = :batch_id AND position IN :positions"

PROGRESS = """
UPDATE batches SET last_seq = last_seq + :written, succeeded = succeeded + :succeeded, failed = failed + :failed,
       tokens = tokens + :tokens, padded_tokens = padded_tokens + :padded_tokens,
       device_seconds = device_seconds + :device_seconds,
       status = CASE WHEN :completed THEN 'completed' ELSE status END,
       completed_at = CASE WHEN :completed THEN {now} END
WHERE id = :batch_id
"""

COLUMNS = (
    "batch_id", "position", "seq", "status", "output", "error_code", "error_message", "truncated", "attempts",
    "slice_id", "token", "model_version_id",
)  # fmt: skip

# Every open job of the batch gets the same outcome, in one statement however many they are.
END_OPEN_JOBS = """
INSERT INTO results (batch_id, position, seq, status, error_code, error_message, truncated, attempts)
SELECT j.batch_id, j.position, :last_seq + row_number() OVER (ORDER BY j.position), :outcome, :code, :message, :no, 0
FROM jobs j
WHERE j.batch_id = :batch_id
  AND NOT EXISTS (SELECT 1 FROM results r WHERE r.batch_id = j.batch_id AND r.position = j.position)
"""

LOCK_SLICES = "SELECT id FROM slices WHERE batch_id = :batch_id AND state <> 'done' ORDER BY id {for_update}"

END_SLICES = """
UPDATE slices SET state = 'done', token = token + 1, done_at = {now} WHERE batch_id = :batch_id AND state <> 'done'
"""

FAIL_BATCH = """
UPDATE batches SET status = 'failed', failed_at = {now}, failed = failed + :rows, last_seq = last_seq + :rows,
       error_code = :code, error_message = :message
WHERE id = :batch_id
"""


REMEMBERED = "SELECT tokens FROM budgets WHERE pipeline = :pipeline AND device = :device AND dtype = :dtype"

REMEMBER = """
INSERT INTO budgets (pipeline, device, dtype, tokens) VALUES (:pipeline, :device, :dtype, :tokens)
ON CONFLICT (pipeline, device, dtype) DO UPDATE SET tokens = excluded.tokens, found_at = {now}
"""


def register(database: Database, version: Version) -> int:
    """The id of this version's row; the same for every process that runs exactly the same."""
    values = {**asdict(version), "fingerprint": version.fingerprint}
    with database.write() as connection:
        dialect: Any = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(dialect.insert(ModelVersion).values(values).on_conflict_do_nothing())
        return connection.execute(
            select(ModelVersion.id).where(ModelVersion.fingerprint == version.fingerprint)
        ).scalar_one()


def remembered_budget(database: Database, pipeline: str, version: Version) -> int | None:
    """The padded tokens of a micro-batch that answered fastest here before; None when nobody has found out yet."""
    with database.read() as connection:
        tokens: int | None = connection.scalar(text(REMEMBERED), _budget_key(pipeline, version))
        return tokens


def remember_budget(database: Database, pipeline: str, version: Version, tokens: int) -> None:
    """Let the next process that runs this pipeline on such a device begin with this size."""
    with database.write() as connection:
        connection.execute(
            text(REMEMBER.format(now=database.sql.now)), {**_budget_key(pipeline, version), "tokens": tokens}
        )


def close(
    connection: Connection, sql: Fragments, answers: Sequence[Answer], leases: Collection[Lease],
    finished: Collection[int], version_id: int | None, *, again: bool = False,
) -> Closed:  # fmt: skip
    """Write one batch's answers under their fences.

    `leases` are the slices concerned, all of one batch; `finished` the ids of those that have no open job left after
    this. `again` says that an earlier try may have been committed without our hearing of it.
    """
    batch_id = next(iter(leases)).batch_id
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or BatchStatus(batch.status).ended:
        return Closed(0, frozenset(lease.slice_id for lease in leases), completed=False)
    lost = _fence(connection, sql, leases, finished)
    kept = [answer for answer in answers if answer.lease.slice_id not in lost]
    if again and kept:
        kept = _unwritten(connection, batch_id, kept)
    rows = _rows(kept, batch.last_seq, version_id)
    insert_rows(connection, "results", COLUMNS, rows)
    completed = batch.ended + len(kept) == batch.total
    _progress(connection, sql, batch_id, kept, completed=completed)
    return Closed(len(kept), lost, completed)


def lock_batch(connection: Connection, sql: Fragments, batch_id: str) -> Row[Any] | None:
    """Take the batch's row for this transaction: its status, last_seq, total, and how many jobs have ended."""
    query = text(LOCK_BATCH.format(for_update=sql.for_update))
    return connection.execute(query, {"batch_id": batch_id}).one_or_none()


def fail(connection: Connection, sql: Fragments, batch_id: str, code: str, message: str) -> int:
    """End a batch as failed: every open job gets this error; returns how many that were."""
    batch = lock_batch(connection, sql, batch_id)
    if batch is None or BatchStatus(batch.status).ended:
        return 0
    named = {"batch_id": batch_id, "code": code, "message": message}
    connection.execute(text(LOCK_SLICES.format(for_update=sql.for_update)), named).all()
    connection.execute(text(END_SLICES.format(now=sql.now)), named)
    rows = connection.execute(
        text(END_OPEN_JOBS), {**named, "last_seq": batch.last_seq, "outcome": Outcome.FAILED.value, "no": False}
    ).rowcount
    connection.execute(text(FAIL_BATCH.format(now=sql.now)), {**named, "rows": rows})
    return rows


def _budget_key(pipeline: str, version: Version) -> dict[str, str]:
    return {"pipeline": pipeline, "device": version.device, "dtype": version.quantization or version.dtype}


def _fence(
    connection: Connection, sql: Fragments, leases: Iterable[Lease], finished: Collection[int]
) -> frozenset[int]:
    query = text(FENCE.format(now=sql.now))
    lost = set()
    for lease in sorted(leases, key=lambda lease: lease.slice_id):
        named = {"slice_id": lease.slice_id, "token": lease.token, "finished": lease.slice_id in finished}
        if connection.execute(query, named).rowcount == 0:
            lost.add(lease.slice_id)
    return frozenset(lost)


def _unwritten(connection: Connection, batch_id: str, answers: list[Answer]) -> list[Answer]:
    query = text(WRITTEN).bindparams(bindparam("positions", expanding=True))
    positions = [answer.position for answer in answers]
    written = set(connection.scalars(query, {"batch_id": batch_id, "positions": positions}))
    return [answer for answer in answers if answer.position not in written]


def _rows(answers: Sequence[Answer], last_seq: int, version_id: int | None) -> Iterable[tuple[Any, ...]]:
    for seq, answer in enumerate(answers, start=last_seq + 1):
        lease = answer.lease
        yield (
            lease.batch_id, answer.position, seq, answer.status.value, answer.output, answer.error_code,
            answer.error_message, answer.truncated, lease.attempts, lease.slice_id, lease.token, version_id,
        )  # fmt: skip


def _progress(
    connection: Connection, sql: Fragments, batch_id: str, answers: Sequence[Answer], *, completed: bool
) -> None:
    outcomes = Counter(answer.status for answer in answers)
    named = {
        "batch_id": batch_id,
        "written": len(answers),
        "succeeded": outcomes[Outcome.SUCCEEDED],
        "failed": outcomes[Outcome.FAILED],
        "tokens": sum(answer.tokens for answer in answers),
        "padded_tokens": sum(answer.padded_tokens for answer in answers),
        "device_seconds": sum(answer.seconds for answer in answers),
        "completed": completed,
    }
    connection.execute(text(PROGRESS.format(now=sql.now)), named)
