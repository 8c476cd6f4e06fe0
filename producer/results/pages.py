"""Results: pages of the view `job_results`, as they land or by position."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, TextualSelect, column, text

from models.columns import Document, UtcDateTime
from models.db import Database
from models.errors import NotFound
from models.states import BatchStatus, JobOutcome
from producer.batches import polling, views
from producer.readers.limits import size_bytes

# In memory at once: a page has so many rows, and fewer where they are large.
PAGE_ROWS = 1000
PAGE_BYTES = 8 * 2**20
FETCH_ROWS = 32  # that a server sends at once: the next may all be large

# As the view `job_results` has them; a test holds the two together.
RESULT_COLUMNS = """r.batch_id, r.position, j.custom_id, j.input, r.status, r.output, r.error_code, r.error_message,
       r.truncated, m.model, m.revision, m.dtype, m.device, r.attempts, r.seq, r.finished_at, j.meta,
       r.reused_from"""

# The view's tables and not the view: a page by position has to name where it begins in `jobs` too, or PostgreSQL
# merges the two from the batch's beginning on (200 ms in the midst of a million, instead of one).
FROM_RESULTS = """FROM results r
JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
LEFT JOIN model_versions m ON m.id = r.model_version_id"""

# `seq` is the order of commits within the batch: what comes later has a greater one, so a cursor never misses a row.
SELECT_BY_SEQ = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.seq > :cursor ORDER BY r.seq LIMIT :limit
"""

SELECT_FIRST_SUCCEEDED = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.status = 'succeeded' ORDER BY r.seq LIMIT :limit
"""

# `+ 0` keeps the index of `seq` out of it: read and sorted for every page, it would make an export quadratic.
SELECT_BY_POSITION = f"""
SELECT {RESULT_COLUMNS} {FROM_RESULTS}
WHERE r.batch_id = :batch_id AND r.position > :cursor AND j.position > :cursor AND r.seq + 0 > :after
ORDER BY r.position LIMIT :limit
"""

# SQLite has to be told of the index of what failed: it takes a table's own order for cheaper, and reads all of it.
SELECT_FAILED = f"""
SELECT {RESULT_COLUMNS} {{results_failed}}
WHERE r.batch_id = :batch_id AND r.position > :cursor AND j.position > :cursor AND r.status = 'failed'
  AND (CAST(:code AS TEXT) IS NULL OR r.error_code = :code)
ORDER BY r.position LIMIT :limit
"""

# Every job of a batch has the same ones, unless it could not be read as a job.
SELECT_PASSTHROUGH = "SELECT meta FROM jobs WHERE batch_id = :batch_id AND meta IS NOT NULL ORDER BY position LIMIT 1"


@dataclass(frozen=True, slots=True)
class ResultRow:
    """How one job ended, and which model made it so; `output` is None unless it succeeded. In the order of COLUMNS."""

    batch_id: str
    position: int  # in the source, from 0
    custom_id: str | None
    input: dict[str, Any]
    status: JobOutcome
    output: Any
    error_code: str | None
    error_message: str | None
    truncated: bool  # the text was longer than the model takes, and was cut
    model: str | None
    revision: str | None
    dtype: str | None
    device: str | None
    attempts: int
    seq: int  # the order in which results landed, from 1
    finished_at: datetime
    passthrough: dict[str, Any] | None = None  # the columns of its row that were kept for the user
    reused_from: str | None = None  # the batch that computed it, where it was taken over

    def as_dict(self) -> dict[str, Any]:
        """The row as it is printed and exported; these names stay. The moment is ISO 8601 in UTC."""
        error = None if self.error_code is None else {"code": self.error_code, "message": self.error_message}
        return {
            "batch_id": self.batch_id,
            "position": self.position,
            "custom_id": self.custom_id,
            "input": self.input,
            "meta": self.passthrough,
            "status": self.status.value,
            "output": self.output,
            "error": error,
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


def format_timestamp(timestamp: datetime) -> str:
    """A moment as text, in UTC and to the millisecond, as finely as both databases have it."""
    return timestamp.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iter_results(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None
) -> Iterator[ResultRow]:
    """What has landed since `after` (a `seq`), in that order, and then stops; raises NotFound.

    Read page by page, each in a transaction of its own, so that a slow reader holds nothing.
    """
    views.get_batch(database, batch_id)
    for page in iter_pages(database, batch_id, after_seq, limit):
        yield from page


def iter_pages(
    database: Database, batch_id: str, after_seq: int = 0, limit: int | None = None
) -> Iterator[list[ResultRow]]:
    """The same in pages, of which none is empty; of a batch that there is not, none."""
    left = limit
    while left is None or left > 0:
        most = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        page = _fetch_page(database, _BY_SEQ_QUERY, batch_id=batch_id, cursor=after_seq, limit=most)
        if not page.rows:
            return
        yield page.rows
        if page.is_last:
            return
        after_seq = page.rows[-1].seq
        left = None if left is None else left - len(page.rows)


def iter_by_position(database: Database, batch_id: str, after_seq: int = 0) -> Iterator[ResultRow]:
    """The same rows in the order of the source; raises NotFound, also where the batch is deleted meanwhile."""
    _check_not_deleting(database, batch_id)
    cursor = -1
    while page := fetch_page_by_position(database, batch_id, cursor, after_seq):
        yield from page
        cursor = page[-1].position
    _check_not_deleting(database, batch_id)


def iter_failed(
    database: Database, batch_id: str, error_code: str | None = None, limit: int | None = None
) -> Iterator[ResultRow]:
    """The jobs that failed, of one error code or of all, in the order of the source; raises NotFound."""
    _check_not_deleting(database, batch_id)
    cursor, left = -1, limit
    while left is None or left > 0:
        most = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        page = _fetch_page(
            database,
            _FAILED_QUERIES[database.engine.dialect.name],
            batch_id=batch_id,
            cursor=cursor,
            code=error_code,
            limit=most,
        )
        yield from page.rows
        if page.is_last:
            break
        cursor = page.rows[-1].position
        left = None if left is None else left - len(page.rows)
    _check_not_deleting(database, batch_id)


def fetch_page_by_position(
    database: Database, batch_id: str, after_position: int, after_seq: int = 0
) -> list[ResultRow]:
    """The rows behind the position `cursor`, at most a page of them."""
    return _fetch_page(
        database, _BY_POSITION_QUERY, batch_id=batch_id, cursor=after_position, after=after_seq, limit=PAGE_ROWS
    ).rows


def first_output(database: Database, batch_id: str) -> Any:
    """The first output that there is, to see its shape by; None when nothing has succeeded."""
    rows = _fetch_page(database, _FIRST_SUCCEEDED_QUERY, batch_id=batch_id, limit=1).rows
    return rows[0].output if rows else None


def passthrough_columns(database: Database, batch_id: str) -> list[str]:
    """The columns that were kept with each job; none where none were asked for."""
    query = text(SELECT_PASSTHROUGH).columns(column("meta", Document))
    with database.read() as connection:
        kept = connection.scalar(query, {"batch_id": batch_id})
    return list(kept or {})


def fetch_at_positions(database: Database, batch_id: str, positions: Iterable[int]) -> list[ResultRow]:
    """The results of single jobs that have one: a sample of a batch."""
    found = (
        _fetch_page(database, _BY_POSITION_QUERY, batch_id=batch_id, cursor=position - 1, after=0, limit=1)
        for position in positions
    )
    return [row for page in found for row in page.rows]


def _check_not_deleting(database: Database, batch_id: str) -> None:
    # What is deleted ends early, and must not pass for the whole.
    if views.get_batch(database, batch_id).status is BatchStatus.DELETING:
        raise NotFound(f"{batch_id} is being deleted; see which there are: batchmill ls")


@dataclass(frozen=True, slots=True)
class _Page:
    """Some rows, and whether they are the last of those asked for."""

    rows: list[ResultRow]
    is_last: bool


def _fetch_page(database: Database, query: TextualSelect, *, limit: int, **params: Any) -> _Page:
    rows: list[ResultRow] = []
    held = 0
    streamed = query.execution_options(stream_results=True, max_row_buffer=FETCH_ROWS)
    with database.read() as connection, connection.execute(streamed, {**params, "limit": limit}) as result:
        while some := result.fetchmany(FETCH_ROWS):
            rows += map(_to_result_row, some)
            held += sum(map(_row_bytes, rows[-len(some) :]))
            if held > PAGE_BYTES:
                return _Page(rows, is_last=False)
    return _Page(rows, is_last=len(rows) < limit)


def _row_bytes(row: ResultRow) -> int:
    """About how many bytes a row's documents hold."""
    return size_bytes(row.input) + size_bytes(row.output) + size_bytes(row.passthrough)


def _to_result_row(row: Iterable[Any]) -> ResultRow:
    # By place, as `COLUMNS` has them: by name would take as long as the query itself.
    values = list(row)
    values[_STATUS_INDEX] = _OUTCOME_BY_VALUE[values[_STATUS_INDEX]]
    return ResultRow(*values)


def _typed_query(query: str) -> TextualSelect:
    types: dict[str, Any] = {
        "input": Document,
        "meta": Document,
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
    """Pages of what landed after `after` (a `seq`), as they land; ends once the batch has ended and all of it is read.

    Raises NotFound, also when the batch is deleted meanwhile.
    """
    idle = polling.poll_intervals()
    while True:
        # The status first: of a batch that has ended by now, all results are there to be read.
        ended = views.get_batch(database, batch_id).status.has_ended
        for page in iter_pages(database, batch_id, after_seq):
            after_seq, idle = page[-1].seq, polling.poll_intervals()  # more is likely to come soon
            yield page
        if ended:
            return
        (sleep or time.sleep)(next(idle))
