"""The audit recomputes from the rows that no job is lost and none has two results.

Each batch is read in one snapshot, so that the audit is correct while others write.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database, SqlFragments
from models.errors import NotFound
from producer.batches.workers import GONE_AFTER_LEASES
from producer.health import counter_checks, row_checks

PAGE_BATCHES = 500

SELECT_BATCH_IDS = "SELECT id FROM batches WHERE id > :after ORDER BY id LIMIT :limit"


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One problem of a batch.

    place_noun: kind of the places: `position`, `seq` or `slice`
    places: the first few places concerned
    count: number of places in all; None for problems that compare numbers
    is_warning: the problem may resolve itself, and nothing is lost or duplicated
    """

    batch_id: str
    code: str  # stable
    message: str
    place_noun: str
    places: tuple[int, ...]
    count: int | None = None
    is_warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill audit --json` prints."""
        return {
            "batch_id": self.batch_id,
            "code": self.code,
            "level": "warning" if self.is_warning else "problem",
            "message": self.message,
            "count": self.count,
            "locations": [{self.place_noun: place} for place in self.places],
        }


@dataclass(frozen=True, slots=True)
class BatchAudit:
    """The audit's result for one batch at one moment."""

    batch_id: str
    jobs: int
    problems: tuple[AuditProblem, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is lost or duplicated; warnings don't count."""
        return all(problem.is_warning for problem in self.problems)


def audit_batch(database: Database, batch_id: str, lease_seconds: float) -> BatchAudit:
    """Audit one batch; raises NotFound."""
    audit = _audit(database, batch_id, lease_seconds)
    if audit is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}; list the batches: batchmill ls")
    return audit


def audit_all(database: Database, lease_seconds: float) -> Iterator[BatchAudit]:
    """Audit all batches one by one, the oldest first; batches that are deleted meanwhile are skipped."""
    after = ""
    while page := _next_batch_ids(database, after):
        for batch_id in page:
            if audit := _audit(database, batch_id, lease_seconds):
                yield audit
        after = page[-1]


def _next_batch_ids(database: Database, after_id: str) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(text(SELECT_BATCH_IDS), {"after": after_id, "limit": PAGE_BATCHES}))


def _audit(database: Database, batch_id: str, lease_seconds: float) -> BatchAudit | None:
    with database.snapshot() as connection:
        counters = connection.execute(text(counter_checks.SELECT_COUNTERS), {"batch_id": batch_id}).one_or_none()
        if counters is None:
            return None
        problems = [
            *_counter_problems(connection, batch_id, counters),
            *_row_problems(connection, database.sql, batch_id, counters.status, lease_seconds),
        ]
    return BatchAudit(batch_id, counters.jobs, tuple(problems))


def _counter_problems(connection: Connection, batch_id: str, counters: Row[Any]) -> Iterator[AuditProblem]:
    for mismatch in counter_checks.check_counters(counters):
        noun, places = "", ()
        if mismatch.places_query:
            noun = "position" if mismatch.code == "position_mismatch" else "seq"
            params = {"batch_id": batch_id, "limit": row_checks.MAX_PLACES}
            places = tuple(connection.scalars(text(mismatch.places_query), params))
        yield AuditProblem(batch_id, mismatch.code, mismatch.message, noun, places)


def _row_problems(
    connection: Connection, sql: SqlFragments, batch_id: str, status: str, lease_seconds: float
) -> Iterator[AuditProblem]:
    params = {"batch_id": batch_id, "limit": row_checks.MAX_PLACES, "seconds": -GONE_AFTER_LEASES * lease_seconds}
    for check in row_checks.CHECKS:
        if status in check.statuses:
            query = row_checks.COUNT_VIOLATIONS.format(query=check.query.format(later=sql.now_plus_seconds))
            yield from _problems_from_rows(batch_id, connection.execute(text(query), params))


def _problems_from_rows(batch_id: str, rows: Iterable[Row[Any]]) -> Iterator[AuditProblem]:
    for code, group in groupby(rows, key=lambda row: row.fault):
        violation, ranked_rows = row_checks.VIOLATIONS[code], list(group)
        count = ranked_rows[0].count_of_fault
        yield AuditProblem(
            batch_id,
            code,
            f"{violation.description}: {count:,}",
            violation.place_noun,
            tuple(row.place for row in ranked_rows),
            count,
            is_warning=violation.is_warning,
        )
