"""Pages of rows, forward and backward, by position or the newest first.

A filter without an index looks at a bounded number of candidates. A page that finds too few among them says where it
stopped, so that its reader can go on from there.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from models.db import Database
from producer.batches.pace import FAILURES_HINT
from producer.results.browsing.row_filter import MAX_SCANNED_ROWS, RowFilter
from producer.results.browsing.row_preview import RowPreview, read_previews

CANDIDATES = """
SELECT r.{key} AS place, r.position, r.status, r.error_code, r.output, r.guards FROM results r{hint}
WHERE r.batch_id = :batch_id{bound}{of_failures} ORDER BY r.{key} {direction} LIMIT :scanned
"""

SELECT_MATCHES = """
SELECT c.place, c.position FROM ({candidates}) AS c WHERE c.position >= 0{conditions}
ORDER BY c.place {direction} LIMIT :limit
"""

SELECT_LAST_CANDIDATE = """
SELECT r.{key} FROM results r{hint} WHERE r.batch_id = :batch_id{bound}{of_failures}
ORDER BY r.{key} {direction} LIMIT 1 OFFSET :scanned - 1
"""

# Jobs without a result are in slices that are not done; those before the first of them need no look.
SELECT_FIRST_OPEN_POSITION = """
SELECT start_position FROM slices
WHERE batch_id = :batch_id AND state <> 'done' AND start_position + size - 1 > :place ORDER BY start_position LIMIT 1
"""

# Both sides are bounded, or PostgreSQL reads the batch from its beginning.
SELECT_UNANSWERED = """
SELECT j.position FROM jobs j
WHERE j.batch_id = :batch_id AND j.position > :place AND j.position <= :last AND NOT EXISTS (
    SELECT 1 FROM results r WHERE r.batch_id = :batch_id AND r.position = j.position
      AND r.position > :place AND r.position <= :last)
ORDER BY j.position LIMIT :limit
"""

SELECT_LAST_JOB = "SELECT max(position) FROM jobs WHERE batch_id = :batch_id"

# The sign excludes the primary key: SQLite would read the whole batch in its order.
SELECT_BY_CUSTOM_ID = (
    "SELECT position FROM jobs WHERE batch_id = :batch_id AND custom_id = :custom_id ORDER BY +position LIMIT :limit"
)


class Order(StrEnum):
    """The order of rows."""

    POSITION = "position"  # as in the source
    NEWEST = "newest"  # the last result first


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    place: a position, or the seq of a result if the newest come first; None = at the first row
    is_backward: the page ends before that place, instead of beginning after it
    """

    order: Order = Order.POSITION
    place: int | None = None
    is_backward: bool = False

    @property
    def key(self) -> str:
        """The column of the places."""
        return "position" if self.order is Order.POSITION else "seq"

    @property
    def is_ascending(self) -> bool:
        """Whether the query reads greater places next."""
        return (self.order is Order.POSITION) is not self.is_backward


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows in their order.

    next_place, previous_place: where the pages after and before it begin; None = there is none
    is_cut: the search stopped before the page was full; it goes on there
    """

    rows: tuple[RowPreview, ...]
    next_place: int | None = None
    previous_place: int | None = None
    is_cut: bool = False


def find_rows(database: Database, batch_id: str, row_filter: RowFilter, cursor: Cursor, limit: int) -> RowPage:
    """Return a page of at most `limit` rows of a batch; an unknown batch has none."""
    with database.read() as connection:
        if row_filter.is_unanswered:
            return _find_unanswered(database, connection, batch_id, cursor, limit)
        matches, stopped_at = _find_matches(connection, batch_id, row_filter, cursor, limit)
        page, has_more = matches[:limit], len(matches) > limit
        far_place = page[-1][0] if has_more else stopped_at
        near_place = page[0][0] if page else cursor.place
        if cursor.place is None:
            near_place = None
        positions = [position for _, position in page]
        rows = tuple(read_previews(database, connection, batch_id, positions))
    if cursor.is_backward:
        return RowPage(rows[::-1], near_place, far_place, is_cut=not has_more and stopped_at is not None)
    return RowPage(rows, far_place, near_place, is_cut=not has_more and stopped_at is not None)


def find_by_custom_id(database: Database, batch_id: str, custom_id: str, limit: int) -> RowPage:
    """Return the rows with this custom_id: one, and invalid rows that repeat it."""
    params = {"batch_id": batch_id, "custom_id": custom_id, "limit": limit}
    with database.read() as connection:
        positions = list(connection.scalars(text(SELECT_BY_CUSTOM_ID), params))
        return RowPage(tuple(read_previews(database, connection, batch_id, positions)))


def _find_matches(
    connection: Connection, batch_id: str, row_filter: RowFilter, cursor: Cursor, limit: int
) -> tuple[list[tuple[int, int]], int | None]:
    """Return (place, position) of at most one match more than `limit`, and where the search stopped too early."""
    dialect = connection.dialect.name
    by_failures = row_filter.is_of_failures and cursor.key == "position"
    every_one_matches = row_filter.scanned_rows is None or (by_failures and list(row_filter.params) == ["outcome"])
    scanned = limit + 1 if every_one_matches or row_filter.scanned_rows is None else row_filter.scanned_rows
    parts = {
        "key": cursor.key,
        "hint": FAILURES_HINT[dialect] if by_failures else "",
        "bound": "" if cursor.place is None else f" AND r.{cursor.key} {'>' if cursor.is_ascending else '<'} :place",
        "of_failures": " AND r.status = 'failed'" if by_failures else "",
        "direction": "ASC" if cursor.is_ascending else "DESC",
    }
    params: dict[str, Any] = {"batch_id": batch_id, "scanned": scanned, **row_filter.params}
    if cursor.place is not None:
        params["place"] = cursor.place
    query = SELECT_MATCHES.format(
        candidates=CANDIDATES.format(**parts), conditions=row_filter.conditions(dialect), direction=parts["direction"]
    )
    rows = connection.execute(text(query), {**params, "limit": limit + 1})
    matches = [(place, position) for place, position in rows]
    if len(matches) > limit or every_one_matches:
        return matches, None
    stopped_at: int | None = connection.scalar(text(SELECT_LAST_CANDIDATE.format(**parts)), params)
    return matches, stopped_at


def _find_unanswered(database: Database, connection: Connection, batch_id: str, cursor: Cursor, limit: int) -> RowPage:
    place = -1 if cursor.place is None else cursor.place
    params: dict[str, Any] = {"batch_id": batch_id, "place": place}
    first_open = connection.scalar(text(SELECT_FIRST_OPEN_POSITION), params)
    start = place if first_open is None else max(place, first_open - 1)
    window = {"batch_id": batch_id, "place": start, "last": start + MAX_SCANNED_ROWS, "limit": limit + 1}
    positions = list(connection.scalars(text(SELECT_UNANSWERED), window))
    rows = tuple(read_previews(database, connection, batch_id, positions[:limit]))
    if len(positions) > limit:
        return RowPage(rows, next_place=positions[limit - 1])
    last_job = connection.scalar(text(SELECT_LAST_JOB), {"batch_id": batch_id})
    if last_job is not None and window["last"] < last_job and first_open is not None:
        return RowPage(rows, next_place=int(window["last"]), is_cut=True)
    return RowPage(rows)
