"""Failed jobs of a batch by error code, counted over a bounded number of them."""

from dataclasses import dataclass

from sqlalchemy import text

from models.db import Database
from producer.batches.pace import FAILURES_HINT

MAX_COUNTED_FAILURES = 10_000

# Invalid rows have no attempt. A batch that fails as a whole gives its jobs none either, so one job of each group is
# looked at: a join with `jobs` would read the batch from its beginning on PostgreSQL.
COUNT_BY_CODE = """
SELECT f.error_code, f.has_attempt, min(f.position) AS position, count(*) AS jobs FROM (
    SELECT r.error_code, CASE WHEN r.attempts > 0 THEN 1 ELSE 0 END AS has_attempt, r.position FROM results r{hint}
    WHERE r.batch_id = :batch_id AND r.status = 'failed' ORDER BY r.position LIMIT :most) AS f
GROUP BY f.error_code, f.has_attempt ORDER BY count(*) DESC, f.error_code
"""
SELECT_INVALID = "SELECT invalid FROM jobs WHERE batch_id = :batch_id AND position = :position"


@dataclass(frozen=True, slots=True)
class CodeCount:
    """Failed jobs with one error code.

    position: of the first of them
    is_invalid: they are rows that could not be jobs, so no retry helps them
    """

    code: str | None
    jobs: int
    position: int
    is_invalid: bool


@dataclass(frozen=True, slots=True)
class FailureCounts:
    """The most frequent codes first.

    is_exact: False if there are more failures than were counted
    """

    codes: tuple[CodeCount, ...]
    is_exact: bool

    @property
    def retryable(self) -> tuple[CodeCount, ...]:
        """The codes of jobs that can run again."""
        return tuple(count for count in self.codes if not count.is_invalid)

    @property
    def invalid(self) -> tuple[CodeCount, ...]:
        """The codes of rows that only a repair helps."""
        return tuple(count for count in self.codes if count.is_invalid)


def count_failures(database: Database, batch_id: str, most: int = MAX_COUNTED_FAILURES) -> FailureCounts:
    """Count the first `most` failed jobs of a batch by code; an unknown batch has none."""
    query = text(COUNT_BY_CODE.format(hint=FAILURES_HINT[database.engine.dialect.name]))
    with database.read() as connection:
        groups = connection.execute(query, {"batch_id": batch_id, "most": most}).all()
        codes = tuple(
            CodeCount(
                group.error_code,
                group.jobs,
                group.position,
                not group.has_attempt
                and bool(connection.scalar(text(SELECT_INVALID), {"batch_id": batch_id, "position": group.position})),
            )
            for group in groups
        )
    return FailureCounts(codes, sum(count.jobs for count in codes) < most)
