"""Staging collects rows in a temporary table, and merges them into a table that others read, in one transaction.

Staging takes no locks on the target, and its readers see all merged rows or none. The temporary table goes with its
connection. On PostgreSQL, staging and merging are one transaction, because a pooler may give the next transaction
another session, which lacks the temporary table.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Column, Connection, DateTime, Double, MetaData, Text, inspect
from sqlalchemy import Table as SqlTable
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

from models.db import Database
from models.dialects.bulk_insert import insert_rows
from models.dialects.columns import Document, Vector
from models.errors import UsageError
from models.postgresql.session import MAX_NAME_BYTES
from producer.readers.limits import portions
from producer.results.tables import column_types
from producer.results.tables.sql_names import literal_statement, qualified_name, quote_name
from producer.results.tabular import ColumnType

STAGING_TABLE_NAME = "batchmill_staged"
CHUNK_ROWS, CHUNK_BYTES = 10_000, 8 * 2**20  # in memory at once
SQL_TYPES: dict[ColumnType, Any] = {
    ColumnType.TEXT: Text(),
    ColumnType.INTEGER: BigInteger(),
    ColumnType.UUID: Text().with_variant(postgresql.UUID(as_uuid=False), "postgresql"),
    ColumnType.NUMBER: Double(),
    ColumnType.BOOLEAN: Boolean(),
    ColumnType.TIMESTAMP: DateTime(timezone=True),
    ColumnType.JSON: Document,
    ColumnType.VECTOR: Vector(),
}
COPY_TYPES = {  # PostgreSQL's names of the same types
    ColumnType.TEXT: "text",
    ColumnType.INTEGER: "int8",
    ColumnType.UUID: "uuid",
    ColumnType.NUMBER: "float8",
    ColumnType.BOOLEAN: "bool",
    ColumnType.TIMESTAMP: "timestamptz",
    ColumnType.JSON: "jsonb",
    ColumnType.VECTOR: "float4[]",
}

# WHERE true: without it SQLite parses ON as the beginning of a join.
UPSERT_FROM_STAGING = """
INSERT INTO {table} ({names}) SELECT {names} FROM {staging} WHERE true
ON CONFLICT ({key}) DO UPDATE SET {updates} WHERE {when}
"""


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table's columns and its key; values of a row are in the columns' order.

    dimensions: how many numbers each vector has; None = no column has vectors
    """

    columns: tuple[tuple[str, ColumnType], ...]
    key: tuple[str, ...]
    dimensions: int | None = None

    def to_sql_table(
        self, name: str, *, with_key: bool = True, vector_type: TypeEngine[Any] | None = None, **options: Any
    ) -> SqlTable:
        """Return the table for SQLAlchemy, with its primary key or without; `vector_type` None = the database's own."""
        types = SQL_TYPES | ({} if vector_type is None else {ColumnType.VECTOR: vector_type})
        columns: list[Column[Any]] = [
            Column(column, types[column_type], primary_key=with_key and column in self.key)
            for column, column_type in self.columns
        ]
        return SqlTable(name, MetaData(), *columns, **options)


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """How a table differs from a schema, with types in the database's spelling.

    missing: columns of the schema that the table lacks, with their types
    type_changed: columns of another type, with the table's and the schema's
    extra: columns of the table that the schema lacks
    key: primary key of the table
    """

    missing: dict[str, str]
    type_changed: dict[str, tuple[str, str]]
    extra: tuple[str, ...]
    key: tuple[str, ...]


class StagingTable:
    """The staged rows, on the connection that holds their temporary table."""

    def __init__(self, connection: Connection, schema: TableSchema, row_count: int) -> None:
        self._connection = connection
        self._schema = schema
        self.row_count = row_count

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction that may write, for the merge and all that must be committed with it.

        After a rollback, another may follow; a commit ends the staging.
        """
        self._connection.execution_options(read_only=False)
        staging_transaction = self._connection.get_transaction()
        with self._connection.begin_nested() if staging_transaction else self._connection.begin():
            yield self._connection
        if staging_transaction:
            staging_transaction.commit()

    def create_or_diff(self, table_name: str, schema_name: str | None = None) -> SchemaDiff:
        """Create the table if it is missing, and compare it with the schema; `schema_name` None = the default one."""
        dimensions, connection = self._schema.dimensions, self._connection
        vector_type = None if dimensions is None else column_types.choose_vector_type(connection, dimensions)
        table = self._schema.to_sql_table(table_name, vector_type=vector_type, schema=schema_name)
        table.create(connection, checkfirst=True)
        actual = column_types.read_column_types(connection, table_name, schema_name)
        expected = {column.name: column.type.compile(connection.dialect) for column in table.columns}
        changes = {name: self._diff_type(table, name, actual[name]) for name in expected if name in actual}
        return SchemaDiff(
            missing={name: sql_type for name, sql_type in expected.items() if name not in actual},
            type_changed={name: change for name, change in changes.items() if change is not None},
            extra=tuple(name for name in actual if name not in expected),
            key=tuple(inspect(connection).get_pk_constraint(table_name, schema_name)["constrained_columns"]),
        )

    def _diff_type(self, table: SqlTable, column: str, actual: str) -> tuple[str, str] | None:
        if self._schema.dimensions is not None and dict(self._schema.columns)[column] is ColumnType.VECTOR:
            names = table.name, table.schema
            return column_types.diff_vector_type(self._connection, names, column, actual, self._schema.dimensions)
        expected = table.columns[column].type.compile(self._connection.dialect)
        return None if actual == expected else (actual, expected)

    def merge(self, table_name: str, condition: str = "true", schema_name: str | None = None) -> None:
        """Insert new rows, and update existing ones where the condition holds; in it, `excluded` is the staged row."""
        names = [quote_name(column) for column, _ in self._schema.columns]
        key = [quote_name(column) for column in self._schema.key]
        merge = UPSERT_FROM_STAGING.format(
            table=qualified_name(table_name, schema_name),
            staging=STAGING_TABLE_NAME,
            names=", ".join(names),
            key=", ".join(key),
            when=condition,
            updates=", ".join(f"{column} = excluded.{column}" for column in names if column not in key),
        )
        self._connection.execute(literal_statement(merge))

    def add_column(self, table_name: str, column: str, sql_type: str, schema_name: str | None = None) -> None:
        """Add a column to the table, NULL in the existing rows."""
        table = qualified_name(table_name, schema_name)
        self._connection.execute(literal_statement(f"ALTER TABLE {table} ADD COLUMN {quote_name(column)} {sql_type}"))

    def change_dimensions(self, table_name: str, column: str, schema_name: str | None = None) -> None:
        """Let a column of vectors take those of the schema's dimensions; NULL replaces the old ones if they were fixed.

        Other transactions wait for this one then, because PostgreSQL changes the column's type.
        """
        actual = column_types.read_column_types(self._connection, table_name, schema_name)[column]
        if column_types.leaves_dimensions_open(self._connection, actual):
            return
        vector_type = column_types.choose_vector_type(self._connection, self._schema.dimensions or 0)
        table, name = qualified_name(table_name, schema_name), quote_name(column)
        sql_type = vector_type.compile(self._connection.dialect)
        change = f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {sql_type} USING NULL"
        self._connection.execute(literal_statement(change))


@contextmanager
def stage_rows(database: Database, schema: TableSchema, rows: Iterable[Sequence[Any]]) -> Iterator[StagingTable]:
    """Stage all rows, each the values of the schema's columns; the staging table is dropped after the block."""
    _check_column_names(database, schema)
    options: dict[str, Any] = {"prefixes": ["TEMPORARY"], "postgresql_on_commit": "DROP"}
    table = schema.to_sql_table(STAGING_TABLE_NAME, with_key=False, **options)  # nothing reads an index of the key
    with database.session() as connection:
        connection.execution_options(read_only=True)  # on SQLite: no file lock, temporary tables are in another file
        try:
            table.create(connection)
            yield StagingTable(connection, schema, _copy_rows(connection, schema, rows))
        finally:
            connection.rollback()
            if connection.dialect.name == "sqlite":
                table.drop(connection, checkfirst=True)
                connection.commit()
            connection.execution_options(read_only=False)


def _check_column_names(database: Database, schema: TableSchema) -> None:
    """Raise UsageError for a column name that the database would refuse or truncate."""
    max_bytes = MAX_NAME_BYTES if database.engine.dialect.name == "postgresql" else math.inf
    for name, _ in schema.columns:
        if not name:
            raise UsageError("a column of these results has no name, which a table's column needs; write a .jsonl file")
        if (size := len(name.encode())) > max_bytes:
            raise UsageError(
                f"the column {name[:30]!r}… has {size} bytes in its name, and PostgreSQL takes {max_bytes}; write a "
                "file, or submit with a shorter one"
            )


def _copy_rows(connection: Connection, schema: TableSchema, rows: Iterable[Sequence[Any]]) -> int:
    names = [quote_name(column) for column, _ in schema.columns]
    is_sqlite = connection.dialect.name == "sqlite"
    # Only vectors need the binary format.
    types = None if schema.dimensions is None else [COPY_TYPES[column_type] for _, column_type in schema.columns]
    count = 0
    for chunk in portions(map(_make_converter(schema, is_sqlite=is_sqlite), rows), CHUNK_ROWS, CHUNK_BYTES):
        insert_rows(connection, STAGING_TABLE_NAME, names, chunk, types)
        if is_sqlite:
            connection.commit()
            connection.begin()
        count += len(chunk)
    if is_sqlite:
        connection.commit()  # the merge begins another one, which may write
    return count


def _make_converter(schema: TableSchema, *, is_sqlite: bool) -> Callable[[Sequence[Any]], list[Any]]:
    """Return a function that returns a row's values as the driver takes them."""
    uuid_indexes = [i for i, (_, column_type) in enumerate(schema.columns) if column_type is ColumnType.UUID]

    def to_binary(row: Sequence[Any]) -> list[Any]:
        values = list(row)
        for index in uuid_indexes:
            values[index] = values[index] and UUID(values[index])
        return values

    if is_sqlite:
        return _to_sqlite_values
    return list if schema.dimensions is None else to_binary


def _to_sqlite_values(row: Sequence[Any]) -> list[Any]:
    return [_format_datetime(value) if isinstance(value, datetime) else value for value in row]


def _format_datetime(timestamp: datetime) -> str:
    # Ten times as fast as strftime.
    return timestamp.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
