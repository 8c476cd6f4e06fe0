"""Gathering: rows for a table that others read, in a temporary one first, which locks nobody out.

It goes with its connection. Then everything is merged in one transaction: whoever reads the table sees all of it, or
what was there before. On PostgreSQL all of that is one transaction, since a pooler may give the next one another
session, which has no such table.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    MetaData,
    Text,
    TextClause,
    inspect,
    text,
)
from sqlalchemy import Table as SqlTable

from models.columns import Document
from models.db import Database, insert_rows
from models.errors import UsageError
from models.postgresql.session import MAX_NAME_BYTES
from producer.readers.limits import portions
from producer.results.tabular import ColumnType

STAGING_TABLE_NAME = "batchmill_gathered"
CHUNK_ROWS, CHUNK_BYTES = 10_000, 8 * 2**20  # in memory at once
SQL_TYPES: dict[ColumnType, Any] = {
    ColumnType.TEXT: Text(),
    ColumnType.INTEGER: BigInteger(),
    ColumnType.NUMBER: Double(),
    ColumnType.BOOLEAN: Boolean(),
    ColumnType.TIMESTAMP: DateTime(timezone=True),
    ColumnType.JSON: Document,
}

# WHERE true: without it SQLite takes ON for the beginning of a join.
UPSERT_FROM_STAGING = """
INSERT INTO {table} ({names}) SELECT {names} FROM {gathered} WHERE true
ON CONFLICT ({key}) DO UPDATE SET {updates} WHERE {when}
"""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table's columns, and which of them are its key; a row's values come in their order."""

    columns: tuple[tuple[str, ColumnType], ...]
    key: tuple[str, ...]

    def to_sql_table(self, name: str, *, with_key: bool = True, **options: Any) -> SqlTable:
        """The table as SQLAlchemy describes it, with its key or without."""
        columns: list[Column[Any]] = [
            Column(column, SQL_TYPES[kind], primary_key=with_key and column in self.key)
            for column, kind in self.columns
        ]
        return SqlTable(name, MetaData(), *columns, **options)


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """How a table differs from a shape, with types as the database spells them."""

    missing: dict[str, str]
    type_changed: dict[str, tuple[str, str]]  # the type there, and the shape's
    extra: tuple[str, ...]
    key: tuple[str, ...]  # the table's


class StagingTable:
    """What was gathered, on the connection that has it, which is in no transaction."""

    def __init__(self, connection: Connection, schema: TableSchema, row_count: int) -> None:
        self._connection = connection
        self._schema = schema
        self.row_count = row_count

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction that may write, for the merge and whatever has to be true together with it.

        Rolled back it can be had again; committed it is the last.
        """
        self._connection.execution_options(read_only=False)
        gathering = self._connection.get_transaction()
        with self._connection.begin_nested() if gathering else self._connection.begin():
            yield self._connection
        if gathering:
            gathering.commit()

    def create_or_diff(self, table_name: str) -> SchemaDiff:
        """Make the table where there is none, and hold what is there against the shape."""
        table = self._schema.to_sql_table(table_name)
        table.create(self._connection, checkfirst=True)
        dialect, found = self._connection.dialect, inspect(self._connection)
        there = {column["name"]: column["type"].compile(dialect) for column in found.get_columns(table_name)}
        here = {column.name: column.type.compile(dialect) for column in table.columns}
        return SchemaDiff(
            missing={column: kind for column, kind in here.items() if column not in there},
            type_changed={
                column: (there[column], kind) for column, kind in here.items() if there.get(column, kind) != kind
            },
            extra=tuple(column for column in there if column not in here),
            key=tuple(found.get_pk_constraint(table_name)["constrained_columns"]),
        )

    def merge(self, table_name: str, condition: str = "true") -> None:
        """Insert what is new, and update what is there where the condition holds; `excluded` is the new row in it."""
        names = [quote_name(column) for column, _ in self._schema.columns]
        key = [quote_name(column) for column in self._schema.key]
        merge = UPSERT_FROM_STAGING.format(
            table=quote_name(table_name),
            gathered=STAGING_TABLE_NAME,
            names=", ".join(names),
            key=", ".join(key),
            when=condition,
            updates=", ".join(f"{column} = excluded.{column}" for column in names if column not in key),
        )
        self._connection.execute(literal_statement(merge))

    def add_column(self, table_name: str, column: str, sql_type: str) -> None:
        """Give the table a column more, empty in the rows that are there."""
        self._connection.execute(
            literal_statement(f"ALTER TABLE {quote_name(table_name)} ADD COLUMN {quote_name(column)} {sql_type}")
        )


@contextmanager
def stage_rows(database: Database, schema: TableSchema, rows: Iterable[Sequence[Any]]) -> Iterator[StagingTable]:
    """Take in all rows, each the values of the shape's columns; what was gathered is gone after the block."""
    _check_column_names(database, schema)
    how = {"prefixes": ["TEMPORARY"], "postgresql_on_commit": "DROP"}
    table = schema.to_sql_table(STAGING_TABLE_NAME, with_key=False, **how)  # its key's index would be for nothing
    with database.session() as connection:
        connection.execution_options(read_only=True)  # on SQLite: no lock of the file, the temporary table is outside
        try:
            table.create(connection)
            yield StagingTable(connection, schema, _copy_rows(connection, table, rows))
        finally:
            connection.rollback()
            if connection.dialect.name == "sqlite":
                table.drop(connection, checkfirst=True)
                connection.commit()
            connection.execution_options(read_only=False)


def quote_name(name: str) -> str:
    """A name as both databases take it, whatever is in it; SQLAlchemy's own would double a % that COPY leaves so."""
    return '"' + name.replace('"', '""') + '"'


def literal_statement(statement: str) -> TextClause:
    """A statement without parameters: a colon in a name is none."""
    return text(statement.replace(":", "\\:"))


def _check_column_names(database: Database, schema: TableSchema) -> None:
    """Raise UsageError where the database would refuse a column's name, or cut it: then it would be another's."""
    longest = MAX_NAME_BYTES if database.engine.dialect.name == "postgresql" else math.inf
    for name, _ in schema.columns:
        if not name:
            raise UsageError("a column of these results has no name, which a table's column needs; write a .jsonl file")
        if (size := len(name.encode())) > longest:
            raise UsageError(
                f"the column {name[:30]!r}… has {size} bytes in its name, and PostgreSQL takes {longest}; write a "
                "file, or submit with a shorter one"
            )


def _copy_rows(connection: Connection, table: SqlTable, rows: Iterable[Sequence[Any]]) -> int:
    names = [quote_name(column.name) for column in table.columns]
    is_sqlite = connection.dialect.name == "sqlite"
    count = 0
    for chunk in portions(
        (_to_sqlite_values(row) if is_sqlite else list(row) for row in rows), CHUNK_ROWS, CHUNK_BYTES
    ):
        insert_rows(connection, STAGING_TABLE_NAME, names, chunk)
        if is_sqlite:
            connection.commit()
            connection.begin()
        count += len(chunk)
    if is_sqlite:
        connection.commit()  # for one that may write
    return count


def _to_sqlite_values(row: Sequence[Any]) -> list[Any]:
    return [_format_datetime(value) if isinstance(value, datetime) else value for value in row]


def _format_datetime(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")  # ten times as fast as strftime
