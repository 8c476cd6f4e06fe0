"""Pages of results, in the order in which they landed or by position."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic

from sqlalchemy import TextClause, text

from models.db import Database
from models.dialects.row_stream import stream_rows
from models.states import JobOutcome
from producer.batches import views
from producer.batches.pace import FAILURES_HINT
from producer.results.json_lines import JSON, JSON_WITHOUT_FOLDERS, JsonResult
from producer.results.result_columns import COLUMNS, Row, RowShape
from producer.results.result_row import ResultRow

# A page is in memory at once; it has fewer rows where rows are large.
PAGE_ROWS = 1000
PAGE_CHARACTERS = 8 * 2**20  # of documents
FETCH_ROWS = 32  # rows that the server sends at once, which may all be large

# The view's tables instead of the view: a page by position must state its start for `jobs` too. Otherwise PostgreSQL
# merges the two from the beginning of the batch (200 ms in the middle of a million jobs, instead of 1 ms).
SELECT_RESULTS = """
SELECT {columns} FROM results r{hint}
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
LEFT JOIN model_versions m ON m.id = r.model_version_id
WHERE r.batch_id = :batch_id{filters}
"""

# `seq` is the order of commits within the batch: later results have a greater one, so a cursor never misses a row.
AFTER_SEQ = " AND r.seq > :cursor"
ORDER_BY_SEQ = "ORDER BY r.seq LIMIT :limit"

# `+ 0` excludes the index on `seq`: reading and sorting it for each page would make an export quadratic.
AFTER_POSITION = " AND r.position > :cursor AND j.position > :cursor AND r.seq + 0 > :after"
ORDER_BY_POSITION = "ORDER BY r.position LIMIT :limit"


COUNT_FAILURES = """
SELECT r.error_code, count(*) FROM results r{hint} WHERE r.batch_id = :batch_id AND r.status = 'failed'
GROUP BY r.error_code ORDER BY count(*) DESC, r.error_code
"""


def iter_results(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None, statuses: Sequence[JobOutcome] = ()
) -> Iterator[ResultRow]:
    """Yield the results that landed after `after_seq`, in that order; raises NotFound.

    limit: maximum number of rows; None = all
    statuses: only results with one of these; empty = all

    Each page is read in a separate transaction, so a slow reader blocks nothing.
    """
    views.get_batch(database, batch_id)
    for page in iter_pages(database, batch_id, after_seq, limit, statuses):
        yield from page


def fetch_page(
    database: Database,
    batch_id: str,
    after_seq: int,
    limit: int,
    statuses: Sequence[JobOutcome] = (),
    max_characters: int | None = None,
    *,
    hides_folders: bool = False,
) -> tuple[list[JsonResult], bool]:
    """Return the first of the same results as JSON, and whether there are more.

    limit: maximum number of rows
    max_characters: of the JSON; the page ends with the 32 rows that reach it; None = PAGE_CHARACTERS
    hides_folders: see `without_folders`
    """
    shape = JSON_WITHOUT_FOLDERS if hides_folders else JSON
    query = _by_seq_query(database.engine.dialect.name, shape, statuses)
    params: dict[str, Any] = {"batch_id": batch_id, "cursor": after_seq}
    page = _fetch_page(database, query, shape, limit=limit + 1, max_characters=max_characters, **params)
    return page.rows[:limit], not page.is_last or len(page.rows) > limit


def fetch_failed_page(
    database: Database,
    batch_id: str,
    after_position: int,
    limit: int,
    error_code: str | None = None,
    *,
    hides_folders: bool = False,
) -> tuple[list[JsonResult], bool]:
    """Return failed jobs after a position in the order of the source as JSON, and whether there are more.

    error_code: only failures with this code; None = all
    hides_folders: see `without_folders`
    """
    shape = JSON_WITHOUT_FOLDERS if hides_folders else JSON
    query = _by_position_query(
        database.engine.dialect.name, shape, (JobOutcome.FAILED,), has_code=error_code is not None
    )
    params: dict[str, Any] = {"batch_id": batch_id, "cursor": after_position, "after": 0, "code": error_code}
    page = _fetch_page(database, query, shape, **params, limit=limit + 1)
    return page.rows[:limit], not page.is_last or len(page.rows) > limit


def count_failures(database: Database, batch_id: str) -> dict[str, int]:
    """Return how many jobs failed with which code, the most frequent first."""
    hint = FAILURES_HINT[database.engine.dialect.name]
    with database.read() as connection:
        rows = connection.execute(text(COUNT_FAILURES.format(hint=hint)), {"batch_id": batch_id})
        return {code or "unknown": count for code, count in rows}


def iter_pages(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None, statuses: Sequence[JobOutcome] = ()
) -> Iterator[list[ResultRow]]:
    """Yield the same results in pages that are never empty; none for an unknown batch."""
    query = _by_seq_query(database.engine.dialect.name, COLUMNS, statuses)
    for page in _iter_pages(database, query, {"batch_id": batch_id, "cursor": after_seq}, "seq", limit):
        if page.rows:
            yield page.rows


def iter_by_position(
    database: Database,
    batch_id: str,
    after_seq: int = 0,
    statuses: Sequence[JobOutcome] = (),
    error_code: str | None = None,
    limit: int | None = None,
) -> Iterator[ResultRow]:
    """Yield the results in the order of the source; raises NotFound, also when the batch is deleted meanwhile.

    after_seq: only results that landed after it; 0 = all
    statuses: only results with one of these; empty = all
    error_code: only failures with this code; None = all
    limit: maximum number of rows; None = all
    """
    views.check_not_deleting(views.get_batch(database, batch_id))
    query = _by_position_query(database.engine.dialect.name, COLUMNS, statuses, has_code=error_code is not None)
    params = {"batch_id": batch_id, "cursor": -1, "after": after_seq, "code": error_code}
    for page in _iter_pages(database, query, params, "position", limit):
        yield from page.rows
    views.check_not_deleting(views.get_batch(database, batch_id))


def pages_by_position(
    database: Database, batch_id: str, after_position: int, statuses: Sequence[JobOutcome]
) -> Iterator[list[ResultRow]]:
    """Yield the results after a position in the order of the source, in pages that are never empty.

    statuses: only results with one of these; empty = all
    """
    query = _by_position_query(database.engine.dialect.name, COLUMNS, statuses, has_code=False)
    params = {"batch_id": batch_id, "cursor": after_position, "after": 0, "code": None}
    for page in _iter_pages(database, query, params, "position", None):
        if page.rows:
            yield page.rows


def iter_failed(
    database: Database, batch_id: str, error_code: str | None = None, limit: int | None = None
) -> Iterator[ResultRow]:
    """Yield the failed jobs in the order of the source, as `iter_by_position` does."""
    return iter_by_position(database, batch_id, 0, (JobOutcome.FAILED,), error_code, limit)


def fetch_page_by_position(database: Database, batch_id: str, after_position: int) -> list[ResultRow]:
    """Return at most a page of rows after the position `after_position`."""
    return _fetch_at(database, batch_id, after_position, PAGE_ROWS)


def first_success(database: Database, batch_id: str) -> ResultRow | None:
    """Return the first result with an output, whose structure decides the columns; None when no job has succeeded."""
    query = _by_seq_query(database.engine.dialect.name, COLUMNS, [JobOutcome.SUCCEEDED])
    rows = _fetch_page(database, query, COLUMNS, batch_id=batch_id, cursor=0, limit=1).rows
    return rows[0] if rows else None


def fetch_at_positions(database: Database, batch_id: str, positions: Iterable[int]) -> list[ResultRow]:
    """Return the results at single positions, such as a sample; positions without a result are skipped."""
    return [row for position in positions for row in _fetch_at(database, batch_id, position - 1, 1)]


def _fetch_at(database: Database, batch_id: str, after_position: int, limit: int) -> list[ResultRow]:
    query = _by_position_query(database.engine.dialect.name, COLUMNS, (), has_code=False)
    return _fetch_page(database, query, COLUMNS, batch_id=batch_id, cursor=after_position, after=0, limit=limit).rows


@dataclass(frozen=True, slots=True)
class _Page(Generic[Row]):
    """Rows, the length of their documents, and whether the query has no more of them."""

    rows: list[Row]
    length: int
    is_last: bool


def _iter_pages(
    database: Database, query: TextClause, params: dict[str, Any], cursor_field: str, limit: int | None
) -> Iterator[_Page[ResultRow]]:
    """Yield pages until the last, at most `limit` rows in all; `cursor_field` of a page's last row begins the next."""
    rows_left, page_rows = limit, PAGE_ROWS
    while rows_left is None or rows_left > 0:
        page = _fetch_page(
            database, query, COLUMNS, **params, limit=page_rows if rows_left is None else min(rows_left, page_rows)
        )
        yield page
        if page.is_last:
            return
        params = {**params, "cursor": getattr(page.rows[-1], cursor_field)}
        rows_left = None if rows_left is None else rows_left - len(page.rows)
        # As many rows as fill a page if they are like these: PostgreSQL logs each query that is broken off as an error.
        page_rows = min(PAGE_ROWS, -(-len(page.rows) * PAGE_CHARACTERS // page.length))


def _fetch_page(
    database: Database,
    query: TextClause,
    shape: RowShape[Row],
    *,
    limit: int,
    max_characters: int | None = None,
    **params: Any,
) -> _Page[Row]:
    rows: list[Row] = []
    length = 0
    make_row = shape.make_row[database.engine.dialect.name]
    with (
        database.read() as connection,
        connection.begin(),
        closing(stream_rows(connection, query, {**params, "limit": limit}, FETCH_ROWS)) as fetched,
    ):
        for raw_rows in fetched:
            rows += map(make_row, raw_rows)
            length += sum(row.documents_length for row in rows[-len(raw_rows) :])
            if length > (max_characters or PAGE_CHARACTERS) and len(rows) < limit:
                return _Page(rows, length, is_last=False)
    return _Page(rows, length, is_last=len(rows) < limit)


def _by_seq_query(dialect: str, shape: RowShape[Any], statuses: Sequence[JobOutcome]) -> TextClause:
    return _results_query(dialect, shape.columns[dialect], AFTER_SEQ + _status_filter(statuses), ORDER_BY_SEQ)


def _by_position_query(
    dialect: str, shape: RowShape[Any], statuses: Sequence[JobOutcome], *, has_code: bool
) -> TextClause:
    filters = AFTER_POSITION + _status_filter(statuses) + (" AND r.error_code = :code" if has_code else "")
    hint = FAILURES_HINT[dialect] if list(statuses) == [JobOutcome.FAILED] else ""
    return _results_query(dialect, shape.columns[dialect], filters, ORDER_BY_POSITION, hint)


def _status_filter(statuses: Sequence[JobOutcome]) -> str:
    # Constants instead of parameters, so that both databases recognise the index of failures.
    equalities = " OR ".join(f"r.status = '{JobOutcome(status).value}'" for status in statuses)
    return f" AND ({equalities})" if statuses else ""


@cache
def _results_query(dialect: str, columns: str, filters: str, order: str, hint: str = "") -> TextClause:
    return text(SELECT_RESULTS.format(columns=columns, hint=hint, filters=filters) + order)
