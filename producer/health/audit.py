"""The audit recomputes from the rows that no job is lost and none has two results.

Each batch is read in one snapshot, so that the audit is correct while others write.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from sqlalchemy import Connection, Row, TextClause, bindparam, text

from models import vectors
from models.db import Database
from models.dialects.fragments import SqlFragments
from models.errors import NotFound
from producer.advice import LIST_BATCHES
from producer.health import counter_checks, row_checks
from producer.workers.workers import GONE_AFTER_LEASES

PAGE_BATCHES = 10_000  # ids read at once
GROUP_BATCHES, GROUP_JOBS = 500, 100_000  # audited at once

# PostgreSQL keeps no statistics on batch ids (decision 14), so it would scan whole tables for a group of small batches.
# Starting parallel processes takes longer than reading such a group.
SMALL_BATCH_SETTINGS = ("SET LOCAL enable_seqscan = off", "SET LOCAL max_parallel_workers_per_gather = 0")

SELECT_BATCH_IDS = "SELECT id, total FROM batches WHERE id > :after ORDER BY id LIMIT :limit"


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


class AuditSummary:
    """The number of batches and jobs, and the problems of unsound batches."""

    def __init__(self, audits: Iterable[BatchAudit]) -> None:
        self.batches = self.jobs = 0
        self.problems: list[AuditProblem] = []
        for batch_audit in audits:
            self.batches += 1
            self.jobs += batch_audit.jobs
            self.problems += batch_audit.problems
        self.unsound = sum(not problem.is_warning for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `batchmill audit --json` prints."""
        return {
            "object": "audit",
            "batches": self.batches,
            "jobs": self.jobs,
            "sound": not self.unsound,
            "problems": [problem.as_dict() for problem in self.problems],
        }


def audit_batch(database: Database, batch_id: str, lease_seconds: float) -> BatchAudit:
    """Audit one batch; raises NotFound."""
    audits = _audit(database, [batch_id], lease_seconds)
    if not audits:
        raise NotFound(f"there is no batch {batch_id[:80]!r}; " + LIST_BATCHES)
    return audits[0]


def audit_all(database: Database, lease_seconds: float) -> Iterator[BatchAudit]:
    """Audit all batches, the oldest first, many small ones at once; batches deleted meanwhile are skipped."""
    after = ""
    while page := _next_batch_ids(database, after):
        for group in group_batches(page):
            yield from _audit(database, group, lease_seconds)
        after = page[-1][0]


def count_batches(database: Database) -> int:
    """Return how many batches `audit_all` has before it."""
    with database.read() as connection:
        return connection.scalar(text("SELECT count(*) FROM batches")) or 0


def group_batches(batches: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Yield groups of batches, given by id and number of jobs, that are audited in one snapshot. Pure.

    A group ends at GROUP_BATCHES batches or GROUP_JOBS jobs, so that no query holds too much and progress is shown.
    """
    group: list[str] = []
    jobs = 0
    for batch_id, total in batches:
        if group and (len(group) == GROUP_BATCHES or jobs + total > GROUP_JOBS):
            yield group
            group, jobs = [], 0
        group.append(batch_id)
        jobs += total
    if group:
        yield group


def _next_batch_ids(database: Database, after_id: str) -> list[tuple[str, int]]:
    with database.read() as connection:
        rows = connection.execute(text(SELECT_BATCH_IDS), {"after": after_id, "limit": PAGE_BATCHES})
        return [(row.id, row.total) for row in rows]


def _audit(database: Database, batch_ids: list[str], lease_seconds: float) -> list[BatchAudit]:
    """Audit these batches in one snapshot; those that do not exist are left out."""
    with database.snapshot() as connection:
        if len(batch_ids) > 1 and connection.dialect.name == "postgresql":
            for setting in SMALL_BATCH_SETTINGS:
                connection.execute(text(setting))
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            driver.create_function("is_valid_vector", 1, vectors.is_valid, deterministic=True)
        batches = connection.execute(_query(counter_checks.SELECT_COUNTERS), {"batch_ids": batch_ids}).all()
        problems: dict[str, list[AuditProblem]] = {
            counters.id: list(_counter_problems(connection, counters)) for counters in batches
        }
        for problem in chain(
            _guard_problems(connection, batches), _row_problems(connection, database.sql, batches, lease_seconds)
        ):
            problems[problem.batch_id].append(problem)
    return [BatchAudit(counters.id, counters.jobs, tuple(problems[counters.id])) for counters in batches]


def _query(query: str) -> TextClause:
    return text(query).bindparams(bindparam("batch_ids", expanding=True))


def _counter_problems(connection: Connection, counters: Row[Any]) -> Iterator[AuditProblem]:
    for mismatch in counter_checks.check_counters(counters):
        noun, places = "", ()
        if mismatch.places_query:
            noun = "position" if mismatch.code == "position_mismatch" else "seq"
            params = {"batch_id": counters.id, "limit": row_checks.MAX_PLACES}
            places = tuple(connection.scalars(text(mismatch.places_query), params))
        yield AuditProblem(counters.id, mismatch.code, mismatch.message, noun, places)


def _guard_problems(connection: Connection, batches: Sequence[Row[Any]]) -> Iterator[AuditProblem]:
    batch_ids = [
        counters.id
        for counters in batches
        if counters.guarded and counters.status not in counter_checks.UNCHECKED_STATUSES
    ]
    if batch_ids:
        query = _query(counter_checks.guard_mismatches_query(connection.dialect.name))
        for row in connection.execute(query, {"batch_ids": batch_ids}):
            mismatch = counter_checks.describe_guard_mismatch(row)
            yield AuditProblem(row.batch_id, mismatch.code, mismatch.message, "", ())


def _row_problems(
    connection: Connection, sql: SqlFragments, batches: Sequence[Row[Any]], lease_seconds: float
) -> Iterator[AuditProblem]:
    params = {"limit": row_checks.MAX_PLACES, "seconds": -GONE_AFTER_LEASES * lease_seconds}
    for check in row_checks.CHECKS:
        batch_ids = [
            counters.id
            for counters in batches
            if counters.status in check.statuses
            and (counters.guarded or not check.guarded_only)
            and (counters.vectors or not check.vectors_only)
            and (counters.origins or not check.origins_only)
        ]
        if batch_ids:
            violations = row_checks.format_query(check, connection.dialect.name, sql.now_plus_seconds)
            query = row_checks.COUNT_VIOLATIONS.format(query=violations)
            yield from _problems_from_rows(connection.execute(_query(query), {**params, "batch_ids": batch_ids}))


def _problems_from_rows(rows: Iterable[Row[Any]]) -> Iterator[AuditProblem]:
    for (batch_id, code), group in groupby(rows, key=lambda row: (row.batch_id, row.fault)):
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
