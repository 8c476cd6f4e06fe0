"""Pages of results, in the order in which they landed or by position."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, TextualSelect, column, text

from models.columns import Document, UtcDateTime
from models.db import Database
from models.documents import format_timestamp
from models.errors import NotFound
from models.states import BatchStatus, JobOutcome
from producer.batches import polling, views
from producer.readers.limits import size_bytes

# A page is in memory at once; it has fewer rows where rows are large.
PAGE_ROWS = 1000
PAGE_BYTES = 8 * 2**20
FETCH_ROWS = 32  # rows that the server sends at once, which may all be large

# The columns of the view `job_results`; a test keeps the two equal.
RESULT_COLUMNS = """r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message,
       r.truncated, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq, r.finished_at, j.passthrough,
       r.reused_from"""

# The view's tables instead of the view: a page by position must state its start for `jobs` too. Otherwise PostgreSQL
# merges the two from the beginning of the batch (200 ms in the middle of a million jobs, instead of 1 ms).
FROM_RESULTS = """FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
LEFT JOIN model_versions m ON m.id = r.model_version_id"""

# `seq` is the order of commits within the batch: later results have a greater one, so a cursor never misses a row.
SELECT_BY_SEQ = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.seq > :cursor ORDER BY r.seq LIMIT :limit
"""

SELECT_FIRST_SUCCEEDED = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.status = 'succeeded' ORDER BY r.seq LIMIT :limit
"""

# `+ 0` excludes the index on `seq`: reading and sorting it for each page would make an export quadratic.
SELECT_BY_POSITION = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.position > :cursor AND j.position > :cursor AND r.seq + 0 > :after
ORDER BY r.position LIMIT :limit
"""

# SQLite needs INDEXED BY here, because it considers a scan of the whole table cheaper than the index of failures.
SELECT_FAILED = f"""
SELECT {RESULT_COLUMNS} {{results_failed}}
WHERE r.batch_id = :batch_id AND r.position > :cursor AND j.position > :cursor AND r.status = 'failed'
  AND (CAST(:code AS TEXT) IS NULL OR r.error_code = :code)
ORDER BY r.position LIMIT :limit
"""

# All jobs of a batch have the same columns, except rows that were invalid.
SELECT_PASSTHROUGH = (
    "SELECT passthrough FROM jobs WHERE batch_id = :batch_id AND passthrough IS NOT NULL ORDER BY position LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class ResultRow:
    """The result of one job and the model that produced it, in the order of RESULT_COLUMNS.

    `output` is None unless the job succeeded.
    """

    batch_id: str
    position: int  # in the source, from 0
    custom_id: str | None
    input: dict[str, Any]
    status: JobOutcome
    output: Any
    error_code: str | None
    error_message: str | None
    truncated: bool  # the text was cut because it was longer than the model accepts
    model: str | None
    revision: str | None
    dtype: str | None
    device: str | None
    attempts: int
    seq: int  # the order in which results landed, from 1
    finished_at: datetime
    passthrough: dict[str, Any] | None = None  # columns of the source that are returned with the result
    reused_from: str | None = None  # the earlier batch that computed a reused result

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that is printed and exported, with times as ISO 8601 in UTC; its keys are stable."""
        return {
            "batch_id": self.batch_id,
            "position": self.position,
            "custom_id": self.custom_id,
            "input": self.input,
            "passthrough": self.passthrough,
            "status": self.status.value,
            "output": self.output,
            "error_code": self.error_code,
            "error_message": self.error_message,
            "truncated": self.truncated,
            "model": self.model,
            "revision": self.revision,
            "dtype": self.dtype,
            "device": self.device,
            "attempts": self.attempts,
            "seq": self.seq,
            "finished_at": format_timestamp(self.finished_at),
            "reused_from": self.reused_from,
        }


def iter_results(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None
) -> Iterator[ResultRow]:
    """Yield the results that landed after `after_seq`, in that order; raises NotFound.

    Each page is read in a separate transaction, so a slow reader blocks nothing.
    """
    views.get_batch(database, batch_id)
    for page in iter_pages(database, batch_id, after_seq, limit):
        yield from page


def iter_pages(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None
) -> Iterator[list[ResultRow]]:
    """Yield the same results in pages that are never empty; none for an unknown batch."""
    for page in _iter_pages(database, _BY_SEQ_QUERY, {"batch_id": batch_id, "cursor": after_seq}, "seq", limit):
        if page.rows:
            yield page.rows


def iter_by_position(database: Database, batch_id: str, after_seq: int = 0) -> Iterator[ResultRow]:
    """Yield the results in the order of the source; raises NotFound, also when the batch is deleted meanwhile."""
    _check_not_deleting(database, batch_id)
    cursor = -1
    while page := fetch_page_by_position(database, batch_id, cursor, after_seq):
        yield from page
        cursor = page[-1].position
    _check_not_deleting(database, batch_id)


def iter_failed(
    database: Database, batch_id: str, error_code: str | None = None, limit: int | None = None
) -> Iterator[ResultRow]:
    """Yield the failed jobs in the order of the source; raises NotFound, also when the batch is deleted meanwhile.

    error_code: only failures with this code; None = all
    limit: maximum number of rows; None = all
    """
    _check_not_deleting(database, batch_id)
    query = _FAILED_QUERIES[database.engine.dialect.name]
    params = {"batch_id": batch_id, "cursor": -1, "code": error_code}
    for page in _iter_pages(database, query, params, "position", limit):
        yield from page.rows
    _check_not_deleting(database, batch_id)


def fetch_page_by_position(
    database: Database, batch_id: str, after_position: int, after_seq: int = 0
) -> list[ResultRow]:
    """Return at most a page of rows after the position `after_position`."""
    return _fetch_page(
        database, _BY_POSITION_QUERY, batch_id=batch_id, cursor=after_position, after=after_seq, limit=PAGE_ROWS
    ).rows


def first_output(database: Database, batch_id: str) -> Any:
    """Return the first output, whose structure decides the columns; None when no job has succeeded."""
    rows = _fetch_page(database, _FIRST_SUCCEEDED_QUERY, batch_id=batch_id, limit=1).rows
    return rows[0].output if rows else None


def passthrough_columns(database: Database, batch_id: str) -> list[str]:
    """Return the names of the passthrough columns of a batch."""
    query = text(SELECT_PASSTHROUGH).columns(column("passthrough", Document))
    with database.read() as connection:
        passthrough = connection.scalar(query, {"batch_id": batch_id})
    return list(passthrough or {})


def fetch_at_positions(database: Database, batch_id: str, positions: Iterable[int]) -> list[ResultRow]:
    """Return the results at single positions, such as a sample; positions without a result are skipped."""
    pages = (
        _fetch_page(database, _BY_POSITION_QUERY, batch_id=batch_id, cursor=position - 1, after=0, limit=1)
        for position in positions
    )
    return [row for page in pages for row in page.rows]


def _check_not_deleting(database: Database, batch_id: str) -> None:
    # A batch that is being deleted has only a part of its rows, which must not look complete.
    if views.get_batch(database, batch_id).status is BatchStatus.DELETING:
        raise NotFound(f"{batch_id} is being deleted; list the batches: batchmill ls")


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows, and whether the query has no more of them."""

    rows: list[ResultRow]
    is_last: bool


def _iter_pages(
    database: Database, query: TextualSelect, params: dict[str, Any], cursor_field: str, limit: int | None
) -> Iterator[_Page]:
    """Yield pages until the last, at most `limit` rows in all; `cursor_field` of a page's last row begins the next."""
    rows_left = limit
    while rows_left is None or rows_left > 0:
        page = _fetch_page(
            database, query, **params, limit=PAGE_ROWS if rows_left is None else min(rows_left, PAGE_ROWS)
        )
        yield page
        if page.is_last:
            return
        params = {**params, "cursor": getattr(page.rows[-1], cursor_field)}
        rows_left = None if rows_left is None else rows_left - len(page.rows)


def _fetch_page(database: Database, query: TextualSelect, *, limit: int, **params: Any) -> _Page:
    rows: list[ResultRow] = []
    byte_count = 0
    streamed = query.execution_options(stream_results=True, max_row_buffer=FETCH_ROWS)
    with database.read() as connection, connection.execute(streamed, {**params, "limit": limit}) as result:
        while raw_rows := result.fetchmany(FETCH_ROWS):
            rows += map(_to_result_row, raw_rows)
            byte_count += sum(map(_row_bytes, rows[-len(raw_rows) :]))
            if byte_count > PAGE_BYTES:
                return _Page(rows, is_last=False)
    return _Page(rows, is_last=len(rows) < limit)


def _row_bytes(row: ResultRow) -> int:
    """Return the approximate size of a row's documents in bytes."""
    return size_bytes(row.input) + size_bytes(row.output) + size_bytes(row.passthrough)


def _to_result_row(row: Iterable[Any]) -> ResultRow:
    # By index, in the order of RESULT_COLUMNS: access by name would take as long as the query itself.
    values = list(row)
    values[_STATUS_INDEX] = _OUTCOME_BY_VALUE[values[_STATUS_INDEX]]
    return ResultRow(*values)


def _typed_query(query: str) -> TextualSelect:
    types: dict[str, Any] = {
        "input": Document,
        "passthrough": Document,
        "output": Document,
        "truncated": Boolean,
        "finished_at": UtcDateTime,
    }
    return text(query).columns(*(column(name, types.get(name)) for name in COLUMN_NAMES))


COLUMN_NAMES = [name.strip().partition(".")[2] for name in RESULT_COLUMNS.split(",")]
_STATUS_INDEX = COLUMN_NAMES.index("status")
_OUTCOME_BY_VALUE = {outcome.value: outcome for outcome in JobOutcome}
_BY_SEQ_QUERY = _typed_query(SELECT_BY_SEQ)
_BY_POSITION_QUERY = _typed_query(SELECT_BY_POSITION)
_FAILED_QUERIES = {
    "postgresql": _typed_query(SELECT_FAILED.format(results_failed=FROM_RESULTS)),
    "sqlite": _typed_query(
        SELECT_FAILED.format(results_failed=FROM_RESULTS.replace("results r", "results r INDEXED BY results_failed"))
    ),
}
_FIRST_SUCCEEDED_QUERY = _typed_query(SELECT_FIRST_SUCCEEDED)


def follow(
    database: Database, batch_id: str, after_seq: int = 0, sleep: Callable[[float], object] | None = None
) -> Iterator[list[ResultRow]]:
    """Yield pages of results after `after_seq` as they land, until the batch has ended and all of it is read.

    Raises NotFound, also when the batch is deleted meanwhile.
    """
    intervals = polling.poll_intervals()
    while True:
        # The status comes first: once a batch has ended, all its results are readable.
        ended = views.get_batch(database, batch_id).status.has_ended
        for page in iter_pages(database, batch_id, after_seq):
            after_seq, intervals = page[-1].seq, polling.poll_intervals()  # more results are likely to follow soon
            yield page
        if ended:
            return
        (sleep or time.sleep)(next(intervals))
