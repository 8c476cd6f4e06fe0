"""The failures of a batch grouped by code, each with an example; of very many failures, the first ones."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import Boolean, Connection, column, text

from models.db import Database
from models.dialects.fragments import comma_separated
from models.error_catalogue import Explanation, explain
from producer.batches.pace import FAILURES_HINT
from producer.results.summaries.marks import PICK_RESULTS

MAX_COUNTED = 10_000  # failures that are counted by code at once: 20 ms
ALL = 2**62
MAX_GROUPS = 30  # a task of one's own may have any number of codes
MAX_TEXT = 2_000

# Invalid rows have no attempt. A code may stand for such rows and for jobs that ran.
COUNT_BY_CODE = """
SELECT f.error_code, count(*) AS jobs, min(f.position) AS position FROM (
    SELECT error_code, position, CASE WHEN attempts > 0 THEN 1 ELSE 0 END AS has_attempt FROM results{hint}
    WHERE batch_id = :batch_id AND status = 'failed' ORDER BY position LIMIT :most
) AS f GROUP BY f.error_code, f.has_attempt ORDER BY count(*) DESC, f.error_code, f.has_attempt
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
    """The failures with one code, either jobs that ran or rows that could not."""

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

    @property
    def can_retry(self) -> bool:
        """Whether a retry may help some of them, because they are no rows that were invalid when submitted."""
        knows_all = self.is_exact and not self.other_jobs
        return not knows_all or any(not group.example.is_invalid for group in self.groups)

    @property
    def invalid_rows(self) -> int:
        """The rows that only a repair helps, among those that were counted."""
        return sum(group.jobs for group in self.groups if group.example.is_invalid)


def count_failures(database: Database, batch_id: str, total: int, most: int = MAX_COUNTED) -> Failures:
    """Return the failures by code.

    total: the batch's failed jobs
    most: of these the number that is counted
    """
    if not total:
        return Failures((), 0, 0)
    with database.read() as connection:
        query = text(COUNT_BY_CODE.format(hint=FAILURES_HINT[connection.dialect.name]))
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
