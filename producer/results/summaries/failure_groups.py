"""The failures of a batch grouped by code, each with an example; of very many failures, the first ones."""

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Boolean, Connection, column, text

from models.db import Database, comma_separated
from models.error_catalogue import Explanation, explain
from models.errors import NotFound
from producer.results.summaries.marks import PICK_RESULTS

MAX_COUNTED = 10_000  # failures that are counted by code at once: 20 ms
ALL = 2**62
MAX_GROUPS = 30  # a task of one's own may have any number of codes
MAX_TEXT = 2_000
MAX_CACHED = 64

# SQLite would scan all results of the batch instead of the failed ones.
HINT = {"postgresql": "", "sqlite": " INDEXED BY results_failed"}

COUNT_BY_CODE = """
SELECT f.error_code, count(*) AS jobs, min(f.position) AS position FROM (
    SELECT error_code, position FROM results{hint} WHERE batch_id = :batch_id AND status = 'failed'
    ORDER BY position LIMIT :most
) AS f GROUP BY f.error_code ORDER BY count(*) DESC, f.error_code
"""

SELECT_EXAMPLES = """
SELECT r.position, r.error_code, j.custom_id, substr(CAST(j.input AS TEXT), 1, :most) AS input,
       substr(r.error_message, 1, :most) AS error_message, j.invalid AS is_invalid
FROM {results} JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
"""


class FailureExample(NamedTuple):
    """One failed job; texts are cut after 2,000 characters.

    is_invalid: it never ran, because the row could not become a job
    """

    position: int
    custom_id: str | None
    input_text: str
    message: str
    is_invalid: bool


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The failures with one code."""

    code: str
    jobs: int
    example: FailureExample
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Failures:
    """The failures of a batch by code, the most frequent first.

    counted: the failures that were counted, the first by position
    total: all failures
    other_jobs: the failures of further codes
    """

    groups: tuple[FailureGroup, ...]
    counted: int
    total: int
    other_jobs: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether all failures were counted; otherwise each number is a least one."""
        return self.counted >= self.total


class FailureCache:
    """The exact numbers of batches with many failures, which take seconds to count; as long as nothing changes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: OrderedDict[tuple[str, str], tuple[int, Failures]] = OrderedDict()

    def count(self, database: Database, batch_id: str, total: int, last_seq: int) -> Failures:
        """Return the failures by code, all of them counted.

        total: the batch's failed jobs
        last_seq: of its newest result; a retry that withdraws failures changes `total`
        """
        key, state = (database.url, batch_id), hash((total, last_seq))
        with self._lock:
            known = self._entries.get(key)
        if known is None or known[0] != state:  # counted without the lock, which others need for their batches
            known = (state, count_failures(database, batch_id, total, ALL))
        with self._lock:
            self._entries[key] = known
            self._entries.move_to_end(key)
            if len(self._entries) > MAX_CACHED:
                self._entries.popitem(last=False)
        return known[1]


def count_failures(database: Database, batch_id: str, total: int, most: int = MAX_COUNTED) -> Failures:
    """Return the failures by code.

    total: the batch's failed jobs
    most: of these the number that is counted
    """
    if not total:
        return Failures((), 0, 0)
    with database.read() as connection:
        query = text(COUNT_BY_CODE.format(hint=HINT[connection.dialect.name]))
        rows = connection.execute(query, {"batch_id": batch_id, "most": most}).all()
        shown = rows[:MAX_GROUPS]
        examples = _read_examples(connection, batch_id, [row.position for row in shown])
    groups = tuple(
        FailureGroup(row.error_code or "unknown", row.jobs, examples[row.position], explain(row.error_code))
        for row in shown
        if row.position in examples
    )
    counted = sum(row.jobs for row in rows)
    found = Failures(groups, counted, total, sum(row.jobs for row in rows[MAX_GROUPS:]))
    return replace(found, total=counted) if most == ALL or counted < most else found


def find_last_seq(database: Database, batch_id: str) -> int:
    """Return the `seq` of a batch's newest result; raises NotFound."""
    with database.read() as connection:
        last_seq: int | None = connection.scalar(
            text("SELECT last_seq FROM batches WHERE id = :batch_id"), {"batch_id": batch_id}
        )
    if last_seq is None:
        raise NotFound(f"there is no batch {batch_id[:80]!r}")
    return last_seq


def _read_examples(connection: Connection, batch_id: str, positions: list[int]) -> dict[int, FailureExample]:
    results = PICK_RESULTS[connection.dialect.name].format(column="position")
    query = text(SELECT_EXAMPLES.format(results=results))
    typed = query.columns(
        *(column(name) for name in ("position", "error_code", "custom_id", "input", "error_message")),
        column("is_invalid", Boolean),
    )
    params = {"batch_id": batch_id, "numbers": comma_separated(positions), "most": MAX_TEXT}
    return {
        row.position: FailureExample(
            row.position, row.custom_id, row.input, row.error_message or "", bool(row.is_invalid)
        )
        for row in connection.execute(typed, params)
    }
