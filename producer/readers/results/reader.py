"""A reader of the results of an ended batch, in the order of their positions and from one snapshot."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Boolean, Connection, TextualSelect, column, text

from models.db import Database
from models.dialects.columns import Document
from models.errors import NotFound, UsageError
from models.states import BatchStatus, JobOutcome
from producer.advice import LIST_BATCHES, wait_until_ended
from producer.readers import rows_from_records
from producer.readers.limits import DEFAULT_LIMITS, MAX_ROW_BYTES, ROW_TOO_LARGE, ROW_TOO_LONG_MESSAGE, Limits, Meter
from producer.readers.results.columns import ResultColumns
from producer.readers.results.result_record import ResultRecord
from producer.readers.results.selection import ResultSelection
from producer.readers.rows import Problem, Source
from producer.tenants.principal import DEFAULT_TENANT

# A page is in memory at once. The size of the next rows is unknown, so the first page is small.
PAGE_ROWS, FIRST_PAGE_ROWS = 1000, 4
PAGE_BYTES = 8 * 2**20
# The snapshot holds no locks, so it may be idle while a large chunk waits to be inserted.
SNAPSHOT_IDLE_SECONDS = 600.0

SELECT_BATCH = "SELECT status, parameters, tenant FROM batches WHERE id = :batch_id"

# The position stands for both tables: PostgreSQL would merge them from the beginning of the batch for each page.
PAGE_COLUMNS = {
    "batch_id": "r.batch_id",
    "position": "r.position",
    "custom_id": "j.custom_id",
    "input": "CAST(j.input AS TEXT)",
    "output": "CAST(r.output AS TEXT)",
    "passthrough": "CAST(j.passthrough AS TEXT)",
    "status": "r.status",
    "error_code": "r.error_code",
    "error_message": "r.error_message",
    "truncated": "r.truncated",
    "has_vector": "r.vector IS NOT NULL",
    "invalid": "j.invalid",
}
SELECT_PAGE = f"""
SELECT {", ".join(PAGE_COLUMNS.values())}
FROM results r JOIN jobs j ON j.batch_id = r.batch_id AND j.position = r.position
WHERE r.batch_id = :batch_id AND r.position > :after AND j.position > :after AND r.status IN ({{statuses}})
ORDER BY r.position LIMIT :limit
"""  # noqa: S608

_POSITION_INDEX = list(PAGE_COLUMNS).index("position")

Item = tuple[int, object] | Problem


@contextmanager
def open_results(
    database: Database,
    selection: ResultSelection,
    columns: ResultColumns,
    limits: Limits | None = None,
    *,
    keep_invalid: bool = False,
) -> Iterator[Source]:
    """The selected results of an ended batch as rows; the snapshot is released when the block ends.

    database: another connection to it is opened, because the caller's may be in use.
    limits: None = the default limits.
    keep_invalid: results without a required name are invalid rows, even if they are all that there are.

    Raises NotFound if there is no such batch, UsageError if it has not ended, and UnreadableSource if none of the
    results has what a name of the columns stands for, unless `keep_invalid` is set. Reading raises SourceTooLarge
    beyond the limits, and Unreachable.
    """
    own_database = database.with_separate_connection(SNAPSHOT_IDLE_SECONDS)
    reader = _ResultReader(own_database, selection, columns, Meter(limits or DEFAULT_LIMITS), keep_invalid)
    try:
        with closing(reader.rows()) as rows:
            next(rows)
            yield Source(reader.name, "position", rows, limits=reader.meter.limits)
    finally:
        own_database.close()


@dataclass(frozen=True, slots=True)
class _ResultReader:
    database: Database
    selection: ResultSelection
    columns: ResultColumns
    meter: Meter
    keep_invalid: bool

    @property
    def name(self) -> str:
        """The name of the source in messages."""
        return f"the selection from {self.selection.batch_id}"

    def rows(self) -> Generator[Any, None, None]:
        """Yield None once the batch and the names are checked, and then the rows.

        The snapshot belongs to the generator, so that errors of the block that reads the rows do not pass through it.
        """
        with self.database.snapshot() as connection:
            is_multi_label = self._check_batch(connection)
            select = partial(self._selected, connection, is_multi_label=is_multi_label)
            if not self.keep_invalid:
                with closing(select()) as results:
                    self.columns.check_names(self.name, results)
            yield None
            yield from rows_from_records(self._metered(select()), self.columns)

    def _check_batch(self, connection: Connection) -> bool:
        """Raise an error unless the batch has ended; returns whether its labels were judged apart."""
        batch_id = self.selection.batch_id
        query = text(SELECT_BATCH).columns(column("status"), column("parameters", Document), column("tenant"))
        batch = connection.execute(query, {"batch_id": batch_id}).one_or_none()
        if batch is None or self.selection.tenant not in (None, batch.tenant):
            whose = f" of tenant {tenant}" if (tenant := self.selection.tenant) not in (None, DEFAULT_TENANT) else ""
            raise NotFound(f"there is no batch {batch_id[:80]!r}{whose}; " + LIST_BATCHES)
        status = BatchStatus(batch.status)
        if status is BatchStatus.DELETING:
            raise NotFound(f"{batch_id} is being deleted; " + LIST_BATCHES)
        if not status.has_ended:
            raise UsageError(f"{batch_id} is {status.value}, so results may be missing; " + wait_until_ended(batch_id))
        return batch.parameters.get("multi_label") is True

    def _selected(self, connection: Connection, *, is_multi_label: bool) -> Generator[ResultRecord, None, None]:
        includes = partial(self.selection.includes_output, is_multi_label=is_multi_label)
        for record in _read_results(connection, self.selection):
            if not self.selection.reads_labels or includes(record["output"]):
                yield record

    def _metered(self, records: Iterator[ResultRecord]) -> Iterator[Item]:
        for record in records:
            position = record["position"]
            self.meter.add(record.size_bytes, f"{self.name}, position {position}")
            if record.size_bytes > MAX_ROW_BYTES:
                yield self.columns.identify(Problem(position, ROW_TOO_LONG_MESSAGE, ROW_TOO_LARGE), record)
            else:
                yield position, record


def _read_results(connection: Connection, selection: ResultSelection) -> Iterator[ResultRecord]:
    query, after, limit, max_bytes = _page_query(selection.statuses), -1, FIRST_PAGE_ROWS, 1
    while True:
        params = {"batch_id": selection.batch_id, "after": after, "limit": limit}
        page = connection.execute(query, params).all()
        for row in page:
            record = ResultRecord(dict(zip(PAGE_COLUMNS, row, strict=True)))
            max_bytes = max(max_bytes, record.size_bytes)
            yield record
        if len(page) < limit:
            return
        after, limit = page[-1][_POSITION_INDEX], max(1, min(2 * limit, PAGE_ROWS, PAGE_BYTES // max_bytes))


def _page_query(statuses: tuple[JobOutcome, ...]) -> TextualSelect:
    # Constants, so that PostgreSQL recognises the index of failures.
    query = SELECT_PAGE.format(statuses=", ".join(f"'{status.value}'" for status in statuses))
    types: dict[str, Any] = {"truncated": Boolean, "has_vector": Boolean, "invalid": Boolean}
    return text(query).columns(*(column(name, types.get(name)) for name in PAGE_COLUMNS))
