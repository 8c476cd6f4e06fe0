"""A user's own table with a batch's results: typed columns and one row for each position, updated in one commit."""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self

from sqlalchemy import inspect

from models.db import Database
from models.errors import UsageError
from models.postgresql.grants import VERSION_TABLE, VIEWS, quote_identifier
from models.tables.metadata import METADATA
from producer.results.result_row import ResultRow
from producer.results.tables.staging import STAGING_TABLE_NAME, SchemaDiff, TableSchema, stage_rows
from producer.results.tabular import (
    LATER_COLUMNS,
    ORIGIN_COLUMNS,
    RENAMED_COLUMNS,
    ColumnType,
    TabularLayout,
    describe_renamed_column,
)

TABLE_NAME_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,62}")
COUNTED_TYPE = re.compile(r"(?:VECTOR|REAL\[\]|BLOB)(?: of |\()(\d+).*")  # as `column_types` describes them
RESERVED_TABLES = {*METADATA.tables, *VIEWS, VERSION_TABLE, "batchmill_merged_runs", STAGING_TABLE_NAME}
RESERVED_PREFIXES = ("sqlite_", "pg_", "information_schema")  # reserved by the databases


class UserTable(NamedTuple):
    """The name of a user's own table, with its schema; None = the database's default one."""

    name: str
    schema_name: str | None = None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse `table` or `schema.table`; raises UsageError unless a user's own table may have this name."""
        schema_name, dot, table_name = name.rpartition(".")
        check_table_name(table_name)
        if dot and (not TABLE_NAME_PATTERN.fullmatch(schema_name) or schema_name.startswith(RESERVED_PREFIXES)):
            raise UsageError(f"{name[:80]!r} names no schema for a table of yours; write TABLE or SCHEMA.TABLE")
        return cls(table_name, schema_name or None)

    def __str__(self) -> str:
        return self.name if self.schema_name is None else f"{self.schema_name}.{self.name}"

    def check_schema(self, database: Database) -> None:
        """Raise UsageError unless the schema exists."""
        if self.schema_name is None:
            return
        if database.engine.dialect.name == "sqlite":
            raise UsageError(f"SQLite has no schemas; write {self.name} alone")
        with database.read() as connection:
            exists = inspect(connection).has_schema(self.schema_name)
        if not exists:
            schema = quote_identifier(self.schema_name)
            raise UsageError(f"there is no schema {self.schema_name}; make it first: CREATE SCHEMA {schema}")


def check_table_name(name: str) -> None:
    """Raise UsageError unless a user's own table may have this name."""
    if not TABLE_NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name[:80]!r} can't be a table's name here; take small letters, digits and _, at most 63")
    if name in RESERVED_TABLES or name.startswith(RESERVED_PREFIXES):
        raise UsageError(f"{name} is reserved; take another name for the table")


def write_table(
    database: Database, batch_id: str, table_name: str, rows: Iterable[ResultRow], layout: TabularLayout
) -> int:
    """Write these rows of a batch into the table, created if missing, and return their number.

    Rows of other batches stay. Raises UsageError when a table of that name has other columns, or its schema is missing.
    """
    table = UserTable.parse(table_name)
    table.check_schema(database)
    columns = (("batch_id", ColumnType.TEXT), *layout.columns)
    schema = TableSchema(columns, key=("batch_id", "position"), dimensions=layout.dimensions)
    values = ([batch_id, *layout.row_values(row)] for row in rows)
    with stage_rows(database, schema, values) as staging_table, staging_table.transaction():
        diff = staging_table.create_or_diff(table.name, table.schema_name)
        _check_vectors(table, schema, diff)
        if not _is_compatible(diff, schema, layout.output_names):
            renamed = [name for name, new_name in RENAMED_COLUMNS.items() if new_name in diff.missing]
            advice = describe_renamed_column({*diff.type_changed, *renamed})
            raise UsageError(
                f"the table {table} has other columns than these results; "
                + (f"{advice}, " if advice else "")
                + "name another, or drop it"
            )
        for column, sql_type in diff.missing.items():
            staging_table.add_column(table.name, column, sql_type, table.schema_name)
        staging_table.merge(table.name, schema_name=table.schema_name)
    return staging_table.row_count


def _is_compatible(diff: SchemaDiff, schema: TableSchema, output_names: list[str]) -> bool:
    """Whether the table can take these results, perhaps with more columns.

    A table that was made before any job had succeeded has no outputs yet. Without outputs, its own ones stay NULL.
    It may have batches whose inputs are results of another batch, beside others.
    """
    origins = {name for name, _ in ORIGIN_COLUMNS}
    addable = origins | {name for name, _ in LATER_COLUMNS}
    if diff.missing.keys() >= set(output_names):
        addable.update(output_names)
    has_other_columns = not origins.issuperset(diff.extra) and bool(output_names)
    is_of_other_type = bool(diff.type_changed) or {*diff.key} != {*schema.key}
    return diff.missing.keys() <= addable and not has_other_columns and not is_of_other_type


def _check_vectors(table: UserTable, schema: TableSchema, diff: SchemaDiff) -> None:
    for column, column_type in schema.columns:
        if column_type is ColumnType.VECTOR and column in diff.type_changed:
            types = diff.type_changed[column]
            table_type, result_type = (COUNTED_TYPE.sub(r"a vector of \1 numbers", name) for name in types)
            cause = "models or dimensions differ, so " if all(map(COUNTED_TYPE.match, types)) else ""
            raise UsageError(
                f"{column} in the table {table} is {table_type}, and in these results {result_type}; "
                f"{cause}name another table, or drop it"
            )
