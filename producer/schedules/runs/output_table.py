"""The sink: the typed table that a schedule's `into` names, one row for each of the user's ids, as of the newest slot.

Only results that succeeded are merged: where a job failed, what an earlier night said of its id stays. A slot that is
older than a row's does not overwrite it, so that nights may be run again, and in any order.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from models import driver_errors
from models.columns import Moment
from models.db import FRAGMENTS, Database
from models.driver_errors import code_of
from models.errors import DatabaseRefused, UsageError
from models.privacy import urls
from models.states import Outcome
from producer.readers.sql.sql_sources import Query
from producer.results import staging
from producer.results.pages import ResultRow
from producer.results.staging import Gathered, Shape, quoted
from producer.results.tabular import Kind, Sheet

ID = ("id", Kind.TEXT)
STAMPS = (
    ("truncated", Kind.BOOLEAN), ("model", Kind.TEXT), ("revision", Kind.TEXT), ("slot", Kind.MOMENT),
    ("batch_id", Kind.TEXT), ("finished_at", Kind.MOMENT),
)  # fmt: skip

OTHERWISE = "results that differ so have no table; leave into out, and read them from job_results"

# One merge into a table at a time: two would lock its rows in different orders. SQLite has one writer anyway.
LOCK_NAME = "SELECT pg_advisory_xact_lock(hashtextextended(:table, 0))"
READ_ONLY = {"25006", "42501"}  # PostgreSQL: a read-only transaction, no such right
SQLITE_READONLY = 8


@dataclass(frozen=True, slots=True)
class Sink:
    """A table by its name, and what one slot's batch has for it."""

    name: str
    sheet: Sheet
    slot: datetime

    @property
    def shape(self) -> Shape:
        """`id`, the inputs, what was kept of the row, the outputs, and which model, slot and batch made them so."""
        given, answered = self.sheet.beside(name for name, _ in (ID, *STAMPS))
        return Shape((ID, *given, *answered, *STAMPS), key=("id",))

    def values(self, row: ResultRow) -> list[Any]:
        """One row in the shape's order; raises UsageError where it has no id or does not fit the columns."""
        if row.custom_id is None:
            raise UsageError(
                f"the row at position {row.position} has no id to find it again by in the table {self.name}; "
                "name the column that has it: id"
            )
        return [
            row.custom_id, *self.sheet.given(row), *self.sheet.answered(row), row.truncated, row.model, row.revision,
            self.slot, row.batch_id, row.finished_at,
        ]  # fmt: skip

    @contextmanager
    def gathered(self, database: Database, rows: Iterable[ResultRow]) -> Iterator["Ready"]:
        """Read all rows of the batch, those that failed too, and gather what belongs in the table; locks nobody.

        Raises UsageError where rows have no id or the database can't be written to, and Unreachable.
        """
        fitted = replace(self, sheet=replace(self.sheet, otherwise=OTHERWISE))
        values = (fitted.values(row) for row in rows if row.status is Outcome.SUCCEEDED)
        with ExitStack() as stack:
            with _writable(self.name):
                found = stack.enter_context(staging.gathered(database, self.shape, values))
            yield Ready(self, found)


class Ready:
    """What is ready to be merged into the table."""

    def __init__(self, sink: Sink, found: Gathered) -> None:
        self._sink = sink
        self._found = found
        self.count = found.count

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the table's database; where that is ours too, a run's completion is marked in it."""
        with _writable(self._sink.name), self._found.transaction() as connection:
            yield connection

    def merge(self, connection: Connection) -> None:
        """Make the table or add the columns that it lacks, and merge; in the `transaction` that the caller has open.

        Takes the table's lock last: take the run's row before. Raises UsageError where the table is not a sink's. A
        night of which nothing is left to merge shows no columns, and touches nothing.
        """
        if not self.count:
            return
        name = self._sink.name
        self._lock(connection)
        self._fit()
        try:
            self._found.merge(name, when=f"excluded.slot >= {quoted(name)}.slot")
        except IntegrityError as error:  # a column or a constraint that somebody has added
            raise UsageError(f"the table {name} does not take these rows: {driver_errors.words(error)}") from None

    def merge_marked(self, schedule: str, batch_id: str) -> None:
        """Merge and leave a mark of it, at once: for a table in another database than the run's row.

        Where the mark is left already, somebody took us for dead and was done before us: then nothing is merged, since
        the table's owner may have changed rows since.
        """
        with self.transaction() as connection:
            self._lock(connection)
            if not is_left(connection, schedule, self._sink.slot, batch_id):
                self.merge(connection)
                leave(connection, schedule, self._sink.slot, batch_id)

    def _lock(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(LOCK_NAME), {"table": f"batchmill sink {self._sink.name}"})

    def _fit(self) -> None:
        name, differs = self._sink.name, self._found.difference(self._sink.name)
        if differs.key != ("id",) or differs.lacking.keys() & {column for column, _ in STAMPS}:
            raise UsageError(f"the table {name} is not one that schedules write; name another with into")
        if differs.other:
            column, (there, here) = next(iter(differs.other.items()))
            raise UsageError(
                f"{column} in the table {name} is {there}, and in these results {here}; name another table with into, "
                "or drop this one"
            )
        for column, kind in differs.lacking.items():
            self._found.add_column(name, column, kind)


@contextmanager
def source_database(query: Query) -> Iterator[Database]:
    """The database of a source, to be written to; closes with the block."""
    database = Database(urls.with_driver(query.url), ours=False)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _writable(name: str) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, DatabaseRefused) as raised:  # as the driver raised it, or translated on its way
        error = raised.__cause__ if isinstance(raised, DatabaseRefused) else raised
        if isinstance(error, DBAPIError) and code_of(error) in {*READ_ONLY, SQLITE_READONLY}:
            advice = "give its role the right to, or name another database with into_source"
            raise UsageError(f"the table {name} can't be written: {driver_errors.words(error)}; {advice}") from None
        raise


RUNS = Table(
    "batchmill_runs",
    MetaData(),
    Column("schedule", Text, primary_key=True),
    Column("slot", Moment, primary_key=True),
    Column("batch_id", Text, nullable=False),
    Column("finished_at", Moment, nullable=False),
)


def leave(connection: Connection, schedule: str, slot: datetime, batch_id: str) -> None:
    """Note that this batch's results are in, in the caller's transaction; makes the table where there is none."""
    name = connection.dialect.name
    if name == "postgresql":
        connection.execute(text(LOCK_NAME), {"table": "batchmill_runs"})  # two would make the table at once, and one of them fail
    RUNS.create(connection, checkfirst=True)
    values = {"schedule": schedule, "slot": slot, "batch_id": batch_id, "finished_at": text(FRAGMENTS[name].now)}
    insert = (postgresql if name == "postgresql" else sqlite).insert(RUNS).values(values)
    renewed = {"batch_id": insert.excluded.batch_id, "finished_at": insert.excluded.finished_at}
    connection.execute(insert.on_conflict_do_update(index_elements=["schedule", "slot"], set_=renewed))


def is_left(connection: Connection, schedule: str, slot: datetime, batch_id: str) -> bool:
    """Whether this batch's results are in."""
    if not inspect(connection).has_table(RUNS.name):
        return False
    query = select(RUNS.c.batch_id).where(RUNS.c.schedule == schedule, RUNS.c.slot == slot)
    return connection.scalar(query) == batch_id
