"""The audit: nothing lost, nothing twice, recomputed from the rows.

Each batch is read at one moment, in a snapshot, so that it is right while others write.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, text

from models.db import Database, Fragments
from models.errors import NotFound
from producer.batches.workers import MISSED_LEASES
from producer.health import counter_checks, row_checks

PAGE_BATCHES = 500

NEXT = "SELECT id FROM batches WHERE id > :after ORDER BY id LIMIT :most"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a batch; `places` are the first few positions, seqs or slices concerned."""

    batch_id: str
    code: str  # stable
    message: str
    noun: str  # what `places` are
    places: tuple[int, ...]
    count: int | None = None  # of how many in all; None where the message compares numbers
    warning: bool = False  # it may pass by itself: nothing is lost or twice

    def as_dict(self) -> dict[str, Any]:
        """As `batchmill audit --json` prints it."""
        return {
            "batch_id": self.batch_id, "code": self.code, "level": "warning" if self.warning else "problem",
            "message": self.message, "count": self.count, "places": [{self.noun: place} for place in self.places],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audit of one batch found, at one moment."""

    batch_id: str
    jobs: int
    problems: tuple[Problem, ...]

    @property
    def sound(self) -> bool:
        """True when nothing is lost and nothing twice; warnings don't count."""
        return all(problem.warning for problem in self.problems)


def one(database: Database, batch_id: str, lease_seconds: float) -> Audited:
    """Audit one batch; raises NotFound."""
    found = _audited(database, batch_id, lease_seconds)
    if found is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}; see which there are: batchmill ls")
    return found


def every(database: Database, lease_seconds: float) -> Iterator[Audited]:
    """Audit all batches, the oldest first, one after another; one that is deleted meanwhile is passed over."""
    after = ""
    while page := _page(database, after):
        for batch_id in page:
            if found := _audited(database, batch_id, lease_seconds):
                yield found
        after = page[-1]


def _page(database: Database, after: str) -> list[str]:
    with database.read() as connection:
        return list(connection.scalars(text(NEXT), {"after": after, "most": PAGE_BATCHES}))


def _audited(database: Database, batch_id: str, lease_seconds: float) -> Audited | None:
    with database.snapshot() as connection:
        numbers = connection.execute(text(counter_checks.NUMBERS), {"batch_id": batch_id}).one_or_none()
        if numbers is None:
            return None
        problems = [
            *_mismatches(connection, batch_id, numbers),
            *_offenders(connection, database.sql, batch_id, numbers.status, lease_seconds),
        ]
    return Audited(batch_id, numbers.jobs, tuple(problems))


def _mismatches(connection: Connection, batch_id: str, numbers: Row[Any]) -> Iterator[Problem]:
    for found in counter_checks.compared(numbers):
        noun, places = "", ()
        if found.places:
            noun = "position" if found.fault == "positions" else "seq"
            named = {"batch_id": batch_id, "most": row_checks.SHOWN_PLACES}
            places = tuple(connection.scalars(text(found.places), named))
        yield Problem(batch_id, found.fault, found.message, noun, places)


def _offenders(
    connection: Connection, sql: Fragments, batch_id: str, status: str, lease_seconds: float
) -> Iterator[Problem]:
    named = {
        "batch_id": batch_id, "most": row_checks.SHOWN_PLACES, "seconds": -MISSED_LEASES * lease_seconds,
    }  # fmt: skip
    for check in row_checks.CHECKS:
        if status in check.statuses:
            query = row_checks.COUNTED.format(query=check.query.format(later=sql.later))
            yield from _told(batch_id, connection.execute(text(query), named))


def _told(batch_id: str, rows: Iterable[Row[Any]]) -> Iterator[Problem]:
    for code, group in groupby(rows, key=lambda row: row.fault):
        found, fault = list(group), row_checks.FAULTS[code]
        message, places = f"{fault.counted}: {found[0].many:,}", tuple(row.place for row in found)
        yield Problem(batch_id, code, message, fault.noun, places, found[0].many, warning=fault.warning)
