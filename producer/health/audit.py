"""The audit: nothing lost, nothing twice, recomputed from the rows.

Each batch is read at one moment, in a snapshot, so that it is right while others write.
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

SELECT_BATCH_IDS = "SELECT id FROM batches WHERE id > :after ORDER BY id LIMIT :most"


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """One thing that is wrong with a batch; `places` are the first few positions, seqs or slices concerned."""

    batch_id: str
    code: str  # stable
    message: str
    place_noun: str  # what `places` are
    places: tuple[int, ...]
    count: int | None = None  # of how many in all; None where the message compares numbers
    is_warning: bool = False  # it may pass by itself: nothing is lost or twice

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill audit --json` prints it."""
        return {
            "batch_id": self.batch_id,
            "code": self.code,
            "level": "warning" if self.is_warning else "problem",
            "message": self.message,
            "count": self.count,
            "places": [{self.place_noun: place} for place in self.places],
        }


@dataclass(frozen=True, slots=True)
class BatchAudit:
    """What the audit of one batch found, at one moment."""

    batch_id: str
    jobs: int
    problems: tuple[AuditProblem, ...]

    @property
    def is_sound(self) -> bool:
        """True when nothing is lost and nothing twice; warnings don't count."""
        return all(problem.is_warning for problem in self.problems)


def audit_batch(database: Database, batch_id: str, lease_seconds: float) -> BatchAudit:
    """Audit one batch; raises NotFound."""
    found = _audit(database, batch_id, lease_seconds)
    if found is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}; see which there are: batchmill ls")
    return found


def audit_all(database: Database, lease_seconds: float) -> Iterator[BatchAudit]:
    """Audit all batches, the oldest first, one after another; one that is deleted meanwhile is passed over."""
    after = ""
    while page := _next_batch_ids(database, after):
        for batch_id in page:
            if found := _audit(database, batch_id, lease_seconds):
                yield found
        after = page[-1]


def _next_batch_ids(database: Database, after_id: str) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(text(SELECT_BATCH_IDS), {"after": after_id, "most": PAGE_BATCHES}))


def _audit(database: Database, batch_id: str, lease_seconds: float) -> BatchAudit | None:
    with database.snapshot() as connection:
        numbers = connection.execute(text(counter_checks.SELECT_COUNTERS), {"batch_id": batch_id}).one_or_none()
        if numbers is None:
            return None
        problems = [
            *_counter_problems(connection, batch_id, numbers),
            *_row_problems(connection, database.sql, batch_id, numbers.status, lease_seconds),
        ]
    return BatchAudit(batch_id, numbers.jobs, tuple(problems))


def _counter_problems(connection: Connection, batch_id: str, counters: Row[Any]) -> Iterator[AuditProblem]:
    for found in counter_checks.check_counters(counters):
        noun, places = "", ()
        if found.places_query:
            noun = "position" if found.code == "positions" else "seq"
            named = {"batch_id": batch_id, "most": row_checks.MAX_PLACES}
            places = tuple(connection.scalars(text(found.places_query), named))
        yield AuditProblem(batch_id, found.code, found.message, noun, places)


def _row_problems(
    connection: Connection, sql: SqlFragments, batch_id: str, status: str, lease_seconds: float
) -> Iterator[AuditProblem]:
    named = {"batch_id": batch_id, "most": row_checks.MAX_PLACES, "seconds": -GONE_AFTER_LEASES * lease_seconds}
    for check in row_checks.CHECKS:
        if status in check.statuses:
            query = row_checks.COUNT_VIOLATIONS.format(query=check.query.format(later=sql.now_plus_seconds))
            yield from _problems_from_rows(batch_id, connection.execute(text(query), named))


def _problems_from_rows(batch_id: str, rows: Iterable[Row[Any]]) -> Iterator[AuditProblem]:
    for code, group in groupby(rows, key=lambda row: row.fault):
        found, fault = list(group), row_checks.VIOLATIONS[code]
        message, places = f"{fault.description}: {found[0].many:,}", tuple(row.place for row in found)
        yield AuditProblem(
            batch_id, code, message, fault.place_noun, places, found[0].many, is_warning=fault.is_warning
        )
