"""Activity is what each worker did in each minute, counted in the transaction that stores results.

Reused rows and rows that were invalid count nothing, because no worker ran them. A job that is run again counts again.
A job that is given up because it crashed its workers counts as failed, with an empty worker id.

Lock order: the rows of `activity` come last, after those of `usage`, in the order of their keys. No two workers share
a row, so writers do not wait for each other.
"""

from collections import Counter
from collections.abc import Iterable

from sqlalchemy import Connection, text

from models.db import Database
from models.privacy.terminal import format_count
from worker.leasing.usage import ComputedWork

GIVEN_UP = ""  # the worker id of jobs that no worker answered
SUCCEEDED = ""  # the error code of jobs without one

# The codes of own tasks are chosen by their authors, maybe one for each job; the rare ones count together.
MAX_CODES, MAX_CODE_CHARACTERS, OTHER_CODE = 20, 100, "other"

KEPT_MINUTES = 25 * 60  # pages look back one day
MINUTES_PER_DELETE, MAX_DELETES = 60, 30  # of one transaction, and of one call

CURRENT_MINUTE = {  # since 1970
    "postgresql": "CAST(floor(EXTRACT(EPOCH FROM clock_timestamp()) / 60) AS bigint)",
    "sqlite": "CAST(strftime('%s', 'now') AS INTEGER) / 60",
}
ADD_ACTIVITY = """
INSERT INTO activity (minute, worker_id, tenant, pipeline, error_code, jobs, tokens, padded_tokens, device_seconds)
VALUES ({minute}, :worker_id, :tenant, :pipeline, :error_code, :jobs, :tokens, :padded_tokens, :device_seconds)
ON CONFLICT (minute, worker_id, tenant, pipeline, error_code) DO UPDATE SET
    jobs = activity.jobs + excluded.jobs, tokens = activity.tokens + excluded.tokens,
    padded_tokens = activity.padded_tokens + excluded.padded_tokens,
    device_seconds = activity.device_seconds + excluded.device_seconds
"""
HAS_OLD_MINUTES = "EXISTS (SELECT 1 FROM activity WHERE minute < {minute} - {kept})"
SELECT_OLDEST = "SELECT min(minute) AS oldest, {minute} - :kept AS first_kept FROM activity"
DELETE_MINUTES = "DELETE FROM activity WHERE minute < :before"


def add_activity(connection: Connection, works: Iterable[ComputedWork], worker_id: str) -> None:
    """Add the work to the current minute, as the last statement of a transaction."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for work in works:
        succeeded = _counters(rows, work, SUCCEEDED)
        succeeded["jobs"] += work.succeeded
        succeeded["tokens"] += work.tokens
        succeeded["padded_tokens"] += work.padded_tokens
        succeeded["device_seconds"] += work.device_seconds
        for code, jobs in _bound_codes(work.failures).items():
            _counters(rows, work, code)["jobs"] += jobs
    parameters = [
        {"worker_id": worker_id, "tenant": tenant, "pipeline": pipeline, "error_code": code, **counters}
        for (tenant, pipeline, code), counters in sorted(rows.items())
        if any(counters.values())
    ]
    if parameters:
        connection.execute(text(ADD_ACTIVITY.format(minute=CURRENT_MINUTE[connection.dialect.name])), parameters)


def has_old_minutes(dialect: str) -> str:
    """An SQL condition: whether `delete_old_minutes` has something to delete."""
    return HAS_OLD_MINUTES.format(minute=CURRENT_MINUTE[dialect], kept=KEPT_MINUTES)


def delete_old_minutes(database: Database) -> str:
    """Delete the minutes that no page shows any more, the oldest first, a bounded number of them.

    Returns what was done as a sentence, or an empty text.
    """
    query = text(SELECT_OLDEST.format(minute=CURRENT_MINUTE[database.engine.dialect.name]))
    deleted = 0
    for _ in range(MAX_DELETES):
        with database.read() as connection:
            row = connection.execute(query, {"kept": KEPT_MINUTES}).one()
        if row.oldest is None or row.oldest >= row.first_kept:
            break
        before = min(row.oldest + MINUTES_PER_DELETE, row.first_kept)
        with database.write() as connection:
            deleted += connection.execute(text(DELETE_MINUTES), {"before": before}).rowcount
    return f"deleted {format_count(deleted, 'row')} of old minutes" if deleted else ""


def _counters(rows: dict[tuple[str, str, str], dict[str, float]], work: ComputedWork, code: str) -> dict[str, float]:
    empty: dict[str, float] = {"jobs": 0, "tokens": 0, "padded_tokens": 0, "device_seconds": 0.0}
    return rows.setdefault((work.tenant, work.pipeline, code), empty)


def _bound_codes(failures: Iterable[tuple[str, int]]) -> Counter[str]:
    """Count failures by code; the rare ones of many codes count as `other`."""
    counts: Counter[str] = Counter()
    for code, jobs in failures:
        counts[code[:MAX_CODE_CHARACTERS] or OTHER_CODE] += jobs
    frequent = Counter(dict(counts.most_common(MAX_CODES)))
    if rest := counts.total() - frequent.total():
        frequent[OTHER_CODE] += rest
    return frequent
