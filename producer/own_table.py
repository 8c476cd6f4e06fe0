"""A table of the user's own, beside the results: typed columns, one row for each position, brought up to date at once.

The rows are gathered in a temporary table first, which locks nobody out and goes with its connection, and then merged
in one transaction: whoever reads the table sees all of it or what was there before.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Double,
    MetaData,
    Text,
    inspect,
    text,
)
from sqlalchemy import Table as SqlTable

from models.columns import Document
from models.db import Database, insert_rows, translated
from models.errors import UsageError
from models.schedule_tables import ALL
from producer.results import ResultRow
from producer.sheet import Kind, Sheet

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
OURS = {*ALL.tables, "job_results", "job_attempts", "alembic_version"}
OTHERS = ("sqlite_", "pg_")  # what the databases keep for themselves

GATHERED = "batchmill_gathered"
CHUNK_ROWS = 10_000
TYPES: dict[Kind, Any] = {
    Kind.TEXT: Text(), Kind.INTEGER: BigInteger(), Kind.NUMBER: Double(), Kind.BOOLEAN: Boolean(),
    Kind.MOMENT: DateTime(timezone=True), Kind.DOCUMENT: Document,
}  # fmt: skip
KEY = ("batch_id", "position")

# WHERE true: without it SQLite takes ON for the beginning of a join.
MERGE = """
INSERT INTO {table} ({names}) SELECT {names} FROM {gathered} WHERE true
ON CONFLICT (batch_id, position) DO UPDATE SET {updates}
"""


def check_name(name: str) -> None:
    """Raise UsageError unless a user's own table may be called this."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name[:80]!r} can't be a table's name here; take small letters, digits and _, at most 63")
    if name in {*OURS, GATHERED} or name.startswith(OTHERS):
        raise UsageError(f"{name} is not yours to write; take another name for the table")


def write(database: Database, batch_id: str, name: str, rows: Iterable[ResultRow], sheet: Sheet) -> int:
    """Make the table, or bring it up to date, with these rows of a batch; returns how many they are.

    Rows of other batches stay. Raises UsageError where a table of that name has other columns.
    """
    check_name(name)
    dialect = database.engine.dialect
    table = _table(name, sheet)
    gathered = _table(GATHERED, sheet, prefixes=["TEMPORARY"])
    with translated(database.url), database.engine.connect() as connection:
        connection.execution_options(read_only=True)  # on SQLite: no lock of the file, the temporary table is outside
        try:
            gathered.create(connection)
            count = _gather(connection, gathered, batch_id, rows, sheet)
            connection.execution_options(read_only=False)
            _merge(connection, dialect, table)
            connection.commit()
        finally:
            connection.rollback()
            gathered.drop(connection, checkfirst=True)
            connection.commit()
            connection.execution_options(read_only=False)
    return count


def _table(name: str, sheet: Sheet, **how: Any) -> SqlTable:
    # `position` leads the sheet's columns, so that what is gathered is the batch's id and a sheet's values.
    columns: list[Column[Any]] = [Column("batch_id", Text(), primary_key=True)]
    columns += [Column(column, TYPES[kind], primary_key=column == "position") for column, kind in sheet.columns]
    return SqlTable(name, MetaData(), *columns, **how)


def _gather(connection: Connection, gathered: SqlTable, batch_id: str, rows: Iterable[ResultRow], sheet: Sheet) -> int:
    quote = connection.dialect.identifier_preparer.quote
    names = [quote(column.name) for column in gathered.columns]
    as_text = connection.dialect.name == "sqlite"
    left, count = iter(rows), 0
    connection.commit()
    while chunk := [[batch_id, *_stored(sheet.values(row), as_text)] for row in islice(left, CHUNK_ROWS)]:
        connection.begin()
        insert_rows(connection, GATHERED, names, chunk)
        connection.commit()
        count += len(chunk)
    return count


def _stored(values: list[Any], as_text: bool) -> list[Any]:
    if not as_text:
        return values
    return [
        f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value for value in values
    ]


def _merge(connection: Connection, dialect: Dialect, table: SqlTable) -> None:
    connection.begin()
    table.create(connection, checkfirst=True)
    there = {column["name"]: column["type"].compile(dialect) for column in inspect(connection).get_columns(table.name)}
    if there != {column.name: column.type.compile(dialect) for column in table.columns}:
        raise UsageError(f"the table {table.name} has other columns than these results; name another, or drop it")
    quote = dialect.identifier_preparer.quote
    names = [quote(column.name) for column in table.columns]
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name not in KEY)
    merge = MERGE.format(table=quote(table.name), gathered=GATHERED, names=", ".join(names), updates=updates)
    connection.execute(text(merge))
