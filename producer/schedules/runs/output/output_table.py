"""The output table that a schedule's `into` names: typed, with one row for each of the user's ids.

Only results that succeeded are merged; for a failed job, the row of an earlier run stays. A run does not overwrite rows
of a later scheduled time, so runs may be repeated in any order.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from models.db import Database
from models.dialects import driver_errors
from models.dialects.columns import UtcDateTime
from models.dialects.driver_errors import ErrorKind, classify_error, driver_error_code
from models.dialects.fragments import SQL_FRAGMENTS
from models.errors import DatabaseRefused, UsageError
from models.privacy import urls
from models.states import JobOutcome
from producer.readers.sql.sql_sources import SqlSource
from producer.results.result_row import ResultRow
from producer.results.tables import staging
from producer.results.tables.column_types import is_vector_type, read_column_types
from producer.results.tables.sql_names import quote_name
from producer.results.tables.staging import StagingTable, TableSchema
from producer.results.tabular import GUARD_COLUMNS, ColumnType, TabularLayout, describe_renamed_column
from producer.schedules.runs.output import reembedding
from producer.schedules.runs.output.reembedding import (
    ID_COLUMN,
    KEY_COLUMN,
    UNKNOWN_VERSION,
    BatchIds,
    EmbeddingVersion,
    VectorTable,
)

PROVENANCE_COLUMNS = (
    ("truncated", ColumnType.BOOLEAN),
    ("model", ColumnType.TEXT),
    ("revision", ColumnType.TEXT),
    ("scheduled_at", ColumnType.TIMESTAMP),
    ("batch_id", ColumnType.TEXT),
    ("finished_at", ColumnType.TIMESTAMP),
    *GUARD_COLUMNS,
)
REQUIRED_COLUMNS = dict(PROVENANCE_COLUMNS).keys() - dict(GUARD_COLUMNS).keys()

MIXED_OUTPUTS_ADVICE = "results that differ so have no table; leave into out, and read them from job_results"

# Only one merge into a table at a time, because two would lock its rows in different orders. SQLite has one writer.
LOCK_NAME = "SELECT pg_advisory_xact_lock(hashtextextended(:table, 0))"
TEXT_TYPES = ("TEXT", "CHARACTER", "VARCHAR", "CHAR")  # how the databases' names of types for text begin
READ_ONLY_CODES = {"25006", "42501"}  # PostgreSQL: read-only transaction, insufficient privilege
SQLITE_READ_ONLY_CODE = 8


@dataclass(frozen=True, slots=True)
class OutputTable:
    """An output table and the layout of one run's results in it."""

    name: str
    layout: TabularLayout
    scheduled_at: datetime
    id_type: ColumnType = ColumnType.TEXT  # of the source; a table from before that was kept has text
    version: EmbeddingVersion = UNKNOWN_VERSION  # of vectors
    batch_ids: BatchIds | None = None  # of the run; None where the table has no vectors

    @property
    def schema(self) -> TableSchema:
        """The columns: `id`, inputs, passthrough, outputs, and the model, run and batch of each row."""
        inputs, outputs = columns_in_table(self.layout)
        key = () if self.vector is None else ((KEY_COLUMN, ColumnType.TEXT),)
        columns = ((ID_COLUMN, self.id_type), *inputs, *outputs, *key, *PROVENANCE_COLUMNS)
        return TableSchema(columns, key=(ID_COLUMN,), dimensions=self.layout.dimensions)

    @property
    def vector(self) -> str | None:
        """The name of the column of vectors; None if outputs are none."""
        return None if self.layout.dimensions is None else columns_in_table(self.layout)[1][0][0]

    def row_values(self, row: ResultRow) -> list[Any]:
        """Return the values of one row in column order; raises UsageError if it has no id or does not fit."""
        if row.custom_id is None:
            raise UsageError(
                f"the row at position {row.position} has no id to find it again by in the table {self.name}; "
                "name the column that has it: id"
            )
        return [
            int(row.custom_id) if self.id_type is ColumnType.INTEGER else row.custom_id,
            *self.layout.input_values(row),
            *self.layout.output_values(row),
            *(() if self.layout.dimensions is None else (self.version.key,)),
            row.truncated,
            row.model,
            row.content_revision,
            self.scheduled_at,
            row.batch_id,
            row.finished_at,
            row.windows,
            row.guards_json,
        ]

    @contextmanager
    def stage(self, database: Database, rows: Iterable[ResultRow]) -> Iterator["StagedMerge"]:
        """Read all rows of the batch, failed ones too, and stage those for the table; takes no locks.

        Raises UsageError if rows have no id or the database is not writable, and Unreachable.
        """
        layout = replace(self.layout, hint=MIXED_OUTPUTS_ADVICE)
        table = replace(self, layout=layout, id_type=self._id_type_in(database))
        values = (table.row_values(row) for row in rows if row.status is JobOutcome.SUCCEEDED)
        with ExitStack() as stack:
            with _translate_read_only_errors(self.name):
                staged = stack.enter_context(staging.stage_rows(database, table.schema, values))
            yield StagedMerge(table, staged)

    def _id_type_in(self, database: Database) -> ColumnType:
        """Return the type of the ids in an existing table if that is text, which takes any id, else the source's."""
        with database.read() as connection:
            sql_type = read_column_types(connection, self.name).get(ID_COLUMN, "")
        return ColumnType.TEXT if sql_type.startswith(TEXT_TYPES) else self.id_type


class StagedMerge:
    """Rows that are ready to be merged into the table."""

    def __init__(self, table: OutputTable, staged: StagingTable) -> None:
        self._table = table
        self._staged = staged
        self.row_count = staged.row_count

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Open a transaction on the table's database; if that is also ours, the run is marked completed in it."""
        with _translate_read_only_errors(self._table.name), self._staged.transaction() as connection:
            yield connection

    def merge(self, connection: Connection) -> None:
        """Create the table or add missing columns, and merge, in the transaction that the caller opened.

        The table's lock comes last in the lock order, after the run's row. A run without rows does nothing, because its
        columns are unknown. Raises UsageError if the table is not an output table.
        """
        if not self.row_count:
            return
        name = self._table.name
        self._lock_table(connection)
        self._fit_columns(connection)
        try:
            self._staged.merge(name, condition=f"excluded.scheduled_at >= {quote_name(name)}.scheduled_at")
        except IntegrityError as error:  # from a column or constraint that someone added
            raise UsageError(
                f"the table {name} does not take these rows: {driver_errors.safe_message(error)}"
            ) from None

    def merge_once(self, schedule: str, batch_id: str) -> None:
        """Merge and record it in one transaction, for a table in another database than the run's row.

        If a record exists, another process had taken over and merged before us. Nothing is merged then, because the
        table's owner may have changed rows since.
        """
        with self.transaction() as connection:
            self._lock_table(connection)
            if not is_merged(connection, schedule, self._table.scheduled_at, batch_id):
                self.merge(connection)
                record_merge(connection, schedule, self._table.scheduled_at, batch_id)

    def _lock_table(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(LOCK_NAME), {"table": f"batchmill output table {self._table.name}"})

    def _fit_columns(self, connection: Connection) -> None:
        name, difference = self._table.name, self._staged.create_or_diff(self._table.name)
        if difference.key != ("id",) or difference.missing.keys() & REQUIRED_COLUMNS:
            raise UsageError(f"the table {name} is not one that schedules write; name another with into")
        vectors = self._find_vectors(connection)
        old_type, _ = difference.type_changed.get(vectors.vector, ("", "")) if vectors is not None else ("", "")
        has_other_dimensions = is_vector_type(old_type)
        if vectors is not None and has_other_dimensions and not vectors.has_current_vectors(connection):
            del difference.type_changed[vectors.vector]  # the run replaces all of them
        if difference.type_changed:
            column, (table_type, result_type) = next(iter(difference.type_changed.items()))
            advice = describe_renamed_column(difference.type_changed.keys() & dict(GUARD_COLUMNS).keys())
            raise UsageError(
                f"{column} in the table {name} is {table_type}, and in these results {result_type}; "
                + (f"{advice}, " if advice else "")
                + "name another table with into, or drop this one"
            )
        for column, kind in difference.missing.items():
            self._staged.add_column(name, column, kind)
        if vectors is not None and (batch_ids := self._table.batch_ids) is not None:
            reembedding.clear_vectors_left_behind(connection, vectors, batch_ids, self._table.scheduled_at)
            if has_other_dimensions:
                self._change_dimensions(vectors.vector)

    def _find_vectors(self, connection: Connection) -> VectorTable | None:
        """Return the table if it had vectors before this run; raises UsageError if the run would leave them as such."""
        table = self._table
        vectors = VectorTable.find(connection, table.name, table.version)
        if vectors is not None and vectors.vector != table.vector:
            vectors.refuse_other_outputs()
            return None
        return vectors

    def _change_dimensions(self, column: str) -> None:
        """Let the column of vectors take those of this run; its indexes stay."""
        try:
            self._staged.change_dimensions(self._table.name, column)
        except DBAPIError as error:
            if classify_error(error) not in (ErrorKind.REFUSED, ErrorKind.NOT_TRANSLATED):
                raise
            raise UsageError(
                f"the column {column} of the table {self._table.name} can't take vectors of "
                f"{self._table.layout.dimensions:,} numbers: {driver_errors.safe_message(error)}; drop what needs the "
                "old ones, or name another table with into"
            ) from None


def columns_in_table(layout: TabularLayout) -> tuple[list[tuple[str, ColumnType]], list[tuple[str, ColumnType]]]:
    """Return the columns of inputs with passthrough, and those of outputs, by the names that they have in a table."""
    key = () if layout.dimensions is None else (KEY_COLUMN,)
    return layout.columns_excluding((ID_COLUMN, *key, *dict(PROVENANCE_COLUMNS)))


@contextmanager
def open_source_database(query: SqlSource) -> Iterator[Database]:
    """Open the database of a source for writing, until the block ends."""
    database = Database(urls.with_driver(query.url), is_ours=False)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _translate_read_only_errors(table: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, DatabaseRefused) as failure:  # raised by the driver, or already translated
        error = failure.__cause__ if isinstance(failure, DatabaseRefused) else failure
        if isinstance(error, DBAPIError) and driver_error_code(error) in {*READ_ONLY_CODES, SQLITE_READ_ONLY_CODE}:
            advice = "give its role the right to, or name another database with into_source"
            raise UsageError(
                f"the table {table} can't be written: {driver_errors.safe_message(error)}; {advice}"
            ) from None
        raise


MERGED_RUNS = Table(
    "batchmill_merged_runs",
    MetaData(),
    Column("schedule", Text, primary_key=True),
    Column("scheduled_at", UtcDateTime, primary_key=True),
    Column("batch_id", Text, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
)


def record_merge(connection: Connection, schedule: str, scheduled_at: datetime, batch_id: str) -> None:
    """Record in the caller's transaction that a batch was merged; creates the table for records if it is missing."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(
            text(LOCK_NAME), {"table": "batchmill_merged_runs"}
        )  # two processes must not create the table at once, because one would fail
    MERGED_RUNS.create(connection, checkfirst=True)
    values = {
        "schedule": schedule,
        "scheduled_at": scheduled_at,
        "batch_id": batch_id,
        "finished_at": text(SQL_FRAGMENTS[name].now),
    }
    insert = (postgresql if name == "postgresql" else sqlite).insert(MERGED_RUNS).values(values)
    updates = {"batch_id": insert.excluded.batch_id, "finished_at": insert.excluded.finished_at}
    connection.execute(insert.on_conflict_do_update(index_elements=["schedule", "scheduled_at"], set_=updates))


def is_merged(connection: Connection, schedule: str, scheduled_at: datetime, batch_id: str) -> bool:
    """Return whether a batch's results were merged."""
    if not inspect(connection).has_table(MERGED_RUNS.name):
        return False
    query = select(MERGED_RUNS.c.batch_id).where(
        MERGED_RUNS.c.schedule == schedule, MERGED_RUNS.c.scheduled_at == scheduled_at
    )
    return connection.scalar(query) == batch_id
