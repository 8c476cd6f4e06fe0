"""Stale rows are those of an output table whose vectors are of another model, or cleared; a run embeds them again.

They follow the rows of the run's source, without those that the source has too.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnClause, Connection, Select, func, select
from sqlalchemy import Row as SqlRow
from sqlalchemy.exc import DBAPIError

from models.db import Database
from models.dialects import driver_errors
from models.errors import DatabaseRefused, SourceNotReady, UsageError
from models.settings import Settings
from models.tasks.spec import TaskSpec
from producer.readers.rows import Problem, Row
from producer.readers.sql import sql_sources
from producer.results.tabular import TabularLayout
from producer.schedules.runs.output.output_table import columns_in_table, open_source_database
from producer.schedules.runs.output.reembedding import PAGE_ROWS, BatchIds, EmbeddingVersion, VectorTable
from producer.schedules.runs.run_lease import LeasedRun
from producer.schedules.runs.sources import IdTypes
from producer.submission.chunks import CHUNK_JOBS

CHUNK_CHARACTERS = 4 * 2**20  # of inputs in memory at once, or one input

# Only one chunk is inserted and one is filled at a time; all earlier rows of a source are in the database.
MAX_UNSEEN_ROWS = 2 * CHUNK_JOBS


def append_stale_rows(
    rows: Iterator[Row | Problem],
    run: LeasedRun,
    settings: Settings,
    spec: TaskSpec,
    version: EmbeddingVersion,
    id_types: IdTypes,
) -> Generator[Row | Problem, None, None]:
    """Yield the rows of a run's source, and then the stale rows of its table.

    version: that of the vectors which the run makes
    id_types: collects the types of the table's ids, too

    Raises UsageError if the table has vectors that the run can't replace, and what reading a table raises.
    """
    fields, table_name = tuple(field.name for field in spec.fields), run.definition.into or ""
    required = [field.name for field in spec.fields if field.required]
    with _open_table_database(run, settings) as database:
        with _read_table(database, table_name) as connection:
            table = VectorTable.find(connection, table_name, version)
            if table is not None and version.key is None:
                table.refuse_other_outputs()
                table = None
            is_stale = table is not None and (
                table.needs_embedding(connection, required, run.view.scheduled_at)
                or (run.definition.max_failures is None and table.has_cleared_rows(connection, required))
            )
        if table is None or not is_stale:
            yield from rows
            return
        observer = SourceObserver()
        yield from observer.observe(rows)
        passthrough = tuple(observer.passthrough) or run.definition.passthrough
        columns, _ = columns_in_table(TabularLayout.for_vectors(fields, 1, passthrough=passthrough))
        names = dict(zip((*fields, *passthrough), (name for name, _ in columns), strict=True))
        inputs = {name: names.pop(name) for name in fields}
        stale = StaleRows(BatchIds(run.database, run.view.batch_id or ""), database, table, inputs, names)
        yield from stale.read(observer.last_location + 1, observer.newest_ids, id_types.add_value)


@contextmanager
def _read_table(database: Database, name: str) -> Iterator[Connection]:
    """Open a transaction that reads the table; raises UsageError if the database refuses that."""
    try:
        with database.read() as connection:
            yield connection
    except DatabaseRefused as error:
        cause = error.__cause__
        reason = driver_errors.safe_message(cause) if isinstance(cause, DBAPIError) else str(error)
        raise UsageError(
            f"the table {name} can't be read, to see which model its vectors are of: {reason}; give its role the "
            "right to, or name another table with into"
        ) from None


def _open_table_database(run: LeasedRun, settings: Settings) -> AbstractContextManager[Database]:
    name = run.definition.into_source
    if name is None:
        return nullcontext(run.database)
    if name not in settings.sources:
        raise SourceNotReady(f"this machine has no [sources.{name}] in its batchmill.toml, which into_source names")
    return open_source_database(sql_sources.find_sql_source(settings, name))


@dataclass(frozen=True, slots=True)
class StaleRows:
    """The rows of a table whose vectors are to be embedded again, as inputs of a batch.

    batch_ids: those of the run, whose rows are submitted while stale ones are read
    table_database: the database of the table
    inputs: columns of the table, by the task's field that they hold
    passthrough: the same, by passthrough column
    """

    batch_ids: BatchIds
    table_database: Database
    table: VectorTable
    inputs: Mapping[str, str]
    passthrough: Mapping[str, str]

    def read(self, first_location: int, unseen_ids: frozenset[str], on_id: Callable[[object], None]) -> Iterator[Row]:
        """Yield the rows whose ids the batch does not have, in the order of their ids.

        unseen_ids: ids of the batch that may not be in the database yet
        on_id: called with each row's id as the table has it
        """
        location, after = first_location, None
        while page := self._fetch_page(after):
            after = page[-1].id
            submitted = unseen_ids | self.batch_ids.submitted([str(row.id) for row in page])
            for chunk in _split_by_length(page):
                for row in self._fetch_rows(chunk[0].id, chunk[-1].id):
                    if str(row.id) not in submitted:
                        on_id(row.id)
                        yield self._to_source_row(row, location)
                        location += 1

    def _fetch_page(self, after: Any) -> Sequence[SqlRow[Any]]:
        """Return the next ids with the number of characters of each row's inputs."""
        lengths = [func.length(func.coalesce(column, "")) for column in self._columns(self.inputs)]
        query: Select[Any] = select(self.table.id.label("id"), sum(lengths[1:], lengths[0]).label("length"))
        query = query.where(self.table.is_stale).order_by(self.table.id).limit(PAGE_ROWS)
        with _read_table(self.table_database, self.table.sql.name) as connection:
            return connection.execute(query if after is None else query.where(self.table.id > after)).all()

    def _fetch_rows(self, first: Any, last: Any) -> Sequence[SqlRow[Any]]:
        columns = self._columns({**self.inputs, **self.passthrough})
        query: Select[Any] = select(self.table.id.label("id"), *columns).where(self.table.is_stale)
        query = query.where(self.table.id.between(first, last)).order_by(self.table.id)
        with _read_table(self.table_database, self.table.sql.name) as connection:
            return connection.execute(query).all()

    def _columns(self, names: Mapping[str, str]) -> list[ColumnClause[Any]]:
        return [self.table.sql.c[name] for name in dict.fromkeys(names.values()) if name in self.table.sql.c]

    def _to_source_row(self, row: SqlRow[Any], location: int) -> Row:
        values = row._mapping
        inputs = {field: value for field, name in self.inputs.items() if (value := values.get(name)) is not None}
        passthrough = {name: values[column] for name, column in self.passthrough.items() if column in values}
        return Row(location, str(row.id), inputs, passthrough or None)


def _split_by_length(page: Sequence[SqlRow[Any]]) -> Iterator[Sequence[SqlRow[Any]]]:
    """Split a page so that the inputs of a part are in memory at once."""
    start = characters = 0
    for index, row in enumerate(page):
        if index > start and characters + row.length > CHUNK_CHARACTERS:
            yield page[start:index]
            start, characters = index, 0
        characters += row.length
    yield page[start:]


class SourceObserver:
    """Remembers what the rows of a source have, for the rows of the table that follow."""

    def __init__(self) -> None:
        self.passthrough: dict[str, None] = {}  # columns, in order
        self.last_location = 0
        self._ids: deque[str] = deque(maxlen=MAX_UNSEEN_ROWS)

    def observe(self, rows: Iterable[Row | Problem]) -> Iterator[Row | Problem]:
        """Yield the rows unchanged."""
        for row in rows:
            self.last_location = row.location
            if isinstance(row, Row):
                self.passthrough.update(dict.fromkeys(row.passthrough or ()))
                if row.custom_id is not None:
                    self._ids.append(row.custom_id)
            yield row

    @property
    def newest_ids(self) -> frozenset[str]:
        """The ids of the last rows, which may not be in the database yet."""
        return frozenset(self._ids)
