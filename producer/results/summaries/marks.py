"""Marks: some results of a batch at equal distances in the order of arrival, found by index whatever its size."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import TextualSelect, column, text

from models.db import Database
from models.dialects.columns import UtcDateTime
from models.dialects.fragments import comma_separated

MARKS = 60
RECENT_MARKS = 24
RECENT_SECONDS = 120.0  # the time over which an estimate of the rest looks back

# The first result at each number or after it: numbers have gaps where a retry withdrew results.
SELECT_MARKS = {
    "postgresql": """
SELECT r.seq, r.finished_at, r.slice_id IS NOT NULL AS is_worked
FROM unnest(CAST('{' || :numbers || '}' AS bigint[])) AS n (seq) CROSS JOIN LATERAL (
    SELECT seq, finished_at, slice_id FROM results WHERE batch_id = :batch_id AND seq >= n.seq ORDER BY seq LIMIT 1
) AS r ORDER BY r.seq
""",
    "sqlite": """
SELECT r.seq, r.finished_at, r.slice_id IS NOT NULL AS is_worked
FROM json_each('[' || :numbers || ']') AS n CROSS JOIN results r
WHERE r.batch_id = :batch_id
  AND r.seq = (SELECT min(f.seq) FROM results f WHERE f.batch_id = :batch_id AND f.seq >= n.value) ORDER BY r.seq
""",
}

# Both ends by index, and the first claim among the slices, of which there is one for a thousand jobs.
SELECT_ENDS = """
SELECT (SELECT min(seq) FROM results WHERE batch_id = :batch_id) AS first_seq,
       (SELECT max(seq) FROM results WHERE batch_id = :batch_id) AS last_seq,
       (SELECT min(first_claimed_at) FROM slices WHERE batch_id = :batch_id) AS began_at
"""


# The results with one of :numbers in a column with a unique index, as `r`. A look-up for each, because PostgreSQL may
# otherwise read all results of the batch and compare each with all numbers.
PICK_RESULTS = {
    "postgresql": """
unnest(CAST(string_to_array(:numbers, ',') AS bigint[])) AS n (value) CROSS JOIN LATERAL (
    SELECT * FROM results f WHERE f.batch_id = :batch_id AND f.{column} = n.value LIMIT 1) AS r""",
    "sqlite": """
json_each('[' || :numbers || ']') AS n CROSS JOIN results r ON r.batch_id = :batch_id AND r.{column} = n.value""",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """One result by its place in the order of arrival.

    is_worked: whether a worker computed it; others were reused, invalid, or closed with their batch
    """

    seq: int
    finished_at: datetime
    is_worked: bool = True


@dataclass(frozen=True, slots=True)
class Marks:
    """Marks over all results, and more of them over the last two minutes.

    began_at: when a worker first claimed jobs; None before
    """

    began_at: datetime | None
    all: tuple[Mark, ...]
    recent: tuple[Mark, ...] = ()


def read_marks(database: Database, batch_id: str, *, with_recent: bool = False) -> Marks:
    """Read the marks of a batch."""
    typed = text(SELECT_ENDS).columns(column("first_seq"), column("last_seq"), column("began_at", UtcDateTime))
    with database.read() as connection:
        ends = connection.execute(typed, {"batch_id": batch_id}).one()
    if ends.last_seq is None:
        return Marks(ends.began_at, ())
    marks = _find(database, batch_id, spread(ends.first_seq, ends.last_seq, MARKS))
    if not with_recent or not marks:
        return Marks(ends.began_at, marks)
    start = seq_at(marks, marks[-1].finished_at - timedelta(seconds=RECENT_SECONDS))
    return Marks(ends.began_at, marks, _find(database, batch_id, spread(start, ends.last_seq, RECENT_MARKS)))


def spread(first: int, last: int, number: int) -> list[int]:
    """Return at most `number` whole numbers at equal distances, with both ends. Pure."""
    if last - first < number:
        return list(range(first, last + 1))
    return [first + (last - first) * place // (number - 1) for place in range(number)]


def seq_at(marks: tuple[Mark, ...], moment: datetime) -> int:
    """Return about the number of results at a time, between the marks around it. Pure."""
    before = marks[0]
    for mark in marks:
        if mark.finished_at > moment:
            span = (mark.finished_at - before.finished_at).total_seconds()
            share = (moment - before.finished_at).total_seconds() / span if span > 0 else 0.0
            return before.seq + int((mark.seq - before.seq) * min(1.0, max(0.0, share)))
        before = mark
    return before.seq


def _find(database: Database, batch_id: str, numbers: Iterable[int]) -> tuple[Mark, ...]:
    params = {"batch_id": batch_id, "numbers": comma_separated(numbers)}
    with database.read() as connection:
        rows = connection.execute(_typed(SELECT_MARKS[connection.dialect.name]), params).all()
    # Two numbers in one gap find the same result.
    by_seq = {row.seq: Mark(row.seq, row.finished_at, bool(row.is_worked)) for row in rows}
    return tuple(by_seq.values())


def _typed(query: str) -> TextualSelect:
    return text(query).columns(column("seq"), column("finished_at", UtcDateTime), column("is_worked"))
